//! Saving jobs: the columns of the hot row change, entries they cannot say are archived, nothing else is written.
//!
//! A batch of plain successes is one statement, guarded by what the rows must look like. If it finds fewer rows than
//! there are jobs, or if there is anything else in the batch, the rows are locked and looked at first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use jobrunr_core::{HistoryEntry, Job, JobDefinition, JobId, JobMetadata, ServerRef, StateName, StoredJob};
use jobrunr_storage_sql::{EncodedHistory, HotColumns, Tail, encode_history, micros, tail_start};
use sqlx::mysql::MySqlRow;

use super::archive::{Archived, Beside, TailResult};
use super::ended::{Ended, successes};
use super::{signed, version_column};
use crate::columns::Columns;
use crate::error::{Failure, Outcome};
use crate::place::{NEVER, Place, state_of_place};
use crate::rows::WithMetadata;
use crate::session::Session;
use crate::values::{Rows, Values};
use crate::work::Work;

/// A job to be saved, encoded.
#[derive(Debug)]
pub(super) struct SavedJob {
    id: JobId,
    version: i64,
    /// Whether it is the first of its id in its batch; no other can win.
    is_first: bool,
    /// What its definition says; of no account if its row says something else.
    pub(super) lane: i32,
    definition: Arc<JobDefinition>,
    new_entries: Vec<HistoryEntry>,
    /// What the row must look like for `change` to fit; `None` if that is not known.
    stored: Option<Stored>,
    change: RowChange,
    /// The number of the server that the change names, once it is known.
    pub(super) server_number: i32,
}

/// What the row of a job looks like before a save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored {
    state: StateName,
    archived_entries: i64,
    updated_at: i64,
}

/// What a save makes of the row.
#[derive(Debug)]
struct RowChange {
    columns: HotColumns,
    server: Option<ServerRef>,
    archived: Option<Archived>,
    result: Option<TailResult>,
    /// Whether a success is all that is new, and goes into its column.
    is_plain_success: bool,
}

impl RowChange {
    fn of(encoded: EncodedHistory<'_>, is_plain_success: bool) -> Self {
        Self {
            archived: Archived::from_history(&encoded),
            result: TailResult::from_history(&encoded),
            columns: encoded.columns,
            server: encoded.server,
            is_plain_success,
        }
    }
}

impl SavedJob {
    pub(super) fn of(job: &Job, is_first: bool) -> Self {
        let new_entries = job.new_entries().to_vec();
        let stored_entries = &job.history()[..job.history().len() - new_entries.len()];
        let archived = tail_start(stored_entries);
        let stored = stored_entries.last().map(|last| Stored {
            state: last.state.name(),
            archived_entries: signed(archived),
            updated_at: micros(last.at),
        });
        let encoded = encode_history(job, archived);
        let is_plain_success = new_entries.len() == 1
            && stored.is_some_and(|stored| stored.state == StateName::Processing)
            && encoded.columns.state == StateName::Succeeded
            && encoded.columns.archived_entries == archived;
        Self {
            id: job.id(),
            version: version_column(job.version()),
            is_first,
            lane: 0,
            definition: job.shared_definition(),
            new_entries,
            stored,
            change: RowChange::of(encoded, is_plain_success),
            server_number: 0,
        }
    }

    pub(super) fn definition(&self) -> &JobDefinition {
        &self.definition
    }

    pub(super) const fn server(&self) -> Option<&ServerRef> {
        self.change.server.as_ref()
    }

    const fn is_fast(&self) -> bool {
        self.is_first && self.change.is_plain_success
    }
}

/// A row that is locked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locked {
    pub(super) version: i64,
    pub(super) lane: i32,
    pub(super) place: i64,
    pub(super) archived_entries: i64,
    pub(super) updated_at: i64,
    server: i32,
    priority: i32,
}

impl Locked {
    fn read(row: &MySqlRow) -> Outcome<Self> {
        Ok(Self {
            version: row.number(1)?,
            lane: row.small(2)?,
            place: row.number(3)?,
            archived_entries: row.number(4)?,
            updated_at: row.number(5)?,
            server: row.small(6)?,
            priority: row.small(8)?,
        })
    }

    pub(super) fn state(&self) -> Option<StateName> {
        state_of_place(self.place)
    }

    fn stored(&self) -> Option<Stored> {
        let Self { archived_entries, updated_at, .. } = *self;
        self.state().map(|state| Stored { state, archived_entries, updated_at })
    }
}

/// What the hot row of a job is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct HotRow<'j> {
    pub(super) id: JobId,
    pub(super) version: i64,
    pub(super) lane: i32,
    pub(super) priority: i32,
    pub(super) server: i32,
    pub(super) columns: &'j HotColumns,
}

impl Session<'_> {
    /// Locks the rows of jobs, as far as there are any, until the end of the transaction.
    pub(super) async fn lock_jobs(
        &mut self,
        ids: impl IntoIterator<Item = JobId>,
    ) -> Outcome<HashMap<JobId, Locked>> {
        // Sorted, so that two transactions never wait for each other.
        let mut ids: Vec<JobId> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let values = Values::new().text(&Rows::of_ids(&ids));
        let rows = self.rows(&self.shared.statements.lock_jobs, values).await?;
        rows.iter().map(|row| Ok((row.id(0)?.into(), Locked::read(row)?))).collect()
    }

    /// Overwrites the hot rows of jobs that are locked.
    pub(super) async fn write_rows(&mut self, jobs: &[HotRow<'_>]) -> Outcome<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let (mut rows, mut waiting) = (Rows::new(), Rows::new());
        for HotRow { id, version, lane, priority, server, columns } in jobs {
            let place = Place::of(columns, *lane, *priority);
            let HotColumns { queued_at, updated_at, scheduled_at, archived_entries, tail, .. } = columns;
            let row = rows.row(*id);
            row.number(*version)
                .number(i64::from(place.place))
                .number(i64::from(place.rank))
                .number(place.at);
            row.number(*queued_at).number(*updated_at);
            row.number(tail.claimed_at.unwrap_or(NEVER)).number(tail.finished_at.unwrap_or(NEVER));
            row.number(i64::from(*server)).number(signed(*archived_entries));
            row.number(*scheduled_at).number(tail.scheduled_entry_at).number(tail.enqueued_entry_at);
            row.number(tail.deleted_at).bytes(tail.deleted_reason.as_ref().map(String::as_bytes)).end_row();
            if let Some(awaited) = columns.awaited_job_id {
                waiting.row_of_bytes(awaited.as_bytes()).id(*id).end_row();
            }
        }
        let statements = &self.shared.statements;
        self.execute(&statements.save_jobs, Values::new().text(&rows.finish())).await?;
        if !waiting.is_empty() {
            self.execute(&statements.insert_waiting, Values::new().text(&waiting.finish())).await?;
        }
        Ok(())
    }

    async fn forget_waiting(&mut self, ids: &[JobId]) -> Outcome<()> {
        if !ids.is_empty() {
            let values = Values::new().text(&Rows::of_ids(ids));
            self.execute(&self.shared.statements.delete_waiting, values).await?;
        }
        Ok(())
    }
}

/// Saves one part of a batch.
#[derive(Debug)]
pub(super) struct SaveJobs {
    jobs: Vec<SavedJob>,
    /// Whether all of them may be tried at once, without a look at their rows.
    is_fast: bool,
    /// What the last try wrote: jobs, the versions they got and when they were updated.
    written: Vec<(JobId, i64, i64)>,
}

impl SaveJobs {
    pub(super) fn new(jobs: Vec<SavedJob>) -> Self {
        let is_fast = jobs.iter().all(SavedJob::is_fast);
        Self { jobs, is_fast, written: Vec::new() }
    }
}

#[async_trait]
impl Work for SaveJobs {
    type Output = Vec<JobId>;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<Vec<JobId>> {
        self.written.clear();
        if self.is_fast {
            if self.save_successes(session).await? {
                return Ok(Vec::new());
            }
            // Some were changed by others: what was written so far must not stay.
            self.is_fast = false;
            return Err(Failure::OnceMore);
        }
        self.save_each(session).await
    }

    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let locked = session.lock_jobs(self.written.iter().map(|(id, ..)| *id)).await?;
        Ok(self.written.iter().any(|(id, version, updated_at)| {
            locked.get(id).is_some_and(|row| {
                // Of a job that was changed again meanwhile nothing can be said; of the others one is enough.
                row.version == *version && row.updated_at == *updated_at
            })
        }))
    }
}

impl SaveJobs {
    /// Saves all jobs as plain successes; tells whether all of them were as expected.
    async fn save_successes(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let mut rows = Rows::new();
        let (mut beside, mut ended) = (Beside::default(), Ended::default());
        let mut sorted: Vec<&SavedJob> = self.jobs.iter().collect();
        sorted.sort_unstable_by_key(|job| job.id);
        for job in sorted {
            let Some(stored) = job.stored else { return Ok(false) };
            let finished_at = job.change.columns.updated_at;
            let row = rows.row(job.id).number(job.version).number(stored.archived_entries);
            row.number(stored.updated_at).number(finished_at).end_row();
            beside.add(job.id, None, job.change.result.as_ref());
            ended.count(job.lane, Some(stored.state), Some(StateName::Succeeded));
            ended.count_successes(job.lane, 1);
            self.written.push((job.id, job.version + 1, finished_at));
        }
        let values = Values::new().text(&rows.finish());
        let found = session.execute(&session.shared.statements.save_successes, values).await?;
        if found != u64::try_from(self.jobs.len()).unwrap_or(u64::MAX) {
            return Ok(false);
        }
        session.write_beside(beside).await?;
        session.write_ended(ended).await?;
        Ok(true)
    }

    /// Saves those jobs whose rows are at the version that they carry; returns the others.
    async fn save_each(&mut self, session: &mut Session<'_>) -> Outcome<Vec<JobId>> {
        let locked = session.lock_jobs(self.jobs.iter().map(|job| job.id)).await?;
        let mut winners: Vec<(&SavedJob, Locked)> = Vec::new();
        for job in self.jobs.iter().filter(|job| job.is_first) {
            winners
                .extend(locked.get(&job.id).filter(|row| row.version == job.version).map(|row| (job, *row)));
        }
        let unexpected = self.changes_of_unexpected(session, &winners).await?;
        winners.retain(|(job, _)| !matches!(unexpected.get(&job.id), Some(Unexpected::AnotherJob)));
        let won: HashSet<JobId> = winners.iter().map(|(job, _)| job.id).collect();
        let lost = self.jobs.iter().filter(|job| !job.is_first || !won.contains(&job.id));
        let conflicts = lost.map(|job| job.id).collect();
        let (mut rows, mut beside, mut ended) = (Vec::new(), Beside::default(), Ended::default());
        for (job, row) in &winners {
            let change = match unexpected.get(&job.id) {
                Some(Unexpected::Changes(change)) => change,
                _ => &job.change,
            };
            let server = if change.server.is_some() { job.server_number } else { row.server };
            rows.push(HotRow {
                id: job.id,
                version: job.version + 1,
                lane: row.lane,
                priority: row.priority,
                server,
                columns: &change.columns,
            });
            beside.add(job.id, change.archived.as_ref(), change.result.as_ref());
            let to = change.columns.state;
            ended.count(row.lane, row.state(), Some(to));
            ended.count_successes(row.lane, successes(&job.new_entries));
        }
        session.write_rows(&rows).await?;
        let was_waiting = |row: &Locked| row.state() == Some(StateName::Awaiting);
        let no_longer_waiting: Vec<JobId> = winners
            .iter()
            .zip(&rows)
            .filter(|((_, before), after)| was_waiting(before) && after.columns.awaited_job_id.is_none())
            .map(|((job, _), _)| job.id)
            .collect();
        session.forget_waiting(&no_longer_waiting).await?;
        session.write_beside(beside).await?;
        session.write_ended(ended).await?;
        self.written = rows.iter().map(|row| (row.id, row.version, row.columns.updated_at)).collect();
        Ok(conflicts)
    }

    /// What becomes of rows whose version is right but which do not look as the jobs' histories say they should: the new
    /// entries are added, and what is stored is kept, whatever it is.
    async fn changes_of_unexpected(
        &self,
        session: &mut Session<'_>,
        winners: &[(&SavedJob, Locked)],
    ) -> Outcome<HashMap<JobId, Unexpected>> {
        let unexpected: HashMap<JobId, &(&SavedJob, Locked)> = winners
            .iter()
            .filter(|(job, row)| job.stored.is_none() || row.stored() != job.stored)
            .map(|winner| (winner.0.id, winner))
            .collect();
        if unexpected.is_empty() {
            return Ok(HashMap::new());
        }
        let values = Values::new().text(&Rows::of_ids(unexpected.keys()));
        let rows = session.rows(&session.shared.statements.load_jobs, values).await?;
        let mut changes = HashMap::new();
        for whole in session.whole_jobs(rows, WithMetadata::No).await? {
            let Some(&&(job, row)) = whole.id.and_then(|id| unexpected.get(&id)) else { continue };
            let found = whole.job.ok().filter(|_| whole.is_intact);
            let is_another = found
                .as_ref()
                .is_some_and(|found| micros(found.created_at()) != job.change.columns.created_at);
            let unexpected = if is_another {
                Unexpected::AnotherJob
            } else {
                Unexpected::Changes(Box::new(job.change_of_unexpected(found.as_ref(), &row)))
            };
            changes.insert(job.id, unexpected);
        }
        Ok(changes)
    }
}

/// What is to become of a row whose version is right but which does not look as it should.
enum Unexpected {
    Changes(Box<RowChange>),
    /// Nothing: the job was purged, and its id given to a later one.
    AnotherJob,
}

impl SavedJob {
    fn change_of_unexpected(&self, found: Option<&Job>, row: &Locked) -> RowChange {
        let archived = usize::try_from(row.archived_entries).unwrap_or(0);
        if let Some(found) = found {
            let history = found.history().iter().chain(&self.new_entries).cloned().collect();
            let grown = Job::from_stored(StoredJob {
                id: self.id,
                version: found.version(),
                definition: found.shared_definition(),
                history,
                metadata: JobMetadata::new(),
            });
            return RowChange::of(encode_history(&grown, archived), false);
        }
        // What is stored cannot be read, so nothing can be said of its tail: the new entries are only added to it.
        RowChange {
            columns: HotColumns {
                archived_entries: archived + self.new_entries.len(),
                tail: Tail::default(),
                ..self.change.columns.clone()
            },
            server: self.change.server.clone(),
            archived: Archived::of(archived, &self.new_entries),
            result: None,
            is_plain_success: false,
        }
    }
}
