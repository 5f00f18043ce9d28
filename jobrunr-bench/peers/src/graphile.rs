//! graphile_worker, set up as its own benchmark of throughput, `benches/perf_test.rs` in its package, which is what its
//! guide "Worker Options" calls a throughput-oriented worker, with larger numbers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions, WorkerUtils,
};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinHandle;

use crate::peer::{Peer, Rows, Store, Worker};
use crate::workload::{Calls, Noop};

/// `PgPoolOptions::max_connections` in `benches/common/mod.rs`.
const CONNECTIONS: u32 = 100;
/// `concurrency` in `benches/perf_test.rs`.
const CONCURRENCY: usize = 500;
/// `LocalQueueConfig::with_size` in `benches/perf_test.rs`.
const LOCAL_QUEUE: usize = 5_000;
/// `poll_interval` and `complete_job_batch_delay` in `benches/perf_test.rs`.
const DELAY: Duration = Duration::from_millis(5);
/// Jobs of one `add_jobs`; as many as riverqueue's benchmark inserts at once.
const BULK: usize = 5_000;

/// graphile_worker.
#[derive(Debug)]
pub(crate) struct Graphile;

#[async_trait]
impl Peer for Graphile {
    fn name(&self) -> &'static str {
        "graphile_worker"
    }

    fn rows(&self) -> Rows {
        Rows::Deleted
    }

    fn settings(&self) -> &'static str {
        "concurrency 500, local queue of 5000, polls and gathers completions every 5 ms, 100 connections"
    }

    async fn open(&self, url: &str) -> Result<Box<dyn Store>> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        let utils = WorkerUtils::new(pool.clone(), "graphile_worker");
        utils.migrate().await?;
        Ok(Box::new(GraphileStore { pool, utils }))
    }
}

#[derive(Debug, Clone)]
struct Handler(Arc<Calls>);

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(Handler(calls)) = context.get_ext::<Handler>() {
            calls.add();
        }
    }
}

struct GraphileStore {
    pool: PgPool,
    utils: WorkerUtils,
}

#[async_trait]
impl Store for GraphileStore {
    async fn enqueue(&self, job: Noop) -> Result<()> {
        self.utils.add_job(job, JobSpec::default()).await?;
        Ok(())
    }

    async fn enqueue_all(&self, jobs: Vec<Noop>) -> Result<()> {
        let spec = JobSpec::default();
        let jobs: Vec<_> = jobs.into_iter().map(|job| (job, &spec)).collect();
        for jobs in jobs.chunks(BULK) {
            self.utils.add_jobs(jobs).await?;
        }
        Ok(())
    }

    async fn start(&self, calls: Arc<Calls>) -> Result<Box<dyn Worker>> {
        let worker = WorkerOptions::default()
            .pg_pool(self.pool.clone())
            .schema("graphile_worker")
            .concurrency(CONCURRENCY)
            .poll_interval(DELAY)
            .complete_job_batch_delay(DELAY)
            .local_queue(LocalQueueConfig::default().with_size(LOCAL_QUEUE))
            .listen_os_shutdown_signals(false)
            .add_extension(Handler(calls))
            .define_job::<Noop>()
            .init()
            .await?;
        let worker = Arc::new(worker);
        let task = tokio::spawn({
            let worker = Arc::clone(&worker);
            async move { Ok(worker.run().await?) }
        });
        Ok(Box::new(GraphileWorker { worker, task }))
    }

    async fn is_unfinished(&self) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM graphile_worker._private_jobs)";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    async fn close(self: Box<Self>) {
        self.pool.close().await;
    }
}

struct GraphileWorker {
    worker: Arc<graphile_worker::Worker>,
    task: JoinHandle<Result<()>>,
}

#[async_trait]
impl Worker for GraphileWorker {
    async fn stop(self: Box<Self>) -> Result<()> {
        self.worker.request_shutdown();
        self.task.await?
    }
}
