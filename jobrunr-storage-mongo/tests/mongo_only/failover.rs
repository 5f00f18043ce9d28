//! What a failover may undo: nobody is given it, and nobody's save builds on it.

use std::sync::Mutex;
use std::time::Duration;

use jobrunr_core::storage::{ClaimRequest, JobSearch, JobStore, SetUp, StorageExt, StorageProvider};
use jobrunr_core::{Job, JobId, StateName};
use jobrunr_storage_mongo::mongodb::Collection;
use jobrunr_storage_mongo::mongodb::bson::{Document, doc};
use jobrunr_storage_mongo::{MongoOptions, MongoStorage};
use storage_conformance_tests::TestDatabase;

use crate::outage::wait_until;
use crate::support::private_server::{Access, PrivateServers};
use crate::support::{Fresh, Mongo, stored_id};
use crate::{a_server, a_storage_on, an_enqueued_job, at};

/// A job that was claimed, after a failover that undid the claim.
async fn an_undone_claim(fresh: &Fresh, storage: &MongoStorage) -> Job {
    let mut job = an_enqueued_job();
    storage.insert_job(&mut job).await.unwrap();
    let documents: Collection<Document> = fresh.database().collection("jobrunr_jobs");
    let of_job = || doc! { "_id": stored_id(job.id()) };
    let before = documents.find_one(of_job()).await.unwrap().unwrap();
    let claimed = storage.claim_jobs(&ClaimRequest::new(a_server(), 1, at(1))).await.unwrap().remove(0);
    documents.replace_one(of_job(), before).await.unwrap();
    claimed
}

#[tokio::test]
async fn a_save_that_builds_on_a_claim_that_was_undone_loses_to_another_servers_claim_of_the_same_version() {
    let Some((fresh, storage)) = a_storage_on(Mongo::ReplicaSet).await else { return };
    let mut undone = an_undone_claim(&fresh, &storage).await;
    let held = storage.claim_jobs(&ClaimRequest::new(a_server(), 1, at(2))).await.unwrap().remove(0);
    assert_eq!((undone.id(), undone.version()), (held.id(), held.version()));

    undone.succeed(None, at(3)).unwrap();
    let report = storage.save_jobs(&[undone]).await.unwrap();

    assert_eq!(report.conflicts, [held.id()]);
    assert_eq!(storage.find_job(held.id()).await.unwrap(), Some(held));
    assert_eq!(storage.job_counts().await.unwrap().succeeded_all_time, 0);
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn a_save_that_builds_on_a_claim_that_was_undone_loses_to_whatever_was_written_instead() {
    let Some((fresh, storage)) = a_storage_on(Mongo::ReplicaSet).await else { return };
    let mut undone = an_undone_claim(&fresh, &storage).await;
    let mut deleted = storage.find_job(undone.id()).await.unwrap().unwrap();
    deleted.delete(None, at(2)).unwrap();
    storage.save_job(&mut deleted).await.unwrap();
    assert_eq!(undone.version(), deleted.version());

    undone.succeed(None, at(3)).unwrap();
    let report = storage.save_jobs(&[undone]).await.unwrap();

    assert_eq!(report.conflicts, [deleted.id()]);
    assert_eq!(storage.find_job(deleted.id()).await.unwrap(), Some(deleted));
    assert_eq!(storage.job_counts().await.unwrap().in_state(StateName::Deleted), 1);
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_claim_that_no_majority_has_are_given_to_nobody_before_one_has_it() {
    let Some(mongo) = PrivateServers::start(3, Access::Anybody).await.unwrap() else { return };
    let options = MongoOptions::default().call_timeout(Duration::from_secs(2));
    let storage = MongoStorage::connect_with(&mongo.url(), options).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let jobs: Vec<Job> = (0..10).map(|_| an_enqueued_job()).collect();
    storage.insert_jobs(&jobs).await.unwrap();
    let claim = ClaimRequest::new(a_server(), 100, at(1));

    for secondary in 1..3 {
        // One that has only just joined refuses it.
        wait_until("a member is locked", async || mongo.lock(secondary).await.is_ok()).await;
    }
    let lost = storage.claim_jobs(&claim).await;
    let unconfirmed = storage.claim_jobs(&claim).await;
    let stored = storage.find_job(jobs[0].id()).await;
    for secondary in 1..3 {
        mongo.unlock(secondary).await.unwrap();
    }

    assert!(lost.as_ref().is_err_and(|error| error.is_retryable()), "{lost:?}");
    assert_eq!(stored.unwrap().unwrap().state_name(), StateName::Processing, "the primary has the claim");
    assert_eq!(unconfirmed.unwrap(), [], "a failover may undo it");
    let recovered = Mutex::new(Vec::new());
    wait_until("the claim is recovered", async || {
        let claimed = storage.claim_jobs(&claim).await.unwrap_or_default();
        let mut recovered = recovered.lock().unwrap();
        recovered.extend(claimed.iter().map(Job::id));
        recovered.len() >= jobs.len()
    })
    .await;
    let mut recovered: Vec<JobId> = recovered.into_inner().unwrap();
    recovered.sort_unstable();
    let mut ids: Vec<JobId> = jobs.iter().map(Job::id).collect();
    ids.sort_unstable();
    assert_eq!(recovered, ids, "each is given once");
    storage.close().await;
}
