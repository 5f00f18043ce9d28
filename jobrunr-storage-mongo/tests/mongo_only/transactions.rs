//! Jobs in a transaction of the caller's, together with what the caller writes.

use std::sync::Arc;

use jobrunr_core::storage::{JobQuery, JobSearch, JobStore, SetUp, StorageError, StorageProvider};
use jobrunr_core::{JobRequest, JobScheduler, SchedulerError, StateName};
use jobrunr_storage_mongo::mongodb::Client;
use jobrunr_storage_mongo::mongodb::bson::{Document, doc};
use jobrunr_storage_mongo::{EnqueueIn, MongoStorage};
use serde::{Deserialize, Serialize};
use storage_conformance_tests::TestDatabase;

use crate::support::{Fresh, Mongo};

#[derive(Serialize, Deserialize)]
struct SendInvoice {}

impl JobRequest for SendInvoice {
    const JOB_TYPE: &'static str = "send-invoice";
}

/// A storage on a client of the application's.
async fn storage_on(fresh: &Fresh, client: &Client) -> MongoStorage {
    let storage = MongoStorage::with_client(client.clone(), fresh.options(None)).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage
}

#[tokio::test]
async fn a_job_and_an_order_of_one_transaction_are_both_there_or_neither() {
    let Some(fresh) = Mongo::ReplicaSet.fresh().await else { return };
    let client = fresh.client().clone();
    let storage = storage_on(&fresh, &client).await;
    let scheduler = JobScheduler::new(Arc::new(storage.clone()));
    let orders = fresh.database().collection::<Document>("orders");
    fresh.database().create_collection("orders").await.unwrap();
    let waiting = JobQuery::in_state(StateName::Enqueued);

    let mut session = client.start_session().await.unwrap();
    for (item, is_kept, expected) in [("book", true, 1), ("lamp", false, 1), ("chair", true, 2)] {
        session.start_transaction().await.unwrap();
        orders.insert_one(doc! { "item": item }).session(&mut session).await.unwrap();
        let id = scheduler.enqueue_in(&mut session, SendInvoice {}).await.unwrap();
        let before = storage.find_job(id).await.unwrap();
        if is_kept {
            session.commit_transaction().await.unwrap();
        } else {
            session.abort_transaction().await.unwrap();
        }

        assert_eq!(before, None, "nobody sees it before the commit");
        assert_eq!(storage.find_job(id).await.unwrap().is_some(), is_kept);
        assert_eq!(storage.count_jobs(&waiting).await.unwrap(), expected);
        assert_eq!(orders.count_documents(doc! {}).await.unwrap(), expected);
    }

    storage.close().await;
    assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 2, "the client is still the application's");
    fresh.destroy().await;
}

#[tokio::test]
async fn a_server_without_transactions_says_so() {
    let Some(fresh) = Mongo::StandAlone.fresh().await else { return };
    let client = fresh.client().clone();
    let storage = storage_on(&fresh, &client).await;
    let scheduler = JobScheduler::new(Arc::new(storage.clone()));

    let mut session = client.start_session().await.unwrap();
    let refused = scheduler.enqueue_in(&mut session, SendInvoice {}).await;

    let is_told = matches!(&refused, Err(SchedulerError::Storage(StorageError::Unsupported { what, .. })) if what.contains("replica set"));
    assert!(is_told, "{refused:?}");
    storage.close().await;
    fresh.destroy().await;
}
