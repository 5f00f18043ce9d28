//! Transactions of the storage read what is committed and lock nothing beside what they change.

use std::time::Duration;

use jobrunr_core::JobState;
use jobrunr_core::storage::{JobSearch, JobStore, SetUp, StorageExt, StorageProvider};
use jobrunr_core::{Job, JobDefinition, JobId, JsonText};
use jobrunr_storage_mysql::{MySqlOptions, MySqlStorage};
use sqlx::mysql::MySqlPoolOptions;
use tokio::time::timeout;

use crate::jobs::{a_claim, at};
use crate::proxy::{Proxy, Trigger};
use crate::support::{Database, url};

/// Longer than anything here takes unless it takes for ever.
const LONG: Duration = Duration::from_secs(60);

/// A job that is enqueued at this second; jobs of one lane stand in line by that.
fn a_job_of(second: i64, priority: i32) -> Job {
    let mut definition = JobDefinition::new("mail".parse().unwrap(), JsonText::of("payload").unwrap());
    definition.priority = priority;
    Job::new(JobId::new(), definition, JobState::enqueued(), at(second)).unwrap()
}

/// Holds a claim before its commit, while others insert, claim and save whatever stands beside the jobs it takes.
async fn check(database: &Database, proxy: &Proxy, claiming: &MySqlStorage) {
    let second = Duration::from_secs(1);
    let other = MySqlStorage::open(database.options().lock_timeout(second)).await.unwrap();
    other.set_up(SetUp::Migrate).await.unwrap();
    let line: Vec<Job> = (0..10).map(|second| a_job_of(second * 2, 0)).collect();
    other.insert_jobs(&line).await.unwrap();
    proxy.hold_at(Trigger::Commit);
    let held = tokio::spawn({
        let claiming = claiming.clone();
        async move { claiming.claim_jobs(&a_claim(5)).await }
    });
    timeout(LONG, proxy.held()).await.unwrap();

    // Before, between and behind those that are being claimed: one by one, and as a transaction.
    let beside = [(-1, 0), (0, 1), (1, 0), (3, 0), (7, 0), (8, -1), (19, 0), (99, 0), (5, 7)];
    for (second, priority) in beside {
        other.insert_jobs(&[a_job_of(second, priority)]).await.unwrap();
    }
    other.insert_jobs(&beside.map(|(second, priority)| a_job_of(second, priority))).await.unwrap();
    let mut claimed = other.claim_jobs(&a_claim(12)).await.unwrap();
    assert_eq!(claimed.len(), 12);
    claimed.iter_mut().for_each(|job| job.succeed(None, at(100)).unwrap());
    assert_eq!(other.save_all(&mut claimed).await.unwrap(), []);

    assert_eq!(other.write_statistics().conflicts, 0, "nobody has waited for a lock");
    assert!(!held.is_finished(), "the claim was under way all the time");
    proxy.let_go();
    let held: Vec<JobId> = held.await.unwrap().unwrap().iter().map(Job::id).collect();
    assert_eq!(held, line[..5].iter().map(Job::id).collect::<Vec<_>>());
    assert_eq!(other.job_counts().await.unwrap().total(), 28);
    other.close().await;
}

#[tokio::test]
async fn a_claim_that_is_not_committed_keeps_nobody_from_its_neighbours() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let proxy = Proxy::before(&database).await;
    let storage = proxy.open(&database).await;

    check(&database, &proxy, &storage).await;

    storage.close().await;
    database.drop().await;
}

#[tokio::test]
async fn nor_does_one_in_a_session_of_the_users_that_reads_repeatably() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let proxy = Proxy::before(&database).await;
    let pool =
        MySqlPoolOptions::new().max_connections(3).connect_with(proxy.connect(&database)).await.unwrap();
    let storage = MySqlStorage::open(MySqlOptions::with_pool(pool.clone())).await.unwrap();

    check(&database, &proxy, &storage).await;

    storage.close().await;
    pool.close().await;
    database.drop().await;
}
