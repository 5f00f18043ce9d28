//! riverqueue, set up as its own benchmark, `riverqueue bench` of the package riverqueue-cli.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use riverqueue::migrate::PostgresMigrator;
use riverqueue::sqlx::PgPool;
use riverqueue::sqlx::postgres::PgPoolOptions;
use riverqueue::{BoxError, Client, Job, QueueConfig, RunHandle, WorkContext, WorkOutcome, Workers};

use crate::peer::{Peer, Rows, Store, Worker};
use crate::workload::{Calls, Noop};

/// `DEFAULT_MAX_CONNECTIONS` of its benchmark.
const CONNECTIONS: u32 = 50;
/// `DEFAULT_MAX_WORKERS` of its benchmark.
const WORKERS: usize = 2_000;
/// `with_fetch_cooldown` of its benchmark. It is set for the client too: that one also holds back notifications of new
/// jobs, for 100 ms by default.
const FETCH_COOLDOWN: Duration = Duration::from_millis(2);
/// `with_fetch_poll_interval` of its benchmark.
const FETCH_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// `DEFAULT_BATCH_SIZE` of its benchmark: jobs of one `insert_many`.
const BULK: usize = 5_000;

/// riverqueue.
#[derive(Debug)]
pub(crate) struct River;

#[async_trait]
impl Peer for River {
    fn name(&self) -> &'static str {
        "riverqueue"
    }

    fn rows(&self) -> Rows {
        Rows::Kept
    }

    fn settings(&self) -> &'static str {
        "2000 workers, fetch cooldown 2 ms, polls every 20 ms, bulks of 5000, 50 connections"
    }

    async fn open(&self, url: &str) -> Result<Box<dyn Store>> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        PostgresMigrator::new(pool.clone()).migrate_up().await?;
        let inserter = Client::builder(pool.clone()).fetch_cooldown(FETCH_COOLDOWN).build()?;
        Ok(Box::new(RiverStore { pool, inserter }))
    }
}

struct RiverStore {
    pool: PgPool,
    inserter: Client,
}

#[async_trait]
impl Store for RiverStore {
    async fn enqueue(&self, job: Noop) -> Result<()> {
        self.inserter.insert(job).await?;
        Ok(())
    }

    async fn enqueue_all(&self, jobs: Vec<Noop>) -> Result<()> {
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            self.inserter.insert_many(jobs.by_ref().take(BULK)).await?;
        }
        Ok(())
    }

    async fn start(&self, calls: Arc<Calls>) -> Result<Box<dyn Worker>> {
        let mut workers = Workers::new();
        workers.add_fn(move |_: WorkContext, _: Job<Noop>| {
            calls.add();
            std::future::ready(Ok::<_, BoxError>(WorkOutcome::Complete))
        })?;
        let queue = QueueConfig::new(WORKERS)
            .with_fetch_cooldown(FETCH_COOLDOWN)
            .with_fetch_poll_interval(FETCH_POLL_INTERVAL);
        let client = Client::builder(self.pool.clone())
            .fetch_cooldown(FETCH_COOLDOWN)
            .workers(workers)
            .queue(riverqueue::QUEUE_DEFAULT, queue)
            .build()?;
        Ok(Box::new(RiverWorker(client.start()?)))
    }

    async fn is_unfinished(&self) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM river_job WHERE state <> 'completed')";
        Ok(riverqueue::sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    async fn close(self: Box<Self>) {
        self.pool.close().await;
    }
}

struct RiverWorker(RunHandle);

#[async_trait]
impl Worker for RiverWorker {
    async fn stop(mut self: Box<Self>) -> Result<()> {
        Ok(self.0.stop().await?)
    }
}
