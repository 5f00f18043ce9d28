//! Jobs in the user's own transaction, made by a scheduler.

use std::sync::Arc;

use jobrunr_core::storage::{JobSearch, JobStore, SetUp, StorageProvider};
use jobrunr_core::{JobRequest, JobScheduler, MemoryStorage, StateName};
use jobrunr_storage_mysql::EnqueueIn;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, Executor};

use crate::support::{Database, url};

#[derive(Serialize, Deserialize)]
struct SendInvoice {
    order: u32,
}

impl JobRequest for SendInvoice {
    const JOB_TYPE: &'static str = "send-invoice";
}

#[tokio::test]
async fn a_job_shares_the_fate_of_the_transaction_it_was_enqueued_in() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = database.open_mysql(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let scheduler = JobScheduler::new(Arc::new(storage.clone()));
    let mut connection = database.connection().await.unwrap();
    connection.execute("CREATE TABLE orders (id INT PRIMARY KEY)").await.unwrap();

    let mut ids = Vec::new();
    for order in [1, 2] {
        let mut transaction = connection.begin().await.unwrap();
        let insert = sqlx::query("INSERT INTO orders VALUES (?)").bind(order);
        transaction.execute(insert).await.unwrap();
        ids.push(scheduler.enqueue_in(&mut transaction, SendInvoice { order }).await.unwrap());
        assert_eq!(storage.job_counts().await.unwrap().total(), 0, "nobody sees it before the commit");
        if order == 2 {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
    }

    assert_eq!(storage.find_job(ids[0]).await.unwrap(), None);
    let job = storage.find_job(ids[1]).await.unwrap().unwrap();
    assert_eq!((job.state_name(), job.signature().as_str()), (StateName::Enqueued, "send-invoice"));
    storage.close().await;
    database.drop().await;
}

#[tokio::test]
async fn a_scheduler_on_another_storage_is_told_so() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let scheduler = JobScheduler::new(Arc::new(MemoryStorage::new()));
    let mut connection = database.connection().await.unwrap();

    let error = scheduler.enqueue_in(&mut connection, SendInvoice { order: 1 }).await.unwrap_err();

    assert!(error.to_string().contains("memory"), "{error}");
    database.drop().await;
}
