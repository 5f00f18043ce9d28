//! The conformance suite on the storage of the example `custom_storage`, as a third party would run it on its own.

#[path = "../examples/custom_storage.rs"]
#[allow(dead_code, reason = "the suite takes the storage without the program")]
mod custom_storage;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use custom_storage::{JOBS, RedbStorage, SCHEMA};
use jobrunr::JobId;
use jobrunr::storage::{BoxError, StorageError, StorageProvider};
use redb::{Database, ReadableTable};
use storage_conformance_tests::{
    Ability, NoDatabase, RowFaults, SchemaFaults, StorageHarness, TestDatabase, conformance_tests,
};

conformance_tests!(Redb);

/// Fresh files of redb.
struct Redb;

#[async_trait]
impl StorageHarness for Redb {
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        let path = std::env::temp_dir().join(format!("jobrunr-{}.redb", uuid::Uuid::now_v7()));
        Ok(Box::new(RedbFile { path, open: Mutex::default() }))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        Cow::Borrowed(&[Ability::Durability, Ability::Schema, Ability::UnreadableRows])
    }
}

/// A file that is open as long as one of its storages is; redb opens it once at a time.
struct RedbFile {
    path: PathBuf,
    open: Mutex<Weak<Database>>,
}

impl RedbFile {
    fn database(&self) -> Result<Arc<Database>, redb::DatabaseError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = open.upgrade() {
            return Ok(database);
        }
        let database = Arc::new(Database::create(&self.path)?);
        *open = Arc::downgrade(&database);
        Ok(database)
    }
}

#[async_trait]
impl TestDatabase for RedbFile {
    async fn open(&self, _prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError> {
        let database = self.database().map_err(|error| StorageError::Backend {
            provider: "redb",
            operation: "open",
            source: error.into(),
        })?;
        Ok(Arc::new(RedbStorage::new(database)))
    }

    fn row_faults(&self) -> Option<&dyn RowFaults> {
        Some(self)
    }

    fn schema_faults(&self) -> Option<&dyn SchemaFaults> {
        Some(self)
    }

    async fn destroy(&self) {
        // One that no storage ever opened is not there.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[async_trait]
impl RowFaults for RedbFile {
    async fn corrupt_job(&self, _prefix: Option<&str>, id: JobId) -> Result<(), BoxError> {
        let transaction = self.database()?.begin_write()?;
        {
            let mut jobs = transaction.open_table(JOBS)?;
            let id = id.as_uuid().as_u128();
            jobs.get(id)?.ok_or("there is no such job")?;
            jobs.insert(id, "{\"version\": ")?;
        }
        Ok(transaction.commit()?)
    }
}

#[async_trait]
impl SchemaFaults for RedbFile {
    async fn make_schema_newer(&self, _prefix: Option<&str>) -> Result<(), BoxError> {
        let transaction = self.database()?.begin_write()?;
        transaction.open_table(SCHEMA)?.insert((), 999)?;
        Ok(transaction.commit()?)
    }
}
