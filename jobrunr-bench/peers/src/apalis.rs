//! apalis-postgres, with the storage that its README shows for `LISTEN/NOTIFY`, and the knobs that its `Config` documents
//! for throughput.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use async_trait::async_trait;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

use crate::peer::{Peer, Rows, Store, Worker};
use crate::workload::{Calls, Noop};

/// The default of the pool that its documentation opens, `PgPool::connect`.
const CONNECTIONS: u32 = 10;
/// `Config::batch_size`: "larger batches can improve throughput by reducing the number of queue operations". No number is
/// recommended; the default is 10.
const BATCH: usize = 1_000;
/// `poll_with_interval`, as in its example `pubsub`, but with a shorter interval: completions that came late are stored by
/// the next poll.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Jobs of one `push_bulk`; as many as riverqueue's benchmark inserts at once.
const BULK: usize = 5_000;
const QUEUE: &str = "noop";

/// apalis-postgres.
#[derive(Debug)]
pub(crate) struct Apalis;

#[async_trait]
impl Peer for Apalis {
    fn name(&self) -> &'static str {
        "apalis-postgres"
    }

    fn rows(&self) -> Rows {
        Rows::Kept
    }

    fn settings(&self) -> &'static str {
        "batches of 1000, no lock of its own for each task, LISTEN/NOTIFY, polls every 100 ms, 10 connections"
    }

    async fn open(&self, url: &str) -> Result<Box<dyn Store>> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        PostgresStorage::setup(&pool).await?;
        let sink = Mutex::new(PostgresStorage::new(&pool).with_config(config()));
        Ok(Box::new(ApalisStore { pool, sink }))
    }
}

fn config() -> Config {
    // Tasks are taken by `FOR UPDATE SKIP LOCKED` in any case; `lock_tasks` would store a second change for each.
    Config::default().queue(QUEUE).batch_size(BATCH).lock_tasks(false)
}

async fn handle(_: Noop, calls: Data<Arc<Calls>>) {
    calls.add();
}

struct ApalisStore {
    pool: PgPool,
    sink: Mutex<PostgresStorage<Noop>>,
}

#[async_trait]
impl Store for ApalisStore {
    async fn enqueue(&self, job: Noop) -> Result<()> {
        self.sink.lock().await.push(job).await?;
        Ok(())
    }

    async fn enqueue_all(&self, jobs: Vec<Noop>) -> Result<()> {
        let mut sink = self.sink.lock().await;
        let mut jobs = jobs.into_iter();
        loop {
            let chunk: Vec<Noop> = jobs.by_ref().take(BULK).collect();
            if chunk.is_empty() {
                return Ok(());
            }
            sink.push_bulk(chunk).await?;
        }
    }

    async fn start(&self, calls: Arc<Calls>) -> Result<Box<dyn Worker>> {
        let backend = PostgresStorage::<Noop>::new(&self.pool)
            .with_config(config())
            .with_pubsub()
            .poll_with_interval(POLL_INTERVAL);
        let worker = WorkerBuilder::new("noop-worker").backend(backend).data(calls).build(handle);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let signal = async move { stopped.await.map_err(std::io::Error::other) };
            Ok(worker.run_until(signal).await?)
        });
        Ok(Box::new(ApalisWorker { stop, task }))
    }

    async fn is_unfinished(&self) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM apalis.jobs WHERE status <> 'Done')";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    async fn close(self: Box<Self>) {
        self.pool.close().await;
    }
}

struct ApalisWorker {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

#[async_trait]
impl Worker for ApalisWorker {
    async fn stop(self: Box<Self>) -> Result<()> {
        self.stop.send(()).ok().context("the worker has ended before it was told to")?;
        self.task.await?
    }
}
