//! Setting up: many at once, by hand, from an older schema, and after an end in the middle.

use jobrunr_core::storage::{JobSearch, JobStore, SetUp, StorageError, StorageExt, StorageProvider};
use jobrunr_core::{Failure, FailureKind, JsonText};
use jobrunr_storage_mysql::MySqlStorage;
use sqlx::Row;

use crate::jobs::{a_claim, at, enqueued_jobs};
use crate::support::{Database, url};

async fn has_index(database: &Database, index: &str) -> bool {
    let sql = format!(
        "SELECT count(*) FROM information_schema.statistics WHERE table_schema = '{}' AND index_name = '{index}'",
        database.name
    );
    let count: i64 = database.rows(&sql).await.unwrap()[0].try_get_unchecked(0).unwrap();
    count > 0
}

/// Makes the schema what it was before its latest migration.
async fn make_older(database: &Database) {
    database.execute("ALTER TABLE jobrunr_job DROP INDEX created").await.unwrap();
    database.execute("DELETE FROM jobrunr_migration WHERE number = 3").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_may_start_at_once() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let mut storages = Vec::new();
    for _ in 0..8 {
        storages.push(database.open_mysql(None).await.unwrap());
    }

    let starts = storages.iter().map(|storage| storage.set_up(SetUp::Migrate));
    let results = futures_util::future::join_all(starts).await;

    assert!(results.iter().all(Result::is_ok), "{results:?}");
    for storage in storages {
        storage.set_up(SetUp::Validate).await.unwrap();
        storage.insert_jobs(&enqueued_jobs(1)).await.unwrap();
        storage.close().await;
    }
    database.drop().await;
}

#[tokio::test]
async fn the_exported_schema_is_all_that_validation_asks_for() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = database.open_mysql(Some("app_")).await.unwrap();
    assert!(matches!(storage.set_up(SetUp::Validate).await, Err(StorageError::SchemaMismatch { .. })));

    database.execute(&MySqlStorage::export_schema("app_").unwrap()).await.unwrap();

    storage.set_up(SetUp::Validate).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.insert_jobs(&enqueued_jobs(1)).await.unwrap();
    storage.close().await;
    database.drop().await;
}

#[tokio::test]
async fn an_older_schema_is_migrated_with_its_data() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = database.open_mysql(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.insert_jobs(&enqueued_jobs(30)).await.unwrap();
    let mut claimed = storage.claim_jobs(&a_claim(20)).await.unwrap();
    for (index, job) in claimed.iter_mut().enumerate() {
        if index % 2 == 0 {
            job.succeed(Some(JsonText::of(&index).unwrap()), at(20)).unwrap();
        } else {
            job.fail(Failure::new(FailureKind::Error, "no"), at(20)).unwrap();
        }
    }
    assert_eq!(storage.save_all(&mut claimed).await.unwrap(), []);
    let counts = storage.job_counts().await.unwrap();
    make_older(&database).await;

    let error = storage.set_up(SetUp::Validate).await.unwrap_err();
    assert!(error.to_string().contains("migration 3"), "{error}");
    storage.set_up(SetUp::Migrate).await.unwrap();

    assert!(has_index(&database, "created").await);
    assert_eq!(storage.job_counts().await.unwrap(), counts);
    for job in claimed {
        assert_eq!(storage.find_job(job.id()).await.unwrap(), Some(job));
    }
    storage.close().await;
    database.drop().await;
}

#[tokio::test]
async fn a_migration_that_ended_in_the_middle_is_gone_on_with() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = database.open_mysql(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    // The index was made, and then the process ended before it could note that.
    database
        .execute("UPDATE jobrunr_migration SET statements_made = 0, applied_at = NULL WHERE number = 3")
        .await
        .unwrap();

    assert!(storage.set_up(SetUp::Validate).await.is_err());
    storage.set_up(SetUp::Migrate).await.unwrap();

    storage.set_up(SetUp::Validate).await.unwrap();
    assert!(has_index(&database, "created").await);
    storage.close().await;
    database.drop().await;
}

#[tokio::test]
async fn a_column_that_somebody_removed_is_found_by_validation() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = database.open_mysql(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    database.execute("ALTER TABLE jobrunr_job DROP COLUMN has_metadata").await.unwrap();

    let error = storage.set_up(SetUp::Validate).await.unwrap_err();

    assert!(matches!(error, StorageError::SchemaMismatch { .. }), "{error:?}");
    storage.close().await;
    database.drop().await;
}
