//! LISTEN and NOTIFY beyond what the suite asks for.

use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::storage::{Change, ChangeStream, ClaimRequest, JobStore, SetUp, StorageProvider};
use sqlx::postgres::PgListener;

use crate::support::{Place, Schema, url};
use crate::{a_server, an_enqueued_job, at};

const PATIENCE: Duration = Duration::from_secs(15);

async fn next(changes: &mut ChangeStream) -> Change {
    tokio::time::timeout(PATIENCE, changes.next()).await.expect("a hint comes").expect("the feed goes on")
}

#[tokio::test]
async fn a_thousand_inserts_give_few_notifications() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let (writer, reader) =
        (schema.open_postgres(None).await.unwrap(), schema.open_postgres(None).await.unwrap());
    writer.set_up(SetUp::Migrate).await.unwrap();
    let mut changes = reader.changes().unwrap().subscribe();
    assert_eq!(next(&mut changes).await, Change::Resync, "it listens");

    let begun = std::time::Instant::now();
    for _ in 0..100 {
        writer.insert_jobs(&[an_enqueued_job()]).await.unwrap();
    }
    let took = begun.elapsed();
    writer.close().await;
    let mut last = an_enqueued_job();
    last.delete(None, at(1)).unwrap();
    reader.insert_jobs(&[last]).await.unwrap();

    let mut hints = 0;
    while let Ok(Some(change)) = tokio::time::timeout(Duration::from_millis(500), changes.next()).await {
        assert!(matches!(change, Change::JobsReady { .. }), "{change:?}");
        hints += 1;
    }
    let most = took.as_millis() / 10 + 2;
    assert!((1..=most).contains(&hints), "{hints} hints in {took:?}");
    reader.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn work_whose_notification_is_lost_is_found_by_looking() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url.clone(), Place::NamedSchema).await.unwrap();
    let options = schema.options(None).without_listener();
    let deaf = jobrunr_storage_postgres::PostgresStorage::connect_with(&schema.url(), options).await.unwrap();
    deaf.set_up(SetUp::Migrate).await.unwrap();
    assert!(deaf.changes().is_none(), "who does not listen offers no feed");

    deaf.insert_jobs(&[an_enqueued_job()]).await.unwrap();

    let claimed = deaf.claim_jobs(&ClaimRequest::new(a_server(), 10, at(1))).await.unwrap();
    assert_eq!(claimed.len(), 1);
    deaf.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn who_does_not_listen_still_tells_others() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let options = schema.options(None).without_listener();
    let deaf = jobrunr_storage_postgres::PostgresStorage::connect_with(&schema.url(), options).await.unwrap();
    deaf.set_up(SetUp::Migrate).await.unwrap();
    let hearing = schema.open_postgres(None).await.unwrap();
    let mut changes = hearing.changes().unwrap().subscribe();
    assert_eq!(next(&mut changes).await, Change::Resync, "it listens");

    deaf.insert_jobs(&[an_enqueued_job()]).await.unwrap();

    assert_eq!(next(&mut changes).await, Change::JobsReady { queue: "default".parse().unwrap() });
    deaf.close().await;
    hearing.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn a_storage_that_was_dropped_without_being_closed_listens_no_more() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url.clone(), Place::NamedSchema).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let mut changes = storage.changes().unwrap().subscribe();
    assert_eq!(next(&mut changes).await, Change::Resync, "it listens");
    let channels =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN%'";
    let listening = async |url: &str| -> i64 {
        let pool = sqlx::PgPool::connect(url).await.unwrap();
        let count = sqlx::query_scalar(channels).bind(&schema.name).fetch_one(&pool).await.unwrap();
        pool.close().await;
        count
    };
    assert_eq!(listening(&url).await, 1);

    drop(storage);
    // What it hears next shows it that nobody is left.
    let mut teller = PgListener::connect(&url).await.unwrap();
    teller.listen("unrelated").await.unwrap();
    let other = schema.open_postgres(None).await.unwrap();
    other.insert_jobs(&[an_enqueued_job()]).await.unwrap();
    other.close().await;

    let gone = async {
        while listening(&url).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the listener ends");
    schema.drop_schema().await;
}
