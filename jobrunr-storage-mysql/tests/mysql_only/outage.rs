//! The database is killed under load and away for a while: no server stops, and every job ends well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jobrunr_core::handler::{JobHandler, JobResult};
use jobrunr_core::storage::{SetUp, StorageProvider};
use jobrunr_core::{JobContext, JobRequest, JobScheduler, StateName};
use jobrunr_server::{BackgroundJobServer, Health};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use crate::mariadb::MariaDb;
use crate::support::Database;

const JOBS: usize = 3_000;
/// How many have run when the database is killed.
const BEFORE: usize = 500;
/// How long it is away: longer than a server may be silent, so that it loses what it held.
const AWAY: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Serialize, Deserialize)]
struct Count {
    number: usize,
}

impl JobRequest for Count {
    const JOB_TYPE: &'static str = "count";
}

/// Counts how often it ran.
#[derive(Clone)]
struct Counter {
    runs: Arc<AtomicUsize>,
    seen: watch::Sender<usize>,
}

impl JobHandler<Count> for Counter {
    type Output = ();

    async fn run(&self, _request: Count, _context: &JobContext) -> JobResult {
        let runs = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        self.seen.send_replace(runs);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_succeeds_though_the_database_was_killed_and_away() {
    let Some(mut mariadb) = MariaDb::start().await else { return };
    let database = Database::create(&mariadb.url()).await.unwrap();
    let (seen, mut ran) = watch::channel(0);
    let counter = Counter { runs: Arc::default(), seen };
    let mut servers = Vec::new();
    for _ in 0..2 {
        let storage: Arc<dyn StorageProvider> = Arc::new(database.open_mysql(None).await.unwrap());
        storage.set_up(SetUp::Migrate).await.unwrap();
        let server = BackgroundJobServer::builder(Arc::clone(&storage))
            .handle::<Count, _>(counter.clone())
            .poll_interval(Duration::from_millis(500))
            .start();
        servers.push((server.await.unwrap(), storage));
    }
    let scheduler = JobScheduler::new(Arc::clone(&servers[0].1));
    scheduler.enqueue_all((0..JOBS).map(|number| Count { number })).await.unwrap();

    timeout(LIMIT, ran.wait_for(|runs| *runs >= BEFORE)).await.unwrap().unwrap();
    mariadb.kill().await;
    tokio::time::sleep(AWAY).await;
    mariadb.start_again().await;

    let all_succeeded = async {
        let mut again = interval(Duration::from_millis(100));
        loop {
            again.tick().await;
            let counts = servers[0].1.job_counts().await;
            if counts
                .is_ok_and(|counts| counts.in_state(StateName::Succeeded) == u64::try_from(JOBS).unwrap())
            {
                return;
            }
        }
    };
    let outcome = timeout(LIMIT, all_succeeded).await;
    let counts = servers[0].1.job_counts().await.unwrap();
    assert!(outcome.is_ok(), "{counts:?}");
    assert_eq!(
        (counts.total(), counts.succeeded_all_time),
        (3_000, 3_000),
        "none is lost, none succeeds twice"
    );
    for (server, storage) in servers {
        let up = async {
            let mut again = interval(Duration::from_millis(50));
            while !matches!(server.health(), Health::Up) {
                again.tick().await;
            }
        };
        let is_up = timeout(LIMIT, up).await.is_ok();
        assert!(is_up, "the server goes on: {:?}", server.health());
        server.stop().await;
        storage.close().await;
    }
}
