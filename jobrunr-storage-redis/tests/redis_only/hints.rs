//! Hints of a call that fails half-way.

use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::storage::{Change, ChangeStream, ClaimRequest, JobStore, StorageProvider};
use jobrunr_core::{Job, QueueName};
use jobrunr_storage_redis::RedisStorage;

use crate::support::PrivateServer;
use crate::{a_server, a_server_with_a_storage, an_enqueued_job, at};

/// More than one script takes.
const MANY: usize = 110;

/// Jobs of which the first script takes the first ones, and the next one fails: the last is SCHEDULED, and the key of those
/// holds something else.
async fn jobs_of_which_the_last_cannot_be_written(server: &PrivateServer) -> Vec<Job> {
    server.ask(&["SET", "{jobrunr}:due", "spoiled"]).await.unwrap();
    let mut jobs: Vec<Job> = (0..MANY).map(|_| an_enqueued_job()).collect();
    jobs[MANY - 1].schedule(at(5), None, at(1)).unwrap();
    jobs
}

async fn listen(storage: &RedisStorage) -> ChangeStream {
    let mut heard = storage.changes().unwrap().subscribe();
    assert_eq!(heard.next().await, Some(Change::Resync));
    heard
}

async fn assert_that_jobs_are_ready(mut heard: ChangeStream) {
    let next = tokio::time::timeout(Duration::from_secs(10), heard.next()).await;
    let queue = QueueName::default_queue();
    assert_eq!(next.expect("a hint"), Some(Change::JobsReady { queue }));
}

#[tokio::test]
async fn jobs_inserted_before_an_insert_failed_are_told_of() {
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };
    let jobs = jobs_of_which_the_last_cannot_be_written(&server).await;
    let heard = listen(&storage).await;

    storage.insert_jobs(&jobs).await.unwrap_err();

    assert!(storage.find_job(jobs[0].id()).await.unwrap().is_some());
    assert_that_jobs_are_ready(heard).await;
    storage.close().await;
}

#[tokio::test]
async fn jobs_saved_before_a_save_failed_are_told_of() {
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };
    let jobs: Vec<Job> = (0..MANY).map(|_| an_enqueued_job()).collect();
    storage.insert_jobs(&jobs).await.unwrap();
    let mut jobs = storage.claim_jobs(&ClaimRequest::new(a_server(), MANY, at(1))).await.unwrap();
    let (last, first) = jobs.split_last_mut().unwrap();
    last.schedule(at(5), None, at(2)).unwrap();
    first.iter_mut().for_each(|job| job.give_back("not now", at(2)).unwrap());
    server.ask(&["SET", "{jobrunr}:due", "spoiled"]).await.unwrap();
    let heard = listen(&storage).await;

    storage.save_jobs(&jobs).await.unwrap_err();

    assert_that_jobs_are_ready(heard).await;
    storage.close().await;
}
