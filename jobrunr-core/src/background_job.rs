//! One scheduler for the whole process, for code that has no way to be given one.

use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::ids::JobId;
use crate::names::RecurringJobId;
use crate::request::{JobBuilder, JobRequest};
use crate::schedule::IntoSchedule;
use crate::scheduler::{JobScheduler, SchedulerError};

static SCHEDULER: OnceLock<JobScheduler> = OnceLock::new();

/// A [`JobScheduler`] that the whole process shares: [`init`](Self::init) it once, use it anywhere.
///
/// A convenience for programs that have one storage and code that cannot be given a scheduler. Nothing else needs it or
/// knows of it; where you can, pass a scheduler along instead: tests that share a process share this one too.
///
/// ```
/// # use std::sync::Arc;
/// use jobrunr_core::{BackgroundJob, JobRequest, JobScheduler, MemoryStorage};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct SendEmail { to: String }
///
/// impl JobRequest for SendEmail {
///     const JOB_TYPE: &'static str = "send-email";
/// }
///
/// /// Somewhere deep in the program.
/// async fn sign_up(email: &str) -> Result<(), jobrunr_core::SchedulerError> {
///     BackgroundJob::enqueue(SendEmail { to: email.into() }).await?;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// BackgroundJob::init(JobScheduler::new(Arc::new(MemoryStorage::new())))?;
///
/// sign_up("ada@example.org").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BackgroundJob(());

/// That [`BackgroundJob::init`] was called a second time. The scheduler of the first call stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`BackgroundJob::init` was called before; the scheduler it was given then stays in use")]
pub struct AlreadyInitialised;

impl BackgroundJob {
    /// Has this scheduler used by everything here, for as long as the process lives.
    ///
    /// # Errors
    /// [`AlreadyInitialised`] if there is one already; nothing is changed then. Of several calls at once one wins.
    pub fn init(scheduler: JobScheduler) -> Result<(), AlreadyInitialised> {
        SCHEDULER.set(scheduler).map_err(|_| AlreadyInitialised)
    }

    /// The scheduler, for everything that is not repeated here: signals, results, pausing of recurring jobs, …
    ///
    /// # Errors
    /// [`SchedulerError::NotInitialised`] before [`init`](Self::init), as everything else here.
    pub fn scheduler() -> Result<&'static JobScheduler, SchedulerError> {
        SCHEDULER.get().ok_or(SchedulerError::NotInitialised)
    }

    /// See [`JobScheduler::enqueue`].
    ///
    /// # Errors
    /// As there, and [`SchedulerError::NotInitialised`].
    pub async fn enqueue<R: JobRequest>(request: R) -> Result<JobId, SchedulerError> {
        Self::scheduler()?.enqueue(request).await
    }

    /// See [`JobScheduler::schedule`].
    ///
    /// # Errors
    /// As there, and [`SchedulerError::NotInitialised`].
    pub async fn schedule<R: JobRequest>(
        instant: DateTime<Utc>,
        request: R,
    ) -> Result<JobId, SchedulerError> {
        Self::scheduler()?.schedule(instant, request).await
    }

    /// See [`JobScheduler::schedule_in`].
    ///
    /// # Errors
    /// As there, and [`SchedulerError::NotInitialised`].
    pub async fn schedule_in<R: JobRequest>(delay: Duration, request: R) -> Result<JobId, SchedulerError> {
        Self::scheduler()?.schedule_in(delay, request).await
    }

    /// See [`JobScheduler::create`].
    ///
    /// # Errors
    /// As there, and [`SchedulerError::NotInitialised`].
    pub async fn create<R: JobRequest>(builder: JobBuilder<R>) -> Result<JobId, SchedulerError> {
        Self::scheduler()?.create(builder).await
    }

    /// See [`JobScheduler::enqueue_all`].
    ///
    /// # Errors
    /// As there, and [`SchedulerError::NotInitialised`].
    pub async fn enqueue_all<R: JobRequest>(
        requests: impl IntoIterator<Item = R>,
    ) -> Result<Vec<JobId>, SchedulerError> {
        Self::scheduler()?.enqueue_all(requests).await
    }

    /// See [`JobScheduler::schedule_recurrently`].
    ///
    /// # Errors
    /// As there, and [`SchedulerError::NotInitialised`].
    pub async fn schedule_recurrently<R: JobRequest>(
        id: impl AsRef<str> + Send,
        schedule: impl IntoSchedule + Send,
        request: R,
    ) -> Result<RecurringJobId, SchedulerError> {
        Self::scheduler()?.schedule_recurrently(id, schedule, request).await
    }

    /// See [`JobScheduler::delete`].
    ///
    /// # Errors
    /// As there, and [`SchedulerError::NotInitialised`].
    pub async fn delete(id: JobId, reason: impl Into<String>) -> Result<(), SchedulerError> {
        Self::scheduler()?.delete(id, reason).await
    }

    /// See [`JobScheduler::requeue`].
    ///
    /// # Errors
    /// As there, and [`SchedulerError::NotInitialised`].
    pub async fn requeue(id: JobId) -> Result<(), SchedulerError> {
        Self::scheduler()?.requeue(id).await
    }

    /// See [`JobScheduler::reschedule`].
    ///
    /// # Errors
    /// As there, and [`SchedulerError::NotInitialised`].
    pub async fn reschedule(id: JobId, instant: DateTime<Utc>) -> Result<(), SchedulerError> {
        Self::scheduler()?.reschedule(id, instant).await
    }
}
