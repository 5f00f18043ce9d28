//! What a running job knows of itself.

mod lease;
mod log;
mod metadata;
mod notebook;
mod progress;
mod steps;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::ids::JobId;
use crate::job::{Job, JobMetadata, ServerRef};
use crate::names::{JobSignature, Labels, QueueName};
use crate::request::JobRequest;
use crate::scheduler::{JobScheduler, SchedulerError};

pub use self::lease::{RunLease, UnlimitedLease};
pub use self::log::{JobLog, JobLogLine, JobLogger, LogLevel};
pub use self::metadata::MetadataError;
pub use self::progress::{JobProgress, ProgressBar};

use self::notebook::Notebook;

/// What a running job knows of itself, and what it can leave with its job. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct JobContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    run: JobRun,
    notebook: Notebook,
}

/// Everything a context is made of; the server fills it in for each run.
#[derive(Debug)]
pub struct JobRun {
    /// The job, as it was claimed.
    pub job: Job,
    /// How often it may be retried.
    pub retries: u32,
    /// The server that runs it.
    pub server: ServerRef,
    /// Fires when the run should end: the job was deleted, its time is up, or the server stops.
    pub cancellation: CancellationToken,
    /// Creates follow-up jobs.
    pub scheduler: JobScheduler,
    /// Says whether the run may still write.
    pub lease: Arc<dyn RunLease>,
}

impl From<JobRun> for JobContext {
    fn from(run: JobRun) -> Self {
        Self(Arc::new(Inner { run, notebook: Notebook::default() }))
    }
}

impl JobContext {
    /// The id of the job.
    #[must_use]
    pub fn job_id(&self) -> JobId {
        self.0.run.job.id()
    }

    /// What people call the job.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.run.job.name()
    }

    /// The type of the job.
    #[must_use]
    pub fn signature(&self) -> &JobSignature {
        self.0.run.job.signature()
    }

    /// What the job is found by.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        self.0.run.job.labels()
    }

    /// The queue it waited in.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        self.0.run.job.queue()
    }

    /// Which attempt this is, counting from 1 since the job was made or last requeued by a person.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.run.job.failures().saturating_add(1)
    }

    /// Whether the job stays FAILED if this attempt fails.
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        self.attempt() > self.0.run.retries
    }

    /// The server that runs it.
    #[must_use]
    pub fn server(&self) -> &ServerRef {
        &self.0.run.server
    }

    /// Fires when the run should end: the job was deleted, its time is up, or the server stops.
    ///
    /// A handler that does not listen is aborted after a grace period.
    #[must_use]
    pub fn cancellation_token(&self) -> &CancellationToken {
        &self.0.run.cancellation
    }

    /// Whether the run should end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.run.cancellation.is_cancelled()
    }

    /// What was saved with the job before this run began; [`get`](Self::get) knows what this run has saved too.
    #[must_use]
    pub fn metadata(&self) -> &JobMetadata {
        self.0.run.job.metadata()
    }

    /// Runs a follow-up as soon as a worker is free. Durable when it returns.
    ///
    /// This run may happen again, and then it creates its follow-ups again: give one that must exist only once an id of
    /// its own, with [`JobBuilder::id`](crate::JobBuilder::id) through [`scheduler`](Self::scheduler).
    ///
    /// # Errors
    /// As [`JobScheduler::enqueue`].
    pub async fn enqueue<R: JobRequest>(&self, request: R) -> Result<JobId, SchedulerError> {
        self.scheduler().enqueue(request).await
    }

    /// Logs lines that are shown with the job.
    #[must_use]
    pub const fn log(&self) -> JobLogger<'_> {
        JobLogger(self)
    }

    /// Shows with the job how far the run has come: at nothing of `total` now.
    #[must_use]
    pub fn progress(&self, total: u64) -> ProgressBar {
        ProgressBar::start(self, total)
    }

    /// Stores log lines and progress now; otherwise that is done within a second, and at the end of the run.
    ///
    /// # Errors
    /// [`MetadataError`] if they cannot be stored.
    pub async fn flush(&self) -> Result<(), MetadataError> {
        self.notebook().flush(self.run()).await
    }

    /// Stores log lines and progress a little after they came, until the context is [closed](Self::close) and all is
    /// stored. For what runs handlers, which polls it beside the handler.
    pub async fn keep_flushing(&self) {
        self.notebook().keep_flushing(self.run()).await;
    }

    /// Notes that the handler has ended: the run saves nothing any more but what it has logged. Tells whether some of that is
    /// not stored yet.
    pub fn close(&self) -> bool {
        self.notebook().close()
    }

    /// Creates follow-up jobs.
    #[must_use]
    pub fn scheduler(&self) -> &JobScheduler {
        &self.0.run.scheduler
    }

    /// The job as it was claimed.
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.0.run.job
    }

    fn run(&self) -> &JobRun {
        &self.0.run
    }

    fn notebook(&self) -> &Notebook {
        &self.0.notebook
    }
}
