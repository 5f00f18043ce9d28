//! External jobs that wait for their signal longer than their timeout allows: they fail, and are tried again.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::handler::Wish;
use jobrunr_core::storage::{JobCursor, JobOrder, JobQuery, OrderField, StorageError};
use jobrunr_core::{Failure, FailureKind, Job, StateName};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Rounds, save_ends};
use crate::engine::Engine;
use crate::options::HOUSEKEEPING_PAGE;

/// A round may take this share of the time: one that took a second is followed by so many seconds of rest.
const REST: u32 = 20;

/// Looks for external jobs whose time is up, as long as this server is the master, until it stops.
pub(crate) async fn keep_timing_out(engine: Arc<Engine>) {
    let mut rounds = Rounds::new(&engine, "look for external jobs that wait too long");
    let never_woken = Notify::new();
    while rounds.next(&never_woken).await {
        let started_at = Instant::now();
        let next_deadline = match time_out(&engine).await {
            Ok(next_deadline) => {
                rounds.note(Ok(()));
                next_deadline
            }
            Err(error) => {
                rounds.note(Err(error));
                continue;
            }
        };
        if let Some(next_deadline) = next_deadline {
            let until_then = (next_deadline - engine.now()).to_std().unwrap_or_default();
            rounds.pause = rounds.pause.min(until_then);
        }
        rounds.pause = rounds.pause.max(started_at.elapsed() * REST);
    }
}

/// Fails the jobs whose time is up; tells when that of another one will be.
pub(super) async fn time_out(engine: &Engine) -> Result<Option<DateTime<Utc>>, StorageError> {
    let mut query = JobQuery::in_state(StateName::Processed)
        .order(JobOrder::ascending(OrderField::UpdatedAt))
        .limit(HOUSEKEEPING_PAGE);
    let mut next_deadline: Option<DateTime<Utc>> = None;
    while engine.membership.is_master() {
        let page = engine.storage.list_jobs(&query).await?;
        let Some(last) = page.last() else { break };
        query.after = Some(JobCursor::after(last, query.order));
        let is_last_page = page.len() < HOUSEKEEPING_PAGE;

        let now = engine.now();
        let mut late = Vec::new();
        for job in page {
            match deadline(&job) {
                Some((at, timeout)) if at <= now => late.push(failed(engine, job, timeout, now)),
                Some((at, _)) => next_deadline = next_deadline.into_iter().chain([at]).min(),
                None => {}
            }
        }
        save_ends(engine, late).await?;
        if is_last_page {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(next_deadline)
}

/// Until when the signal may come, and after how long that is; the time counts from the claim on.
fn deadline(job: &Job) -> Option<(DateTime<Utc>, Duration)> {
    let timeout = job.definition().settings.timeout?;
    let claim = job.history().iter().rfind(|entry| entry.state.name() == StateName::Processing)?;
    Some((claim.at.checked_add_signed(TimeDelta::from_std(timeout).ok()?)?, timeout))
}

fn failed(engine: &Engine, mut job: Job, timeout: Duration, now: DateTime<Utc>) -> Job {
    let message = format!("no signal came within its timeout of {timeout:?}");
    let failure = Failure::new(FailureKind::TimedOut, message);
    let states = engine.retries.states_after_failure(&job, failure, Wish::Retry, now);
    engine.filters.enter_elected(&mut job, states, now);
    job
}
