//! A storage of one's own: the whole contract on [redb](https://docs.rs/redb), an embedded key-value store, in one file.
//!
//! ```text
//! cargo run --example custom_storage
//! ```
//!
//! One sees, in a moment, a line for each of three jobs: how many states it was in, and since when. A server ran them from
//! `jobs.redb` as it would from any other storage. The file stays: the next run adds three jobs and lists them all.
//!
//! It takes the shortest right way everywhere: rows are JSON, a query looks at one narrow fact a job. What it may not save
//! on is what the contract promises, and `jobrunr/tests/custom_storage.rs` runs the conformance suite on it in ten lines.
//! Read it beside `docs/writing-a-storage-provider.md`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jobrunr::clock::{Clock, SystemClock};
use jobrunr::prelude::*;
use jobrunr::recurring::RecurringJob;
use jobrunr::storage::{
    AwaitedJobs, ChangeFeed, ClaimRequest, CompareAndSet, DueReport, Heartbeat, HeartbeatReport,
    InsertReport, JobCounts, JobSelection, Metadata, OrderField, QueueSelection, RecurringJobQuery,
    RecurringSave, SaveReport, ServerAnnouncement, ServerLoad, ServerRecord, SetUp, SignatureSelection,
    check_payload_sizes,
};
use jobrunr::{
    JobDefinition, JobMetadata, JobSettings, JobSignature, JsonText, Labels, RecurringJobId, ServerId,
    StoredJob, Version,
};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use tokio::sync::RwLock;

const PROVIDER: &str = "redb";
const MAX_PAYLOAD_BYTES: usize = jobrunr::limits::DEFAULT_MAX_PAYLOAD_BYTES;

/// The number of the layout below: what has another one is not touched.
const LAYOUT: u64 = 1;
pub(crate) const SCHEMA: TableDefinition<'_, (), u64> = TableDefinition::new("schema");
/// Jobs whole, by id. UUIDs as numbers are in the order of their bytes.
pub(crate) const JOBS: TableDefinition<'_, u128, &str> = TableDefinition::new("jobs");
/// What lines, counts and queries ask of a job, so that none of them need read it.
const FACTS: TableDefinition<'_, u128, FactsRow<'_>> = TableDefinition::new("facts");
type FactsRow<'f> = (u8, i64, i64, Option<i64>, Option<u128>, &'f str, &'f str, i64, i64);
/// The lines, one for each queue and type, so that unwanted types cost nothing: lower priority, since when, id.
const READY: TableDefinition<'_, (&str, &str, i64, i64, u128), ()> = TableDefinition::new("ready");
/// Every queue and type there ever was.
const LANES: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("lanes");
/// SCHEDULED jobs by when they are due.
const DUE: TableDefinition<'_, (i64, u128), ()> = TableDefinition::new("due");
/// All jobs by state and last update.
const UPDATED: TableDefinition<'_, (u8, i64, u128), &str> = TableDefinition::new("updated");
/// How many jobs there are by state and type; under the state 255 all successes there ever were.
const COUNTS: TableDefinition<'_, (u8, &str), u64> = TableDefinition::new("counts");
const ALL_SUCCESSES: (u8, &str) = (255, "");
/// Metadata of jobs, by job and name.
const DATA: TableDefinition<'_, (u128, &str), &str> = TableDefinition::new("data");
const RECURRING: TableDefinition<'_, &str, &str> = TableDefinition::new("recurring");
const SERVERS: TableDefinition<'_, u128, &str> = TableDefinition::new("servers");
/// Metadata of the cluster: creation, update, value.
const VALUES: TableDefinition<'_, (&str, &str), (i64, i64, &str)> = TableDefinition::new("values");
/// The latest time that was told.
const CLOCK: TableDefinition<'_, (), i64> = TableDefinition::new("clock");

/// Keeps everything in a file of redb, which one process may open at a time.
#[derive(Debug, Clone)]
pub(crate) struct RedbStorage {
    /// None once it was closed; calls under way hold it for reading, so that closing waits for them.
    database: Arc<RwLock<Option<Arc<Database>>>>,
    /// The jobs whose end is waited for in this process: all that is to be done about them is to have this.
    awaited: Arc<AwaitedJobs>,
}

impl RedbStorage {
    /// A storage on this database, which is let go of when the storage is closed.
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database: Arc::new(RwLock::new(Some(database))), awaited: Arc::default() }
    }

    /// Does one piece of work on a thread where it may block.
    ///
    /// The thread goes on when the caller's future is dropped: the work is done whole or not at all.
    async fn run<R: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Database) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, StorageError> {
        let open = Arc::clone(&self.database).read_owned().await;
        let done = tokio::task::spawn_blocking(move || match &*open {
            Some(database) => work(database).map_err(|failure| failure.classify(operation)),
            None => Err(StorageError::Closed { provider: PROVIDER, operation }),
        });
        done.await.unwrap_or_else(|error| Err(Failure::Other(error.into()).classify(operation)))
    }

    /// Looks at what one transaction sees.
    async fn read<R: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&ReadTransaction) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, StorageError> {
        self.run(operation, move |database| work(&database.begin_read()?)).await
    }

    /// Changes something in one transaction, which is on the disk when this returns.
    async fn write<R: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&WriteTransaction) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, StorageError> {
        let in_transaction = move |database: &Database| {
            let transaction = database.begin_write()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        self.run(operation, in_transaction).await
    }
}

/// Why a piece of work failed; a transaction that is not committed never was.
enum Failure {
    Database(redb::Error),
    Unreadable(String),
    Mismatch(String),
    Other(jobrunr::storage::BoxError),
}

macro_rules! failure_from {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Database(error.into())
            }
        })+
    };
}
failure_from!(redb::TransactionError, TableError, redb::StorageError, redb::CommitError);

impl Failure {
    /// The one place that decides what an error means for the caller.
    fn classify(self, operation: &'static str) -> StorageError {
        let provider = PROVIDER;
        match self {
            Self::Database(error @ redb::Error::Io(_)) => {
                StorageError::Unavailable { provider, operation, source: error.into() }
            }
            Self::Database(redb::Error::Corrupted(what)) | Self::Unreadable(what) => {
                StorageError::Corrupt { provider, operation, what }
            }
            Self::Mismatch(what) => StorageError::SchemaMismatch { provider, what },
            Self::Database(error) => StorageError::Backend { provider, operation, source: error.into() },
            Self::Other(source) => StorageError::Backend { provider, operation, source },
        }
    }
}

/// What was read, or what is wrong with it: an unreadable row is its own trouble, and nobody else's.
fn part<T>(read: Result<T, Failure>) -> Result<Result<T, String>, Failure> {
    match read {
        Err(Failure::Unreadable(what)) => Ok(Err(what)),
        read => read.map(Ok),
    }
}

fn encode(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Other(error.into()))
}

fn decode<'d, T: Deserialize<'d>>(text: &'d str, what: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Unreadable(format!("{what}: {error}")))
}

const fn number(id: JobId) -> u128 {
    id.as_uuid().as_u128()
}

fn job_id(number: u128) -> JobId {
    JobId::from(uuid::Uuid::from_u128(number))
}

fn server_id(number: u128) -> ServerId {
    ServerId::from(uuid::Uuid::from_u128(number))
}

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// A job as it is stored, but for its id and metadata.
#[derive(Serialize, Deserialize)]
struct Row {
    version: Version,
    signature: JobSignature,
    payload: JsonText,
    name: String,
    labels: Labels,
    queue: QueueName,
    priority: i32,
    settings: JobSettings,
    history: Vec<HistoryEntry>,
}

impl Row {
    fn of(job: &Job) -> Self {
        let JobDefinition { signature, payload, name, labels, queue, priority, settings } =
            job.definition().clone();
        let history = job.history().to_vec();
        Self { version: job.version(), signature, payload, name, labels, queue, priority, settings, history }
    }

    fn into_job(self, id: JobId, metadata: JobMetadata) -> Job {
        let Self { version, signature, payload, name, labels, queue, priority, settings, history } = self;
        let definition = JobDefinition { signature, payload, name, labels, queue, priority, settings };
        Job::from_stored(StoredJob { id, version, definition: Arc::new(definition), history, metadata })
    }
}

/// The job with this id, without its metadata.
fn read_job(jobs: &impl ReadableTable<u128, &'static str>, id: u128) -> Result<Option<Job>, Failure> {
    let Some(text) = jobs.get(id)? else { return Ok(None) };
    let row: Row = decode(text.value(), &job_id(id).to_string())?;
    Ok(Some(row.into_job(job_id(id), JobMetadata::new())))
}

/// A job that must be there, since an index leads to it.
fn read_indexed_job(transaction: &WriteTransaction, id: u128) -> Result<Job, Failure> {
    let job = read_job(&transaction.open_table(JOBS)?, id)?;
    job.ok_or_else(|| Failure::Unreadable(format!("{}: it is gone", job_id(id))))
}

fn read_metadata(
    data: &impl ReadableTable<(u128, &'static str), &'static str>,
    id: u128,
) -> Result<JobMetadata, Failure> {
    let mut metadata = JobMetadata::new();
    for entry in data.range((id, "")..)? {
        let (key, value) = entry?;
        let (of, name) = key.value();
        if of != id {
            break;
        }
        metadata.insert(name.to_owned(), decode(value.value(), name)?);
    }
    Ok(metadata)
}

fn add_count(transaction: &WriteTransaction, key: (u8, &str), by: i64) -> Result<(), Failure> {
    let mut counts = transaction.open_table(COUNTS)?;
    let count = counts.get(key)?.map_or(0, |count| count.value());
    counts.insert(key, count.saturating_add_signed(by))?;
    Ok(())
}

fn add_successes(transaction: &WriteTransaction, entries: &[HistoryEntry]) -> Result<(), Failure> {
    let succeeded = |entry: &&HistoryEntry| entry.state.name() == StateName::Succeeded;
    let successes = entries.iter().filter(succeeded).count();
    add_count(transaction, ALL_SUCCESSES, i64::try_from(successes).unwrap_or(i64::MAX))
}

/// The facts of a job. States, instants and ids are numbers, as keys have them.
struct Facts {
    state: u8,
    created: i64,
    updated: i64,
    scheduled: Option<i64>,
    server: Option<u128>,
    queue: String,
    signature: String,
    /// Its place in line, the lowest first.
    priority: i64,
    since: i64,
}

impl Facts {
    fn of(job: &Job) -> Self {
        let micros = |instant: DateTime<Utc>| instant.timestamp_micros();
        Self {
            state: job.state_name().index(),
            created: micros(job.created_at()),
            updated: micros(job.updated_at()),
            scheduled: job.scheduled_at().map(micros),
            server: job.server_id().map(|server| server.as_uuid().as_u128()),
            queue: job.queue().to_string(),
            signature: job.signature().to_string(),
            priority: -i64::from(job.priority()),
            since: job.enqueued_at().map_or(0, micros),
        }
    }

    fn read(row: FactsRow<'_>) -> Self {
        let (state, created, updated, scheduled, server, queue, signature, priority, since) = row;
        let (queue, signature) = (queue.to_owned(), signature.to_owned());
        Self { state, created, updated, scheduled, server, queue, signature, priority, since }
    }

    fn row(&self) -> FactsRow<'_> {
        let Self { state, created, updated, scheduled, server, queue, signature, priority, since } = self;
        (*state, *created, *updated, *scheduled, *server, queue, signature, *priority, *since)
    }
}

/// Whether a job is put to its places or taken away from them.
#[derive(Clone, Copy)]
enum Act {
    Put,
    Take,
}

/// Puts a job to all places where its facts belong, or takes it away from them.
fn place(transaction: &WriteTransaction, id: u128, facts: &Facts, act: Act) -> Result<(), Failure> {
    let (state, _, updated, scheduled, _, queue, signature, priority, since) = facts.row();
    let line = (state == StateName::Enqueued.index()).then_some((queue, signature, priority, since, id));
    let due = scheduled.filter(|_| state == StateName::Scheduled.index()).map(|at| (at, id));
    let updated = (state, updated, id);
    let mut facts_table = transaction.open_table(FACTS)?;
    let mut updated_table = transaction.open_table(UPDATED)?;
    let mut ready = transaction.open_table(READY)?;
    let mut due_table = transaction.open_table(DUE)?;
    match act {
        Act::Put => {
            facts_table.insert(id, facts.row())?;
            updated_table.insert(updated, signature)?;
            line.map(|line| ready.insert(line, ())).transpose()?;
            due.map(|due| due_table.insert(due, ())).transpose()?;
            add_count(transaction, (state, signature), 1)
        }
        Act::Take => {
            facts_table.remove(id)?;
            updated_table.remove(updated)?;
            line.map(|line| ready.remove(line)).transpose()?;
            due.map(|due| due_table.remove(due)).transpose()?;
            add_count(transaction, (state, signature), -1)
        }
    }
}

/// Takes a job away from its places, which does not need the job itself; returns its facts, if there is one.
fn take_away(transaction: &WriteTransaction, id: u128) -> Result<Option<Facts>, Failure> {
    let facts = transaction.open_table(FACTS)?.get(id)?.map(|row| Facts::read(row.value()));
    facts.as_ref().map(|facts| place(transaction, id, facts, Act::Take)).transpose()?;
    Ok(facts)
}

/// Parks a job that cannot be read as FAILED; what is stored of it stays as it is.
fn park(transaction: &WriteTransaction, id: u128, what: &str) -> Result<(), Failure> {
    tracing::error!("a job cannot be read and is parked as FAILED: {what}");
    let facts = take_away(transaction, id)?.ok_or_else(|| Failure::Unreadable(what.to_owned()))?;
    place(transaction, id, &Facts { state: StateName::Failed.index(), ..facts }, Act::Put)
}

/// Writes what was added to a job, whose stored form is `old`.
fn write_new_entries(transaction: &WriteTransaction, old: &Job, job: &Job) -> Result<Job, Failure> {
    let (id, mut row) = (number(old.id()), Row::of(old));
    row.version = row.version.next();
    row.history.extend_from_slice(job.new_entries());
    transaction.open_table(JOBS)?.insert(id, encode(&row)?.as_str())?;
    let new = row.into_job(old.id(), JobMetadata::new());
    take_away(transaction, id)?;
    place(transaction, id, &Facts::of(&new), Act::Put)?;
    add_successes(transaction, job.new_entries())?;
    Ok(new)
}

fn remove_job(transaction: &WriteTransaction, id: u128) -> Result<bool, Failure> {
    let is_there = take_away(transaction, id)?.is_some();
    transaction.open_table(JOBS)?.remove(id)?;
    let mut data = transaction.open_table(DATA)?;
    let names = data.range((id, "")..)?.map_while(|entry| match entry {
        Ok((key, _)) => (key.value().0 == id).then(|| Ok(key.value().1.to_owned())),
        Err(error) => Some(Err(error)),
    });
    for name in names.collect::<Result<Vec<String>, _>>()? {
        data.remove((id, name.as_str()))?;
    }
    Ok(is_there)
}

#[async_trait]
impl JobStore for RedbStorage {
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        check_payload_sizes(PROVIDER, jobs, MAX_PAYLOAD_BYTES)?;
        let jobs = jobs.to_vec();
        self.write("insert jobs", move |transaction| {
            let mut report = InsertReport::default();
            for job in jobs {
                let id = number(job.id());
                if transaction.open_table(JOBS)?.get(id)?.is_some() {
                    report.already_present.push(job.id());
                    continue;
                }
                transaction.open_table(JOBS)?.insert(id, encode(&Row::of(&job))?.as_str())?;
                let lane = (job.queue().as_str(), job.signature().as_str());
                transaction.open_table(LANES)?.insert(lane, ())?;
                for (name, value) in job.metadata() {
                    transaction.open_table(DATA)?.insert((id, name.as_str()), encode(value)?.as_str())?;
                }
                place(transaction, id, &Facts::of(&job), Act::Put)?;
                add_successes(transaction, job.history())?;
            }
            Ok(report)
        })
        .await
    }

    async fn save_jobs(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        let jobs = jobs.to_vec();
        self.write("save jobs", move |transaction| {
            let (mut report, mut mentioned) = (SaveReport::default(), HashSet::new());
            for job in jobs {
                let stored = part(read_job(&transaction.open_table(JOBS)?, number(job.id())))?.ok().flatten();
                // The creation tells a job from another one that had its id before.
                let is_same = |stored: &Job| {
                    stored.version() == job.version() && stored.created_at() == job.created_at()
                };
                match stored.filter(|stored| mentioned.insert(job.id()) && is_same(stored)) {
                    Some(stored) => drop(write_new_entries(transaction, &stored, &job)?),
                    None => report.conflicts.push(job.id()),
                }
                mentioned.insert(job.id());
            }
            Ok(report)
        })
        .await
    }

    async fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        let request = request.clone();
        self.write("claim jobs", move |transaction| {
            let mut claimed = Vec::new();
            let groups: Vec<Option<QueueName>> = match &request.queues {
                QueueSelection::All => vec![None],
                QueueSelection::InOrder(queues) => queues.iter().cloned().map(Some).collect(),
            };
            for queue in groups {
                for id in first_in_line(transaction, queue.as_ref(), &request, claimed.len())? {
                    let metadata = part(read_metadata(&transaction.open_table(DATA)?, id))?;
                    match part(read_indexed_job(transaction, id))?.and_then(|job| Ok((job, metadata?))) {
                        Ok((stored, metadata)) => {
                            let mut job = stored.clone();
                            job.start_processing(&request.server, request.now)
                                .map_err(|error| Failure::Other(error.into()))?;
                            let job = write_new_entries(transaction, &stored, &job)?;
                            claimed.push(job.with_metadata(metadata));
                        }
                        Err(what) => park(transaction, id, &what)?,
                    }
                }
            }
            Ok(claimed)
        })
        .await
    }

    async fn enqueue_due_jobs(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError> {
        self.write("enqueue due jobs", move |transaction| {
            let mut due = Vec::new();
            for entry in
                transaction.open_table(DUE)?.range(..=(now.timestamp_micros(), u128::MAX))?.take(limit)
            {
                due.push(entry?.0.value().1);
            }
            let mut report = DueReport::default();
            for id in due {
                match part(read_indexed_job(transaction, id))? {
                    Ok(stored) => {
                        let mut job = stored.clone();
                        job.enqueue(now).map_err(|error| Failure::Other(error.into()))?;
                        write_new_entries(transaction, &stored, &job)?;
                        report.released.push(job.id());
                    }
                    Err(what) => park(transaction, id, &what)?,
                }
            }
            report.next_due_at = transaction.open_table(DUE)?.first()?.map(|(key, _)| time(key.value().0));
            Ok(report)
        })
        .await
    }

    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError> {
        self.read("find a job", move |transaction| {
            let job = read_job(&transaction.open_table(JOBS)?, number(id))?;
            let metadata = || read_metadata(&transaction.open_table(DATA)?, number(id));
            job.map(|job| Ok(job.with_metadata(metadata()?))).transpose()
        })
        .await
    }

    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        let selection = selection.clone();
        self.write("delete jobs", move |transaction| {
            let ids: Vec<u128> = match selection {
                JobSelection::Ids(ids) => ids.into_iter().map(number).collect(),
                JobSelection::Aged { state, updated_before, signatures, limit } => {
                    let updated = transaction.open_table(UPDATED)?;
                    let first = (state.index(), i64::MIN, 0);
                    let mut ids = Vec::new();
                    for entry in
                        updated.range(first..(state.index(), updated_before.timestamp_micros(), 0))?
                    {
                        let (key, signature) = entry?;
                        if ids.len() < limit && is_wanted(&signatures, signature.value()) {
                            ids.push(key.value().2);
                        }
                    }
                    ids
                }
            };
            let mut gone = 0;
            for id in ids {
                gone += u64::from(remove_job(transaction, id)?);
            }
            Ok(gone)
        })
        .await
    }

    async fn save_job_metadata(&self, id: JobId, entries: &JobMetadata) -> Result<bool, StorageError> {
        let entries = entries.clone();
        self.write("save metadata of a job", move |transaction| {
            if transaction.open_table(JOBS)?.get(number(id))?.is_none() {
                return Ok(false);
            }
            let mut data = transaction.open_table(DATA)?;
            for (name, value) in &entries {
                data.insert((number(id), name.as_str()), encode(value)?.as_str())?;
            }
            Ok(true)
        })
        .await
    }
}

fn is_wanted(signatures: &SignatureSelection, signature: &str) -> bool {
    match signatures {
        SignatureSelection::All => true,
        SignatureSelection::Only(wanted) => wanted.iter().any(|wanted| *wanted == *signature),
        SignatureSelection::Except(unwanted) => unwanted.iter().all(|unwanted| *unwanted != *signature),
    }
}

/// The first jobs of the wanted lanes, as one line.
fn first_in_line(
    transaction: &WriteTransaction,
    queue: Option<&QueueName>,
    request: &ClaimRequest,
    claimed: usize,
) -> Result<Vec<u128>, Failure> {
    let (lanes, ready) = (transaction.open_table(LANES)?, transaction.open_table(READY)?);
    let limit = request.limit - claimed;
    let mut line = Vec::new();
    for entry in lanes.iter()? {
        let (lane, _) = entry?;
        let (of, signature) = lane.value();
        if queue.is_some_and(|queue| queue.as_str() != of) || !is_wanted(&request.signatures, signature) {
            continue;
        }
        let all = (of, signature, i64::MIN, i64::MIN, 0)..=(of, signature, i64::MAX, i64::MAX, u128::MAX);
        for entry in ready.range(all)?.take(limit) {
            let (key, _) = entry?;
            let (_, _, priority, since, id) = key.value();
            line.push((priority, since, id));
        }
    }
    line.sort_unstable();
    Ok(line.into_iter().take(limit).map(|(_, _, id)| id).collect())
}

/// The ids of the jobs that fit a query, in its order, from its cursor on.
fn search(transaction: &ReadTransaction, query: &JobQuery) -> Result<Vec<u128>, Failure> {
    let mut candidates = Vec::new();
    for entry in transaction.open_table(FACTS)?.iter()? {
        let (id, facts) = entry?;
        let facts = Facts::read(facts.value());
        if fits(query, &facts) {
            let instant = match query.order.field {
                OrderField::CreatedAt => facts.created,
                OrderField::UpdatedAt => facts.updated,
                OrderField::ScheduledAt => facts.scheduled.unwrap_or(0),
            };
            candidates.push((instant, id.value()));
        }
    }
    candidates.sort_unstable();
    if query.order.descending {
        candidates.reverse();
    }
    if let Some(cursor) = query.after {
        let cursor = (cursor.instant.timestamp_micros(), number(cursor.id));
        candidates.retain(|place| if query.order.descending { *place < cursor } else { *place > cursor });
    }
    let mut found: Vec<u128> = candidates.into_iter().map(|(_, id)| id).collect();
    if asks_for_texts(query) {
        let fitting = read_jobs(transaction, &found)?;
        found =
            fitting.into_iter().filter(|job| fits_texts(query, job)).map(|job| number(job.id())).collect();
    }
    Ok(found)
}

/// The jobs with these ids that can be read.
fn read_jobs(transaction: &ReadTransaction, ids: &[u128]) -> Result<Vec<Job>, Failure> {
    let jobs = transaction.open_table(JOBS)?;
    let mut found = Vec::new();
    for id in ids {
        found.extend(part(read_job(&jobs, *id))?.ok().flatten());
    }
    Ok(found)
}

/// Whether the facts of a job fit.
fn fits(query: &JobQuery, facts: &Facts) -> bool {
    let server = facts.server.map(server_id);
    let is_orphan = |live: &Vec<ServerId>| server.is_some_and(|server| !live.contains(&server));
    (query.states.is_empty() || query.states.iter().any(|wanted| wanted.index() == facts.state))
        && query.queue.as_ref().is_none_or(|wanted| *wanted == *facts.queue)
        && is_wanted(&query.signatures, &facts.signature)
        && query.created.contains(time(facts.created))
        && query.updated.contains(time(facts.updated))
        && (!query.scheduled.is_bounded()
            || facts.scheduled.is_some_and(|at| query.scheduled.contains(time(at))))
        && query.server_id.is_none_or(|wanted| server == Some(wanted))
        && query.server_not_in.as_ref().is_none_or(is_orphan)
}

/// Whether a query asks for what only the whole job tells.
fn asks_for_texts(query: &JobQuery) -> bool {
    let JobQuery { labels, recurring_job_id, awaited_job_id, name_contains, error_contains, .. } = query;
    !labels.is_empty()
        || recurring_job_id.is_some()
        || awaited_job_id.is_some()
        || name_contains.is_some()
        || error_contains.is_some()
}

/// Whether what only the whole job tells fits.
fn fits_texts(query: &JobQuery, job: &Job) -> bool {
    let contains = |whole: &str, text: &str| whole.to_ascii_lowercase().contains(&text.to_ascii_lowercase());
    query.labels.iter().all(|label| job.labels().iter().any(|own| own.as_str() == label))
        && query.recurring_job_id.as_ref().is_none_or(|id| job.recurring_job_id() == Some(id))
        && query.awaited_job_id.is_none_or(|id| job.awaited_job_id() == Some(id))
        && query.name_contains.as_ref().is_none_or(|text| contains(job.name(), text))
        && query
            .error_contains
            .as_ref()
            .is_none_or(|text| job.last_failure().is_some_and(|failure| contains(&failure.message, text)))
}

#[async_trait]
impl JobSearch for RedbStorage {
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StorageError> {
        let query = query.clone();
        self.read("list jobs", move |transaction| {
            let found = search(transaction, &query)?.into_iter();
            let page: Vec<u128> = found.skip(query.offset).take(query.effective_limit()).collect();
            read_jobs(transaction, &page)
        })
        .await
    }

    async fn count_jobs(&self, query: &JobQuery) -> Result<u64, StorageError> {
        let mut query = query.clone();
        query.after = None;
        let found = self.read("count jobs", move |transaction| search(transaction, &query)).await?;
        Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
    }

    async fn job_counts(&self) -> Result<JobCounts, StorageError> {
        self.read("count jobs by state", |transaction| {
            let mut counts = JobCounts::default();
            for entry in transaction.open_table(COUNTS)?.iter()? {
                let (key, count) = entry?;
                match StateName::from_index(key.value().0) {
                    Some(state) => counts.set(state, counts.in_state(state) + count.value()),
                    None => counts.succeeded_all_time = count.value(),
                }
            }
            Ok(counts)
        })
        .await
    }

    async fn list_signatures(&self, states: &[StateName]) -> Result<Vec<JobSignature>, StorageError> {
        let states: Vec<u8> = states.iter().map(|state| state.index()).collect();
        self.read("list job types", move |transaction| {
            let mut found = BTreeSet::new();
            for entry in transaction.open_table(COUNTS)?.iter()? {
                let (key, count) = entry?;
                let (state, signature) = key.value();
                if count.value() > 0 && states.contains(&state) {
                    found.extend(JobSignature::new(signature));
                }
            }
            Ok(found.into_iter().collect())
        })
        .await
    }
}

#[async_trait]
impl RecurringJobStore for RedbStorage {
    async fn save_recurring_job(&self, job: &RecurringJob) -> Result<RecurringSave, StorageError> {
        let job = job.clone();
        self.write("save a recurring job", move |transaction| {
            let mut table = transaction.open_table(RECURRING)?;
            let stored = match table.get(job.id.as_str())? {
                Some(stored) => Some(decode::<RecurringJob>(stored.value(), job.id.as_str())?.version),
                None => None,
            };
            if job.version != Version::UNSAVED && stored != Some(job.version) {
                return Ok(RecurringSave::Conflict);
            }
            let version = stored.map_or(Version::FIRST, Version::next);
            let saved = RecurringJob { version, ..job };
            table.insert(saved.id.as_str(), encode(&saved)?.as_str())?;
            Ok(RecurringSave::Saved(version))
        })
        .await
    }

    async fn find_recurring_job(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError> {
        let id = id.clone();
        self.read("find a recurring job", move |transaction| {
            let table = transaction.open_table(RECURRING)?;
            let stored = table.get(id.as_str())?;
            stored.map(|stored| decode(stored.value(), id.as_str())).transpose()
        })
        .await
    }

    async fn list_recurring_jobs(
        &self,
        query: &RecurringJobQuery,
    ) -> Result<Vec<RecurringJob>, StorageError> {
        let RecurringJobQuery { due_at, after, limit } = query.clone();
        self.read("list recurring jobs", move |transaction| {
            let mut found = Vec::new();
            for entry in transaction.open_table(RECURRING)?.iter()? {
                let (id, stored) = entry?;
                let follows = after.as_ref().is_none_or(|after| id.value() > after.as_str());
                if follows && found.len() < limit.unwrap_or(usize::MAX) {
                    let job: RecurringJob = decode(stored.value(), id.value())?;
                    let is_due = |due_at| {
                        !job.paused && job.next_run_at.is_some_and(|next_run_at| next_run_at <= due_at)
                    };
                    if due_at.is_none_or(is_due) {
                        found.push(job);
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    async fn delete_recurring_job(
        &self,
        id: &RecurringJobId,
        version: Option<Version>,
    ) -> Result<bool, StorageError> {
        let id = id.clone();
        self.write("delete a recurring job", move |transaction| {
            let mut table = transaction.open_table(RECURRING)?;
            if let Some(version) = version {
                let stored = table.get(id.as_str())?.map(|stored| decode(stored.value(), id.as_str()));
                let stored: Option<RecurringJob> = stored.transpose()?;
                if stored.is_none_or(|stored| stored.version != version) {
                    return Ok(false);
                }
            }
            Ok(table.remove(id.as_str())?.is_some())
        })
        .await
    }
}

/// A server as it is stored.
#[derive(Serialize, Deserialize)]
struct ServerRow {
    announcement: ServerAnnouncement,
    first_heartbeat_at: DateTime<Utc>,
    last_heartbeat_at: DateTime<Utc>,
    load: ServerLoad,
}

/// The time of the storage, which never goes back though the clock may.
fn tell_time(transaction: &WriteTransaction) -> Result<DateTime<Utc>, Failure> {
    let mut clock = transaction.open_table(CLOCK)?;
    let told = clock.get(())?.map_or(i64::MIN, |told| told.value());
    let now = SystemClock.now().timestamp_micros().max(told);
    clock.insert((), now)?;
    Ok(time(now))
}

fn read_servers(
    table: &impl ReadableTable<u128, &'static str>,
) -> Result<BTreeMap<ServerId, ServerRow>, Failure> {
    let mut servers = BTreeMap::new();
    for entry in table.iter()? {
        let (id, row) = entry?;
        servers.insert(server_id(id.value()), decode(row.value(), "a server")?);
    }
    Ok(servers)
}

fn write_server(transaction: &WriteTransaction, row: &ServerRow) -> Result<(), Failure> {
    let id = row.announcement.id.as_uuid().as_u128();
    transaction.open_table(SERVERS)?.insert(id, encode(row)?.as_str())?;
    Ok(())
}

fn remove_server_row(transaction: &WriteTransaction, id: ServerId) -> Result<bool, Failure> {
    Ok(transaction.open_table(SERVERS)?.remove(id.as_uuid().as_u128())?.is_some())
}

#[async_trait]
impl ServerStore for RedbStorage {
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError> {
        self.write("tell the time", tell_time).await
    }

    async fn announce_server(&self, server: &ServerAnnouncement) -> Result<DateTime<Utc>, StorageError> {
        let announcement = server.clone();
        self.write("announce a server", move |transaction| {
            let now = tell_time(transaction)?;
            let row = match read_servers(&transaction.open_table(SERVERS)?)?.remove(&announcement.id) {
                Some(row) => ServerRow { announcement, ..row },
                None => ServerRow {
                    announcement,
                    first_heartbeat_at: now,
                    last_heartbeat_at: now,
                    load: ServerLoad::default(),
                },
            };
            write_server(transaction, &row)?;
            Ok(now)
        })
        .await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError> {
        let Heartbeat { server_id, load } = *heartbeat;
        self.write("send a heartbeat", move |transaction| {
            let storage_time = tell_time(transaction)?;
            let row = read_servers(&transaction.open_table(SERVERS)?)?.remove(&server_id);
            let is_announced = row.is_some();
            if let Some(row) = row {
                write_server(transaction, &ServerRow { last_heartbeat_at: storage_time, load, ..row })?;
            }
            Ok(HeartbeatReport { storage_time, is_announced })
        })
        .await
    }

    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError> {
        self.read("list servers", |transaction| {
            let record = |row| {
                let ServerRow { announcement, first_heartbeat_at, last_heartbeat_at, load } = row;
                ServerRecord { announcement, first_heartbeat_at, last_heartbeat_at, load }
            };
            let mut servers: Vec<_> =
                read_servers(&transaction.open_table(SERVERS)?)?.into_values().map(record).collect();
            // They come sorted by id, and a stable sort leaves equals so.
            servers.sort_by_key(|server| server.first_heartbeat_at);
            Ok(servers)
        })
        .await
    }

    async fn remove_server(&self, id: ServerId) -> Result<bool, StorageError> {
        self.write("remove a server", move |transaction| remove_server_row(transaction, id)).await
    }

    async fn remove_silent_servers(&self, before: DateTime<Utc>) -> Result<Vec<ServerId>, StorageError> {
        self.write("remove silent servers", move |transaction| {
            let servers = read_servers(&transaction.open_table(SERVERS)?)?;
            let silent = servers.into_iter().filter(|(_, row)| row.last_heartbeat_at < before);
            let silent: Vec<ServerId> = silent.map(|(id, _)| id).collect();
            for id in &silent {
                remove_server_row(transaction, *id)?;
            }
            Ok(silent)
        })
        .await
    }
}

/// The values, in a transaction that writes or in one that does not.
trait Values: ReadableTable<(&'static str, &'static str), (i64, i64, &'static str)> {}
impl<T: ReadableTable<(&'static str, &'static str), (i64, i64, &'static str)>> Values for T {}

fn read_value(values: &impl Values, name: &str, owner: &str) -> Result<Option<Metadata>, Failure> {
    let stored = values.get((name, owner))?;
    Ok(stored.map(|stored| {
        let (created, updated, value) = stored.value();
        Metadata { updated_at: time(updated), ..Metadata::new(name, owner, value, time(created)) }
    }))
}

fn write_value(transaction: &WriteTransaction, metadata: &Metadata) -> Result<(), Failure> {
    let Metadata { name, owner, value, created_at, updated_at } = metadata;
    let mut values = transaction.open_table(VALUES)?;
    let created_at = read_value(&values, name, owner)?.map_or(*created_at, |stored| stored.created_at);
    let stored = (created_at.timestamp_micros(), updated_at.timestamp_micros(), value.as_str());
    values.insert((name.as_str(), owner.as_str()), stored)?;
    Ok(())
}

/// The owners of values of a name, in order.
fn owners_of(values: &impl Values, name: &str) -> Result<Vec<String>, Failure> {
    let mut owners = Vec::new();
    for entry in values.range((name, "")..)? {
        let (key, _) = entry?;
        let (of, owner) = key.value();
        if of != name {
            break;
        }
        owners.push(owner.to_owned());
    }
    Ok(owners)
}

#[async_trait]
impl MetadataStore for RedbStorage {
    async fn save_metadata(&self, metadata: &Metadata) -> Result<(), StorageError> {
        let metadata = metadata.clone();
        self.write("save metadata", move |transaction| write_value(transaction, &metadata)).await
    }

    async fn find_metadata(&self, name: &str, owner: &str) -> Result<Option<Metadata>, StorageError> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.read("find metadata", move |transaction| {
            read_value(&transaction.open_table(VALUES)?, &name, &owner)
        })
        .await
    }

    async fn list_metadata(&self, name: &str) -> Result<Vec<Metadata>, StorageError> {
        let name = name.to_owned();
        self.read("list metadata", move |transaction| {
            let values = transaction.open_table(VALUES)?;
            let read = |owner: &String| read_value(&values, &name, owner).transpose();
            owners_of(&values, &name)?.iter().filter_map(read).collect()
        })
        .await
    }

    async fn delete_metadata(&self, name: &str, owner: Option<&str>) -> Result<u64, StorageError> {
        let (name, owner) = (name.to_owned(), owner.map(str::to_owned));
        self.write("delete metadata", move |transaction| {
            let mut values = transaction.open_table(VALUES)?;
            let owners = match owner {
                Some(owner) => vec![owner],
                None => owners_of(&values, &name)?,
            };
            let mut gone = 0;
            for owner in owners {
                gone += u64::from(values.remove((name.as_str(), owner.as_str()))?.is_some());
            }
            Ok(gone)
        })
        .await
    }

    async fn compare_and_set_metadata(&self, change: &CompareAndSet) -> Result<bool, StorageError> {
        let CompareAndSet { name, owner, expected, new, now } = change.clone();
        self.write("compare and set metadata", move |transaction| {
            let stored = read_value(&transaction.open_table(VALUES)?, &name, &owner)?;
            let stored = stored.map(|stored| stored.value);
            let is_as_expected = stored == expected;
            if is_as_expected {
                write_value(transaction, &Metadata::new(name, owner, new, now))?;
            }
            Ok(is_as_expected)
        })
        .await
    }
}

/// Makes every table there is none of, since a transaction that only reads makes none.
fn make_tables(transaction: &WriteTransaction) -> Result<(), Failure> {
    let mut schema = transaction.open_table(SCHEMA)?;
    if schema.get(())?.is_none() {
        schema.insert((), LAYOUT)?;
        transaction.open_table(JOBS)?;
        transaction.open_table(FACTS)?;
        transaction.open_table(READY)?;
        transaction.open_table(LANES)?;
        transaction.open_table(DUE)?;
        transaction.open_table(UPDATED)?;
        transaction.open_table(COUNTS)?;
        transaction.open_table(DATA)?;
        transaction.open_table(RECURRING)?;
        transaction.open_table(SERVERS)?;
        transaction.open_table(VALUES)?;
        transaction.open_table(CLOCK)?;
    }
    check(Ok(schema))
}

/// Refuses tables that are not there, or of another layout.
fn check(schema: Result<impl ReadableTable<(), u64>, TableError>) -> Result<(), Failure> {
    let stored = match schema {
        Err(TableError::TableDoesNotExist(_)) => None,
        schema => schema?.get(())?.map(|layout| layout.value()),
    };
    match stored {
        Some(LAYOUT) => Ok(()),
        Some(other) => {
            Err(Failure::Mismatch(format!("the tables have layout {other}, this is for {LAYOUT}")))
        }
        None => {
            Err(Failure::Mismatch("there are no tables; set the storage up with SetUp::Migrate".to_owned()))
        }
    }
}

#[async_trait]
impl StorageProvider for RedbStorage {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    async fn set_up(&self, set_up: SetUp) -> Result<(), StorageError> {
        match set_up {
            SetUp::Migrate => self.write("set up", make_tables).await,
            SetUp::Validate => self.read("set up", |transaction| check(transaction.open_table(SCHEMA))).await,
            SetUp::Nothing => self.read("set up", |_| Ok(())).await,
        }
    }

    fn changes(&self) -> Option<&dyn ChangeFeed> {
        // Nothing tells of changes; servers ask every `claim_interval`.
        None
    }

    fn awaited_jobs(&self) -> &AwaitedJobs {
        &self.awaited
    }

    async fn close(&self) {
        *self.database.write().await = None;
    }
}

/// A job for the storage to keep.
#[derive(Serialize, Deserialize, JobRequest)]
#[job(name = "Greet {name}")]
struct Greet {
    name: String,
}

struct Greeter;

impl JobHandler<Greet> for Greeter {
    type Output = String;

    async fn run(&self, request: Greet, _: &JobContext) -> JobResult<String> {
        Ok(format!("Hello, {}!", request.name))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = Arc::new(Database::create("jobs.redb")?);
    let storage: Arc<dyn StorageProvider> = Arc::new(RedbStorage::new(database));
    storage.set_up(SetUp::Migrate).await?;

    let scheduler = JobScheduler::new(Arc::clone(&storage));
    let before = storage.job_counts().await?.succeeded_all_time;
    for name in ["Ada", "Grace", "Barbara"] {
        scheduler.enqueue(Greet { name: name.to_owned() }).await?;
    }
    let server =
        BackgroundJobServer::builder(Arc::clone(&storage)).handle::<Greet, _>(Greeter).start().await?;
    while storage.job_counts().await?.succeeded_all_time < before + 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;

    for job in storage.list_jobs(&JobQuery::in_state(StateName::Succeeded)).await? {
        println!("{}: {} states since {}", job.name(), job.history().len(), job.created_at());
    }
    storage.close().await;
    Ok(())
}
