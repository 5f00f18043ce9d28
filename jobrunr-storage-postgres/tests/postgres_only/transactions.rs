//! Jobs in a transaction of the caller's, by way of the scheduler, on a pool that belongs to the application.

use std::sync::Arc;

use futures_util::StreamExt;
use jobrunr_core::storage::{Change, JobSearch, JobStore, SetUp, StorageProvider};
use jobrunr_core::{Job, JobBuilder, JobScheduler, MemoryStorage, QueueName, SchedulerError};
use jobrunr_server::BackgroundJobServer;
use jobrunr_storage_postgres::{EnqueueIn, PostgresStorage};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, raw_sql};

use crate::setting::soon;
use crate::support::{Place, Schema, url};
use crate::{Greet, Greeter, an_enqueued_job, an_enqueued_job_of};

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

#[tokio::test]
async fn subscribers_of_the_storage_itself_hear_of_jobs_when_the_transaction_commits() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let mut changes = storage.changes().unwrap().subscribe();
    assert_eq!(soon("it listens", changes.next()).await, Some(Change::Resync));
    let mut connection = PgConnection::connect(&schema.url()).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();

    storage.insert_in(&mut transaction, &[an_enqueued_job()]).await.unwrap();
    assert_eq!(futures_util::poll!(changes.next()), std::task::Poll::Pending, "nothing has happened yet");
    transaction.commit().await.unwrap();

    let heard = soon("a hint comes", changes.next()).await;
    assert_eq!(heard, Some(Change::JobsReady { queue: QueueName::default() }));
    connection.close().await.unwrap();
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_the_storage_of_the_scheduler_runs_the_job_soon_after_the_commit() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let storage = Arc::new(schema.open_postgres(None).await.unwrap());
    storage.set_up(SetUp::Migrate).await.unwrap();
    let scheduler = JobScheduler::new(Arc::clone(&storage) as Arc<dyn StorageProvider>);
    let mut changes = storage.changes().unwrap().subscribe();
    assert_eq!(soon("it listens", changes.next()).await, Some(Change::Resync));
    let (ran, mut runs) = tokio::sync::mpsc::unbounded_channel();
    // So that nothing but a hint has it look in time.
    let never = std::time::Duration::from_secs(600);
    let server = BackgroundJobServer::builder(Arc::clone(&storage) as Arc<dyn StorageProvider>)
        .poll_interval(never)
        .handle::<Greet, _>(Greeter { ran });
    let server = server.start().await.unwrap();
    // It looked when it began, and again after each run.
    scheduler.enqueue(Greet {}).await.unwrap();
    soon("the first job runs", runs.recv()).await.unwrap();
    let mut connection = PgConnection::connect(&schema.url()).await.unwrap();

    for _ in 0..3 {
        let mut transaction = connection.begin().await.unwrap();
        scheduler.enqueue_in(&mut transaction, Greet {}).await.unwrap();
        transaction.commit().await.unwrap();
        soon("the job runs", runs.recv()).await.unwrap();
    }

    server.stop().await;
    connection.close().await.unwrap();
    storage.close().await;
    schema.drop_schema().await;
}

/// A schema in which the types "mail" and "letter" have been seen, and a storage in whose process they have not.
async fn known_types() -> Option<(Schema, PostgresStorage)> {
    let schema = Schema::create(url()?, Place::NamedSchema).await.unwrap();
    let first = schema.open_postgres(None).await.unwrap();
    first.set_up(SetUp::Migrate).await.unwrap();
    first.insert_jobs(&[job_of("mail"), job_of("letter")]).await.unwrap();
    first.close().await;
    let storage = schema.open_postgres(None).await.unwrap();
    Some((schema, storage))
}

fn job_of(signature: &str) -> Job {
    an_enqueued_job_of(signature, QueueName::default())
}

#[tokio::test]
async fn open_transactions_that_enqueue_known_types_do_not_wait_for_each_other() {
    let Some((schema, storage)) = known_types().await else { return };
    let mut connections = Vec::new();
    for _ in 0..2 {
        connections.push(PgConnection::connect(&schema.url()).await.unwrap());
    }
    let [one, other] = &mut connections[..] else { unreachable!() };
    let (mut one, mut other) = (one.begin().await.unwrap(), other.begin().await.unwrap());

    // In opposite orders, so that they would wait for each other for ever.
    for (signature, opposite) in [("mail", "letter"), ("letter", "mail")] {
        soon("no wait", storage.insert_in(&mut one, &[job_of(signature)])).await.unwrap();
        soon("no wait", storage.insert_in(&mut other, &[job_of(opposite)])).await.unwrap();
    }

    one.commit().await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(storage.job_counts().await.unwrap().total(), 6);
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn an_open_transaction_of_a_known_type_does_not_hold_up_processes_that_begin() {
    let Some((schema, storage)) = known_types().await else { return };
    let mut connection = PgConnection::connect(&schema.url()).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    storage.insert_in(&mut transaction, &[job_of("mail")]).await.unwrap();
    let other = schema.open_postgres(None).await.unwrap();

    soon("no wait", other.insert_jobs(&[job_of("mail")])).await.unwrap();

    transaction.commit().await.unwrap();
    other.close().await;
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn known_types_are_enqueued_in_a_transaction_that_keeps_seeing_one_moment() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let Some((schema, storage)) = known_types().await else { return };
        let mut connection = PgConnection::connect(&schema.url()).await.unwrap();
        let begin =
            format!("BEGIN ISOLATION LEVEL {level}; SELECT 1 FROM {}.jobrunr_lane LIMIT 1", schema.name);
        raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut connection).await.unwrap();
        // Another process meets the same type for the first time.
        let other = schema.open_postgres(None).await.unwrap();
        other.insert_jobs(&[job_of("mail")]).await.unwrap();

        storage.insert_in(&mut connection, &[job_of("mail")]).await.unwrap();

        raw_sql("COMMIT").execute(&mut connection).await.unwrap();
        assert_eq!(storage.job_counts().await.unwrap().total(), 4, "{level}");
        other.close().await;
        storage.close().await;
        schema.drop_schema().await;
    }
}

#[tokio::test]
async fn a_type_that_was_first_seen_in_what_was_rolled_back_is_not_taken_for_known() {
    let Some((schema, storage)) = known_types().await else { return };
    let mut connection = PgConnection::connect(&schema.url()).await.unwrap();

    let mut transaction = connection.begin().await.unwrap();
    for _ in 0..2 {
        // Twice each, so that the second one finds what the first has added.
        let mut savepoint = transaction.begin().await.unwrap();
        storage.insert_in(&mut savepoint, &[job_of("parcel")]).await.unwrap();
        storage.insert_in(&mut savepoint, &[job_of("parcel")]).await.unwrap();
        savepoint.rollback().await.unwrap();
    }
    storage.insert_in(&mut transaction, &[job_of("parcel")]).await.unwrap();
    transaction.rollback().await.unwrap();
    storage.insert_jobs(&[job_of("parcel")]).await.unwrap();

    // What this process remembers, another one must find.
    let other = schema.open_postgres(None).await.unwrap();
    let listed = other.list_jobs(&Default::default()).await.unwrap();
    assert_eq!(listed.iter().filter(|job| job.signature().as_str() == "parcel").count(), 1);
    other.close().await;
    storage.close().await;
    schema.drop_schema().await;
}
