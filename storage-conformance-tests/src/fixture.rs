//! What a scenario is given: a fresh storage that is set up, and ways to more of them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jobrunr_core::storage::{BoxError, ChangeFeed, SetUp, StorageProvider};

use crate::harness::{
    Ability, CallerTransactions, ConnectionFaults, RowFaults, SchemaFaults, StorageHarness, TestDatabase,
};

/// How a scenario ends: an error fails it as a panic does.
pub type ScenarioResult = Result<(), BoxError>;

/// What one scenario works with.
pub struct Fixture<'a> {
    harness: &'a dyn StorageHarness,
    database: Arc<dyn TestDatabase>,
    storage: Arc<dyn StorageProvider>,
    more_databases: Mutex<Vec<Arc<dyn TestDatabase>>>,
    more_storages: Mutex<Vec<Arc<dyn StorageProvider>>>,
}

impl fmt::Debug for Fixture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl<'a> Fixture<'a> {
    /// Opens a storage on `database` and sets it up.
    pub(crate) async fn on(
        harness: &'a dyn StorageHarness,
        database: Arc<dyn TestDatabase>,
    ) -> Result<Self, BoxError> {
        let storage = database.open(None).await?;
        storage.set_up(SetUp::Migrate).await?;
        Ok(Self {
            harness,
            database,
            storage,
            more_databases: Mutex::default(),
            more_storages: Mutex::default(),
        })
    }

    /// The storage under test, set up and empty.
    #[must_use]
    pub fn storage(&self) -> &dyn StorageProvider {
        &*self.storage
    }

    /// The same, to be shared with tasks.
    #[must_use]
    pub fn shared_storage(&self) -> Arc<dyn StorageProvider> {
        Arc::clone(&self.storage)
    }

    /// What the harness declares.
    #[must_use]
    pub fn abilities(&self) -> std::borrow::Cow<'static, [Ability]> {
        self.harness.abilities()
    }

    /// The database of [`storage`](Self::storage).
    #[must_use]
    pub fn database(&self) -> &dyn TestDatabase {
        &*self.database
    }

    /// A second storage on the same database, as another process would open it, set up; closed with the fixture.
    ///
    /// # Errors
    /// Whatever the storage says.
    pub async fn another_storage(&self) -> Result<Arc<dyn StorageProvider>, BoxError> {
        let storage = self.database.open(None).await?;
        self.more_storages.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&storage));
        storage.set_up(SetUp::Migrate).await?;
        Ok(storage)
    }

    /// A second database, in which nothing was ever set up.
    ///
    /// # Errors
    /// If there is none to be had.
    pub async fn untouched_database(&self) -> Result<Arc<dyn TestDatabase>, BoxError> {
        let database: Arc<dyn TestDatabase> = self.harness.create().await?.into();
        self.more_databases.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&database));
        Ok(database)
    }

    /// The change feed of [`storage`](Self::storage).
    ///
    /// # Errors
    /// If the harness declared one and there is none; so do all that follow.
    pub fn changes(&self) -> Result<&dyn ChangeFeed, BoxError> {
        self.storage
            .changes()
            .ok_or_else(|| "the harness declares a change feed, the storage has none".into())
    }

    /// Ways to spoil rows.
    ///
    /// # Errors
    /// If the harness declared them and there are none.
    pub fn row_faults(&self) -> Result<&dyn RowFaults, BoxError> {
        self.database.row_faults().ok_or_else(|| "the harness declares row faults, there are none".into())
    }

    /// Ways to cut connections.
    ///
    /// # Errors
    /// If the harness declared them and there are none.
    pub fn connection_faults(&self) -> Result<&dyn ConnectionFaults, BoxError> {
        self.database
            .connection_faults()
            .ok_or_else(|| "the harness declares connection faults, there are none".into())
    }

    /// Ways to insert in a transaction of the caller.
    ///
    /// # Errors
    /// If the harness declared them and there are none.
    pub fn caller_transactions(&self) -> Result<&dyn CallerTransactions, BoxError> {
        self.database
            .caller_transactions()
            .ok_or_else(|| "the harness declares caller transactions, there are none".into())
    }

    /// Closes what was opened through the fixture and removes the databases it made.
    pub(crate) async fn dispose(self) {
        self.storage.close().await;
        for storage in self.more_storages.into_inner().unwrap_or_else(PoisonError::into_inner) {
            storage.close().await;
        }
        for database in self.more_databases.into_inner().unwrap_or_else(PoisonError::into_inner) {
            database.destroy().await;
        }
    }
}

/// Ways to spoil the schema of `database`.
pub(crate) fn schema_faults(database: &dyn TestDatabase) -> Result<&dyn SchemaFaults, BoxError> {
    database.schema_faults().ok_or_else(|| "the harness declares schema faults, there are none".into())
}
