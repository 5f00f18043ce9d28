//! Rescuing jobs whose server is gone: the run counts as failed, and the job is tried again at once if retries are left.

use std::collections::HashSet;
use std::sync::Arc;

use jobrunr_core::handler::Wish;
use jobrunr_core::storage::{JobCursor, JobOrder, JobQuery, OrderField, StorageError};
use jobrunr_core::{Failure, FailureKind, Job, JobState, ServerId, StateName};

use super::{Rounds, save_ends};
use crate::engine::Engine;
use crate::options::HOUSEKEEPING_PAGE;

/// Looks for orphans, as long as this server is the master, until it stops.
pub(crate) async fn keep_rescuing(engine: Arc<Engine>) {
    let mut rounds = Rounds::new(&engine, "look for the jobs of servers that are gone");
    while rounds.next(&engine.servers_changed).await {
        rounds.note(rescue(&engine).await);
    }
}

async fn rescue(engine: &Engine) -> Result<(), StorageError> {
    let mut query = JobQuery::in_state(StateName::Processing)
        .order(JobOrder::ascending(OrderField::UpdatedAt))
        .limit(HOUSEKEEPING_PAGE);
    while engine.membership.is_master() {
        query.server_not_in = Some(list_server_ids(engine).await?.into_iter().collect());
        let page = engine.storage.list_jobs(&query).await?;
        let Some(last) = page.last() else { return Ok(()) };
        query.after = Some(JobCursor::after(last, query.order));
        let is_last_page = page.len() < HOUSEKEEPING_PAGE;

        // Race: a server may have announced itself and claimed since the first list; servers announce before they claim.
        let announced = list_server_ids(engine).await?;
        let is_orphan = |job: &Job| job.server_id().is_some_and(|id| !announced.contains(&id));
        let mut orphans: Vec<Job> = page.into_iter().filter(is_orphan).collect();
        orphans.iter_mut().for_each(|job| fail(engine, job));
        let rescued = save_ends(engine, orphans).await?;
        if rescued > 0 {
            tracing::warn!(count = rescued, "jobs of servers that are gone were rescued");
        }
        if is_last_page {
            return Ok(());
        }
    }
    Ok(())
}

async fn list_server_ids(engine: &Engine) -> Result<HashSet<ServerId>, StorageError> {
    let servers = engine.storage.list_servers().await?;
    Ok(servers.into_iter().map(|server| server.announcement.id).collect())
}

/// Fails the run. There is no back-off before the retry: the job did nothing wrong.
fn fail(engine: &Engine, job: &mut Job) {
    let server = job.server().map_or_else(String::new, |server| format!(" {} ({})", server.name, server.id));
    let message = format!("the server{server} that ran the job is gone");
    let failure = Failure::new(FailureKind::Orphaned, message);
    let retry = engine.retries.next_retry(job, &failure, Wish::Retry);
    let mut states = vec![JobState::failed(failure)];
    if let Some((_, reason)) = retry {
        states.push(JobState::Enqueued { reason: Some(reason), starts_afresh: false });
    }
    engine.filters.enter_elected(job, states, engine.now());
}
