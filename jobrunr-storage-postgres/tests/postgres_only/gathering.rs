//! Single inserts at once are gathered: a caller that goes away while it writes for itself strands none of the others.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use jobrunr_core::storage::{JobQuery, JobSearch, JobStore, SetUp, StorageProvider};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::an_enqueued_job;
use crate::support::{Place, Schema, url};

const ROUNDS: u32 = 40;
const STAYING: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_go_away_strand_nobody_who_waits_behind_them() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::SearchPath).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();

    for round in 0..ROUNDS {
        let mut leaving = JoinSet::new();
        let leaver = storage.clone();
        leaving.spawn(async move {
            // From before its statement is sent until after it was answered.
            let patience = Duration::from_micros(u64::from(round) * 100);
            timeout(patience, leaver.insert_jobs(&[an_enqueued_job()])).await.is_ok()
        });
        let mut staying = JoinSet::new();
        for _ in 0..STAYING {
            let storage = storage.clone();
            staying.spawn(async move { storage.insert_jobs(&[an_enqueued_job()]).await });
        }
        let answered = timeout(Duration::from_secs(60), staying.join_all()).await.unwrap();
        assert!(answered.into_iter().all(|report| report.unwrap().already_present.is_empty()));
        leaving.join_all().await;
    }

    let stored = storage.count_jobs(&JobQuery::all()).await.unwrap();
    let of_staying = u64::from(ROUNDS) * STAYING;
    assert!((of_staying..=of_staying + u64::from(ROUNDS)).contains(&stored), "{stored} jobs are stored");
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn a_caller_that_is_not_polled_any_more_holds_up_nobody() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::SearchPath).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let [first, held, behind] = [(); 3].map(|()| [an_enqueued_job()]);
    storage.insert_jobs(&first).await.unwrap();
    // Its statement has no end as long as another transaction is about to insert the same job.
    let mut other = PgConnection::connect(&schema.url()).await.unwrap();
    let mut transaction = other.begin().await.unwrap();
    storage.insert_in(&mut transaction, &held).await.unwrap();
    let mut stuck = pin!(storage.insert_jobs(&held));
    assert!(stuck.as_mut().now_or_never().is_none());

    let report = timeout(Duration::from_secs(60), storage.insert_jobs(&behind)).await.unwrap().unwrap();

    assert_eq!(report.already_present, []);
    transaction.rollback().await.unwrap();
    let report = timeout(Duration::from_secs(60), stuck).await.unwrap().unwrap();
    assert_eq!(report.already_present, []);
    assert_eq!(storage.count_jobs(&JobQuery::all()).await.unwrap(), 3);
    other.close().await.unwrap();
    storage.close().await;
    schema.drop_schema().await;
}

/// Of many callers nearly all only wait; each of their calls is one allocation, written whole.
#[tokio::test]
async fn a_call_that_inserts_takes_little_memory_until_it_writes_by_itself() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::SearchPath).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();

    let bytes = size_of_val(&*storage.insert_jobs(&[]));

    assert!(bytes <= 2_000, "{bytes}");
    storage.close().await;
    schema.drop_schema().await;
}
