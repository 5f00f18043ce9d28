//! The database is killed under load and comes back.

use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::{JobQuery, SetUp, StorageProvider};
use jobrunr_core::{JobContext, JobHandler, JobRequest, JobResult, JobScheduler, StateName};
use jobrunr_server::{BackgroundJobServer, Health};
use jobrunr_storage_postgres::{PostgresOptions, PostgresStorage};
use serde::{Deserialize, Serialize};

use crate::support::private_server::PrivateServer;
use crate::support::url;

/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Serialize, Deserialize)]
struct Work {}

impl JobRequest for Work {
    const JOB_TYPE: &'static str = "work";
}

struct Worker;

impl JobHandler<Work> for Worker {
    type Output = ();

    async fn run(&self, _: Work, _: &JobContext) -> JobResult {
        // Long enough that many run when the database goes.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_under_load_and_comes_back_stops_no_server_and_loses_no_job() {
    if url().is_none() {
        return;
    }
    let Some(mut database) = PrivateServer::start().await.unwrap() else { return };
    let options = || PostgresOptions::default().connect_timeout(Duration::from_secs(2));
    let storage = PostgresStorage::connect_with(&database.url(), options()).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let storage: Arc<dyn StorageProvider> = Arc::new(storage);
    let scheduler = JobScheduler::new(Arc::clone(&storage));
    let requests = (0..3_000).map(|_| Work {});
    let accepted = scheduler.enqueue_all(requests).await.unwrap().len();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let own = Arc::new(PostgresStorage::connect_with(&database.url(), options()).await.unwrap());
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

    database.kill().unwrap();
    tokio::time::sleep(OUTAGE).await;
    database.start_again().await.unwrap();

    wait_until("every job has succeeded", async || succeeded().await >= accepted).await;
    for server in servers {
        wait_until("the server is well again", async || matches!(server.health(), Health::Up)).await;
        server.stop().await;
    }
    let counts = storage.job_counts().await.unwrap();
    assert_eq!((succeeded().await, counts.total()), (accepted, u64::try_from(accepted).unwrap()));
    storage.close().await;
}

async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"));
}
