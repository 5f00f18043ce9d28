//! The server is killed under load and comes back.

use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::{JobQuery, JobSearch, StorageProvider};
use jobrunr_core::{JobContext, JobHandler, JobRequest, JobResult, JobScheduler, StateName};
use jobrunr_server::{BackgroundJobServer, Health};
use jobrunr_storage_redis::RedisOptions;
use serde::{Deserialize, Serialize};

use crate::{a_server_with_a_storage, open, wait_until};

/// How long the server is away.
const OUTAGE: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
pub(crate) struct Work {}

impl JobRequest for Work {
    const JOB_TYPE: &'static str = "work";
}

pub(crate) struct Worker;

impl JobHandler<Work> for Worker {
    type Output = ();

    async fn run(&self, _: Work, _: &JobContext) -> JobResult {
        // Long enough that many run when the server goes.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_and_comes_back_stops_no_server_of_ours_and_loses_no_accepted_job()
{
    let settings = ["appendonly yes", "appendfsync always"];
    let Some((mut redis, storage)) = a_server_with_a_storage(&settings).await else { return };
    let storage = Arc::new(storage);
    let scheduler = JobScheduler::new(Arc::clone(&storage) as Arc<dyn StorageProvider>);
    let mut accepted = scheduler.enqueue_all((0..2_000).map(|_| Work {})).await.unwrap().len();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let own = Arc::new(open(&redis.url(), RedisOptions::default()).await);
        let server = BackgroundJobServer::builder(own)
            .workers(16)
            .poll_interval(Duration::from_millis(500))
            .handle::<Work, _>(Worker);
        servers.push(server.start().await.unwrap());
    }
    let succeeded = async || {
        let query = JobQuery::in_state(StateName::Succeeded);
        storage.count_jobs(&query).await.map_or(0, |count| usize::try_from(count).unwrap())
    };
    wait_until("work goes on", async || succeeded().await >= 100).await;

    // Jobs keep coming until the server is gone; those that were accepted are counted.
    let enqueuing = tokio::spawn(async move {
        let mut more = 0;
        while scheduler.enqueue(Work {}).await.is_ok() {
            more += 1;
        }
        more
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    redis.kill().unwrap();
    accepted += enqueuing.await.unwrap();
    tokio::time::sleep(OUTAGE).await;
    redis.start_again().await.unwrap();

    wait_until("every accepted job has succeeded", async || succeeded().await >= accepted).await;
    for server in servers {
        wait_until("the server is well again", async || matches!(server.health(), Health::Up)).await;
        server.stop().await;
    }
    let counts = storage.job_counts().await.unwrap();
    let stored = usize::try_from(counts.total()).unwrap();
    // One insert may have been written and not answered.
    assert!(stored == accepted || stored == accepted + 1, "{stored} of {accepted}");
    storage.close().await;
}
