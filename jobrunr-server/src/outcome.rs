//! From how a run ended to the states its job enters: success, failure with or without a retry, snooze, give-back.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::handler::Wish;
use jobrunr_core::retry::{ExponentialBackOff, FailedRun, RetryDecision, RetryPolicy};
use jobrunr_core::{Failure, IllegalTransition, Job, JobState, JsonText};

use crate::engine::Engine;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Well, with this result.
    Succeeded(Option<JsonText>),
    /// Badly, and this is what is wished to be done about it.
    Failed(Failure, Wish),
    /// The handler asked to be run again in this much time.
    Snoozed(Duration),
    /// Before its end, through no fault of its own.
    GivenBack,
    /// The job is not this server's any more; there is nothing to save.
    Dropped,
}

/// Moves the job to the states that follow from how its run ended, as the filters elect them; `None` = nothing to save.
pub(crate) fn elect(engine: &Engine, mut job: Job, ending: Ending) -> Option<Job> {
    let now = engine.now();
    let states = match ending {
        Ending::Dropped => return None,
        Ending::GivenBack => {
            return job.give_back("the server stopped", now).ok().map(|()| job);
        }
        Ending::Succeeded(_) if job.definition().settings.external => vec![JobState::Processed {}],
        Ending::Succeeded(result) => vec![job.success(result, now.max(job.updated_at()))],
        Ending::Snoozed(delay) => {
            let reason = format!("its handler asked to be run again in {delay:?}");
            vec![scheduled_in(delay, reason, now)]
        }
        Ending::Failed(failure, wish) => states_after_failure(engine, &job, failure, wish, now),
    };
    enter_elected(engine, &mut job, states, now);
    Some(job)
}

/// Moves the job to these states, or to others if the filters elect them.
pub(crate) fn enter_elected(engine: &Engine, job: &mut Job, states: Vec<JobState>, now: DateTime<Utc>) {
    if !engine.filters.is_empty() {
        let elected = engine.filters.elected(job, states.clone());
        let mut moved = job.clone();
        match enter_all(&mut moved, elected, now) {
            Ok(()) if !moved.new_entries().is_empty() => {
                *job = moved;
                return;
            }
            Ok(()) => {
                tracing::error!(job.id = %job.id(), "job filters elected no state and were passed over")
            }
            Err(illegal) => {
                tracing::error!(job.id = %job.id(), "job filters elected an illegal move and were passed over: {illegal}");
            }
        }
    }
    if let Err(illegal) = enter_all(job, states, now) {
        tracing::error!(job.id = %job.id(), "the outcome of a run was cut short: {illegal}");
    }
}

fn enter_all(job: &mut Job, states: Vec<JobState>, now: DateTime<Utc>) -> Result<(), IllegalTransition> {
    states.into_iter().try_for_each(|state| job.transition(state, now))
}

fn states_after_failure(
    engine: &Engine,
    job: &Job,
    failure: Failure,
    wish: Wish,
    now: DateTime<Utc>,
) -> Vec<JobState> {
    let retry = next_retry(engine, job, &failure, wish);
    let mut states = vec![JobState::failed(failure)];
    if let Some((delay, reason)) = retry {
        states.push(scheduled_in(delay, reason, now));
    }
    states
}

/// When the job is to be tried again, and as which retry; `None` = never.
fn next_retry(engine: &Engine, job: &Job, failure: &Failure, wish: Wish) -> Option<(Duration, String)> {
    let (delay, reason) = retry_after(engine, job, failure)?;
    let delay = if let Wish::RetryIn(wished) = wish { wished } else { delay };
    Some((delay, reason))
}

/// What retries and policies say about a job that failed like this.
pub(crate) fn retry_after(engine: &Engine, job: &Job, failure: &Failure) -> Option<(Duration, String)> {
    let failed = FailedRun { job, failure, failures: job.failures().saturating_add(1) };
    let decide = AssertUnwindSafe(|| engine.retries.decide(&failed));
    let decision = std::panic::catch_unwind(decide).unwrap_or_else(|_| {
        tracing::error!(job.id = %job.id(), "a retry policy panicked, so the job backs off exponentially");
        ExponentialBackOff::default().decide(&failed).unwrap_or(RetryDecision::GiveUp)
    });
    let RetryDecision::RetryIn(delay) = decision else { return None };
    let reason = format!("retry {} of {}", failed.failures, engine.retries.retries_of(job));
    Some((delay, reason))
}

fn scheduled_in(delay: Duration, reason: String, now: DateTime<Utc>) -> JobState {
    let delay = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
    let scheduled_at = now.checked_add_signed(delay).unwrap_or(DateTime::<Utc>::MAX_UTC);
    JobState::Scheduled { scheduled_at, reason: Some(reason), starts_afresh: false }
}
