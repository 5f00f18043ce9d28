//! Letting runs of recurring jobs go on that wait for the run before: when a run ends here, and now and then for all others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::{JobCursor, JobOrder, JobQuery, OrderField, StorageError};
use jobrunr_core::{Job, JobId, JobState, StateName};

use super::{Rounds, save};
use crate::engine::Engine;
use crate::options::HOUSEKEEPING_PAGE;

/// Runs that end within this time of each other are looked after together.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// Looks for runs that need not wait any more until the server stops.
pub(crate) async fn keep_releasing_waiters(engine: Arc<Engine>) {
    let mut rounds = Rounds::new(&engine, "let waiting runs of recurring jobs go on");
    let mut is_asked_for = true;
    loop {
        tokio::select! {
            biased;
            () = engine.phases.stopping.cancelled() => return,
            () = engine.recurring_run_ended.notified() => is_asked_for = true,
            () = tokio::time::sleep(rounds.pause) => is_asked_for |= engine.membership.is_master(),
        }
        let result = if is_asked_for { release(&engine).await } else { Ok(()) };
        is_asked_for = result.is_err();
        rounds.note(result);
        tokio::time::sleep(LEAST_PAUSE).await;
    }
}

pub(super) async fn release(engine: &Engine) -> Result<(), StorageError> {
    let mut query = JobQuery::in_state(StateName::Awaiting)
        .order(JobOrder::ascending(OrderField::UpdatedAt))
        .limit(HOUSEKEEPING_PAGE);
    let mut ended = HashMap::new();
    loop {
        let page = engine.storage.list_jobs(&query).await?;
        query.after = page.last().map(|job| JobCursor::after(job, query.order));
        let is_last_page = page.len() < HOUSEKEEPING_PAGE;
        let mut free = Vec::new();
        for mut run in page {
            let Some(awaited) = run.recurring_job_id().and(run.awaited_job_id()) else { continue };
            if has_ended(engine, awaited, &mut ended).await? && enqueue(engine, &mut run) {
                free.push(run);
            }
        }
        if save(engine, free).await? > 0 {
            engine.expect_work();
        }
        if is_last_page {
            return Ok(());
        }
    }
}

/// Whether the run that another waits for has ended, well or not; one that was purged has.
async fn has_ended(
    engine: &Engine,
    id: JobId,
    known: &mut HashMap<JobId, bool>,
) -> Result<bool, StorageError> {
    if let Some(has_ended) = known.get(&id) {
        return Ok(*has_ended);
    }
    let run = engine.storage.find_job(id).await?;
    let has_ended = run.is_none_or(|run| run.state_name().is_final());
    known.insert(id, has_ended);
    Ok(has_ended)
}

fn enqueue(engine: &Engine, run: &mut Job) -> bool {
    let reason = Some("the run before has ended".to_owned());
    run.transition(JobState::Enqueued { reason, starts_afresh: false }, engine.now()).is_ok()
}
