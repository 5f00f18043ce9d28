//! What a tick's run does while earlier runs of its recurring job have not ended.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use jobrunr_core::recurring::{OverlapPolicy, RecurringJob};
use jobrunr_core::storage::StorageError;
use jobrunr_core::{Job, JobId, StateName};

use super::save;
use crate::engine::Engine;

/// How many runs are looked at, or deleted, at once.
const AT_ONCE: usize = 16;
/// How often a run is tried to be deleted that others keep changing.
const MAX_TRIES: usize = 20;

/// How a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// In its queue.
    Now,
    /// AWAITING this one.
    After(JobId),
}

/// Which ticks are run and how, as the policy says; notes their runs as open ones of the recurring job.
pub(super) async fn starts(
    engine: &Engine,
    recurring: &mut RecurringJob,
    ticks: &[DateTime<Utc>],
) -> Result<Vec<(DateTime<Utc>, Start)>, StorageError> {
    if recurring.overlap == OverlapPolicy::Allow {
        recurring.open_runs.clear();
        return Ok(ticks.iter().map(|tick| (*tick, Start::Now)).collect());
    }
    let id = recurring.id.clone();
    let run_id = |tick: &DateTime<Utc>| JobId::of_tick(&id, *tick);
    // Who died before it could save that a tick was dealt with may have created its run.
    let first_due = recurring.next_tick_at().map(|tick| run_id(&tick));
    let first_due = first_due.filter(|run| !recurring.open_runs.contains(run));
    recurring.note_open_runs(first_due);
    let of_ticks: HashSet<JobId> = ticks.iter().map(run_id).collect();
    let mut earlier = std::mem::take(&mut recurring.open_runs);
    earlier.retain(|open| !of_ticks.contains(open));

    let chosen = match recurring.overlap {
        OverlapPolicy::Allow => Vec::new(),
        _ if ticks.is_empty() => {
            recurring.open_runs = earlier;
            return Ok(Vec::new());
        }
        OverlapPolicy::CancelPrevious => {
            let reason = format!("the next run of the recurring job {id} is due");
            // The latest first, so that none is let go on because the one before it is gone.
            let deletions = earlier.into_iter().rev().map(|run| delete_run(engine, run, &reason, |_| true));
            stream::iter(deletions).buffered(AT_ONCE).try_collect::<()>().await?;
            one_after_the_other(ticks, run_id)
        }
        OverlapPolicy::Skip | OverlapPolicy::QueueOne => {
            let latest = drop_ended(engine, &mut earlier).await?;
            recurring.open_runs = earlier;
            match latest {
                None => one_after_the_other(ticks, run_id),
                Some(latest) if recurring.overlap == OverlapPolicy::Skip || is_waiting(&latest) => Vec::new(),
                // The first, which everybody who deals with these ticks chooses, however many more are due by then.
                Some(latest) => vec![(ticks[0], Start::After(latest.id()))],
            }
        }
    };
    recurring.note_open_runs(chosen.iter().map(|(tick, _)| run_id(tick)));
    Ok(chosen)
}

/// The first at once, each other when the one before has ended.
fn one_after_the_other(
    ticks: &[DateTime<Utc>],
    run_id: impl Fn(&DateTime<Utc>) -> JobId,
) -> Vec<(DateTime<Utc>, Start)> {
    let mut previous = Start::Now;
    let mut starts = Vec::with_capacity(ticks.len());
    for tick in ticks {
        starts.push((*tick, previous));
        previous = Start::After(run_id(tick));
    }
    starts
}

/// Drops runs from the end up to the first that has not ended, and returns that.
async fn drop_ended(engine: &Engine, runs: &mut Vec<JobId>) -> Result<Option<Job>, StorageError> {
    let latest_first = stream::iter(runs.clone().into_iter().rev());
    let mut looks = latest_first.map(|id| engine.storage.find_job(id)).buffered(AT_ONCE);
    while let Some(found) = looks.try_next().await? {
        if let Some(run) = found.filter(|run| !run.state_name().is_final()) {
            return Ok(Some(run));
        }
        runs.pop();
    }
    Ok(None)
}

fn is_waiting(run: &Job) -> bool {
    run.state_name() == StateName::Awaiting
}

/// Deletes a run that has not ended, if `may_go` says so of it.
pub(super) async fn delete_run(
    engine: &Engine,
    id: JobId,
    reason: &str,
    may_go: impl Fn(&Job) -> bool,
) -> Result<(), StorageError> {
    for _ in 0..MAX_TRIES {
        let Some(mut run) = engine.storage.find_job(id).await? else { return Ok(()) };
        if run.state_name().is_final() || !may_go(&run) {
            return Ok(());
        }
        if let Err(illegal) = run.delete(Some(reason.to_owned()), engine.now()) {
            tracing::error!(job.id = %id, "a run of a recurring job is not deleted: {illegal}");
            return Ok(());
        }
        if save(engine, vec![run]).await? > 0 {
            return Ok(());
        }
        // Race: a server claimed or ended it since it was loaded.
    }
    tracing::error!(job.id = %id, "a run of a recurring job is not deleted: others changed it at every try");
    Ok(())
}
