//! Others hold a lock for longer than a statement waits: work is tried again, but not for ever.

use std::error::Error;
use std::time::Duration;

use jobrunr_core::storage::{JobStore, SetUp, StorageError, StorageExt, StorageProvider};
use jobrunr_storage_mysql::{MySqlOptions, MySqlStorage};
use sqlx::mysql::{MySqlConnection, MySqlPoolOptions};
use sqlx::{Connection, Executor, MySql, Transaction};
use tokio::time::{interval, timeout};

use crate::jobs::{a_claim, at, enqueued_jobs};
use crate::support::{Database, url};

/// Longer than anything here takes unless it takes for ever.
const LONG: Duration = Duration::from_secs(60);

/// How often work is tried again while others are in its way.
const MAX_CONFLICTS: u64 = 12;

/// Begins a transaction that locks all jobs.
async fn lock_jobs(connection: &mut MySqlConnection) -> Transaction<'_, MySql> {
    let mut transaction = connection.begin().await.unwrap();
    transaction.execute("SELECT id FROM jobrunr_job FOR UPDATE").await.unwrap();
    transaction
}

#[tokio::test]
async fn a_save_whose_job_is_locked_for_longer_than_it_waits_is_done_once_the_lock_is_gone() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = MySqlStorage::open(database.options().lock_timeout(Duration::from_secs(1))).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.insert_jobs(&enqueued_jobs(1)).await.unwrap();
    let mut jobs = storage.claim_jobs(&a_claim(1)).await.unwrap();
    jobs[0].succeed(None, at(20)).unwrap();
    let mut other = database.connection().await.unwrap();
    let lock = lock_jobs(&mut other).await;

    let let_go = async {
        let mut again = interval(Duration::from_millis(50));
        while storage.write_statistics().conflicts == 0 {
            again.tick().await;
        }
        lock.rollback().await.unwrap();
    };
    let saved = async { tokio::join!(storage.save_all(&mut jobs), let_go).0 };
    let conflicts = timeout(LONG, saved).await.unwrap().unwrap();

    assert_eq!(conflicts, []);
    assert_eq!(storage.find_job(jobs[0].id()).await.unwrap().as_ref(), Some(&jobs[0]));
    other.close().await.unwrap();
    storage.close().await;
    database.drop().await;
}

#[tokio::test]
async fn a_save_whose_job_stays_locked_is_given_up_and_can_be_made_later() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    // Sessions that do not wait at all, which the storage itself never asks for.
    let pool = MySqlPoolOptions::new()
        .max_connections(2)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute("SET SESSION innodb_lock_wait_timeout = 0").await?;
                Ok(())
            })
        })
        .connect_with(database.connect())
        .await
        .unwrap();
    let storage = MySqlStorage::open(MySqlOptions::with_pool(pool.clone())).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.insert_jobs(&enqueued_jobs(1)).await.unwrap();
    let mut jobs = storage.claim_jobs(&a_claim(1)).await.unwrap();
    jobs[0].succeed(None, at(20)).unwrap();
    let mut other = database.connection().await.unwrap();
    let lock = lock_jobs(&mut other).await;
    // Sessions like these meet each other's locks now and then.
    let before = storage.write_statistics().conflicts;

    let error = timeout(LONG, storage.save_jobs(&jobs)).await.unwrap().unwrap_err();

    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    let source = error.source().unwrap().to_string();
    assert!(source.contains("other transactions were in the way at every try"), "{source}");
    let conflicts = storage.write_statistics().conflicts - before;
    assert_eq!(conflicts, MAX_CONFLICTS + 1, "the first try and as many more");
    lock.rollback().await.unwrap();
    assert_eq!(storage.save_all(&mut jobs).await.unwrap(), []);
    assert_eq!(storage.find_job(jobs[0].id()).await.unwrap().as_ref(), Some(&jobs[0]));
    other.close().await.unwrap();
    storage.close().await;
    pool.close().await;
    database.drop().await;
}
