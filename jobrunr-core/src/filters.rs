//! Code of the user's that sees jobs on their way: at creation, at each change of state, around each run.
//!
//! | what happens | hooks, in order | whose |
//! |---|---|---|
//! | a job is created | `on_creating`, insert, `on_created`, applied of its first state | the scheduler's; of a tick the server's |
//! | a job is prepared for a transaction of the caller's | `on_creating`, and no other | the scheduler's |
//! | a job is due | applied ENQUEUED | the server's that released it |
//! | a job was claimed and its run begins | applied PROCESSING, `on_processing`, and then the handler | the server's |
//! | it succeeds | elect SUCCEEDED, save, applied SUCCEEDED, `on_succeeded` | the server's |
//! | it fails, a retry follows | elect FAILED and SCHEDULED, save, applied of each, `on_failed` | the server's |
//! | it fails for good | elect FAILED, save, applied FAILED, `on_failed_after_retries` | the server's |
//! | its outcome is refused by the storage | elect of it; then save of FAILED in its place, applied FAILED, `on_failed_after_retries` | the server's |
//! | it is to run later, at its own wish | elect SCHEDULED, save, applied SCHEDULED | the server's |
//! | it is given back | applied PROCESSING unless its run had begun, save, applied ENQUEUED | the server's |
//! | the trigger of an external job has run | elect PROCESSED, save, applied PROCESSED | the server's |
//! | a signal completes an external job | as a run that succeeds or fails | the scheduler's that took it |
//! | its server died | elect FAILED and ENQUEUED, save, applied of each, `on_failed`; or as a run that fails for good | the master's; applied PROCESSING is left to the server that claimed it, which may have died before it told |
//! | a job is deleted, requeued, rescheduled | save, applied of the new state | the scheduler's |
//! | a job is deleted while it runs | the same, and nothing at all at the end of the run | the scheduler's |
//! | a job is cleared away | save, applied DELETED | the master's |
//!
//! Within one hook the filters are called in the order they were added in; one that is [for a type of
//! job](crate::OnJobType) takes its turn among them. *Applied* is `on_state_applied`. A save that loses against another one calls nothing.
//!
//! What one row names comes in that order. Hooks of two rows may come at once, or the later first, where different tasks or
//! processes tell of them: a job may be claimed, and that told, while who made it still calls `on_created`.
//!
//! *Elect* comes after the decision about a retry. A filter sees FAILED and SCHEDULED, and may drop the retry, move it, or add
//! one; whatever is elected last is entered, and no retry is decided after that.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;

use crate::job::Job;
use crate::request::JobDraft;
use crate::state::{Failure, HistoryEntry, IllegalTransition, JobState};

/// Sees jobs on their way. Every hook does nothing unless it is written.
///
/// A hook that panics is logged and passed over; no hook runs inside a transaction of the storage. A transaction of the
/// caller's may be open while [`on_creating`](Self::on_creating) runs.
///
/// The order for one run: `on_state_applied` for PROCESSING, `on_processing`, the handler, `elect_state`, the save,
/// `on_state_applied` once an entry, and then one of `on_succeeded`, `on_failed` (a retry follows) and `on_failed_after_retries`.
///
/// The hooks before the handler are part of the run: its timeout counts them, and they are dropped if the run is cancelled.
/// `on_state_applied` is passed over if it takes over 30 seconds, as are the hooks after a save.
#[async_trait]
pub trait JobFilter: Send + Sync + 'static {
    /// Before a job is created: may change it.
    ///
    /// It must be quick and not wait for the database: where the job is to go into a transaction of the caller's
    /// ([`prepare`](crate::JobScheduler::prepare) and the `enqueue_in` of the storages), that may be open already. Whether
    /// such a job comes to be nobody knows here, so neither `on_created` nor `on_state_applied` tells of its creation.
    fn on_creating(&self, _draft: &mut JobDraft) {}

    /// After a job was created: it is stored.
    async fn on_created(&self, _job: &Job) {}

    /// Before a run's outcome is saved: may put another in its place.
    ///
    /// Whether a failure is retried has been decided by then, and is not decided again: a filter that takes the retry away
    /// makes the failure the last one, and one that turns a success into FAILED has to add the retry itself.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use chrono::Utc;
    /// # use jobrunr_core::filters::{JobFilter, StateElection};
    /// # use jobrunr_core::{Failure, FailureKind, JobState};
    /// struct TriesEmptyResultsAgain;
    ///
    /// impl JobFilter for TriesEmptyResultsAgain {
    ///     fn elect_state(&self, election: &mut StateElection<'_>) {
    ///         if let [JobState::Succeeded { result: None, .. }] = election.states() {
    ///             let failure = Failure::new(FailureKind::Error, "there is no result");
    ///             let retry = JobState::scheduled_in(Duration::from_secs(60), "no result yet", Utc::now());
    ///             election.replace([JobState::failed(failure), retry]);
    ///         }
    ///     }
    /// }
    /// ```
    fn elect_state(&self, _election: &mut StateElection<'_>) {}

    /// After an entry of a job's history was saved: once for each, that of a claim included.
    ///
    /// PROCESSING is told when the run begins, or when the job is given back unstarted.
    async fn on_state_applied(&self, _job: &Job, _entry: &HistoryEntry) {}

    /// Before the handler runs. A job that is given back unstarted does not come here.
    async fn on_processing(&self, _job: &Job) {}

    /// After a run's success was saved.
    async fn on_succeeded(&self, _job: &Job) {}

    /// After a run's failure was saved, with a retry to follow.
    async fn on_failed(&self, _job: &Job, _failure: &Failure) {}

    /// After a run's failure was saved, and the job stays FAILED.
    async fn on_failed_after_retries(&self, _job: &Job, _failure: &Failure) {}
}

/// What the next states of a job are going to be, open to change.
#[derive(Debug)]
pub struct StateElection<'a> {
    job: &'a Job,
    states: Vec<JobState>,
}

impl<'a> StateElection<'a> {
    /// An election with these states as candidates, to be entered one after the other.
    #[must_use]
    pub const fn new(job: &'a Job, states: Vec<JobState>) -> Self {
        Self { job, states }
    }

    /// The job as it is now.
    #[must_use]
    pub const fn job(&self) -> &Job {
        self.job
    }

    /// The states it is going to enter, one after the other: FAILED and SCHEDULED for a failure that is retried.
    #[must_use]
    pub fn states(&self) -> &[JobState] {
        &self.states
    }

    /// Has the job enter these states instead.
    pub fn replace(&mut self, states: impl IntoIterator<Item = JobState>) {
        self.states = states.into_iter().collect();
    }

    /// The outcome.
    #[must_use]
    pub fn into_states(self) -> Vec<JobState> {
        self.states
    }
}

/// The filters of a scheduler or a server, in the order they are called in.
#[derive(Clone, Default)]
pub struct JobFilters(Vec<Arc<dyn JobFilter>>);

impl fmt::Debug for JobFilters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobFilters({})", self.0.len())
    }
}

impl JobFilters {
    /// Adds a filter after those added before.
    pub fn push(&mut self, filter: impl JobFilter) {
        self.0.push(Arc::new(filter));
    }

    /// Whether there are none: then nothing needs to be loaded for them.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls every `on_creating`.
    pub fn creating(&self, draft: &mut JobDraft) {
        for filter in &self.0 {
            let before = draft.clone();
            if caught("on_creating", || filter.on_creating(draft)).is_none() {
                *draft = before;
            }
        }
    }

    /// Calls every `on_created`, then every `on_state_applied` for the first entries.
    pub async fn created(&self, job: &Job) {
        for filter in &self.0 {
            caught_async("on_created", filter.on_created(job)).await;
        }
        self.applied(job, job.history()).await;
    }

    /// Calls every `elect_state`; one that panics changes nothing.
    #[must_use]
    pub fn elected(&self, job: &Job, states: Vec<JobState>) -> Vec<JobState> {
        let mut states = states;
        for filter in &self.0 {
            let mut election = StateElection::new(job, states.clone());
            if caught("elect_state", || filter.elect_state(&mut election)).is_some() {
                states = election.into_states();
            }
        }
        states
    }

    /// Moves the job to these states, or to others if the filters elect them.
    ///
    /// Filters that elect nothing, or an illegal move, are passed over.
    pub fn enter_elected(&self, job: &mut Job, states: Vec<JobState>, now: DateTime<Utc>) {
        if !self.is_empty() {
            let elected = self.elected(job, states.clone());
            let mut moved = job.clone();
            match enter_all(&mut moved, elected, now) {
                Ok(()) if !moved.new_entries().is_empty() => {
                    *job = moved;
                    return;
                }
                Ok(()) => {
                    tracing::error!(job.id = %job.id(), "job filters elected no state and were passed over");
                }
                Err(illegal) => {
                    tracing::error!(job.id = %job.id(), "job filters elected an illegal move and were passed over: {illegal}");
                }
            }
        }
        if let Err(illegal) = enter_all(job, states, now) {
            tracing::error!(job.id = %job.id(), "the end of a run was cut short: {illegal}");
        }
    }

    /// Calls every `on_state_applied` for each of these entries.
    pub async fn applied(&self, job: &Job, entries: &[HistoryEntry]) {
        for entry in entries {
            for filter in &self.0 {
                caught_async("on_state_applied", filter.on_state_applied(job, entry)).await;
            }
        }
    }

    /// Calls every `on_state_applied` for the entry that the claim of this job has written, which is its last.
    pub async fn claimed(&self, job: &Job) {
        let last = job.history().len().saturating_sub(1);
        self.applied(job, &job.history()[last..]).await;
    }

    /// Calls every `on_processing`.
    pub async fn processing(&self, job: &Job) {
        for filter in &self.0 {
            caught_async("on_processing", filter.on_processing(job)).await;
        }
    }

    /// Calls the hook of every filter that tells how a run ended, by the state the job is in afterwards.
    pub async fn ended(&self, job: &Job, saved: &[HistoryEntry]) {
        let failure = saved.iter().find_map(|entry| match &entry.state {
            JobState::Failed(failure) => Some(failure.as_ref()),
            _ => None,
        });
        for filter in &self.0 {
            match (job.state(), failure) {
                (JobState::Succeeded { .. }, _) => {
                    caught_async("on_succeeded", filter.on_succeeded(job)).await
                }
                (JobState::Failed(_), Some(failure)) => {
                    let hook = filter.on_failed_after_retries(job, failure);
                    caught_async("on_failed_after_retries", hook).await;
                }
                (_, Some(failure)) => caught_async("on_failed", filter.on_failed(job, failure)).await,
                (_, None) => {}
            }
        }
    }
}

fn enter_all(job: &mut Job, states: Vec<JobState>, now: DateTime<Utc>) -> Result<(), IllegalTransition> {
    states.into_iter().try_for_each(|state| job.transition(state, now))
}

fn caught<T>(hook: &'static str, call: impl FnOnce() -> T) -> Option<T> {
    let result = std::panic::catch_unwind(AssertUnwindSafe(call));
    if result.is_err() {
        tracing::error!(hook, "a job filter panicked and was passed over");
    }
    result.ok()
}

async fn caught_async(hook: &'static str, call: impl Future<Output = ()>) {
    if AssertUnwindSafe(call).catch_unwind().await.is_err() {
        tracing::error!(hook, "a job filter panicked and was passed over");
    }
}
