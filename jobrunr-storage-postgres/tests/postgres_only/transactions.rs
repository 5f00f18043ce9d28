//! Jobs in a transaction of the caller's, by way of the scheduler, on a pool that belongs to the application.

use std::sync::Arc;

use jobrunr_core::storage::{JobSearch, SetUp, StorageProvider};
use jobrunr_core::{JobBuilder, JobRequest, JobScheduler, MemoryStorage, SchedulerError};
use jobrunr_storage_postgres::{EnqueueIn, PostgresStorage};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

use crate::support::{Place, Schema, url};

#[derive(Serialize, Deserialize)]
struct Greet {}

impl JobRequest for Greet {
    const JOB_TYPE: &'static str = "greet";
}

#[tokio::test]
async fn a_job_lives_and_dies_with_the_transaction_it_was_enqueued_in() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    // One connection is enough: nothing but the transaction is needed while it is open.
    let pool = PgPoolOptions::new().max_connections(1).connect(&schema.url()).await.unwrap();
    let storage = PostgresStorage::with_pool(pool.clone(), schema.options(None)).unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let scheduler = JobScheduler::new(Arc::new(storage.clone()));
    storage.job_counts().await.unwrap();
    // The scheduler asks for the time once in a while, on a connection of its own.
    scheduler.prepare(JobBuilder::new(Greet {})).await.unwrap();

    let mut transaction = pool.begin().await.unwrap();
    scheduler.enqueue_in(&mut transaction, Greet {}).await.unwrap();
    transaction.rollback().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let id = scheduler.enqueue_in(&mut transaction, Greet {}).await.unwrap();
    let labelled = JobBuilder::new(Greet {}).labels(["urgent"]).metadata("by", "somebody");
    let other = scheduler.create_in(&mut transaction, labelled).await.unwrap();
    transaction.commit().await.unwrap();

    assert_eq!(storage.job_counts().await.unwrap().total(), 2);
    let listed = storage.list_jobs(&Default::default()).await.unwrap();
    assert_eq!(listed.iter().map(jobrunr_core::Job::id).collect::<Vec<_>>(), [id, other]);
    storage.close().await;
    assert!(!pool.is_closed(), "the pool is the application's");
    pool.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn a_scheduler_on_another_storage_says_that_it_cannot() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let pool = sqlx::PgPool::connect(&schema.url()).await.unwrap();
    let scheduler = JobScheduler::new(Arc::new(MemoryStorage::new()));
    let mut transaction = pool.begin().await.unwrap();

    let refused = scheduler.enqueue_in(&mut transaction, Greet {}).await.unwrap_err();

    assert!(matches!(refused, SchedulerError::Storage(_)), "{refused:?}");
    transaction.rollback().await.unwrap();
    pool.close().await;
}
