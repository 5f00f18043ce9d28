//! Hints that never arrive: the work is found all the same, by looking.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::storage::{
    Change, ChangeStream, ClaimRequest, JobStore, StorageError, StorageExt, StorageProvider,
};
use jobrunr_core::{Job, JobContext, JobDefinition, JobHandler, JobRequest, JobResult, JobScheduler};
use jobrunr_server::BackgroundJobServer;
use jobrunr_storage_mongo::MongoStorage;
use jobrunr_storage_mongo::mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};
use storage_conformance_tests::TestDatabase;
use tokio::sync::mpsc;

use crate::support::{Fresh, Mongo};
use crate::{a_definition, a_server, a_storage_on, at};

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
    let Some((fresh, here)) = a_storage_on(Mongo::ReplicaSet).await else { return };
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

/// No job of this name can be written from now on.
async fn refuse(fresh: &Fresh, name: &str) {
    let refuse = doc! { "collMod": "jobrunr_jobs", "validator": { "name": { "$ne": name } } };
    fresh.database().run_command(refuse).await.unwrap();
}

/// So many jobs, all but the last of one name.
fn jobs_of_two_names(count: usize) -> Vec<Job> {
    let definition = |name: &str| JobDefinition { name: name.to_owned(), ..a_definition() };
    let job = |number| {
        let name = if number + 1 == count { "unwanted" } else { "wanted" };
        let state = jobrunr_core::JobState::enqueued();
        Job::new(jobrunr_core::JobId::new(), definition(name), state, at(0)).unwrap()
    };
    (0..count).map(job).collect()
}

/// What the storage tells its own process from now on.
fn changes_of(storage: &MongoStorage) -> ChangeStream {
    let mut changes = storage.changes().unwrap().subscribe();
    while let Some(Some(_)) = futures_util::FutureExt::now_or_never(changes.next()) {}
    changes
}

async fn assert_that_jobs_are_ready(mut changes: ChangeStream) {
    let told = async {
        while let Some(change) = changes.next().await {
            if matches!(change, Change::JobsReady { .. }) {
                return;
            }
        }
        panic!("the feed ended");
    };
    tokio::time::timeout(PATIENCE, told).await.expect("they are told of in time");
}

fn assert_refused<T: std::fmt::Debug>(result: &Result<T, StorageError>) {
    assert!(matches!(result, Err(StorageError::Backend { .. })), "{result:?}");
}

#[tokio::test]
async fn jobs_that_were_inserted_are_told_of_although_others_of_the_call_were_refused() {
    let Some((fresh, storage)) = a_storage_on(Mongo::ReplicaSet).await else { return };
    refuse(&fresh, "unwanted").await;
    let changes = changes_of(&storage);

    assert_refused(&storage.insert_jobs(&jobs_of_two_names(1_500)).await);

    assert_that_jobs_are_ready(changes).await;
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn jobs_that_were_saved_are_told_of_although_others_of_the_call_were_refused() {
    let Some((fresh, storage)) = a_storage_on(Mongo::ReplicaSet).await else { return };
    let jobs = jobs_of_two_names(700);
    storage.insert_jobs(&jobs).await.unwrap();
    let mut claimed = storage.claim_jobs(&ClaimRequest::new(a_server(), 700, at(1))).await.unwrap();
    assert_eq!(claimed.len(), 700);
    claimed.sort_by_key(|job| job.name() == "unwanted");
    claimed.iter_mut().for_each(|job| job.give_back("stopped", at(2)).unwrap());
    refuse(&fresh, "unwanted").await;
    let changes = changes_of(&storage);

    assert_refused(&storage.save_all(&mut claimed).await);

    assert_that_jobs_are_ready(changes).await;
    storage.close().await;
    fresh.destroy().await;
}
