//! This library, with nothing set: the default of every option of storage, scheduler and server.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use jobrunr::prelude::*;

use crate::peer::{Peer, Rows, Store, Worker};
use crate::workload::{Calls, Noop};

/// JobRunr for Rust.
#[derive(Debug)]
pub(crate) struct JobRunr;

#[async_trait]
impl Peer for JobRunr {
    fn name(&self) -> &'static str {
        "jobrunr"
    }

    fn rows(&self) -> Rows {
        Rows::Kept
    }

    fn settings(&self) -> &'static str {
        "defaults"
    }

    async fn open(&self, url: &str) -> Result<Box<dyn Store>> {
        let storage = jobrunr::connect(url).await?;
        Ok(Box::new(JobRunrStore { scheduler: JobScheduler::new(Arc::clone(&storage)), storage }))
    }
}

impl JobRequest for Noop {
    const JOB_TYPE: &'static str = "noop";
}

struct Handler(Arc<Calls>);

impl JobHandler<Noop> for Handler {
    type Output = ();

    async fn run(&self, _: Noop, _: &JobContext) -> JobResult {
        self.0.add();
        Ok(())
    }
}

struct JobRunrStore {
    storage: Arc<dyn StorageProvider>,
    scheduler: JobScheduler,
}

#[async_trait]
impl Store for JobRunrStore {
    async fn enqueue(&self, job: Noop) -> Result<()> {
        self.scheduler.enqueue(job).await?;
        Ok(())
    }

    async fn enqueue_all(&self, jobs: Vec<Noop>) -> Result<()> {
        self.scheduler.enqueue_all(jobs).await?;
        Ok(())
    }

    async fn start(&self, calls: Arc<Calls>) -> Result<Box<dyn Worker>> {
        let builder = BackgroundJobServer::builder(Arc::clone(&self.storage));
        let server = builder.handle::<Noop, _>(Handler(calls)).start().await?;
        Ok(Box::new(JobRunrWorker(server)))
    }

    async fn is_unfinished(&self) -> Result<bool> {
        let unfinished = JobQuery::in_states([Enqueued, Processing]);
        Ok(self.storage.count_jobs(&unfinished).await? > 0)
    }

    async fn close(self: Box<Self>) {
        self.storage.close().await;
    }
}

struct JobRunrWorker(BackgroundJobServer);

#[async_trait]
impl Worker for JobRunrWorker {
    async fn stop(self: Box<Self>) -> Result<()> {
        self.0.stop().await;
        Ok(())
    }
}
