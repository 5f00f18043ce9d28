//! Signals: how external jobs, whose handler has only set off the work, are completed from anywhere.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::{JobScheduler, MAX_TRIES};
use crate::handler::Wish;
use crate::ids::JobId;
use crate::job::Job;
use crate::json_text::JsonText;
use crate::results::{UnfitResult, encode_result};
use crate::retry::Retries;
use crate::state::{Failure, FailureKind, JobState, StateName};
use crate::storage::{SaveConflict, StorageError, StorageExt};

/// How an external job ended, as told by whoever did the work.
#[derive(Debug, Clone)]
pub struct Signal {
    id: JobId,
    attempt: Option<u32>,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
enum Outcome {
    Succeeded(Option<JsonText>),
    Failed(Failure),
}

/// Why a signal was not accepted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// There is no job with this id.
    #[error("there is no job {0} to signal; it may have been purged")]
    NotFound(JobId),
    /// The job was not created as an external one: its handler alone completes it.
    #[error("job {0} is not external: create it with JobBuilder::external to complete it by a signal")]
    NotExternal(JobId),
    /// The job waits to be run, for the first time or once more: there is nothing yet that could have ended.
    #[error("job {id} has not started, it is {state}: a signal counts from its start on")]
    NotStarted {
        /// The job.
        id: JobId,
        /// The state it waits in.
        state: StateName,
    },
    /// The job has ended otherwise: another signal was first, its time was up, or somebody deleted it.
    #[error("job {id} has ended already, it is {state}")]
    AlreadyEnded {
        /// The job.
        id: JobId,
        /// The state it ended in.
        state: StateName,
    },
    /// The signal is about another attempt than the one that is under way.
    #[error("the signal is about attempt {attempt} of job {id}, which is at attempt {current}")]
    OtherAttempt {
        /// The job.
        id: JobId,
        /// The attempt that the signal is about.
        attempt: u32,
        /// The attempt that is under way.
        current: u32,
    },
    /// The result cannot be kept.
    #[error(transparent)]
    Unfit(#[from] UnfitResult),
    /// The storage failed. Whether the signal was accepted is not known; giving the same signal again is safe.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Others kept changing the job; the same signal again may help.
    #[error("could not signal job {0}: it was changed by others at every try")]
    Contended(JobId),
}

impl Signal {
    /// The work was done, with this result, which is kept with the job.
    ///
    /// # Errors
    /// [`UnfitResult`] if the result cannot be kept.
    pub fn succeeded<T: Serialize + ?Sized>(id: JobId, result: &T) -> Result<Self, UnfitResult> {
        Ok(Self { id, attempt: None, outcome: Outcome::Succeeded(encode_result(result)?) })
    }

    /// The work failed, for this reason; the job's retries decide whether its handler is run again.
    #[must_use]
    pub fn failed(id: JobId, reason: impl Into<String>) -> Self {
        let failure = Failure::new(FailureKind::Signalled, reason);
        Self { id, attempt: None, outcome: Outcome::Failed(failure) }
    }

    /// The same signal; if it tells of a failure, the job stays FAILED, whatever retries are left.
    #[must_use]
    pub fn do_not_retry(mut self) -> Self {
        if let Outcome::Failed(failure) = &mut self.outcome {
            failure.do_not_retry = true;
        }
        self
    }

    /// The same signal about this attempt only, as [`JobContext::attempt`](crate::JobContext::attempt) told the handler.
    ///
    /// A failure that is reported twice, the second time when the job is already tried again, fails no other attempt then.
    #[must_use]
    pub const fn of_attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// Whether the job is to be moved by this signal: `false` if it has had its effect before.
    fn concerns(&self, job: &Job) -> Result<bool, SignalError> {
        let (id, state) = (job.id(), job.state_name());
        if !job.definition().settings.external {
            return Err(SignalError::NotExternal(id));
        }
        let is_under_way = matches!(state, StateName::Processing | StateName::Processed);
        let current = job.failures().saturating_add(1);
        match self.attempt.filter(|attempt| *attempt != current) {
            None if is_under_way => Ok(true),
            _ if self.has_had_effect(job) => Ok(false),
            Some(attempt) if is_under_way => Err(SignalError::OtherAttempt { id, attempt, current }),
            _ if state.is_final() => Err(SignalError::AlreadyEnded { id, state }),
            _ => Err(SignalError::NotStarted { id, state }),
        }
    }

    /// Whether the attempt it is about, or the last one, ended as the signal says.
    fn has_had_effect(&self, job: &Job) -> bool {
        let history = job.history();
        let last =
            |is: fn(&JobState) -> bool| history.iter().rposition(|entry| is(&entry.state)).unwrap_or(0);
        let first_of_count = last(JobState::starts_afresh);
        let last_claim = last(|state| matches!(state, JobState::Processing { .. }));
        let mut attempt = 1;
        history.iter().enumerate().skip(first_of_count).any(|(index, entry)| {
            let is_meant = self.attempt.map_or(index > last_claim, |meant| meant == attempt);
            if entry.state.name() == StateName::Failed {
                attempt += 1;
            }
            is_meant && self.is_as(&entry.state)
        })
    }

    fn is_as(&self, state: &JobState) -> bool {
        match (&self.outcome, state) {
            (Outcome::Succeeded(own), JobState::Succeeded { result, .. }) => {
                is_same_json(own.as_ref(), result.as_ref())
            }
            (Outcome::Failed(own), JobState::Failed(failure)) => {
                failure.kind == own.kind && failure.message == own.message
            }
            _ => false,
        }
    }

    /// The states that follow from the signal.
    fn states(&self, job: &Job, retries: &Retries, now: DateTime<Utc>) -> Vec<JobState> {
        match &self.outcome {
            Outcome::Succeeded(result) => vec![job.success(result.clone(), now.max(job.updated_at()))],
            Outcome::Failed(failure) => retries.states_after_failure(job, failure.clone(), Wish::Retry, now),
        }
    }
}

/// Whether two results say the same, in whatever order a map was written.
fn is_same_json(one: Option<&JsonText>, other: Option<&JsonText>) -> bool {
    let value = |text: &JsonText| text.decode::<Value>().ok();
    one == other || one.and_then(value) == other.and_then(value)
}

impl JobScheduler {
    /// Completes an external job: it becomes SUCCEEDED with this result.
    ///
    /// The signal may come from any process that can reach the storage, as soon as the job has started: if its handler
    /// still runs, the signal wins, and how the handler ends does not matter any more. The same signal twice is fine.
    ///
    /// ```no_run
    /// # use jobrunr_core::{JobId, JobScheduler, SignalError};
    /// # async fn example(scheduler: JobScheduler, id: JobId) -> Result<(), SignalError> {
    /// scheduler.signal_succeeded(id, "approved").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SignalError`] saying why the job cannot be completed.
    pub async fn signal_succeeded<T: Serialize + Send>(
        &self,
        id: JobId,
        result: T,
    ) -> Result<(), SignalError> {
        let signal = Signal::succeeded(id, &result)?;
        drop(result);
        self.signal(signal).await
    }

    /// Fails an external job, for this reason: it is retried, its handler run again, if retries are left.
    ///
    /// Whether and when is decided here, by [the retries of this scheduler](Self::with_retries) and those of the job.
    ///
    /// # Errors
    /// As [`signal_succeeded`](Self::signal_succeeded).
    pub async fn signal_failed(&self, id: JobId, reason: impl Into<String>) -> Result<(), SignalError> {
        self.signal(Signal::failed(id, reason)).await
    }

    /// Ends an external job as the signal says.
    ///
    /// The filters of this scheduler elect its states and are told of them, as those of a server are at the end of a run.
    ///
    /// # Errors
    /// As [`signal_succeeded`](Self::signal_succeeded).
    pub async fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        let id = signal.id;
        for _ in 0..MAX_TRIES {
            let now = self.now().await?;
            let mut job = self.storage.find_job(id).await?.ok_or(SignalError::NotFound(id))?;
            if !signal.concerns(&job)? {
                return Ok(());
            }
            let states = signal.states(&job, &self.retries, now);
            self.filters.enter_elected(&mut job, states, now);
            let entries = job.new_entries().to_vec();
            match self.storage.save_job(&mut job).await {
                Ok(()) => {
                    #[cfg(feature = "metrics")]
                    crate::metrics::count_saved(&job, &entries);
                    self.storage.tell_ended([&job]);
                    self.filters.applied(&job, &entries).await;
                    self.filters.ended(&job, &entries).await;
                    return Ok(());
                }
                // Race: its handler just ended, its server was declared dead, or another signal was first.
                Err(SaveConflict::Lost(_)) => {}
                Err(SaveConflict::Storage(error)) => return Err(error.into()),
            }
        }
        Err(SignalError::Contended(id))
    }
}
