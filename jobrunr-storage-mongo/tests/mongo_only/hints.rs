//! Hints that never arrive: the work is found all the same, by looking.

use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::{SetUp, StorageProvider};
use jobrunr_core::{JobContext, JobHandler, JobRequest, JobResult, JobScheduler};
use jobrunr_server::BackgroundJobServer;
use jobrunr_storage_mongo::mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};
use storage_conformance_tests::TestDatabase;
use tokio::sync::mpsc;

use crate::support::Mongo;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Work {
    number: u32,
}

impl JobRequest for Work {
    const JOB_TYPE: &'static str = "work";
}

/// Tells which work it has done.
struct Worker(mpsc::UnboundedSender<u32>);

impl JobHandler<Work> for Worker {
    type Output = ();

    async fn run(&self, work: Work, _: &JobContext) -> JobResult {
        self.0.send(work.number)?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_whose_hint_is_lost_is_found_by_looking() {
    let Some(fresh) = Mongo::ReplicaSet.fresh().await else { return };
    let here = fresh.open_mongo(None).await.unwrap();
    here.set_up(SetUp::Migrate).await.unwrap();
    let there = Arc::new(fresh.open_mongo(None).await.unwrap());
    let (done, mut is_done) = mpsc::unbounded_channel();
    let server = BackgroundJobServer::builder(there)
        .claim_interval(Duration::from_millis(300))
        .handle::<Work, _>(Worker(done));
    let server = server.start().await.unwrap();
    let storage: Arc<dyn StorageProvider> = Arc::new(here);
    let scheduler = JobScheduler::new(Arc::clone(&storage));
    // No hint can be written from now on.
    let refuse_all = doc! { "collMod": "jobrunr_hints", "validator": { "nobody": { "$exists": true } } };
    fresh.database().run_command(refuse_all).await.unwrap();
    let hints = fresh.database().collection::<Document>("jobrunr_hints");
    hints.delete_many(doc! {}).await.unwrap();

    for number in 0..5 {
        scheduler.enqueue(Work { number }).await.unwrap();
        let found = tokio::time::timeout(PATIENCE, is_done.recv()).await.expect("it is found in time");
        assert_eq!(found, Some(number));
    }

    assert_eq!(hints.count_documents(doc! {}).await.unwrap(), 0, "every hint was lost");
    server.stop().await;
    storage.close().await;
    fresh.destroy().await;
}
