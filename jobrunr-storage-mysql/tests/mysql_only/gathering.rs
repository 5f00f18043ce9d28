//! Single inserts at once are gathered, and a caller that is alone writes by itself: whenever it goes away its job is there
//! or not, the others are served, and the next insert works.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use jobrunr_core::JobState;
use jobrunr_core::storage::{JobQuery, JobSearch, JobStore, SetUp, StorageProvider};
use jobrunr_storage_mysql::MySqlStorage;
use sqlx::Connection;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::jobs::{a_job, enqueued_jobs};
use crate::support::{Database, url};

/// Longer than anything here takes unless it takes for ever.
const LONG: Duration = Duration::from_secs(60);

async fn storage_on(database: &Database) -> MySqlStorage {
    let storage = database.open_mysql(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    // What names its lane for the first time writes more than its row.
    storage.insert_jobs(&enqueued_jobs(1)).await.unwrap();
    storage
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_go_away_strand_nobody_who_waits_behind_them() {
    const ROUNDS: u32 = 40;
    const STAYING: u64 = 8;
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = storage_on(&database).await;

    for round in 0..ROUNDS {
        let mut leaving = JoinSet::new();
        let leaver = storage.clone();
        leaving.spawn(async move {
            // From before its statement is sent until after it was answered.
            let patience = Duration::from_micros(u64::from(round) * 50);
            timeout(patience, leaver.insert_jobs(&enqueued_jobs(1))).await.is_ok()
        });
        let mut staying = JoinSet::new();
        for _ in 0..STAYING {
            let storage = storage.clone();
            staying.spawn(async move { storage.insert_jobs(&enqueued_jobs(1)).await });
        }
        let answered = timeout(LONG, staying.join_all()).await.unwrap();
        assert!(answered.into_iter().all(|report| report.unwrap().already_present.is_empty()));
        leaving.join_all().await;
    }

    let stored = storage.count_jobs(&JobQuery::all()).await.unwrap();
    let certain = u64::from(ROUNDS) * STAYING + 1;
    assert!((certain..=certain + u64::from(ROUNDS)).contains(&stored), "{stored} jobs are stored");
    storage.close().await;
    database.drop().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_in_its_statement_leaves_its_job_whole_or_not_at_all() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = storage_on(&database).await;

    // After so many steps: before the statement is prepared, in the middle of that, with it on its way, after it.
    for steps in 0..30 {
        let job = a_job(JobState::enqueued());
        let alone = std::slice::from_ref(&job);
        {
            let mut leaving = pin!(storage.insert_jobs(alone));
            for _ in 0..steps {
                if leaving.as_mut().now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let next = a_job(JobState::enqueued());
        let report = timeout(LONG, storage.insert_jobs(std::slice::from_ref(&next))).await.unwrap().unwrap();
        assert_eq!(report.already_present, [], "after {steps} steps");
        assert_eq!(storage.find_job(next.id()).await.unwrap().as_ref(), Some(&next), "after {steps} steps");
        // Inserting it again tells whether it was there, and waits for it if it is about to be.
        timeout(LONG, storage.insert_jobs(alone)).await.unwrap().unwrap();
        assert_eq!(storage.find_job(job.id()).await.unwrap(), Some(job), "after {steps} steps");
    }

    let stored = storage.count_jobs(&JobQuery::all()).await.unwrap();
    assert_eq!(stored, 61);
    storage.close().await;
    database.drop().await;
}

#[tokio::test]
async fn a_caller_that_is_not_polled_any_more_holds_up_nobody() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = storage_on(&database).await;
    let [held, behind] = [(); 2].map(|()| enqueued_jobs(1));
    // Its statement has no end as long as another transaction is about to insert the same job.
    let mut other = database.connection().await.unwrap();
    let mut transaction = other.begin().await.unwrap();
    storage.insert_in(&mut transaction, &held).await.unwrap();
    let mut stuck = pin!(storage.insert_jobs(&held));
    assert!(stuck.as_mut().now_or_never().is_none());

    let report = timeout(LONG, storage.insert_jobs(&behind)).await.unwrap().unwrap();

    assert_eq!(report.already_present, []);
    transaction.rollback().await.unwrap();
    assert_eq!(timeout(LONG, stuck).await.unwrap().unwrap().already_present, []);
    assert_eq!(storage.count_jobs(&JobQuery::all()).await.unwrap(), 3);
    other.close().await.unwrap();
    storage.close().await;
    database.drop().await;
}

/// Of many callers nearly all only wait; each of their calls is one allocation, written whole.
#[tokio::test]
async fn a_call_that_inserts_takes_little_memory_until_it_writes_by_itself() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = storage_on(&database).await;

    let bytes = size_of_val(&*storage.insert_jobs(&[]));

    assert!(bytes <= 2_000, "{bytes}");
    storage.close().await;
    database.drop().await;
}
