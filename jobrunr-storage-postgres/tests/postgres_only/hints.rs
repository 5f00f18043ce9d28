//! LISTEN and NOTIFY beyond what the suite asks for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::storage::{Change, ChangeStream, JobStore, SetUp, StorageProvider};
use jobrunr_core::{Job, JobScheduler};
use jobrunr_server::BackgroundJobServer;
use jobrunr_storage_postgres::PostgresStorage;
use sqlx::postgres::PgListener;
use sqlx::{Connection, PgConnection};

use crate::support::{Place, Schema, url};
use crate::{Greet, Greeter, an_enqueued_job, an_enqueued_job_in};

const PATIENCE: Duration = Duration::from_secs(15);

async fn next(changes: &mut ChangeStream) -> Change {
    tokio::time::timeout(PATIENCE, changes.next()).await.expect("a hint comes").expect("the feed goes on")
}

/// A connection that hears what is told on the channel of a schema, as it is told.
async fn listening(schema: &Schema) -> PgListener {
    let mut listener = PgListener::connect(&schema.url()).await.unwrap();
    let channel = format!("SELECT 'jobrunr_' || '{}.jobrunr_job'::regclass::oid", schema.name);
    let channel: String =
        sqlx::query_scalar(sqlx::AssertSqlSafe(channel)).fetch_one(&mut listener).await.unwrap();
    listener.listen(&channel).await.unwrap();
    listener
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_inserts_give_at_most_one_notification_a_queue_and_10_ms() {
    const QUEUES: [&str; 2] = ["default", "other"];
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let writer = schema.open_postgres(None).await.unwrap();
    writer.set_up(SetUp::Migrate).await.unwrap();
    let mut listener = listening(&schema).await;

    let begun = std::time::Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let writer = writer.clone();
        callers.spawn(async move {
            for number in 0..50 {
                let queue = QUEUES[number % QUEUES.len()].parse().unwrap();
                writer.insert_jobs(&[an_enqueued_job_in(queue)]).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    // What is left to be told is told before it is closed.
    writer.close().await;
    let most = QUEUES.len() * usize::try_from(begun.elapsed().as_millis() / 10 + 2).unwrap();
    let channel =
        format!("SELECT pg_notify('jobrunr_' || '{}.jobrunr_job'::regclass::oid, 'end')", schema.name);
    schema.execute(&channel).await.unwrap();

    let mut told = Vec::new();
    loop {
        let notification =
            tokio::time::timeout(PATIENCE, listener.recv()).await.expect("an end comes").unwrap();
        match notification.payload().split_once(' ') {
            Some((_, text)) => told.push(text.to_owned()),
            None => break,
        }
    }
    for queue in QUEUES {
        assert!(told.contains(&format!("ready {queue}")), "{told:?}");
    }
    assert!(told.len() <= most && most < 2_000, "{} notifications, at most {most}", told.len());
    schema.drop_schema().await;
}

#[tokio::test]
async fn who_hears_a_hint_sees_the_job() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let writer = schema.open_postgres(None).await.unwrap();
    writer.set_up(SetUp::Migrate).await.unwrap();
    let mut own = writer.changes().unwrap().subscribe();
    assert_eq!(next(&mut own).await, Change::Resync, "it listens");
    let mut listener = listening(&schema).await;
    let pool = sqlx::PgPool::connect(&schema.url()).await.unwrap();
    let job_of = format!("SELECT count(*) FROM {}.jobrunr_job WHERE id = $1", schema.name);
    let sees = async |job: &Job| -> i64 {
        let id = uuid::Uuid::from(job.id());
        let sees = sqlx::query_scalar(sqlx::AssertSqlSafe(job_of.clone()));
        sees.bind(id).fetch_one(&pool).await.unwrap()
    };

    for number in 0..50 {
        let job = an_enqueued_job();
        let insert = async {
            if number % 2 == 0 {
                writer.insert_jobs(std::slice::from_ref(&job)).await.unwrap();
            } else {
                let mut transaction = pool.begin().await.unwrap();
                writer.insert_in(&mut transaction, std::slice::from_ref(&job)).await.unwrap();
                transaction.commit().await.unwrap();
            }
        };
        let elsewhere = async {
            tokio::time::timeout(PATIENCE, listener.recv()).await.expect("a hint comes").unwrap();
            sees(&job).await
        };
        let here = async {
            next(&mut own).await;
            sees(&job).await
        };
        let ((), elsewhere, here) = tokio::join!(insert, elsewhere, here);
        assert_eq!((elsewhere, here), (1, 1), "round {number}");
    }
    pool.close().await;
    writer.close().await;
    schema.drop_schema().await;
}

/// How often a server looks for work that nobody tells it of.
const POLL: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_whose_notification_is_lost_is_found_by_looking() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    // Nobody is there to be listened to, so that the server waits for hints that never come.
    let options = schema.options(None).listen_url("postgres://nobody@127.0.0.1:1/nothing");
    let deaf = Arc::new(PostgresStorage::connect_with(&schema.url(), options).await.unwrap());
    deaf.set_up(SetUp::Migrate).await.unwrap();
    assert!(deaf.changes().is_some(), "a server believes that it hears hints");
    let (ran, mut runs) = tokio::sync::mpsc::unbounded_channel();
    let server = BackgroundJobServer::builder(deaf).poll_interval(POLL).handle::<Greet, _>(Greeter { ran });
    let server = server.start().await.unwrap();
    let scheduler = JobScheduler::new(Arc::new(schema.open_postgres(None).await.unwrap()));

    for _ in 0..3 {
        scheduler.enqueue(Greet {}).await.unwrap();
        tokio::time::timeout(PATIENCE, runs.recv()).await.expect("the job runs").unwrap();
        // Past the look that follows a run, so that what comes next is not found by that one.
        tokio::time::sleep(POLL / 2).await;
    }

    server.stop().await;
    scheduler.storage().close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn who_does_not_listen_still_tells_others() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let options = schema.options(None).without_listener();
    let deaf = PostgresStorage::connect_with(&schema.url(), options).await.unwrap();
    deaf.set_up(SetUp::Migrate).await.unwrap();
    let hearing = schema.open_postgres(None).await.unwrap();
    let mut changes = hearing.changes().unwrap().subscribe();
    assert_eq!(next(&mut changes).await, Change::Resync, "it listens");

    deaf.insert_jobs(&[an_enqueued_job()]).await.unwrap();

    assert_eq!(next(&mut changes).await, Change::JobsReady { queue: "default".parse().unwrap() });
    deaf.close().await;
    hearing.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn a_storage_that_was_dropped_without_being_closed_listens_no_more() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url.clone(), Place::NamedSchema).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let mut changes = storage.changes().unwrap().subscribe();
    assert_eq!(next(&mut changes).await, Change::Resync, "it listens");
    let channels =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN%'";
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let listening =
        async || -> i64 { sqlx::query_scalar(channels).bind(&schema.name).fetch_one(&pool).await.unwrap() };
    assert_eq!(listening().await, 1);

    // Nobody tells it anything any more.
    drop(storage);

    let gone = async { while listening().await > 0 {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("the listener ends");
    assert_eq!(tokio::time::timeout(PATIENCE, changes.next()).await.expect("the stream ends"), None);
    pool.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn hints_go_where_the_tables_are_though_a_caller_s_search_path_begins_elsewhere() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url.clone(), Place::SearchPath).await.unwrap();
    let elsewhere = Schema::create(url, Place::SearchPath).await.unwrap();
    let writer = schema.open_postgres(None).await.unwrap();
    writer.set_up(SetUp::Migrate).await.unwrap();
    let hearing = schema.open_postgres(None).await.unwrap();
    let mut changes = hearing.changes().unwrap().subscribe();
    assert_eq!(next(&mut changes).await, Change::Resync, "it listens");
    let mut caller = PgConnection::connect(&schema.url()).await.unwrap();
    let path = format!("SET search_path = {}, {}", elsewhere.name, schema.name);
    sqlx::raw_sql(sqlx::AssertSqlSafe(path)).execute(&mut caller).await.unwrap();

    writer.insert_in(&mut caller, &[an_enqueued_job_in("first".parse().unwrap())]).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::JobsReady { queue: "first".parse().unwrap() });
    writer.insert_jobs(&[an_enqueued_job_in("second".parse().unwrap())]).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::JobsReady { queue: "second".parse().unwrap() });

    caller.close().await.unwrap();
    writer.close().await;
    hearing.close().await;
    schema.drop_schema().await;
    elsewhere.drop_schema().await;
}
