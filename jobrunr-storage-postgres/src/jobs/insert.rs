//! Inserting jobs: plain new ones in few columns, all others with whatever a job can have.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use jobrunr_core::storage::{InsertReport, StorageError};
use jobrunr_core::{Job, JobId, JobMetadata, JobState, ServerRef};
use jobrunr_storage_sql::{Lane, StoredDefinition, encode_history, micros};
use sqlx::Row;
use uuid::Uuid;

use super::CHUNK;
use super::columns::{HistoryColumns, ResultColumns, RowColumns, successes};
use super::gather::Spare;
use super::uncertain::Write;
use crate::changes::Hints;
use crate::connection::{Failed, Statement};
use crate::error::classify;
use crate::names::{Numbers, Runs};
use crate::{PROVIDER, PostgresStorage};

/// What is attempted here.
pub(super) const OPERATION: &str = "insert jobs";

/// Calls with at most so many jobs are gathered with others.
const GATHERED: usize = 16;

/// How many parts of a large batch are inserted at the same time: while one is on its way the next is written.
const PARTS_AT_ONCE: usize = 2;

/// Checks that PostgreSQL can hold every text of a batch, before anything of it is written.
pub(crate) fn check_texts(jobs: &[Job]) -> Result<(), StorageError> {
    let is_bad = |text: &str| text.contains('\0');
    let has_bad_text = |job: &&Job| {
        is_bad(job.name())
            || job.labels().iter().any(|label| is_bad(label.as_str()))
            || job.metadata().keys().any(|name| is_bad(name))
    };
    match jobs.iter().find(has_bad_text) {
        None => Ok(()),
        Some(job) => Err(StorageError::Unsupported {
            provider: PROVIDER,
            what: format!(
                "job {} has the character U+0000 in its name, a label or the name of metadata, which PostgreSQL \
                 cannot store; leave it out",
                job.id()
            ),
        }),
    }
}

/// Checks that PostgreSQL can hold these names.
pub(super) fn check_names(names: &[String]) -> Result<(), StorageError> {
    if names.iter().any(|name| name.contains('\0')) {
        let what =
            "the name of metadata has the character U+0000, which PostgreSQL cannot store; leave it out";
        return Err(StorageError::Unsupported { provider: PROVIDER, what: what.to_owned() });
    }
    Ok(())
}

/// Metadata as two columns, sorted by name.
pub(super) fn encode_metadata(metadata: &JobMetadata) -> (Vec<String>, Vec<String>) {
    metadata.iter().map(|(name, value)| (name.clone(), value.to_string())).unzip()
}

impl PostgresStorage {
    pub(super) async fn insert(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        let _open = self.begin(OPERATION)?;
        let (mut report, mut hints) = (InsertReport::default(), Hints::default());
        let inserted = if jobs.len() <= GATHERED {
            let part = Part::of(jobs, &mut HashSet::with_capacity(jobs.len()));
            let present = self.insert_gathered(&part.first_mentions).await;
            present.map(|present| part.tell(&present, &mut report, &mut hints))
        } else {
            // Few are so large, and all others would carry what this takes along.
            Box::pin(self.insert_parts(jobs, &mut report, &mut hints)).await
        };
        self.hint(hints);
        inserted.map(|()| report)
    }

    /// Inserts a batch in parts, each by itself. After one has failed no more are begun; those under way come to their end.
    async fn insert_parts(
        &self,
        jobs: &[Job],
        report: &mut InsertReport,
        hints: &mut Hints,
    ) -> Result<(), StorageError> {
        let mut seen = HashSet::with_capacity(jobs.len());
        let has_failed = AtomicBool::new(false);
        let mut parts = Vec::with_capacity(jobs.len().div_ceil(CHUNK));
        for chunk in jobs.chunks(CHUNK) {
            let part = Part::of(chunk, &mut seen);
            parts.push(async {
                if has_failed.load(Ordering::Relaxed) {
                    return None;
                }
                let inserted = self.insert_chunk(&part.first_mentions, &mut None).await;
                has_failed.fetch_or(inserted.is_err(), Ordering::Relaxed);
                Some((part, inserted))
            });
        }
        let at_once = if self.may_keep_connections() { PARTS_AT_ONCE } else { 1 };
        let mut parts = pin!(stream::iter(parts).buffered(at_once));
        let mut first_failure = None;
        while let Some(part) = parts.next().await {
            match part {
                Some((part, Ok(present))) => part.tell(&present, report, hints),
                Some((_, Err(failed))) => first_failure = first_failure.or(Some(failed)),
                None => {}
            }
        }
        first_failure.map_or(Ok(()), |failed| Err(failed.into()))
    }

    /// Inserts jobs of different ids, on the spare connection if there is one; returns those that were there already.
    pub(super) async fn insert_chunk(
        &self,
        jobs: &[&Job],
        spare: &mut Spare,
    ) -> Result<HashSet<JobId>, Failed> {
        let writes = || jobs.iter().map(|job| (job.id(), Write::Insert));
        let inserted = async {
            match self.insert_batch(jobs, Expectation::AllNew, spare).await {
                Err(failed) if failed.is_duplicate => {
                    self.insert_batch(jobs, Expectation::SomeMayBeThere, spare).await
                }
                inserted => inserted,
            }
        };
        match inserted.await {
            Ok(mut present) => {
                // What an earlier try of this call wrote is no surprise.
                present.retain(|id| !self.inner.uncertain.may_be_written(*id, Write::Insert));
                self.inner.uncertain.forget_writes(writes());
                Ok(present)
            }
            Err(failed) => {
                if failed.is_uncertain {
                    self.inner.uncertain.note_writes(writes());
                }
                Err(failed)
            }
        }
    }
}

impl PostgresStorage {
    async fn insert_batch(
        &self,
        jobs: &[&Job],
        expected: Expectation,
        spare: &mut Spare,
    ) -> Result<HashSet<JobId>, Failed> {
        if let [job] = jobs
            && expected == Expectation::AllNew
            && is_plain(job)
            && let Some(lane) = self.known_lane(job.queue(), job.signature())
        {
            let mut call = self.call_on(spare.take(), OPERATION).await?;
            call.rows(insert_one(self, job, Some(lane))).await?;
            *spare = call.finish_and_keep().await?;
            return Ok(HashSet::new());
        }
        let shard = self.inner.shards.take();
        let batch = Batch::of(jobs.iter().copied(), expected);
        let servers = batch.servers();
        let servers: Vec<&ServerRef> = servers.iter().collect();
        let numbers = self.number_names(OPERATION, &batch.lanes, &servers).await?;
        let statements: Vec<Statement> = batch.statements(self, &numbers, shard.number()).collect();
        // What one statement does, it does whole; two need a transaction around them.
        let mut call = match statements.len() {
            0 | 1 => self.call_on(spare.take(), OPERATION).await?,
            _ => self.transaction(OPERATION).await?,
        };
        let mut present = HashSet::new();
        for statement in statements {
            present.extend(ids_of(&call.rows(statement).await?)?);
        }
        *spare = call.finish_and_keep().await?;
        Ok(present)
    }
}

/// Jobs that are inserted together.
struct Part<'a> {
    jobs: &'a [Job],
    /// Those whose ids have not come before.
    first_mentions: Vec<&'a Job>,
}

impl<'a> Part<'a> {
    fn of(jobs: &'a [Job], seen: &mut HashSet<JobId>) -> Self {
        Self { jobs, first_mentions: jobs.iter().filter(|job| seen.insert(job.id())).collect() }
    }

    /// Notes what became of each job: hints of what is new, the report of what is not.
    fn tell(&self, present: &HashSet<JobId>, report: &mut InsertReport, hints: &mut Hints) {
        let mut first_mentions = self.first_mentions.iter().peekable();
        for job in self.jobs {
            let is_first = first_mentions.next_if(|first| std::ptr::eq(**first, job)).is_some();
            if is_first && !present.contains(&job.id()) {
                hints.note(job);
            } else {
                report.already_present.push(job.id());
            }
        }
    }
}

/// The ids that a statement gave.
pub(super) fn ids_of(rows: &[sqlx::postgres::PgRow]) -> Result<Vec<JobId>, Failed> {
    let ids = rows.iter().map(|row| row.try_get::<Uuid, _>(0).map(JobId::from));
    ids.collect::<Result<_, _>>().map_err(|error| classify(&error, OPERATION).into())
}

/// Jobs to be inserted, sorted by id so that two that insert the same ones cannot wait for each other.
struct Batch<'a> {
    plain: Vec<&'a Job>,
    rich: Vec<&'a Job>,
    lanes: Vec<Lane>,
}

/// Whether a job of a batch may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    /// Rarely: then the whole batch fails, and is tried again otherwise.
    AllNew,
    /// It may well be, or a failure would break the transaction of a caller.
    SomeMayBeThere,
}

impl<'a> Batch<'a> {
    fn of(jobs: impl Iterator<Item = &'a Job>, expected: Expectation) -> Self {
        let is_fast = |job: &&Job| expected == Expectation::AllNew && is_plain(job);
        let (mut plain, mut rich): (Vec<_>, Vec<_>) = jobs.partition(is_fast);
        plain.sort_unstable_by_key(|job| job.id());
        rich.sort_unstable_by_key(|job| job.id());
        let mut lanes: Vec<Lane> = Vec::new();
        for job in plain.iter().chain(&rich) {
            let is_job_s = |lane: &Lane| lane.queue == *job.queue() && lane.signature == *job.signature();
            // Jobs of one batch are mostly of one lane, or a few.
            if !lanes.iter().rev().take(8).any(is_job_s) {
                lanes.push(lane_of(job));
            }
        }
        Self { plain, rich, lanes }
    }

    /// The servers that the jobs' histories name.
    fn servers(&self) -> Vec<ServerRef> {
        self.rich.iter().filter_map(|job| job.server()).collect()
    }

    /// The statements that insert the jobs; each gives the ids that are there already.
    fn statements(
        &self,
        storage: &PostgresStorage,
        numbers: &Numbers,
        shard: i16,
    ) -> impl Iterator<Item = Statement> {
        let plain = match self.plain.as_slice() {
            [] => None,
            [job] => Some(insert_one(storage, job, numbers.lane(&lane_of(job)))),
            jobs => Some(insert_plain(storage, jobs, numbers)),
        };
        let rich = (!self.rich.is_empty()).then(|| insert_rich(storage, &self.rich, numbers, shard));
        plain.into_iter().chain(rich)
    }
}

fn lane_of(job: &Job) -> Lane {
    Lane { queue: job.queue().clone(), signature: job.signature().clone() }
}

/// Whether a job waits in line or for its time and has nothing else to say.
fn is_plain(job: &Job) -> bool {
    let is_plain_state = matches!(
        job.state(),
        JobState::Enqueued { reason: None, starts_afresh: false }
            | JobState::Scheduled { reason: None, starts_afresh: false, .. }
    );
    is_plain_state
        && job.history().len() == 1
        && job.labels().is_empty()
        && job.recurring_job_id().is_none()
        && job.metadata().is_empty()
}

fn version_column(job: &Job) -> i64 {
    i64::try_from(job.version().number()).unwrap_or(i64::MAX)
}

fn insert_one(storage: &PostgresStorage, job: &Job, lane: Option<i32>) -> Statement {
    let (at, due) = (micros(job.created_at()), job.scheduled_at().map(micros));
    let enqueued = due.is_none().then_some(at);
    storage
        .statement(&storage.inner.statements.insert_one)
        .bind(Uuid::from(job.id()))
        .bind(version_column(job))
        .bind(at)
        .bind(lane)
        .bind(job.priority())
        .bind(i16::from(job.state_name().index()))
        .bind(enqueued)
        .bind(due)
        .bind(due.map(|_| at))
        .bind(job.name().to_owned())
        .bind(StoredDefinition::encode_settings(&job.definition().settings))
        .bind(job.payload().as_str().to_owned())
}

fn insert_plain(storage: &PostgresStorage, jobs: &[&Job], numbers: &Numbers) -> Statement {
    fn column<T>(jobs: &[&Job], value: impl Fn(&Job) -> T) -> Vec<T> {
        jobs.iter().map(|job| value(job)).collect()
    }
    let mut last: Option<(&Job, Option<i32>)> = None;
    let lanes: Vec<Option<i32>> = jobs
        .iter()
        .map(|job| match last {
            Some((before, lane))
                if before.queue() == job.queue() && before.signature() == job.signature() =>
            {
                lane
            }
            _ => {
                let lane = numbers.lane(&lane_of(job));
                last = Some((job, lane));
                lane
            }
        })
        .collect();
    storage
        .statement(&storage.inner.statements.insert_new)
        .bind(column(jobs, |job| Uuid::from(job.id())))
        .bind(column(jobs, version_column))
        .bind(column(jobs, |job| micros(job.created_at())))
        .bind(lanes)
        .bind(column(jobs, Job::priority))
        .bind(column(jobs, |job| job.scheduled_at().map(micros)))
        .bind(column(jobs, |job| job.name().to_owned()))
        .bind(column(jobs, |job| StoredDefinition::encode_settings(&job.definition().settings)))
        .bind(column(jobs, |job| job.payload().as_str().to_owned()))
}

#[derive(Default)]
struct RichColumns {
    ids: Vec<Uuid>,
    versions: Vec<i64>,
    lanes: Vec<Option<i32>>,
    priorities: Vec<i32>,
    created: Vec<i64>,
    row: RowColumns,
    servers: Vec<Option<i32>>,
    with_metadata: Vec<bool>,
    successes: Vec<i32>,
    names: Vec<String>,
    labels: Vec<Option<String>>,
    settings: Vec<Option<String>>,
    payloads: Vec<String>,
    history: HistoryColumns,
    results: ResultColumns,
    metadata: (Vec<Uuid>, Vec<String>, Vec<String>),
    label_rows: (Vec<Uuid>, Vec<String>),
    runs: (Vec<Uuid>, Vec<String>),
}

impl RichColumns {
    fn add(&mut self, job: &Job, numbers: &Numbers) {
        let id = Uuid::from(job.id());
        let encoded = encode_history(job, 0);
        self.ids.push(id);
        self.versions.push(version_column(job));
        self.lanes.push(numbers.lane(&lane_of(job)));
        self.priorities.push(job.priority());
        self.created.push(encoded.columns.created_at);
        self.servers.push(numbers.server(encoded.server.as_ref()));
        self.with_metadata.push(!job.metadata().is_empty());
        self.successes.push(successes(job.history()));
        self.names.push(job.name().to_owned());
        self.labels.push(StoredDefinition::encode_labels(job.labels()));
        self.settings.push(StoredDefinition::encode_settings(&job.definition().settings));
        self.payloads.push(job.payload().as_str().to_owned());
        self.history.add(job.id(), &encoded);
        self.results.add(job.id(), &encoded);
        let (names, values) = encode_metadata(job.metadata());
        self.metadata.0.extend(names.iter().map(|_| id));
        self.metadata.1.extend(names);
        self.metadata.2.extend(values);
        for label in job.labels() {
            self.label_rows.0.push(id);
            self.label_rows.1.push(label.as_str().to_owned());
        }
        if let Some(recurring) = job.recurring_job_id() {
            self.runs.0.push(id);
            self.runs.1.push(recurring.as_str().to_owned());
        }
        self.row.add(encoded.columns);
    }
}

fn insert_rich(storage: &PostgresStorage, jobs: &[&Job], numbers: &Numbers, shard: i16) -> Statement {
    let mut columns = RichColumns::default();
    for job in jobs {
        columns.add(job, numbers);
    }
    storage
        .statement(&storage.inner.statements.insert)
        .bind(columns.ids)
        .bind(columns.versions)
        .bind(columns.row.states)
        .bind(columns.lanes)
        .bind(columns.priorities)
        .bind(columns.created)
        .bind(columns.row.updated)
        .bind(columns.row.archived)
        .bind(columns.row.queued)
        .bind(columns.row.scheduled)
        .bind(columns.row.scheduled_entries)
        .bind(columns.row.enqueued_entries)
        .bind(columns.row.claimed)
        .bind(columns.row.finished)
        .bind(columns.row.deleted)
        .bind(columns.row.reasons)
        .bind(columns.row.awaited)
        .bind(columns.servers)
        .bind(columns.with_metadata)
        .bind(columns.successes)
        .bind(columns.names)
        .bind(columns.labels)
        .bind(columns.settings)
        .bind(columns.payloads)
        .bind(columns.history.jobs)
        .bind(columns.history.firsts)
        .bind(columns.history.entries)
        .bind(columns.history.errors)
        .bind(columns.results.jobs)
        .bind(columns.results.entries)
        .bind(columns.results.results)
        .bind(columns.metadata.0)
        .bind(columns.metadata.1)
        .bind(columns.metadata.2)
        .bind(columns.label_rows.0)
        .bind(columns.label_rows.1)
        .bind(columns.runs.0)
        .bind(columns.runs.1)
        .bind(shard)
}

impl PostgresStorage {
    /// Inserts jobs in a transaction of the caller's; returns those that are there already.
    pub(crate) async fn insert_with(
        &self,
        transaction: &mut impl Runs,
        jobs: &[Job],
    ) -> Result<InsertReport, Failed> {
        let mut seen = HashSet::with_capacity(jobs.len());
        let (mut report, mut hints) = (InsertReport::default(), Hints::default());
        for chunk in jobs.chunks(CHUNK) {
            let part = Part::of(chunk, &mut seen);
            let batch = Batch::of(part.first_mentions.iter().copied(), Expectation::SomeMayBeThere);
            let servers = batch.servers();
            let servers: Vec<&ServerRef> = servers.iter().collect();
            let numbers = self.number_names_in(transaction, OPERATION, &batch.lanes, &servers).await?;
            let shard = self.inner.shards.take().number();
            let mut present = HashSet::new();
            for statement in batch.statements(self, &numbers, shard) {
                present.extend(ids_of(&transaction.run(statement).await?)?);
            }
            part.tell(&present, &mut report, &mut hints);
        }
        self.notify_in(transaction, &hints).await?;
        Ok(report)
    }
}
