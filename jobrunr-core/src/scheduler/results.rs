//! Waiting for the result of a job: woken by what this process ends and by hints, looking now and then anyway.

use std::time::Duration;

use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::JobScheduler;
use crate::ids::JobId;
use crate::job::Job;
use crate::json_text::JsonText;
use crate::state::{Failure, JobState, StateName};
use crate::storage::{Change, ChangeStream, StorageError};

/// The shortest and the longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AwaitError {
    /// There is no job with this id.
    #[error("there is no job {0} whose result could be awaited; it may have been purged")]
    NotFound(JobId),
    /// The job failed and is not retried; it stays FAILED until somebody acts.
    #[error("job {id} failed and is not retried: {}", failure.message)]
    Failed {
        /// The job.
        id: JobId,
        /// Its last failure.
        failure: Box<Failure>,
    },
    /// The job was deleted before it succeeded.
    #[error("job {id} was deleted before it succeeded: {}", reason.as_deref().unwrap_or("no reason was given"))]
    Deleted {
        /// The job.
        id: JobId,
        /// Why it was deleted.
        reason: Option<String>,
    },
    /// The time is up; the job goes on. Waiting once more is fine.
    #[error("job {id} had not ended after {timeout:?}: it was {state}")]
    TimedOut {
        /// The job.
        id: JobId,
        /// How long it was waited for.
        timeout: Duration,
        /// The state it was in when it was last looked at.
        state: StateName,
    },
    /// The job succeeded, but its result does not fit the type that was asked for.
    #[error("job {id} succeeded, but its result is no {type_name}")]
    Unfit {
        /// The job.
        id: JobId,
        /// The type that was asked for.
        type_name: &'static str,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The storage failed, at the last look at the latest; what became of the job is not known.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl JobScheduler {
    /// Waits until the job has succeeded, and returns its result: what the handler or a signal gave.
    ///
    /// If the job is ended through the same storage value in this process, or a clone of it, by its server, a signal or a
    /// deletion, this is awake at once, whatever the storage. If another process ends it, storages with a
    /// [`ChangeFeed`](crate::storage::ChangeFeed) tell of deletions only, the in-memory one of all: here it looks, after pauses
    /// that grow with the time waited, from 5 ms to at most a second. It looks at least once, whatever the timeout, and no
    /// look takes longer than what is left of it, or a second; a storage that is away meanwhile is asked again. A job that
    /// succeeded has its result until it is purged. A job without a result gives one that is written as `null`: `()`, or
    /// `None`.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use jobrunr_core::{AwaitError, JobRequest, JobScheduler, memory::MemoryStorage};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct CountWords { text: String }
    /// # impl JobRequest for CountWords { const JOB_TYPE: &'static str = "count-words"; }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let scheduler = JobScheduler::new(Arc::new(MemoryStorage::new()));
    /// let id = scheduler.enqueue(CountWords { text: "to be or not to be".into() }).await?;
    ///
    /// let words = scheduler.await_result::<usize>(id, Duration::from_millis(10)).await;
    /// # // There is no server in this example.
    /// assert!(matches!(words, Err(AwaitError::TimedOut { .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AwaitError`]: which other end the job came to, or that it came to none in time.
    pub async fn await_result<T: DeserializeOwned>(
        &self,
        id: JobId,
        timeout: Duration,
    ) -> Result<T, AwaitError> {
        let started_at = Instant::now();
        // Race: whatever changes after the first look, there is news of it for who has begun to wait.
        let wait = self.storage.awaited_jobs().begin_wait(id);
        let mut hints = self.storage.changes().map(|changes| changes.subscribe());
        let mut not_yet = AwaitError::Storage(self.unanswered());
        loop {
            let left = timeout.saturating_sub(started_at.elapsed()).max(PAUSES.1);
            let Ok(seen) = tokio::time::timeout(left, self.look(id)).await else { return Err(not_yet) };
            not_yet = match seen {
                Ok(Seen::Succeeded(result)) => return decode(id, result.as_ref()),
                Ok(Seen::Unfinished(state)) => AwaitError::TimedOut { id, timeout, state },
                Err(AwaitError::Storage(error)) if error.is_retryable() => AwaitError::Storage(error),
                Err(error) => return Err(error),
            };
            let elapsed = started_at.elapsed();
            let Some(left) = timeout.checked_sub(elapsed).filter(|left| !left.is_zero()) else {
                return Err(not_yet);
            };
            let pause = (elapsed / 4).clamp(PAUSES.0, PAUSES.1).min(left);
            // Either there is news, or it is time to look.
            let _ = tokio::time::timeout(pause, async {
                tokio::select! {
                    () = wait.news() => {}
                    () = news_of(id, hints.as_mut()) => {}
                }
            })
            .await;
        }
    }

    /// What is known of a job until the storage has answered for the first time.
    fn unanswered(&self) -> StorageError {
        let source = "the storage did not answer in time".into();
        StorageError::Unavailable { provider: self.storage.name(), operation: "find a job", source }
    }

    async fn look(&self, id: JobId) -> Result<Seen, AwaitError> {
        let job = self.storage.find_job(id).await?.ok_or(AwaitError::NotFound(id))?;
        end_of(&job)
    }
}

/// What a look at a job has shown.
enum Seen {
    Succeeded(Option<JsonText>),
    Unfinished(StateName),
}

fn end_of(job: &Job) -> Result<Seen, AwaitError> {
    let id = job.id();
    match job.state() {
        _ if job.success_entry().is_some() => Ok(Seen::Succeeded(job.result().cloned())),
        // A failure that is retried is saved together with the retry, so this one is for good.
        JobState::Failed(failure) => Err(AwaitError::Failed { id, failure: failure.clone() }),
        JobState::Deleted { reason } => Err(AwaitError::Deleted { id, reason: reason.clone() }),
        state => Ok(Seen::Unfinished(state.name())),
    }
}

fn decode<T: DeserializeOwned>(id: JobId, result: Option<&JsonText>) -> Result<T, AwaitError> {
    let decoded = serde_json::from_str(result.map_or("null", JsonText::as_str));
    decoded.map_err(|source| AwaitError::Unfit { id, type_name: std::any::type_name::<T>(), source })
}

/// Waits for a hint that the job may have changed; for ever if there are no hints (any more).
async fn news_of(job: JobId, hints: Option<&mut ChangeStream>) {
    if let Some(hints) = hints {
        while let Some(hint) = hints.next().await {
            match hint {
                Change::JobChanged { id, .. } if id == job => return,
                Change::Resync => return,
                _ => {}
            }
        }
    }
    std::future::pending().await
}
