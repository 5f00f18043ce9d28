//! The schema: older, altered, incomplete; and documents that nobody can read.

use jobrunr_core::storage::{ClaimRequest, JobSearch, JobStore, SetUp, StorageError, StorageProvider};
use jobrunr_core::{Job, JobId, JobState, StateName};
use jobrunr_storage_mongo::mongodb::IndexModel;
use jobrunr_storage_mongo::mongodb::bson::{Bson, Document, doc};
use jobrunr_storage_mongo::mongodb::options::IndexOptions;
use storage_conformance_tests::TestDatabase;

use crate::support::{Mongo, stored_id};
use crate::{a_definition, a_server, an_enqueued_job, at};

fn mismatch(answer: Result<(), StorageError>) -> String {
    match answer {
        Err(StorageError::SchemaMismatch { what, .. }) => what,
        other => panic!("expected a mismatch of the schema, got {other:?}"),
    }
}

#[tokio::test]
async fn an_older_schema_is_named_by_a_validation_and_brought_up_to_date_with_its_jobs() {
    let Some(fresh) = Mongo::ReplicaSet.fresh().await else { return };
    let storage = fresh.open_mongo(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let job = an_enqueued_job();
    storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap();
    let database = fresh.database();
    let schema = database.collection::<Document>("jobrunr_schema");
    schema.update_one(doc! { "_id": "schema" }, doc! { "$set": { "version": 0 } }).await.unwrap();
    database.collection::<Document>("jobrunr_jobs").drop_index("ready").await.unwrap();

    assert!(mismatch(storage.set_up(SetUp::Validate).await).contains("version 0"));
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.set_up(SetUp::Validate).await.unwrap();

    assert_eq!(storage.find_job(job.id()).await.unwrap(), Some(job));
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn an_index_that_is_missing_or_altered_is_named() {
    let Some(fresh) = Mongo::StandAlone.fresh().await else { return };
    let storage = fresh.open_mongo(Some("app_")).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let jobs = fresh.database().collection::<Document>("app_jobrunr_jobs");
    jobs.drop_index("due").await.unwrap();

    let missing = mismatch(storage.set_up(SetUp::Validate).await);
    let options = IndexOptions::builder().name("due".to_owned()).build();
    jobs.create_index(IndexModel::builder().keys(doc! { "name": 1 }).options(options).build()).await.unwrap();
    let altered = mismatch(storage.set_up(SetUp::Validate).await);
    let not_migrated = mismatch(storage.set_up(SetUp::Migrate).await);

    for what in [missing, altered, not_migrated] {
        assert!(what.contains("due") && what.contains("app_jobrunr_jobs"), "{what}");
    }
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn documents_spoiled_in_any_way_are_parked_and_the_others_claimed() {
    let Some(fresh) = Mongo::ReplicaSet.fresh().await else { return };
    let storage = fresh.open_mongo(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let documents = fresh.database().collection::<Document>("jobrunr_jobs");
    let spoils = [
        doc! { "$set": { "history": "none" } },
        doc! { "$set": { "history": ["{"] } },
        doc! { "$set": { "history": Bson::Array(Vec::new()) } },
        doc! { "$unset": { "payload": "" } },
        doc! { "$set": { "payload": 7 } },
        doc! { "$set": { "version": "one" } },
        doc! { "$set": { "tags": "none" } },
        doc! { "$set": { "metadata": { "nameless": "1" } } },
        doc! { "$set": { "rank": i64::MAX } },
    ];
    let mut spoiled = 0;
    for spoil in &spoils {
        let job = an_enqueued_job();
        storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap();
        let changed = documents.update_one(doc! { "_id": stored_id(job.id()) }, spoil.clone()).await.unwrap();
        spoiled += changed.modified_count;
    }
    assert_eq!(spoiled, 9);
    let good = an_enqueued_job();
    storage.insert_jobs(std::slice::from_ref(&good)).await.unwrap();

    let claim = ClaimRequest::new(a_server(), 100, at(1));
    let mut claimed = Vec::new();
    for _ in 0..3 {
        claimed.extend(storage.claim_jobs(&claim).await.unwrap());
    }

    assert_eq!(claimed.iter().map(Job::id).collect::<Vec<_>>(), [good.id()]);
    let counts = storage.job_counts().await.unwrap();
    assert_eq!(counts.in_state(StateName::Enqueued), 0, "none is in line any more");
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn a_broken_scheduled_job_does_not_hold_up_others_that_are_due() {
    let Some(fresh) = Mongo::StandAlone.fresh().await else { return };
    let storage = fresh.open_mongo(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let scheduled = |second| {
        let state = JobState::scheduled(at(second));
        Job::new(JobId::new(), a_definition(), state, at(0)).unwrap()
    };
    let (broken, good) = (scheduled(1), scheduled(2));
    storage.insert_jobs(&[broken.clone(), good.clone()]).await.unwrap();
    let documents = fresh.database().collection::<Document>("jobrunr_jobs");
    let spoil = doc! { "$set": { "history": "none" } };
    documents.update_one(doc! { "_id": stored_id(broken.id()) }, spoil).await.unwrap();

    let mut released = Vec::new();
    for _ in 0..2 {
        released.extend(storage.enqueue_due_jobs(at(5), 1).await.unwrap().released);
    }

    assert_eq!(released, [good.id()]);
    assert_eq!(storage.job_counts().await.unwrap().in_state(StateName::Failed), 1, "it is parked");
    storage.close().await;
    fresh.destroy().await;
}
