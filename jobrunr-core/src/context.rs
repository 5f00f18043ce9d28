//! What a running job knows of itself.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::ids::JobId;
use crate::job::{Job, JobMetadata, ServerRef};
use crate::names::{JobSignature, Labels, QueueName};
use crate::scheduler::JobScheduler;

/// What a running job knows of itself. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct JobContext(Arc<JobRun>);

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
}

impl From<JobRun> for JobContext {
    fn from(run: JobRun) -> Self {
        Self(Arc::new(run))
    }
}

impl JobContext {
    /// The id of the job.
    #[must_use]
    pub fn job_id(&self) -> JobId {
        self.0.job.id()
    }

    /// What people call the job.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.job.name()
    }

    /// The type of the job.
    #[must_use]
    pub fn signature(&self) -> &JobSignature {
        self.0.job.signature()
    }

    /// What the job is found by.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        self.0.job.labels()
    }

    /// The queue it waited in.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        self.0.job.queue()
    }

    /// Which attempt this is, counting from 1 since the job was made or last requeued by a person.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.job.failures().saturating_add(1)
    }

    /// Whether the job stays FAILED if this attempt fails.
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        self.attempt() > self.0.retries
    }

    /// The server that runs it.
    #[must_use]
    pub fn server(&self) -> &ServerRef {
        &self.0.server
    }

    /// Fires when the run should end: the job was deleted, its time is up, or the server stops.
    ///
    /// A handler that does not listen is aborted after a grace period.
    #[must_use]
    pub fn cancellation_token(&self) -> &CancellationToken {
        &self.0.cancellation
    }

    /// Whether the run should end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancellation.is_cancelled()
    }

    /// What was saved with the job before this run began.
    #[must_use]
    pub fn metadata(&self) -> &JobMetadata {
        self.0.job.metadata()
    }

    /// Creates follow-up jobs.
    #[must_use]
    pub fn scheduler(&self) -> &JobScheduler {
        &self.0.scheduler
    }

    /// The job as it was claimed.
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.0.job
    }
}
