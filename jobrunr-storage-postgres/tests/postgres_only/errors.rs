//! What cannot work is told clearly, and never with the password.

use std::error::Error;
use std::time::Duration;

use jobrunr_core::storage::{JobSearch, SetUp, StorageError, StorageProvider};
use jobrunr_storage_postgres::{PostgresOptions, PostgresStorage};

use crate::support::private_server::PrivateServer;
use crate::support::{Place, Schema, url};

/// The error and everything behind it, as people and as programmers see it.
fn everything_said_by(error: &StorageError) -> String {
    let mut said = String::new();
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        said.push_str(&format!("{error} {error:?}\n"));
        cause = error.source();
    }
    said
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_shown() {
    if url().is_none() {
        return;
    }
    let Some(server) = PrivateServer::start().await.unwrap() else { return };

    let refused = PostgresStorage::connect(&server.url_with_password("hunter2")).await.unwrap_err();

    let said = everything_said_by(&refused);
    assert!(matches!(refused, StorageError::Backend { .. }), "{said}");
    assert!(said.contains("password authentication failed") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_unavailable() {
    for url in ["postgres://app:hunter2@127.0.0.1:1/app", "postgres://app:hunter2@no-such-host.invalid/app"] {
        let options = PostgresOptions::default().connect_timeout(Duration::from_secs(2));

        let refused = PostgresStorage::connect_with(url, options).await.unwrap_err();

        let said = everything_said_by(&refused);
        assert!(refused.is_retryable(), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_host_that_swallows_everything_is_given_up_in_time() {
    // Nobody answers here, though connecting works.
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("postgres://app:hunter2@127.0.0.1:{}/app", silent.local_addr().unwrap().port());
    let options = PostgresOptions::default().connect_timeout(Duration::from_millis(200));

    let refused = PostgresStorage::connect_with(&url, options).await.unwrap_err();

    let said = everything_said_by(&refused);
    assert!(refused.is_retryable() && said.contains("did not answer") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn tables_that_are_not_set_up_are_a_schema_mismatch() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();

    let refused = storage.job_counts().await.unwrap_err();

    assert!(matches!(refused, StorageError::SchemaMismatch { .. }), "{refused:?}");
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn a_hostile_prefix_or_schema_is_refused_before_anything_is_asked() {
    for hostile in ["x\"; DROP SCHEMA public; --", "Ünïcode", "a b"] {
        for options in
            [PostgresOptions::default().table_prefix(hostile), PostgresOptions::default().schema(hostile)]
        {
            let refused =
                PostgresStorage::connect_with("postgres://127.0.0.1:1/x", options).await.unwrap_err();

            assert!(matches!(refused, StorageError::Unsupported { .. }), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_unavailable_and_leaves_a_storage_that_works() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let options = schema.options(None).call_timeout(Duration::from_millis(300)).without_listener();
    let storage = PostgresStorage::connect_with(&schema.url(), options).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let pool = sqlx::PgPool::connect(&schema.url()).await.unwrap();
    let mut blocking = pool.begin().await.unwrap();
    let lock = format!("LOCK TABLE {}.jobrunr_job IN ACCESS EXCLUSIVE MODE", schema.name);
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut *blocking).await.unwrap();

    let stuck = storage.job_counts().await.unwrap_err();

    assert!(stuck.is_retryable(), "{stuck:?}");
    blocking.rollback().await.unwrap();
    assert_eq!(storage.job_counts().await.unwrap().total(), 0);
    storage.close().await;
    pool.close().await;
    schema.drop_schema().await;
}
