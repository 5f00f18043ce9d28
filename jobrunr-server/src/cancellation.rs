//! Ending runs whose job was deleted, or taken away, while it ran here.

use std::collections::HashSet;
use std::sync::Arc;

use jobrunr_core::storage::{JobCursor, JobQuery, StorageError};
use jobrunr_core::{JobId, StateName};
use tokio::sync::mpsc;

use crate::back_off::BackOff;
use crate::engine::Engine;
use crate::holdings::{Claim, Interruption, claim_of};
use crate::options::HOUSEKEEPING_PAGE;

/// Looks at runs that are suspected of running for nothing, until the server stops.
pub(crate) async fn keep_checking(engine: Arc<Engine>, mut suspects: mpsc::UnboundedReceiver<Option<JobId>>) {
    let mut back_off = BackOff::new("look whether jobs were deleted while they ran", &engine.health);
    loop {
        let suspect = tokio::select! {
            () = engine.phases.stopping.cancelled() => return,
            suspect = suspects.recv() => suspect,
        };
        let checked = match suspect {
            Some(Some(id)) => check_one(&engine, id).await,
            Some(None) => check_all(&engine).await,
            None => return,
        };
        match checked {
            Ok(()) => back_off.succeeded(),
            // Every heartbeat makes all runs suspects again, so there is no need to try again here.
            Err(error) => drop(back_off.failed(&error)),
        }
    }
}

async fn check_one(engine: &Engine, id: JobId) -> Result<(), StorageError> {
    match engine.holdings.find_running(id) {
        Some(claim) => interrupt_if_taken_away(engine, claim).await,
        None => Ok(()),
    }
}

/// Race: a run that ends meanwhile is not found by its claim any more, so whatever is decided here cannot hit another.
async fn check_all(engine: &Engine) -> Result<(), StorageError> {
    let mut suspects: HashSet<Claim> = engine.holdings.running().into_iter().collect();
    if suspects.is_empty() {
        return Ok(());
    }
    let server_id = engine.membership.life().id();
    let mut query = JobQuery::in_state(StateName::Processing).server_id(server_id).limit(HOUSEKEEPING_PAGE);
    loop {
        let page = engine.storage.list_jobs(&query).await?;
        for job in &page {
            suspects.remove(&claim_of(job));
        }
        match page.last() {
            Some(last) if page.len() >= HOUSEKEEPING_PAGE => {
                query.after = Some(JobCursor::after(last, query.order));
            }
            _ => break,
        }
    }
    for claim in suspects {
        interrupt_if_taken_away(engine, claim).await?;
    }
    Ok(())
}

/// Asks a run to end unless its job is still as it was claimed.
///
/// An external job that was completed from elsewhere while its trigger runs is no reason: the trigger may end in peace.
async fn interrupt_if_taken_away(engine: &Engine, claim: Claim) -> Result<(), StorageError> {
    let job = engine.storage.find_job(claim.0).await?;
    let is_taken_away = job.is_none_or(|job| {
        let is_own = job.state_name() == StateName::Processing && claim_of(&job) == claim;
        let is_completed = job.definition().settings.external
            && matches!(job.state_name(), StateName::Succeeded | StateName::Failed);
        !is_own && !is_completed
    });
    if is_taken_away {
        tracing::info!(job.id = %claim.0, "cancelling a run: its job was deleted or taken away");
        engine.holdings.interrupt(claim, Interruption::TakenAway);
    }
    Ok(())
}
