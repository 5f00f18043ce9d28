//! The way to the server is cut in silence: no call waits for ever, and what became of it is found out.

use std::time::Duration;

use futures_util::future::join_all;
use jobrunr_core::StateName;
use jobrunr_core::storage::{
    Heartbeat, JobSearch, JobStore, ServerLoad, ServerStore, SetUp, StorageError, StorageProvider,
};
use jobrunr_storage_mysql::{Flavor, MySqlOptions, MySqlStorage};
use tokio::time::timeout;

use crate::jobs::{a_claim, an_announcement, enqueued_jobs};
use crate::proxy::{Moment, Proxy, Trigger};
use crate::support::{Database, url};

/// Longer than anything here takes unless it takes for ever.
const LONG: Duration = Duration::from_secs(60);

/// How long one statement may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// A database, a way to it that can be cut in silence, and a storage that goes that way.
struct World {
    database: Database,
    proxy: Proxy,
    storage: MySqlStorage,
}

impl World {
    async fn new(url: &str) -> Self {
        let database = Database::create(url).await.unwrap();
        database.execute(&MySqlStorage::export_schema("").unwrap()).await.unwrap();
        let proxy = Proxy::before(&database).await;
        let options = MySqlOptions::connect_with(proxy.connect(&database));
        let storage = MySqlStorage::open(options.call_timeout(CALL_TIMEOUT)).await.unwrap();
        storage.set_up(SetUp::Validate).await.unwrap();
        // What names its lane for the first time writes more than its row.
        storage.insert_jobs(&enqueued_jobs(1)).await.unwrap();
        storage.claim_jobs(&a_claim(1)).await.unwrap();
        Self { database, proxy, storage }
    }

    async fn end(self) {
        timeout(LONG, self.storage.close()).await.expect("the storage closes");
        self.database.drop().await;
    }
}

const MOMENTS: [Moment; 2] = [Moment::BeforeTheServer, Moment::BeforeTheAnswer];

#[tokio::test]
async fn a_single_insert_whose_answer_never_comes_is_there_once() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    for moment in MOMENTS {
        let [job] = <[_; 1]>::try_from(enqueued_jobs(1)).unwrap();

        world.proxy.swallow_at(Trigger::Statement, moment);
        let inserted = timeout(LONG, world.storage.insert_jobs(std::slice::from_ref(&job)));
        let report = inserted.await.expect("it does not wait for ever").unwrap();

        assert_eq!(report.already_present, [], "{moment:?}");
        assert_eq!(world.storage.find_job(job.id()).await.unwrap(), Some(job), "{moment:?}");
    }
    assert_eq!(world.proxy.faults(), 2);
    assert!(world.storage.write_statistics().outcomes_found_out >= 2);
    world.end().await;
}

#[tokio::test]
async fn transactions_whose_commit_is_never_answered_happen_once() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    // MySQL keeps the locks of a client that it does not know to be gone.
    let moments =
        if world.storage.server_version().flavor == Flavor::MariaDb { &MOMENTS[..] } else { &MOMENTS[1..] };
    for moment in moments {
        let jobs = enqueued_jobs(9);

        world.proxy.swallow_at(Trigger::Commit, *moment);
        let inserted = timeout(LONG, world.storage.insert_jobs(&jobs));
        let report = inserted.await.expect("it does not wait for ever").unwrap();

        assert_eq!(report.already_present, [], "{moment:?}");
        for job in jobs {
            assert_eq!(world.storage.find_job(job.id()).await.unwrap(), Some(job), "{moment:?}");
        }

        world.proxy.swallow_at(Trigger::Commit, *moment);
        let claim = a_claim(9);
        let claimed = timeout(LONG, world.storage.claim_jobs(&claim));
        let claimed = claimed.await.expect("it does not wait for ever").unwrap();

        assert_eq!(claimed.len(), 9, "{moment:?}");
        for job in claimed {
            assert_eq!(world.storage.find_job(job.id()).await.unwrap(), Some(job), "{moment:?}");
        }
    }
    assert_eq!(world.proxy.faults(), 2 * moments.len());
    assert_eq!(world.storage.job_counts().await.unwrap().in_state(StateName::Enqueued), 0);
    world.end().await;
}

#[tokio::test]
async fn connections_that_swallow_everything_cost_one_time_out_altogether() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    let server = an_announcement();
    world.storage.announce_server(&server).await.unwrap();
    let counts = join_all((0..6).map(|_| world.storage.job_counts())).await;
    assert!(counts.into_iter().all(|counts| counts.is_ok()));
    assert!(world.proxy.connections() > 4, "there are {} connections", world.proxy.connections());

    world.proxy.swallow_connections();
    let heartbeat = Heartbeat { server_id: server.id, load: ServerLoad::default() };
    let report = timeout(LONG, world.storage.heartbeat(&heartbeat)).await.expect("it does not wait for ever");

    assert!(report.unwrap().is_announced);
    world.end().await;
}

#[tokio::test]
async fn a_storage_closes_though_nothing_gets_through_any_more() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    world.proxy.swallow_everything();
    let stuck = tokio::spawn({
        let storage = world.storage.clone();
        async move { storage.claim_jobs(&a_claim(1)).await }
    });
    tokio::task::yield_now().await;

    world.end().await;

    let error = timeout(LONG, stuck).await.unwrap().unwrap().unwrap_err();
    let is_expected = matches!(error, StorageError::Unavailable { .. } | StorageError::Closed { .. });
    assert!(is_expected, "{error:?}");
}
