//! Single inserts at once are gathered: a caller that goes away while it writes for itself strands none of the others.

use std::time::Duration;

use jobrunr_core::storage::{JobQuery, JobSearch, JobStore, SetUp, StorageProvider};
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
