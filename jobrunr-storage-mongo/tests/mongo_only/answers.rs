//! A connection that is cut between a command and its answer: what came of the call is found out.

use jobrunr_core::storage::{
    ClaimRequest, JobQuery, JobSearch, JobStore, StorageError, StorageExt, StorageProvider,
};
use jobrunr_core::{Job, StateName};
use jobrunr_storage_mongo::MongoStorage;
use storage_conformance_tests::TestDatabase;

use crate::support::{Fresh, Mongo};
use crate::{a_server, a_storage_on, an_enqueued_job, at};

/// A server alone: there the driver itself tries nothing again.
async fn setting() -> Option<(Fresh, MongoStorage)> {
    a_storage_on(Mongo::StandAlone).await
}

pub(crate) fn assert_unavailable<T: std::fmt::Debug>(result: &Result<T, StorageError>) {
    assert!(matches!(result, Err(StorageError::Unavailable { .. })), "{result:?}");
}

#[tokio::test]
async fn an_insert_whose_answer_is_lost_is_there_once_and_is_new_when_tried_again() {
    let Some((fresh, storage)) = setting().await else { return };
    let jobs: Vec<_> = (0..100).map(|_| an_enqueued_job()).collect();

    fresh.proxy.cut_next_answer("insert");
    assert_unavailable(&storage.insert_jobs(&jobs).await);
    let again = storage.insert_jobs(&jobs).await.unwrap();

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!(again.already_present, []);
    let count = storage.count_jobs(&JobQuery::in_state(StateName::Enqueued)).await.unwrap();
    assert_eq!(count, 100);
    let third = storage.insert_jobs(&jobs).await.unwrap();
    assert_eq!(third.already_present.len(), 100, "what is known is not uncertain any more");
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn a_save_whose_answer_is_lost_has_won_when_tried_again() {
    let Some((fresh, storage)) = setting().await else { return };
    let mut jobs: Vec<Job> = (0..10).map(|_| an_enqueued_job()).collect();
    storage.insert_jobs(&jobs).await.unwrap();
    jobs.iter_mut().for_each(Job::mark_inserted);
    jobs.iter_mut().for_each(|job| job.start_processing(&a_server(), at(1)).unwrap());

    fresh.proxy.cut_next_answer("update");
    assert_unavailable(&storage.save_jobs(&jobs).await);
    let again = storage.save_jobs(&jobs).await.unwrap();

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!(again.conflicts, []);
    jobs.iter_mut().for_each(Job::mark_saved);
    for job in &jobs {
        assert_eq!(storage.find_job(job.id()).await.unwrap().as_ref(), Some(job));
    }
    let conflicts = {
        let mut stale = an_enqueued_job();
        storage.insert_job(&mut stale).await.unwrap();
        let mut other = stale.clone();
        other.start_processing(&a_server(), at(1)).unwrap();
        storage.save_job(&mut other).await.unwrap();
        stale.delete(None, at(2)).unwrap();
        storage.save_jobs(&[stale]).await.unwrap().conflicts
    };
    assert_eq!(conflicts.len(), 1, "a save that really lost is told so");
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn the_jobs_of_a_claim_whose_answer_is_lost_are_found_by_the_next_claim_of_the_server() {
    let Some((fresh, storage)) = setting().await else { return };
    let jobs: Vec<Job> = (0..10).map(|_| an_enqueued_job()).collect();
    storage.insert_jobs(&jobs).await.unwrap();
    let server = a_server();
    let claim = ClaimRequest::new(server.clone(), 100, at(1));

    fresh.proxy.cut_next_answer("update");
    assert_unavailable(&storage.claim_jobs(&claim).await);
    let elsewhere = storage.claim_jobs(&ClaimRequest::new(a_server(), 100, at(2))).await.unwrap();
    let recovered = storage.claim_jobs(&claim).await.unwrap();

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!(elsewhere, [], "they are nobody else's");
    assert_eq!(recovered.len(), 10);
    for job in recovered {
        assert_eq!((job.state_name(), job.server_id()), (StateName::Processing, Some(server.id)));
        assert_eq!(storage.find_job(job.id()).await.unwrap().as_ref(), Some(&job));
    }
    assert_eq!(storage.claim_jobs(&claim).await.unwrap(), [], "each is given once");
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_asked_for_again_by_itself() {
    let Some((fresh, storage)) = a_storage_on(Mongo::ReplicaSet).await else { return };
    let mut job = an_enqueued_job();
    storage.insert_job(&mut job).await.unwrap();
    job.start_processing(&a_server(), at(1)).unwrap();
    job.succeed(None, at(2)).unwrap();

    fresh.proxy.cut_next_answer("commitTransaction");
    storage.save_job(&mut job).await.unwrap();

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!(storage.find_job(job.id()).await.unwrap(), Some(job));
    let counts = storage.job_counts().await.unwrap();
    assert_eq!(
        (counts.in_state(StateName::Succeeded), counts.succeeded_all_time),
        (1, 1),
        "it is counted once"
    );
    storage.close().await;
    fresh.destroy().await;
}
