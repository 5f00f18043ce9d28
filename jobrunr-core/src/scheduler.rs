//! Creating jobs, and acting on those that exist.

mod recurring;
mod results;
mod signals;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt, join};
use tokio::task::yield_now;

use crate::clock::{Clock, StorageClock};
use crate::filters::{JobFilter, JobFilters};
use crate::ids::JobId;
use crate::job::Job;
use crate::names::RecurringJobId;
use crate::recurring::InvalidRecurringJob;
use crate::request::{InvalidJob, JobBuilder, JobDraft, JobRequest};
use crate::retry::Retries;
use crate::schedule::CustomSchedules;
use crate::state::{IllegalTransition, JobState, StateName};
use crate::storage::{SaveConflict, StorageError, StorageExt, StorageProvider};
use crate::trace::{TraceCarrier, Traces};

pub use self::results::AwaitError;
pub use self::signals::{Signal, SignalError};

/// How many jobs of a bulk go to the storage in one call: enough that one which writes parts of a thousand can write two at once.
const BULK_CHUNK: usize = 2_000;
/// How many jobs of a bulk are made before the storage, which works on those before them, may go on.
const MADE_AT_ONCE: usize = 64;
/// How old the measured offset to the storage's clock may get before it is measured again.
const MAX_OFFSET_AGE: Duration = Duration::from_secs(300);
/// How often an action is tried on a job that others keep changing meanwhile.
const MAX_TRIES: usize = 20;

/// Creates jobs, and deletes, requeues and reschedules them. Cloning is cheap.
///
/// ```
/// # use std::sync::Arc;
/// # use jobrunr_core::{JobRequest, JobScheduler, memory::MemoryStorage};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct SendEmail { to: String }
/// # impl JobRequest for SendEmail { const JOB_TYPE: &'static str = "send-email"; }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), jobrunr_core::SchedulerError> {
/// let scheduler = JobScheduler::new(Arc::new(MemoryStorage::new()));
/// let id = scheduler.enqueue(SendEmail { to: "ada@example.org".into() }).await?;
/// # let _ = id;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct JobScheduler {
    storage: Arc<dyn StorageProvider>,
    clock: StorageClock,
    filters: JobFilters,
    retries: Retries,
    schedules: Arc<CustomSchedules>,
    traces: Option<Traces>,
}

/// Why the scheduler could not do what it was asked. Nothing was changed unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchedulerError {
    /// The job breaks a rule.
    #[error(transparent)]
    Invalid(#[from] InvalidJob),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no job with this id.
    #[error("there is no job {0}; it may have been purged")]
    NotFound(JobId),
    /// [`BackgroundJob`](crate::BackgroundJob) was used before it was given a scheduler.
    #[error(
        "`BackgroundJob` has no scheduler yet; call `BackgroundJob::init(scheduler)` once, before anything else here"
    )]
    NotInitialised,
    /// The state of the job does not allow it.
    #[error("cannot {action} job {id}")]
    Illegal {
        /// What was attempted.
        action: &'static str,
        /// On which job.
        id: JobId,
        /// The move that is not allowed.
        source: IllegalTransition,
    },
    /// Others kept changing the job; trying again later may help.
    #[error("could not {action} job {id}: it was changed by others at every try")]
    Contended {
        /// What was attempted.
        action: &'static str,
        /// On which job.
        id: JobId,
    },
    /// The recurring job breaks a rule.
    #[error("the recurring job {id:?} cannot be used")]
    InvalidRecurring {
        /// Its id, as it was given; the job type if there was none.
        id: String,
        /// Which rule.
        source: InvalidRecurringJob,
    },
    /// There is no recurring job with this id.
    #[error("there is no recurring job {0}")]
    NoRecurringJob(RecurringJobId),
    /// Others kept changing the recurring job; trying again later may help.
    #[error("could not {action} the recurring job {id}: it was changed by others at every try")]
    RecurringContended {
        /// What was attempted.
        action: &'static str,
        /// On which recurring job.
        id: RecurringJobId,
    },
    /// A bulk failed midway: the jobs before were created, and of those under way some may have been.
    #[error("{created} jobs were created before the bulk failed")]
    Partly {
        /// How many were created for certain, from the first one on.
        created: usize,
        /// What went wrong then.
        source: Box<Self>,
    },
}

impl JobScheduler {
    /// A scheduler over this storage, which must be set up.
    #[must_use]
    pub fn new(storage: Arc<dyn StorageProvider>) -> Self {
        Self::with_clock(storage, StorageClock::default())
    }

    /// A scheduler that shares a clock, as a server's does.
    #[must_use]
    pub fn with_clock(storage: Arc<dyn StorageProvider>, clock: StorageClock) -> Self {
        Self {
            storage,
            clock,
            filters: JobFilters::default(),
            retries: Retries::default(),
            schedules: Arc::default(),
            traces: None,
        }
    }

    /// A scheduler over this storage with a local clock of the caller's, for tests.
    #[must_use]
    pub fn with_local_clock(storage: Arc<dyn StorageProvider>, clock: Arc<dyn Clock>) -> Self {
        Self::with_clock(storage, StorageClock::new(clock))
    }

    /// The same scheduler with a filter more.
    #[must_use]
    pub fn filter(mut self, filter: impl JobFilter) -> Self {
        self.filters.push(filter);
        self
    }

    /// The same scheduler with these filters instead.
    #[must_use]
    pub fn with_filters(mut self, filters: JobFilters) -> Self {
        self.filters = filters;
        self
    }

    /// The same scheduler, deciding like this about external jobs that are [signalled](Self::signal_failed) to have failed.
    ///
    /// Give it what the servers have. What a job says itself comes first, as ever.
    #[must_use]
    pub fn with_retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// The same scheduler, with jobs carrying along the trace that they were created in.
    #[must_use]
    pub fn traces(self, carrier: impl TraceCarrier) -> Self {
        self.with_traces(Some(Traces::new(carrier)))
    }

    /// The same scheduler with this bridge to a tracing system instead, or with none.
    #[must_use]
    pub fn with_traces(mut self, traces: Option<Traces>) -> Self {
        self.traces = traces;
        self
    }

    /// The storage it works on.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn StorageProvider> {
        &self.storage
    }

    /// Runs the request as soon as a worker is free. Durable when it returns.
    ///
    /// # Errors
    /// [`SchedulerError::Invalid`] or [`SchedulerError::Storage`].
    pub async fn enqueue<R: JobRequest>(&self, request: R) -> Result<JobId, SchedulerError> {
        self.create(JobBuilder::new(request)).await
    }

    /// Runs the request at `instant`, never before.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn schedule<R: JobRequest>(
        &self,
        instant: DateTime<Utc>,
        request: R,
    ) -> Result<JobId, SchedulerError> {
        self.create(JobBuilder::new(request).scheduled_at(instant)).await
    }

    /// Runs the request when `delay` has passed by the storage's clock.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn schedule_in<R: JobRequest>(
        &self,
        delay: Duration,
        request: R,
    ) -> Result<JobId, SchedulerError> {
        self.create(JobBuilder::new(request).scheduled_in(delay)).await
    }

    /// Creates the job that the builder describes and returns its id.
    ///
    /// If a job with that id exists, nothing happens and the id is returned all the same.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn create<R: JobRequest>(&self, builder: JobBuilder<R>) -> Result<JobId, SchedulerError> {
        let now = self.now().await?;
        let mut job = self.filtered(builder.draft(now)?, now)?;
        let is_new = self.storage.insert_job(&mut job).await?;
        if is_new && !self.filters.is_empty() {
            self.filters.created(&job).await;
        }
        Ok(job.id())
    }

    /// Makes the job that [`create`](Self::create) would insert and leaves inserting it to the caller.
    ///
    /// Filters may change it in `on_creating`, which runs here, while the caller may have a transaction open. Neither
    /// `on_created` nor `on_state_applied` tells of its creation, since nobody knows whether it will be inserted.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn prepare<R: JobRequest>(&self, builder: JobBuilder<R>) -> Result<Job, SchedulerError> {
        let now = self.now().await?;
        Ok(self.filtered(builder.draft(now)?, now)?)
    }

    /// Creates a job a request, any number of them, in bulk; returns their ids in order.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); [`SchedulerError::Partly`] if some were created before.
    pub async fn enqueue_all<R: JobRequest>(
        &self,
        requests: impl IntoIterator<Item = R>,
    ) -> Result<Vec<JobId>, SchedulerError> {
        self.create_all(requests.into_iter().map(JobBuilder::new)).await
    }

    /// Creates the jobs that the builders describe, any number of them, in bulk; returns their ids in order.
    ///
    /// # Errors
    /// As [`enqueue_all`](Self::enqueue_all).
    pub async fn create_all<R: JobRequest>(
        &self,
        builders: impl IntoIterator<Item = JobBuilder<R>>,
    ) -> Result<Vec<JobId>, SchedulerError> {
        let mut builders = builders.into_iter();
        let mut ids = Vec::new();
        let mut next = self.chunk(&mut builders).await;
        loop {
            let jobs = next.map_err(|error| partly(ids.len(), error))?;
            if jobs.is_empty() {
                return Ok(ids);
            }
            // The storage works on one chunk while the next is made.
            let (inserted, made) = join!(self.insert_chunk(&jobs), self.chunk(&mut builders));
            next = made;
            inserted.map_err(|error| partly(ids.len(), error))?;
            ids.extend(jobs.iter().map(Job::id));
        }
    }

    /// Creates a job for each request of a stream, in bulk, holding no more than one chunk at a time.
    ///
    /// # Errors
    /// As [`enqueue_all`](Self::enqueue_all).
    pub async fn enqueue_stream<R: JobRequest>(
        &self,
        requests: impl Stream<Item = R> + Send,
    ) -> Result<Vec<JobId>, SchedulerError> {
        let mut ids = Vec::new();
        let mut chunks = pin!(requests.map(JobBuilder::new).chunks(BULK_CHUNK));
        while let Some(chunk) = chunks.next().await {
            let jobs = self.chunk(&mut chunk.into_iter()).await.map_err(|error| partly(ids.len(), error))?;
            self.insert_chunk(&jobs).await.map_err(|error| partly(ids.len(), error))?;
            ids.extend(jobs.iter().map(Job::id));
        }
        Ok(ids)
    }

    /// Makes the jobs of the next chunk; none if there are no builders left.
    async fn chunk<R: JobRequest>(
        &self,
        builders: &mut impl Iterator<Item = JobBuilder<R>>,
    ) -> Result<Vec<Job>, SchedulerError> {
        let now = self.now().await?;
        let mut jobs = Vec::with_capacity(builders.size_hint().0.min(BULK_CHUNK));
        for builder in builders.take(BULK_CHUNK) {
            jobs.push(self.filtered(builder.draft(now)?, now)?);
            if jobs.len().is_multiple_of(MADE_AT_ONCE) {
                yield_now().await;
            }
        }
        Ok(jobs)
    }

    async fn insert_chunk(&self, jobs: &[Job]) -> Result<(), SchedulerError> {
        let report = self.storage.insert_jobs(jobs).await?;
        if !self.filters.is_empty() {
            for job in jobs.iter().filter(|job| !report.already_present.contains(&job.id())) {
                self.filters.created(job).await;
            }
        }
        Ok(())
    }

    /// Marks a job as not wanted any more; a running one is cancelled. Deleting a deleted job is fine.
    ///
    /// # Errors
    /// [`SchedulerError::NotFound`], [`SchedulerError::Storage`], [`SchedulerError::Contended`].
    pub async fn delete(&self, id: JobId, reason: impl Into<String>) -> Result<(), SchedulerError> {
        let reason = reason.into();
        self.change("delete", id, |job, now| {
            if job.state_name() == StateName::Deleted {
                return Ok(());
            }
            job.delete(Some(reason.clone()), now)
        })
        .await
    }

    /// Puts a job back in its queue, to run as soon as a worker is free; its failures are counted anew.
    ///
    /// Ended and waiting jobs can be requeued, running ones cannot.
    ///
    /// # Errors
    /// [`SchedulerError::Illegal`] for a job that runs or is in its queue already; otherwise as [`delete`](Self::delete).
    pub async fn requeue(&self, id: JobId) -> Result<(), SchedulerError> {
        self.change("requeue", id, |job, now| {
            if job.state_name() == StateName::Processing {
                return Err(IllegalTransition { from: StateName::Processing, to: StateName::Enqueued });
            }
            job.requeue(None, now)
        })
        .await
    }

    /// Moves a job to another time: one that waits, or one that ended and is to run once more.
    ///
    /// # Errors
    /// [`SchedulerError::Illegal`] for a job that runs; otherwise as [`delete`](Self::delete).
    pub async fn reschedule(&self, id: JobId, instant: DateTime<Utc>) -> Result<(), SchedulerError> {
        self.change("reschedule", id, |job, now| {
            let from = job.state_name();
            if from == StateName::Processing {
                return Err(IllegalTransition { from, to: StateName::Scheduled });
            }
            let state =
                JobState::Scheduled { scheduled_at: instant, reason: None, starts_afresh: from.is_final() };
            job.transition(state, now)
        })
        .await
    }

    /// Loads a job, changes it and saves it, again and again while others change it at the same time.
    async fn change(
        &self,
        action: &'static str,
        id: JobId,
        change: impl Fn(&mut Job, DateTime<Utc>) -> Result<(), IllegalTransition> + Send + Sync,
    ) -> Result<(), SchedulerError> {
        for _ in 0..MAX_TRIES {
            let now = self.now().await?;
            let mut job = self.storage.find_job(id).await?.ok_or(SchedulerError::NotFound(id))?;
            change(&mut job, now).map_err(|source| SchedulerError::Illegal { action, id, source })?;
            let entries = job.new_entries().to_vec();
            if entries.is_empty() {
                return Ok(());
            }
            match self.storage.save_job(&mut job).await {
                Ok(()) => {
                    self.storage.tell_ended([&job]);
                    self.filters.applied(&job, &entries).await;
                    return Ok(());
                }
                // Race: a server claimed or ended the job since it was loaded.
                Err(SaveConflict::Lost(_)) => {}
                Err(SaveConflict::Storage(error)) => return Err(error.into()),
            }
        }
        Err(SchedulerError::Contended { action, id })
    }

    fn filtered(&self, mut draft: JobDraft, now: DateTime<Utc>) -> Result<Job, InvalidJob> {
        if let Some(traces) = &self.traces {
            traces.carry(&mut draft.metadata);
        }
        self.filters.creating(&mut draft);
        draft.into_job(now)
    }

    /// The storage's time as this process knows it, without asking.
    pub(crate) fn estimated_now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The storage's time; asks for it first if that has not been done for a while.
    async fn now(&self) -> Result<DateTime<Utc>, StorageError> {
        if self.clock.is_older_than(MAX_OFFSET_AGE) {
            self.clock.synchronise(self.storage.as_ref()).await?;
        }
        Ok(self.clock.now())
    }
}

/// What is told of a bulk that failed when so many of its jobs had been created.
fn partly(created: usize, error: SchedulerError) -> SchedulerError {
    if created == 0 { error } else { SchedulerError::Partly { created, source: Box::new(error) } }
}
