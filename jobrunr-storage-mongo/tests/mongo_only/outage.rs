//! The database is killed under load and comes back; the primary of three is killed and another takes over.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobrunr_core::storage::{JobQuery, SetUp, StorageProvider};
use jobrunr_core::{JobContext, JobHandler, JobId, JobRequest, JobResult, JobScheduler, StateName};
use jobrunr_server::{BackgroundJobServer, Health};
use jobrunr_storage_mongo::{MongoOptions, MongoStorage};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::support::private_server::{Access, PrivateServers};

/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a job is enqueued.
const PACE: Duration = Duration::from_millis(5);
/// How many jobs are there when the servers start.
const BACKLOG: usize = 1_500;

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

/// What became of the jobs that were enqueued.
#[derive(Default)]
struct Enqueued {
    accepted: Mutex<Vec<JobId>>,
    /// How many calls failed; their jobs may be there all the same.
    failed: AtomicUsize,
    is_enough: AtomicBool,
}

impl Enqueued {
    fn accept(&self, ids: impl IntoIterator<Item = JobId>) {
        self.accepted.lock().unwrap().extend(ids);
    }

    fn accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }
}

/// Two servers that work off jobs, which keep coming whatever happens.
struct Load {
    storage: Arc<dyn StorageProvider>,
    servers: Vec<BackgroundJobServer>,
    enqueued: Arc<Enqueued>,
    enqueuing: JoinHandle<()>,
}

impl Load {
    async fn on(url: &str) -> Self {
        let options = || MongoOptions::default().connect_timeout(Duration::from_secs(2));
        let storage = MongoStorage::connect_with(url, options()).await.unwrap();
        storage.set_up(SetUp::Migrate).await.unwrap();
        let storage: Arc<dyn StorageProvider> = Arc::new(storage);
        let scheduler = JobScheduler::new(Arc::clone(&storage));
        let enqueued = Arc::new(Enqueued::default());
        enqueued.accept(scheduler.enqueue_all((0..BACKLOG).map(|_| Work {})).await.unwrap());
        let mut servers = Vec::new();
        for _ in 0..2 {
            let own = Arc::new(MongoStorage::connect_with(url, options()).await.unwrap());
            let server = BackgroundJobServer::builder(own)
                .workers(16)
                .poll_interval(Duration::from_millis(500))
                .handle::<Work, _>(Worker);
            servers.push(server.start().await.unwrap());
        }
        let enqueuing = tokio::spawn(keep_enqueuing(scheduler, Arc::clone(&enqueued)));
        let load = Self { storage, servers, enqueued, enqueuing };
        wait_until("work goes on", async || load.count(StateName::Succeeded).await >= 100).await;
        load.wait_for_more().await;
        load
    }

    async fn count(&self, state: StateName) -> usize {
        self.count_by(&JobQuery::in_state(state)).await
    }

    async fn count_by(&self, query: &JobQuery) -> usize {
        self.storage.count_jobs(query).await.map_or(0, |count| usize::try_from(count).unwrap())
    }

    /// Waits until more jobs are accepted.
    async fn wait_for_more(&self) {
        let before = self.enqueued.accepted();
        wait_until("jobs are accepted", async || self.enqueued.accepted() >= before + 50).await;
    }

    /// Every accepted job is run to its end, every server is well, and the counts are those of what is there.
    async fn ends_well(mut self) {
        self.wait_for_more().await;
        self.enqueued.is_enough.store(true, Ordering::Relaxed);
        (&mut self.enqueuing).await.unwrap();
        let accepted = std::mem::take(&mut *self.enqueued.accepted.lock().unwrap());
        let are_done = async || {
            let all = self.count_by(&JobQuery::all()).await;
            all >= accepted.len() && self.count(StateName::Succeeded).await == all
        };
        wait_until("every job has succeeded", are_done).await;
        assert_eq!(self.lost(&accepted).await, [], "every accepted job has succeeded");
        let stored = self.count_by(&JobQuery::all()).await;
        let failed = self.enqueued.failed.load(Ordering::Relaxed);
        assert!(stored <= accepted.len() + failed, "{stored} of {} and {failed}", accepted.len());
        self.wait_for_counts(u64::try_from(stored).unwrap()).await;
        for server in self.servers {
            wait_until("the server is well again", async || matches!(server.health(), Health::Up)).await;
            server.stop().await;
        }
        self.storage.close().await;
    }

    /// Those of the jobs that have not succeeded.
    async fn lost(&self, accepted: &[JobId]) -> Vec<JobId> {
        let mut lost = Vec::new();
        for id in accepted {
            let found = self.storage.find_job(*id).await.unwrap();
            if found.is_none_or(|job| job.state_name() != StateName::Succeeded) {
                lost.push(*id);
            }
        }
        lost
    }

    /// They are those of what a majority has, which may be a moment behind what the primary has.
    async fn wait_for_counts(&self, succeeded: u64) {
        let are_right = async || {
            self.storage.job_counts().await.is_ok_and(|counts| {
                let all = [counts.in_state(StateName::Succeeded), counts.succeeded_all_time, counts.total()];
                all == [succeeded; 3]
            })
        };
        wait_until("the counts are those of what is there", are_right).await;
    }
}

async fn keep_enqueuing(scheduler: JobScheduler, enqueued: Arc<Enqueued>) {
    let mut pace = tokio::time::interval(PACE);
    while !enqueued.is_enough.load(Ordering::Relaxed) {
        pace.tick().await;
        match scheduler.enqueue(Work {}).await {
            Ok(id) => enqueued.accept([id]),
            Err(_) => _ = enqueued.failed.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// The only server is killed, and comes back after a while.
async fn kill_for_a_while(mut mongo: PrivateServers) {
    let load = Load::on(&mongo.url()).await;

    mongo.kill(0).unwrap();
    tokio::time::sleep(OUTAGE).await;
    mongo.start_again(0).unwrap();

    load.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_under_load_and_comes_back_stops_no_server_and_loses_no_job() {
    let Some(mongo) = PrivateServers::start(1, Access::Anybody).await.unwrap() else { return };
    kill_for_a_while(mongo).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_alone_that_is_killed_under_load_and_comes_back_loses_no_job_either() {
    let Some(mongo) = PrivateServers::start_alone().await.unwrap() else { return };
    kill_for_a_while(mongo).await;
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
