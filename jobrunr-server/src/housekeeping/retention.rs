//! Clearing away ended jobs: SUCCEEDED and FAILED become DELETED, DELETED is purged, in batches, never all at once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::storage::{
    JobCursor, JobOrder, JobQuery, JobSelection, OrderField, SignatureSelection, StorageError, TimeWindow,
};
use jobrunr_core::{Job, StateName};
use tokio::sync::Notify;

use super::{Rounds, save};
use crate::engine::Engine;
use crate::options::HOUSEKEEPING_PAGE;

/// Clears away ended jobs, as long as this server is the master, until it stops.
pub(crate) async fn keep_clearing(engine: Arc<Engine>) {
    let mut rounds = Rounds::new(&engine, "clear away ended jobs");
    let never_woken = Notify::new();
    while rounds.next(&never_woken).await {
        rounds.note(clear(&engine).await);
    }
}

async fn clear(engine: &Engine) -> Result<(), StorageError> {
    let retention = &engine.settings.retention;
    for (selection, kept) in retention.of_succeeded() {
        delete(engine, StateName::Succeeded, selection, kept).await?;
    }
    for (selection, kept) in retention.of_failed() {
        delete(engine, StateName::Failed, selection, kept).await?;
    }
    for (selection, kept) in retention.of_deleted() {
        purge(engine, selection, kept).await?;
    }
    Ok(())
}

async fn delete(
    engine: &Engine,
    state: StateName,
    signatures: SignatureSelection,
    kept: Duration,
) -> Result<(), StorageError> {
    let Some(before) = older_than(engine, kept) else { return Ok(()) };
    let mut query = JobQuery::in_state(state)
        .signatures(signatures)
        .updated(TimeWindow::before(before))
        .order(JobOrder::ascending(OrderField::UpdatedAt))
        .limit(HOUSEKEEPING_PAGE);
    while engine.membership.is_master() {
        let mut page = engine.storage.list_jobs(&query).await?;
        let last = page.last().map(|job| JobCursor::after(job, query.order));
        let is_last_page = page.len() < HOUSEKEEPING_PAGE;
        let reason = format!("it was {state} for {kept:?}");
        page.retain_mut(|job: &mut Job| job.delete(Some(reason.clone()), engine.now()).is_ok());
        save(engine, page).await?;
        if is_last_page {
            return Ok(());
        }
        query.after = last;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn purge(engine: &Engine, signatures: SignatureSelection, kept: Duration) -> Result<(), StorageError> {
    let Some(updated_before) = older_than(engine, kept) else { return Ok(()) };
    let limit = HOUSEKEEPING_PAGE;
    let selection = JobSelection::Aged { state: StateName::Deleted, updated_before, signatures, limit };
    while engine.membership.is_master() {
        let purged = engine.storage.delete_jobs(&selection).await?;
        if usize::try_from(purged).is_ok_and(|purged| purged < limit) {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The instant this long ago; `None` if that is before all time.
fn older_than(engine: &Engine, kept: Duration) -> Option<DateTime<Utc>> {
    engine.now().checked_sub_signed(TimeDelta::from_std(kept).ok()?)
}
