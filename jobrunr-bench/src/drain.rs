//! How fast a server works off a backlog.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::storage::{JobQuery, StorageProvider};
use jobrunr_core::{Job, JobBuilder, ServerId, ServerRef, StateName};
use jobrunr_server::{BackgroundJobServer, BackgroundJobServerBuilder};

use crate::enqueue;
use crate::report::per_second;
use crate::workload::{Countdown, Noop};

/// Jobs of a bulk that go to the storage at once while a table is filled.
const FILL_CHUNK: usize = 10_000;

/// How large a server is; what is `None` is as the library has it by default.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ServerSize {
    pub(crate) workers: Option<usize>,
    pub(crate) prefetch: Option<usize>,
}

impl ServerSize {
    /// With twice the batch on its desk, it claims the next one as soon as one is through.
    pub(crate) const fn of_batch(batch: usize) -> Self {
        Self { workers: Some(batch), prefetch: Some(batch) }
    }

    /// Gives a server this size.
    pub(crate) fn apply(self, mut server: BackgroundJobServerBuilder) -> BackgroundJobServerBuilder {
        if let Some(workers) = self.workers {
            server = server.workers(workers);
        }
        if let Some(prefetch) = self.prefetch {
            server = server.prefetch(prefetch);
        }
        server
    }
}

/// Enqueues no-op jobs, runs them, and returns jobs a second, from the start of the server to the last stored success.
pub(crate) async fn drain(
    storage: &Arc<dyn StorageProvider>,
    jobs: usize,
    size: ServerSize,
) -> anyhow::Result<f64> {
    enqueue::bulk(storage, jobs, jobs).await?;
    run_all(storage, jobs, size).await
}

/// Runs no-op jobs that were enqueued before.
pub(crate) async fn run_all(
    storage: &Arc<dyn StorageProvider>,
    jobs: usize,
    size: ServerSize,
) -> anyhow::Result<f64> {
    let succeeded_before = storage.job_counts().await?.succeeded_all_time;

    let countdown = Countdown::from(jobs);
    let started = Instant::now();
    let server = BackgroundJobServer::builder(Arc::clone(storage)).handle::<Noop, _>(countdown.clone());
    let server = size.apply(server).start().await?;
    countdown.finished().await;
    while storage.job_counts().await?.succeeded_all_time < succeeded_before + u64::try_from(jobs)? {
        tokio::task::yield_now().await;
    }
    let rate = per_second(jobs, started.elapsed());

    server.stop().await;
    let left = storage.count_jobs(&JobQuery::in_states([StateName::Enqueued, StateName::Processing])).await?;
    anyhow::ensure!(left == 0, "{left} jobs were left over by the drain");
    Ok(rate)
}

/// Fills the table with jobs that have succeeded, an hour before `now` and earlier.
pub(crate) async fn fill_with_finished(
    storage: &Arc<dyn StorageProvider>,
    jobs: usize,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let server = ServerRef { id: ServerId::new(), name: "earlier".to_owned() };
    let mut left = jobs;
    while left > 0 {
        let chunk = left.min(FILL_CHUNK);
        let jobs = (0..chunk).map(|index| {
            let age = TimeDelta::hours(1) + TimeDelta::milliseconds(i64::try_from(left - index)?);
            finished_job(&server, now - age)
        });
        storage.insert_jobs(&jobs.collect::<anyhow::Result<Vec<Job>>>()?).await?;
        left -= chunk;
    }
    Ok(())
}

fn finished_job(server: &ServerRef, created_at: DateTime<Utc>) -> anyhow::Result<Job> {
    let mut job = JobBuilder::new(Noop::new()).draft(created_at)?.into_job(created_at)?;
    job.start_processing(server, created_at + TimeDelta::microseconds(700))?;
    job.succeed(None, created_at + TimeDelta::microseconds(900))?;
    Ok(job)
}
