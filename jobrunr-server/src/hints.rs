//! What the server does about the hints that the storage sends.

use std::sync::Arc;

use futures_util::StreamExt;
use jobrunr_core::StateName;
use jobrunr_core::storage::{Change, ChangeStream};

use crate::engine::Engine;

/// Listens to hints until the server stops or the storage is closed.
pub(crate) async fn keep_listening(engine: Arc<Engine>, mut changes: ChangeStream) {
    loop {
        let change = tokio::select! {
            () = engine.phases.stopping.cancelled() => return,
            change = changes.next() => change,
        };
        match change {
            Some(change) => act_on(&engine, change),
            None => return engine.phases.stopping.cancelled().await,
        }
    }
}

fn act_on(engine: &Engine, change: Change) {
    match change {
        Change::JobsReady { queue } if engine.settings.queues.serves(&queue) => engine.expect_work(),
        Change::JobScheduled { scheduled_at } => engine.job_is_due_at(scheduled_at),
        Change::JobChanged { id, state: StateName::Deleted }
            if engine.holdings.find_running(id).is_some() =>
        {
            engine.suspect(Some(id));
        }
        Change::RecurringJobsChanged => engine.recurring_jobs_changed.notify_one(),
        Change::Resync => {
            engine.expect_work();
            engine.recurring_jobs_changed.notify_one();
            engine.due_times.note(engine.now());
            engine.suspect(None);
        }
        _ => {}
    }
}
