//! Connecting: what is refused, and that no error shows a password; connections of the user's own.

use std::error::Error;
use std::time::Duration;

use chrono::TimeDelta;
use jobrunr_core::clock::{Clock, SystemClock};
use jobrunr_core::storage::{JobStore, ServerStore, SetUp, StorageError, StorageProvider};
use jobrunr_storage_mysql::{Flavor, MySqlOptions, MySqlStorage};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{Executor, Row};

use crate::jobs::{a_claim, an_announcement, enqueued_jobs};
use crate::support::{Database, url};

const SECRET: &str = "correct-horse-battery";

/// Everything that an error shows in any way.
fn shown(error: &StorageError) -> String {
    let mut shown = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        shown.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    shown
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_one_without_being_shown() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();

    let options = MySqlOptions::connect_with(database.connect().password(SECRET));
    let error = MySqlStorage::open(options).await.unwrap_err();

    assert!(matches!(error, StorageError::Backend { .. }), "{error:?}");
    assert!(shown(&error).contains("the user or the password"), "{}", shown(&error));
    assert!(!shown(&error).contains(SECRET));
    database.drop().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    // Port 9 of the loopback interface: nobody listens there.
    let url = format!("mysql://user:{SECRET}@127.0.0.1:9/database");

    let error = MySqlStorage::connect(&url).await.unwrap_err();

    assert!(error.is_retryable(), "{error:?}");
    assert!(shown(&error).contains("look whether the server runs"), "{}", shown(&error));
    assert!(!shown(&error).contains(SECRET));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable_after_the_timeout() {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("mysql://user:{SECRET}@{}/database", silent.local_addr().unwrap());

    let options = MySqlOptions::parse(&url).unwrap().connect_timeout(Duration::from_millis(50));
    let error = MySqlStorage::open(options).await.unwrap_err();

    assert!(error.is_retryable() && !shown(&error).contains(SECRET), "{}", shown(&error));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_as_the_trouble() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    database.drop().await;

    let error = database.open_mysql(None).await.unwrap_err();

    assert!(shown(&error).contains("no such database"), "{}", shown(&error));
}

#[tokio::test]
async fn a_hostile_prefix_is_refused_before_anything_is_done() {
    for prefix in ["\"; drop table x; --", "`; drop table x; --", "App", "a b", "x\u{0}"] {
        let options = MySqlOptions::parse("mysql://user@127.0.0.1:9/database").unwrap().table_prefix(prefix);

        let error = MySqlStorage::open(options).await.unwrap_err();

        assert!(matches!(error, StorageError::Unsupported { .. }), "{prefix:?}: {error:?}");
        assert!(MySqlStorage::export_schema(prefix).is_err());
    }
}

#[tokio::test]
async fn payloads_larger_than_the_server_takes_are_refused_at_once() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();

    let error = MySqlStorage::open(database.options().max_payload_bytes(usize::MAX / 4)).await.unwrap_err();

    assert!(shown(&error).contains("max_allowed_packet"), "{}", shown(&error));
    database.drop().await;
}

#[tokio::test]
async fn a_pool_of_the_user_is_used_as_it_is_and_left_open() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let pool = MySqlPoolOptions::new().max_connections(3).connect_with(database.connect()).await.unwrap();

    let storage = MySqlStorage::open(MySqlOptions::with_pool(pool.clone())).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.insert_jobs(&enqueued_jobs(10)).await.unwrap();
    assert_eq!(storage.claim_jobs(&a_claim(10)).await.unwrap().len(), 10);
    storage.close().await;

    assert!(matches!(storage.claim_jobs(&a_claim(1)).await, Err(StorageError::Closed { .. })));
    let row = pool.fetch_one("SELECT CAST(@@transaction_isolation AS CHAR)").await;
    let isolation = match row {
        Ok(row) => row.get::<String, _>(0),
        // MariaDB before 11.1 calls it by its old name.
        Err(_) => pool.fetch_one("SELECT CAST(@@tx_isolation AS CHAR)").await.unwrap().get(0),
    };
    assert_eq!(isolation, "REPEATABLE-READ", "sessions of the user are left as they are");
    pool.close().await;
    database.drop().await;
}

#[tokio::test]
async fn the_time_zone_of_a_session_changes_no_time() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let pool = MySqlPoolOptions::new()
        .max_connections(3)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute("SET time_zone = '+05:00'").await?;
                Ok(())
            })
        })
        .connect_with(database.connect())
        .await
        .unwrap();
    let far_east = MySqlStorage::open(MySqlOptions::with_pool(pool.clone())).await.unwrap();
    far_east.set_up(SetUp::Migrate).await.unwrap();
    let in_utc = database.open_mysql(None).await.unwrap();
    let minute = TimeDelta::minutes(1);

    let jobs = enqueued_jobs(2);
    far_east.insert_jobs(&jobs[..1]).await.unwrap();
    in_utc.insert_jobs(&jobs[1..]).await.unwrap();
    let announced_at = far_east.announce_server(&an_announcement()).await.unwrap();

    let told_at = far_east.storage_time().await.unwrap();
    assert!((SystemClock.now() - told_at).abs() < minute, "{told_at} is UTC");
    assert!((announced_at - told_at).abs() < minute, "{announced_at} is UTC");
    for job in jobs {
        assert_eq!(far_east.find_job(job.id()).await.unwrap().as_ref(), Some(&job));
        assert_eq!(in_utc.find_job(job.id()).await.unwrap(), Some(job));
    }
    for storage in [&far_east, &in_utc] {
        assert_eq!(storage.list_servers().await.unwrap()[0].first_heartbeat_at, announced_at);
    }
    far_east.close().await;
    in_utc.close().await;
    pool.close().await;
    database.drop().await;
}

#[tokio::test]
async fn the_storage_knows_which_database_it_is_on() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let said: String =
        database.rows("SELECT version()").await.unwrap()[0].try_get_unchecked::<String, _>(0).unwrap();

    let storage = database.open_mysql(None).await.unwrap();

    let version = storage.server_version();
    assert_eq!(version.flavor == Flavor::MariaDb, said.contains("MariaDB"));
    assert!(said.starts_with(&format!("{}.{}.", version.major, version.minor)), "{said}");
    storage.close().await;
    database.drop().await;
}
