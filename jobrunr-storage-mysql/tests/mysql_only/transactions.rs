//! Jobs in the user's own transaction, made by a scheduler.

use std::sync::Arc;

use jobrunr_core::storage::{JobSearch, JobStore, SetUp, StorageError, StorageProvider};
use jobrunr_core::{JobRequest, JobScheduler, JobState, MemoryStorage, StateName};
use jobrunr_storage_mysql::{EnqueueIn, MySqlStorage};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, Executor};

use crate::jobs::{a_job, a_server, at, enqueued_jobs};
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

#[tokio::test]
async fn a_transaction_that_has_read_before_sees_the_queues_and_servers_that_others_added_since() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    database.execute(&MySqlStorage::export_schema("").unwrap()).await.unwrap();
    let server = a_server();
    let mut jobs = [a_job(JobState::enqueued()), a_job(JobState::enqueued())];
    jobs.iter_mut().for_each(|job| job.start_processing(&server, at(1)).unwrap());
    let [earlier, job] = jobs;
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let tables = "DELETE FROM jobrunr_job; DELETE FROM jobrunr_lane; DELETE FROM jobrunr_server_name";
        database.execute(tables).await.unwrap();
        // Neither knows a number yet.
        let other = database.open_mysql(None).await.unwrap();
        let storage = database.open_mysql(None).await.unwrap();
        let mut connection = database.connection().await.unwrap();
        let set = format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}");
        connection.execute(sqlx::AssertSqlSafe(set)).await.unwrap();

        let mut transaction = connection.begin().await.unwrap();
        transaction.execute("SELECT count(*) FROM jobrunr_recurring_job").await.unwrap();
        other.insert_jobs(std::slice::from_ref(&earlier)).await.unwrap();
        let report = storage.insert_in(&mut transaction, std::slice::from_ref(&job)).await.unwrap();
        transaction.commit().await.unwrap();

        assert_eq!(report.already_present, [], "{isolation}");
        assert_eq!(storage.find_job(job.id()).await.unwrap().as_ref(), Some(&job), "{isolation}");
        connection.close().await.unwrap();
        other.close().await;
        storage.close().await;
    }
    database.drop().await;
}

#[tokio::test]
async fn without_a_transaction_jobs_that_are_there_are_an_error() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = database.open_mysql(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let jobs = enqueued_jobs(9);
    storage.insert_jobs(&jobs[8..]).await.unwrap();
    let mut connection = database.connection().await.unwrap();

    let error = storage.insert_in(&mut connection, &jobs).await.unwrap_err();

    assert!(matches!(error, StorageError::Backend { .. }), "{error:?}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("begin it first"), "{source}");
    connection.close().await.unwrap();
    storage.close().await;
    database.drop().await;
}
