//! The database is killed under load and comes back; the primary of three is killed and another takes over.

use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::{JobQuery, SetUp, StorageProvider};
use jobrunr_core::{JobContext, JobHandler, JobRequest, JobResult, JobScheduler, StateName};
use jobrunr_server::{BackgroundJobServer, Health};
use jobrunr_storage_mongo::{MongoOptions, MongoStorage};
use serde::{Deserialize, Serialize};

use crate::support::private_server::{Access, PrivateServers};

/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);

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

/// Two servers that work off jobs.
struct Load {
    storage: Arc<dyn StorageProvider>,
    servers: Vec<BackgroundJobServer>,
    accepted: usize,
}

impl Load {
    async fn on(url: &str) -> Self {
        let options = || MongoOptions::default().connect_timeout(Duration::from_secs(2));
        let storage = MongoStorage::connect_with(url, options()).await.unwrap();
        storage.set_up(SetUp::Migrate).await.unwrap();
        let storage: Arc<dyn StorageProvider> = Arc::new(storage);
        let scheduler = JobScheduler::new(Arc::clone(&storage));
        let accepted = scheduler.enqueue_all((0..3_000).map(|_| Work {})).await.unwrap().len();
        let mut servers = Vec::new();
        for _ in 0..2 {
            let own = Arc::new(MongoStorage::connect_with(url, options()).await.unwrap());
            let server = BackgroundJobServer::builder(own)
                .workers(16)
                .poll_interval(Duration::from_millis(500))
                .handle::<Work, _>(Worker);
            servers.push(server.start().await.unwrap());
        }
        let load = Self { storage, servers, accepted };
        wait_until("work goes on", async || load.succeeded().await >= 100).await;
        load
    }

    async fn succeeded(&self) -> usize {
        let query = JobQuery::in_state(StateName::Succeeded);
        self.storage.count_jobs(&query).await.map_or(0, |count| usize::try_from(count).unwrap())
    }

    /// Every job is run to its end, every server is well, and the counts are those of what is there.
    async fn ends_well(self) {
        wait_until("every job has succeeded", async || self.succeeded().await >= self.accepted).await;
        let accepted = u64::try_from(self.accepted).unwrap();
        let are_right = async || {
            let counts = self.storage.job_counts().await;
            counts.is_ok_and(|counts| {
                (counts.in_state(StateName::Succeeded), counts.total()) == (accepted, accepted)
            })
        };
        // They are those of what a majority has, which may be a moment behind what the primary has.
        wait_until("the counts are those of what is there", are_right).await;
        for server in self.servers {
            wait_until("the server is well again", async || matches!(server.health(), Health::Up)).await;
            server.stop().await;
        }
        self.storage.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_under_load_and_comes_back_stops_no_server_and_loses_no_job() {
    let Some(mut mongo) = PrivateServers::start(1, Access::Anybody).await.unwrap() else { return };
    let load = Load::on(&mongo.url()).await;

    mongo.kill(0).unwrap();
    tokio::time::sleep(OUTAGE).await;
    mongo.start_again(0).unwrap();

    load.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_under_load_is_replaced_and_no_job_is_lost() {
    let Some(mut mongo) = PrivateServers::start(3, Access::Anybody).await.unwrap() else { return };
    let load = Load::on(&mongo.url()).await;

    let primary = mongo.primary().await.unwrap();
    mongo.kill(primary).unwrap();

    load.ends_well().await;
    assert_ne!(mongo.primary().await.unwrap(), primary, "another member has taken over");
}

pub(crate) async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"));
}
