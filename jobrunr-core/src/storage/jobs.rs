//! Storing, claiming and releasing jobs: the hot path of the contract.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::StorageError;
use crate::ids::{JobId, ServerId};
use crate::job::{Job, JobMetadata, ServerRef};
use crate::names::{JobSignature, QueueName};
use crate::state::StateName;

/// Keeps jobs and hands them out.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Stores new jobs with their whole history and metadata.
    ///
    /// *Promises:* durable when it returns, as far as the storage's options say; idempotent by id: a job whose id exists
    /// (or came earlier in the batch) is reported and the stored one left alone, the others are stored; every job is
    /// stored at the version it carries, which is [`Version::FIRST`](crate::Version::FIRST) or later.
    ///
    /// *Does not promise* that a batch is one transaction: a storage may split a large one. An id that was purged may be
    /// inserted again and begins anew, at whatever version it carries.
    ///
    /// *Held by* scenarios 1–5 and 17.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] if a payload is over the limit; nothing of the batch was stored then.
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError>;

    /// Writes what was added to the history of jobs since they were loaded.
    ///
    /// *Promises:* a job that is stored at the version it carries is written and its stored version becomes the next
    /// one; any other (also one that is gone, also one whose id was given to a job created at another instant since, also
    /// a second mention of a job in the batch) is named in the report, in the order given, and nothing of it is written. Entries are only ever added to a history; what was written once is never
    /// written again, and metadata is not written either. The jobs passed in are not changed:
    /// [`StorageExt`](super::StorageExt) does that. The caller vouches for the part of the history that was loaded.
    ///
    /// *Does not promise* that a batch is one transaction: winners may become visible one after the other.
    ///
    /// *Held by* scenarios 6–13.
    ///
    /// # Errors
    /// None for a lost race: that is data.
    async fn save_jobs(&self, jobs: &[Job]) -> Result<SaveReport, StorageError>;

    /// Takes the first jobs in line for a server: ENQUEUED becomes PROCESSING.
    ///
    /// *Promises:* takes the first [`limit`](ClaimRequest::limit) ENQUEUED jobs of the wanted signatures (queue by queue in
    /// the order given, or over all queues as one line; in it higher priority first, then the earlier
    /// [`Job::enqueued_at`], then the smaller id), adds their PROCESSING entry at [`now`](ClaimRequest::now) (or at the
    /// time of the entry before, if that is later), makes their version one greater and returns them as they are stored
    /// then, metadata included. Each job is claimed atomically, and no two claims ever return the same version of a job.
    /// A backlog of signatures that are not wanted does not make a claim slow.
    ///
    /// A stored job that cannot be read is not returned; it is logged once and parked: FAILED of kind `Corrupt`, its
    /// payload untouched.
    ///
    /// *Does not promise* a strict order while claims race: one may pass over a job that another just looks at. Nor that a
    /// claim of many jobs is one step: it may be several, between which other claims take what comes next in line.
    ///
    /// *Held by* scenarios 16 and 18–30.
    async fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError>;

    /// Releases jobs whose time has come: SCHEDULED becomes ENQUEUED.
    ///
    /// *Promises:* takes the first `limit` jobs with `scheduled_at <= now`, earliest first, adds their ENQUEUED entry
    /// (without a reason) at `now` (or at the time of the entry before, if that is later) and makes their version one
    /// greater, each job atomically. The report names them in that order, and the earliest time at which another is due.
    /// Two callers at once release each job once.
    ///
    /// *Does not promise* that a release of many jobs is one step: it may be several, between which other calls release
    /// what is due next; if one of them fails, those before it stay released.
    ///
    /// *Held by* scenarios 31–36.
    async fn enqueue_due_jobs(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError>;

    /// Finds one job, whole, with its metadata.
    ///
    /// *Held by* scenarios 1 and 2.
    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError>;

    /// Removes jobs for good, with their history and metadata, whatever their state; returns how many.
    ///
    /// *Promises:* never more than the selection's limit; the jobs updated first go first. A large selection may be
    /// removed in several steps.
    ///
    /// *Held by* scenarios 14 and 15.
    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError>;

    /// Saves metadata of a job, name by name, over what was there; tells whether the job exists.
    ///
    /// *Promises:* neither the version nor `updated_at` of the job changes; names not mentioned keep their values; gone
    /// with the job. A name is any text of 1 to 256 bytes, and no two are taken for one: case, accents, spaces, dots and
    /// dollars count. Without entries it only tells whether the job exists.
    async fn save_job_metadata(&self, id: JobId, entries: &JobMetadata) -> Result<bool, StorageError>;
}

/// What [`JobStore::insert_jobs`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InsertReport {
    /// The jobs that were not stored because their id was there already, in the order given.
    pub already_present: Vec<JobId>,
}

/// What [`JobStore::save_jobs`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaveReport {
    /// The jobs that lost, in the order given: what was loaded is not what is stored any more.
    ///
    /// Of several mentions of one job only the first can win, so the others are always named here.
    pub conflicts: Vec<JobId>,
}

/// What [`JobStore::claim_jobs`] is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Who claims.
    pub server: ServerRef,
    /// From which queues.
    pub queues: QueueSelection,
    /// Of which types.
    pub signatures: SignatureSelection,
    /// At most how many; 0 claims nothing.
    pub limit: usize,
    /// The time of the claim.
    pub now: DateTime<Utc>,
}

/// Which queues a claim looks into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum QueueSelection {
    /// All there are, as if they were one line.
    #[default]
    All,
    /// These only, each empty (or claimed as far as the limit allows) before the next is looked at.
    InOrder(Vec<QueueName>),
}

/// Which job types are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SignatureSelection {
    /// All there are.
    #[default]
    All,
    /// These only; none if empty.
    Only(Vec<JobSignature>),
    /// All but these.
    Except(Vec<JobSignature>),
}

impl SignatureSelection {
    /// Whether this type is meant.
    #[must_use]
    pub fn contains(&self, signature: &JobSignature) -> bool {
        match self {
            Self::All => true,
            Self::Only(wanted) => wanted.contains(signature),
            Self::Except(unwanted) => !unwanted.contains(signature),
        }
    }
}

/// What [`JobStore::enqueue_due_jobs`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueReport {
    /// The jobs that were released, in the order of their `scheduled_at`, then id.
    pub released: Vec<JobId>,
    /// The earliest `scheduled_at` of the jobs that are SCHEDULED after this call; `None` if there are none.
    pub next_due_at: Option<DateTime<Utc>>,
}

/// Which jobs [`JobStore::delete_jobs`] removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobSelection {
    /// The jobs with these ids.
    Ids(Vec<JobId>),
    /// The jobs in one state that have been in it for long enough, those updated first (then by id) first.
    Aged {
        /// The state.
        state: StateName,
        /// They entered it before this instant, exclusively.
        updated_before: DateTime<Utc>,
        /// Of which types.
        signatures: SignatureSelection,
        /// At most how many.
        limit: usize,
    },
}

/// Checks that no payload of a batch is over `max_bytes`; storages call it before they write anything.
///
/// # Errors
/// [`StorageError::TooLarge`] naming the first job that is.
pub fn check_payload_sizes(
    provider: &'static str,
    jobs: &[Job],
    max_bytes: usize,
) -> Result<(), StorageError> {
    let Some(job) = jobs.iter().find(|job| job.payload().len() > max_bytes) else { return Ok(()) };
    Err(StorageError::TooLarge {
        provider,
        what: format!("the payload of job {} ({})", job.id(), job.signature()),
        actual_bytes: job.payload().len(),
        max_bytes,
    })
}

impl ClaimRequest {
    /// A claim of up to `limit` jobs of any type from all queues.
    #[must_use]
    pub const fn new(server: ServerRef, limit: usize, now: DateTime<Utc>) -> Self {
        Self { server, queues: QueueSelection::All, signatures: SignatureSelection::All, limit, now }
    }

    /// The same claim from these queues, in this order.
    #[must_use]
    pub fn from_queues(mut self, queues: impl IntoIterator<Item = QueueName>) -> Self {
        self.queues = QueueSelection::InOrder(queues.into_iter().collect());
        self
    }

    /// The same claim for these types only.
    #[must_use]
    pub fn of_signatures(mut self, signatures: impl IntoIterator<Item = JobSignature>) -> Self {
        self.signatures = SignatureSelection::Only(signatures.into_iter().collect());
        self
    }

    /// The id of the claiming server.
    #[must_use]
    pub const fn server_id(&self) -> ServerId {
        self.server.id
    }
}
