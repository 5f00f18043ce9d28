//! Counts on a server alone, where they follow what they count: they are right, whichever answer was lost.

use jobrunr_core::storage::{JobSearch, JobSelection, JobStore, StorageExt, StorageProvider};
use jobrunr_core::{Job, StateName};
use jobrunr_storage_mongo::MongoStorage;
use jobrunr_storage_mongo::mongodb::bson::{Document, doc};
use storage_conformance_tests::TestDatabase;

use crate::answers::assert_unavailable;
use crate::support::{Fresh, Mongo};
use crate::{a_server, a_storage_on, an_enqueued_job, at};

const COUNTS: &str = "jobrunr_counts";

/// Jobs that have succeeded; what says so is to be saved.
async fn ten_successes(storage: &MongoStorage) -> Vec<Job> {
    let mut jobs: Vec<Job> = (0..10).map(|_| an_enqueued_job()).collect();
    storage.insert_jobs(&jobs).await.unwrap();
    jobs.iter_mut().for_each(Job::mark_inserted);
    jobs.iter_mut().for_each(|job| job.start_processing(&a_server(), at(1)).unwrap());
    assert_eq!(storage.save_all(&mut jobs).await.unwrap(), []);
    jobs.iter_mut().for_each(|job| job.succeed(None, at(2)).unwrap());
    jobs
}

/// How many jobs are counted as SUCCEEDED, and how many successes as ever, when everything has come to its end.
async fn successes(fresh: &Fresh, storage: MongoStorage) -> (u64, u64) {
    storage.close().await;
    let storage = fresh.open_mongo(None).await.unwrap();
    let counts = storage.job_counts().await.unwrap();
    storage.close().await;
    (counts.in_state(StateName::Succeeded), counts.succeeded_all_time)
}

#[tokio::test]
async fn successes_whose_save_was_not_answered_are_counted_when_it_is_tried_again() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let jobs = ten_successes(&storage).await;

    fresh.proxy.cut_next_answer("update");
    assert_unavailable(&storage.save_jobs(&jobs).await);
    // Others may be saved together with them then.
    let (some, rest) = jobs.split_at(3);
    for part in [rest, some] {
        assert_eq!(storage.save_jobs(part).await.unwrap().conflicts, []);
    }

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!(successes(&fresh, storage).await, (10, 10));
    fresh.destroy().await;
}

#[tokio::test]
async fn successes_whose_save_was_not_answered_and_that_nobody_tries_again_are_counted_too() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let jobs = ten_successes(&storage).await;

    fresh.proxy.cut_next_answer("update");
    assert_unavailable(&storage.save_jobs(&jobs).await);

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!(successes(&fresh, storage).await, (10, 10));
    fresh.destroy().await;
}

#[tokio::test]
async fn successes_whose_count_was_not_answered_are_counted_once() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let jobs = ten_successes(&storage).await;

    fresh.proxy.cut_next_answer(COUNTS);
    assert_eq!(storage.save_jobs(&jobs).await.unwrap().conflicts, [], "the save itself was answered");

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!(successes(&fresh, storage).await, (10, 10));
    fresh.destroy().await;
}

#[tokio::test]
async fn successes_whose_count_never_arrived_are_counted_all_the_same() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let jobs = ten_successes(&storage).await;

    fresh.proxy.lose_next_command(COUNTS);
    assert_eq!(storage.save_jobs(&jobs).await.unwrap().conflicts, []);

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!(successes(&fresh, storage).await, (10, 10));
    fresh.destroy().await;
}

#[tokio::test]
async fn a_count_is_added_to_a_shard_that_is_missing_or_knows_many_other_writers() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let shards = fresh.database().collection::<Document>(COUNTS);
    let others: Vec<_> = (0..100_i64).map(|number| doc! { "writer": number, "call": number }).collect();
    for is_missing in [true, false] {
        if is_missing {
            shards.delete_many(doc! {}).await.unwrap();
        } else {
            shards.update_many(doc! {}, doc! { "$set": { "calls": &others } }).await.unwrap();
        }
        let jobs = ten_successes(&storage).await;

        fresh.proxy.cut_next_answer(COUNTS);
        storage.save_jobs(&jobs).await.unwrap();
    }

    assert_eq!(shards.count_documents(doc! {}).await.unwrap(), 1);
    let is_long = doc! { "calls.64": { "$exists": true } };
    assert_eq!(shards.count_documents(is_long).await.unwrap(), 0, "writers of long ago are forgotten");
    assert_eq!(successes(&fresh, storage).await, (20, 20));
    fresh.destroy().await;
}

#[tokio::test]
async fn jobs_whose_removal_was_not_answered_are_counted_no_more() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let mut jobs = ten_successes(&storage).await;
    assert_eq!(storage.save_all(&mut jobs).await.unwrap(), []);
    let ids = jobs[..7].iter().map(Job::id).collect();

    fresh.proxy.cut_next_answer("delete");
    assert_eq!(storage.delete_jobs(&JobSelection::Ids(ids)).await.unwrap(), 7);

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!(successes(&fresh, storage).await, (3, 10));
    fresh.destroy().await;
}

#[tokio::test]
async fn ended_jobs_whose_insert_was_not_answered_are_counted_when_it_is_tried_again() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let mut jobs: Vec<Job> = (0..10).map(|_| an_enqueued_job()).collect();
    for job in &mut jobs {
        job.start_processing(&a_server(), at(1)).unwrap();
        job.succeed(None, at(2)).unwrap();
    }

    fresh.proxy.cut_next_answer("insert");
    assert_unavailable(&storage.insert_jobs(&jobs).await);
    assert_eq!(storage.insert_jobs(&jobs).await.unwrap().already_present, []);
    assert_eq!(storage.insert_jobs(&jobs).await.unwrap().already_present.len(), 10);

    assert_eq!(successes(&fresh, storage).await, (10, 10));
    fresh.destroy().await;
}
