//! What a piece of work is given: a connection, the statements, and for writing what is collected until the commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use jobrunr_core::storage::{Change, ChangeHub};
use jobrunr_core::{JobId, QueueName, ServerRef, StateName};
use jobrunr_storage_sql::{Lane, from_micros};
use rusqlite::{CachedStatement, Connection, StatementStatus, params};

use crate::error::Outcome;
use crate::statements::Statements;

/// Reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) statements: &'c Statements,
}

impl<'c> View<'c> {
    /// Prepares a statement, or takes it from those that are prepared already.
    pub(crate) fn prepare(&self, sql: &str) -> Outcome<CachedStatement<'c>> {
        let statement = self.connection.prepare_cached(sql)?;
        // The database itself counts how often a statement was run since it was last asked.
        let runs = u64::try_from(statement.reset_status(StatementStatus::Run)).unwrap_or_default();
        self.statements.runs.fetch_add(runs, Ordering::Relaxed);
        Ok(statement)
    }
}

/// Writing, within a transaction that others may share.
pub(crate) struct Session<'c> {
    pub(crate) view: View<'c>,
    pub(crate) memory: &'c mut Memory,
    inserts: Option<Inserts<'c>>,
}

/// The statements that insert a job, which a transaction of many calls takes out of the cache once.
pub(crate) struct Inserts<'c> {
    pub(crate) job: CachedStatement<'c>,
    pub(crate) data: CachedStatement<'c>,
}

impl<'c> Session<'c> {
    pub(crate) fn new(view: View<'c>, memory: &'c mut Memory) -> Self {
        Self { view, memory, inserts: None }
    }

    /// The statements that insert a job; they are to be [kept](Self::keep_inserts) afterwards.
    pub(crate) fn take_inserts(&mut self) -> Outcome<Inserts<'c>> {
        if let Some(inserts) = self.inserts.take() {
            return Ok(inserts);
        }
        let Statements { insert_job, insert_job_data, .. } = self.view.statements;
        Ok(Inserts { job: self.view.prepare(insert_job)?, data: self.view.prepare(insert_job_data)? })
    }

    /// Keeps the statements for the next call of the transaction.
    pub(crate) fn keep_inserts(&mut self, inserts: Inserts<'c>) {
        self.inserts = Some(inserts);
    }
}

/// What the writer remembers: what it knows of the database, and what it owes to the transaction under way.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Tells this storage's own changes from those of others.
    pub(crate) origin: i64,
    lanes: Lanes,
    servers: HashMap<(uuid::Uuid, String), i64>,
    /// The row numbers of jobs that were claimed and not saved yet, so that their saves need not look for them.
    claimed: HashMap<JobId, i64>,
    counts: HashMap<i64, [i64; COUNTERS]>,
    hints: Hints,
}

/// One a state, and all successes there ever were.
const COUNTERS: usize = StateName::ALL.len() + 1;

/// How many servers' names are remembered at most.
const REMEMBERED_SERVERS: usize = 1_024;

/// How many claimed jobs' row numbers are remembered at most.
const REMEMBERED_CLAIMS: usize = 16_384;

/// The lanes that were read so far; a lane never changes, new ones have greater numbers.
#[derive(Debug, Default)]
struct Lanes {
    by_number: HashMap<i64, Lane>,
    numbers: HashMap<Lane, i64>,
    latest: i64,
}

/// What is to be told once the transaction is committed.
#[derive(Debug, Default)]
struct Hints {
    ready: BTreeSet<QueueName>,
    /// When the first of the jobs that became SCHEDULED is due.
    scheduled_at: Option<i64>,
    changes: Vec<Change>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let (_, origin) = uuid::Uuid::now_v7().as_u64_pair();
        Self {
            origin: i64::from_ne_bytes(origin.to_ne_bytes()),
            lanes: Lanes::default(),
            servers: HashMap::new(),
            claimed: HashMap::new(),
            counts: HashMap::new(),
            hints: Hints::default(),
        }
    }

    /// Forgets everything that may not be true, now that the transaction did not happen.
    pub(crate) fn rolled_back(&mut self) {
        *self = Self { origin: self.origin, ..Self::new() };
    }

    /// Sends what was noted, now that the transaction is committed.
    ///
    /// Race: whether anybody listens is asked only now. Who subscribes later looks at a content that has the change already.
    pub(crate) fn committed(&mut self, hub: &ChangeHub) {
        let Hints { ready, scheduled_at, changes } = std::mem::take(&mut self.hints);
        if hub.has_subscribers() {
            ready.into_iter().for_each(|queue| hub.send(Change::JobsReady { queue }));
            if let Some(scheduled_at) = scheduled_at.and_then(|at| from_micros(at).ok()) {
                hub.send(Change::JobScheduled { scheduled_at });
            }
            changes.into_iter().for_each(|change| hub.send(change));
        }
    }
}

impl Session<'_> {
    /// The number of a lane, which is added if it is new.
    pub(crate) fn lane_number(&mut self, lane: &Lane) -> Outcome<i64> {
        if let Some(number) = self.memory.lanes.numbers.get(lane) {
            return Ok(*number);
        }
        let statements = self.view.statements;
        let names = params![lane.queue.as_str(), lane.signature.as_str()];
        self.view.prepare(&statements.insert_lane)?.execute(names)?;
        let number = self.view.prepare(&statements.find_lane)?.query_row(names, |row| row.get(0))?;
        self.memory.lanes.numbers.insert(lane.clone(), number);
        self.memory.lanes.by_number.insert(number, lane.clone());
        Ok(number)
    }

    /// All lanes there are, by number.
    pub(crate) fn lanes(&mut self) -> Outcome<&HashMap<i64, Lane>> {
        let lanes = &mut self.memory.lanes;
        let mut statement = self.view.prepare(&self.view.statements.list_lanes)?;
        let mut rows = statement.query([lanes.latest])?;
        while let Some(row) = rows.next()? {
            lanes.latest = row.get(0)?;
            // Only valid names are ever written; whoever wrote others by hand has jobs that nobody claims.
            let (queue, signature): (String, String) = (row.get(1)?, row.get(2)?);
            if let (Ok(queue), Ok(signature)) = (queue.parse(), signature.parse()) {
                let lane = Lane { queue, signature };
                lanes.numbers.insert(lane.clone(), lanes.latest);
                lanes.by_number.insert(lanes.latest, lane);
            }
        }
        Ok(&lanes.by_number)
    }

    /// A lane by its number.
    pub(crate) fn lane(&mut self, number: i64) -> Outcome<Option<Lane>> {
        if let Some(lane) = self.memory.lanes.by_number.get(&number) {
            return Ok(Some(lane.clone()));
        }
        Ok(self.lanes()?.get(&number).cloned())
    }

    /// The number of a server's name, which is added if it is new.
    pub(crate) fn server_number(&mut self, server: &ServerRef) -> Outcome<i64> {
        let id = uuid::Uuid::from(server.id);
        let key = (id, server.name.clone());
        if let Some(number) = self.memory.servers.get(&key) {
            return Ok(*number);
        }
        let statements = self.view.statements;
        let names = params![id.as_bytes(), server.name];
        self.view.prepare(&statements.insert_server_name)?.execute(names)?;
        let number = self.view.prepare(&statements.find_server_name)?.query_row(names, |row| row.get(0))?;
        if self.memory.servers.len() >= REMEMBERED_SERVERS {
            self.memory.servers.clear();
        }
        self.memory.servers.insert(key, number);
        Ok(number)
    }

    /// Remembers the row number of a job that was claimed: its save comes soon.
    pub(crate) fn remember_claimed(&mut self, id: JobId, seq: i64) {
        if self.memory.claimed.len() >= REMEMBERED_CLAIMS {
            self.memory.claimed.clear();
        }
        self.memory.claimed.insert(id, seq);
    }

    /// The row number of a job, if it is remembered. It is a guess: another job may have it by now.
    pub(crate) fn recall_claimed(&mut self, id: JobId) -> Option<i64> {
        self.memory.claimed.remove(&id)
    }

    /// Notes that a job of this lane has left one state and come to another.
    pub(crate) fn count(&mut self, lane: i64, from: Option<StateName>, to: Option<StateName>) {
        self.count_many(lane, from, to, 1);
    }

    /// The same for so many of them.
    pub(crate) fn count_many(
        &mut self,
        lane: i64,
        from: Option<StateName>,
        to: Option<StateName>,
        jobs: i64,
    ) {
        let counts = self.memory.counts.entry(lane).or_default();
        if let Some(from) = from {
            counts[usize::from(from.index())] -= jobs;
        }
        if let Some(to) = to {
            counts[usize::from(to.index())] += jobs;
        }
    }

    /// Notes successes.
    pub(crate) fn count_successes(&mut self, lane: i64, successes: i64) {
        if successes > 0 {
            self.memory.counts.entry(lane).or_default()[COUNTERS - 1] += successes;
        }
    }

    /// Writes what was counted: once a transaction, not once a job.
    pub(crate) fn write_counts(&mut self) -> Outcome<()> {
        if self.memory.counts.is_empty() {
            return Ok(());
        }
        let mut statement = self.view.prepare(&self.view.statements.count_in_lane)?;
        for (lane, counts) in self.memory.counts.drain() {
            let lane = std::iter::once(lane);
            statement.execute(rusqlite::params_from_iter(counts.into_iter().chain(lane)))?;
        }
        Ok(())
    }

    /// Notes that there are jobs to claim in this queue.
    pub(crate) fn note_ready(&mut self, queue: &QueueName) {
        let ready = &mut self.memory.hints.ready;
        if !ready.contains(queue) {
            ready.insert(queue.clone());
        }
    }

    /// Notes that a job waits for this instant, if for any.
    pub(crate) fn note_scheduled(&mut self, scheduled_at: Option<i64>) {
        let earliest = &mut self.memory.hints.scheduled_at;
        *earliest = earliest.iter().copied().chain(scheduled_at).min();
    }

    /// Notes what every process should hear of, which is rare.
    pub(crate) fn note_change(&mut self, change: Change) -> Outcome<()> {
        let (job, state): (Option<JobId>, Option<u8>) = match &change {
            Change::JobChanged { id, state } => (Some(*id), Some(state.index())),
            _ => (None, None),
        };
        let statements = self.view.statements;
        let job = job.as_ref().map(JobId::as_bytes);
        self.view.prepare(&statements.note_change)?.execute(params![self.memory.origin, job, state])?;
        let latest = self.view.connection.last_insert_rowid();
        self.view.prepare(&statements.forget_changes)?.execute([latest - crate::changes::KEPT_CHANGES])?;
        self.memory.hints.changes.push(change);
        Ok(())
    }
}
