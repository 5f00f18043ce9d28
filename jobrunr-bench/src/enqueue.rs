//! How fast jobs are accepted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jobrunr_core::JobScheduler;
use jobrunr_core::storage::StorageProvider;
use tokio::task::JoinSet;

use crate::report::per_second;
use crate::workload::Noop;

/// Enqueues one job a call from so many callers at once for a while; returns jobs a second.
pub(crate) async fn single(
    storage: &Arc<dyn StorageProvider>,
    callers: usize,
    how_long: Duration,
) -> anyhow::Result<f64> {
    let scheduler = JobScheduler::new(Arc::clone(storage));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let scheduler = scheduler.clone();
        tasks.spawn(async move {
            let mut enqueued = 0;
            while started.elapsed() < how_long {
                scheduler.enqueue(Noop::new()).await?;
                enqueued += 1;
            }
            anyhow::Ok(enqueued)
        });
    }
    let mut enqueued = 0;
    while let Some(task) = tasks.join_next().await {
        enqueued += task??;
    }
    Ok(per_second(enqueued, started.elapsed()))
}

/// Enqueues jobs in bulk, so many a call; returns jobs a second.
pub(crate) async fn bulk(
    storage: &Arc<dyn StorageProvider>,
    jobs: usize,
    jobs_of_call: usize,
) -> anyhow::Result<f64> {
    let scheduler = JobScheduler::new(Arc::clone(storage));
    let started = Instant::now();
    let mut left = jobs;
    while left > 0 {
        let count = left.min(jobs_of_call);
        scheduler.enqueue_all(std::iter::repeat_n(Noop::new(), count)).await?;
        left -= count;
    }
    Ok(per_second(jobs, started.elapsed()))
}
