//! How soon an idle server starts a job.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::JobScheduler;
use jobrunr_core::clock::{Clock, SystemClock};
use jobrunr_core::storage::StorageProvider;
use jobrunr_server::BackgroundJobServer;
use tokio::sync::mpsc;

use crate::process::Worker;
use crate::workload::{Stopwatch, Timed};

/// Between two jobs, so that the server is idle again; odd, so that it meets no timer's rhythm.
const PAUSE: Duration = Duration::from_micros(17_300);

/// Where a server polls, the pause is longer by a part of its default interval, another one each time: jobs come evenly over it.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

async fn pause_after(job: u32, storage: &dyn StorageProvider) {
    let more = if storage.changes().is_some() { 0.0 } else { even_part(job) };
    tokio::time::sleep(PAUSE + POLL_INTERVAL.mul_f64(more)).await;
}

/// A part of a whole, for each index another one: steps of the golden ratio fill it evenly however many there are.
fn even_part(index: u32) -> f64 {
    (f64::from(index) * 0.618_033_988_749_895).fract()
}

/// Latencies in microseconds from the call of `enqueue` to the start of the handler, in one process.
pub(crate) async fn in_process(storage: &Arc<dyn StorageProvider>, jobs: usize) -> anyhow::Result<Vec<i64>> {
    let (sender, mut started) = mpsc::unbounded_channel();
    let server = BackgroundJobServer::builder(Arc::clone(storage))
        .handle::<Timed, _>(Stopwatch(sender))
        .start()
        .await?;
    let scheduler = JobScheduler::new(Arc::clone(storage));

    let mut latencies = Vec::new();
    for job in 0..u32::try_from(jobs)? {
        scheduler.enqueue(Timed { expected_at: SystemClock.now() }).await?;
        latencies.push(started.recv().await.context("the server runs")?);
        pause_after(job, storage.as_ref()).await;
    }
    server.stop().await;
    Ok(latencies)
}

/// The same with the server in another process.
pub(crate) async fn across_processes(
    storage: &Arc<dyn StorageProvider>,
    url: &str,
    jobs: usize,
) -> anyhow::Result<Vec<i64>> {
    let mut worker = Worker::start(&["--url", url]).await?;
    let scheduler = JobScheduler::new(Arc::clone(storage));

    let mut latencies = Vec::new();
    for job in 0..u32::try_from(jobs)? {
        scheduler.enqueue(Timed { expected_at: SystemClock.now() }).await?;
        latencies.push(worker.line().await?.parse()?);
        pause_after(job, storage.as_ref()).await;
    }
    worker.finish().await?;
    Ok(latencies)
}

/// Schedules jobs over the next `seconds` and returns how late each started, in microseconds; negative = too early.
pub(crate) async fn of_due_jobs(
    storage: &Arc<dyn StorageProvider>,
    jobs: usize,
    seconds: u32,
) -> anyhow::Result<Vec<i64>> {
    let (sender, mut started) = mpsc::unbounded_channel();
    let server = BackgroundJobServer::builder(Arc::clone(storage))
        .handle::<Timed, _>(Stopwatch(sender))
        .start()
        .await?;
    let scheduler = JobScheduler::new(Arc::clone(storage));

    let begin = SystemClock.now() + TimeDelta::milliseconds(500);
    for expected_at in spread(begin, jobs, seconds)? {
        scheduler.schedule(expected_at, Timed { expected_at }).await?;
    }
    let mut lateness = Vec::new();
    for _ in 0..jobs {
        lateness.push(started.recv().await.context("the server runs")?);
    }
    server.stop().await;
    Ok(lateness)
}

/// Instants over a span, in no order.
fn spread(begin: DateTime<Utc>, count: usize, seconds: u32) -> anyhow::Result<Vec<DateTime<Utc>>> {
    let span = f64::from(seconds);
    (0..u32::try_from(count)?)
        .map(|index| Ok(begin + TimeDelta::from_std(Duration::from_secs_f64(even_part(index) * span))?))
        .collect()
}
