//! What a backend hands to the suite: a way to fresh databases, and what else can be done to one of them.
//!
//! Only [`StorageHarness`] and [`TestDatabase`] must be implemented. The other traits are [abilities](Ability).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::JobId;
use jobrunr_core::storage::{BoxError, InsertReport, StorageError, StorageProvider};

/// How the suite gets at a storage.
#[async_trait]
pub trait StorageHarness: Send + Sync {
    /// Makes a new, empty database (a schema, a folder, a key space, …) that nobody else uses.
    ///
    /// # Errors
    /// [`NoDatabase`] if the server of the database is not there: a failure where
    /// [`JOBRUNR_TEST_REQUIRE_ALL`](crate::REQUIRE_ALL) is `1`, a loud skip elsewhere.
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase>;

    /// What this storage can do, or can be made to suffer, beyond the least.
    ///
    /// A scenario that needs an ability named here fails if it turns out to be missing; one that needs an ability not
    /// named here does not apply, and says so.
    fn abilities(&self) -> Cow<'static, [Ability]>;

    /// How long one scenario may take before it counts as hanging.
    fn time_limit(&self) -> Duration {
        Duration::from_secs(120)
    }
}

/// One database of a scenario's own.
#[async_trait]
pub trait TestDatabase: Send + Sync {
    /// Opens a storage on this database with connections of its own, as another process would, not set up yet.
    ///
    /// `prefix` goes before the names of tables or keys; storages under different prefixes see nothing of each other.
    /// It is passed on as it is, hostile ones included: refusing those is the storage's business.
    ///
    /// # Errors
    /// Whatever the storage says.
    async fn open(&self, prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError>;

    /// Ways to spoil stored rows; needed for [`Ability::UnreadableRows`].
    fn row_faults(&self) -> Option<&dyn RowFaults> {
        None
    }

    /// Ways to spoil the schema; needed for [`Ability::Schema`].
    fn schema_faults(&self) -> Option<&dyn SchemaFaults> {
        None
    }

    /// Ways to cut connections; needed for [`Ability::Connections`].
    fn connection_faults(&self) -> Option<&dyn ConnectionFaults> {
        None
    }

    /// Ways to insert in a transaction of the caller; needed for [`Ability::CallerTransactions`].
    fn caller_transactions(&self) -> Option<&dyn CallerTransactions> {
        None
    }

    /// Removes the database; called once, at the end, also after a failure.
    async fn destroy(&self);
}

/// Spoils stored rows by raw means, past the storage.
#[async_trait]
pub trait RowFaults: Send + Sync {
    /// Makes what is stored of a job undecodable (its definition or its history, not its id, state or place in line).
    ///
    /// # Errors
    /// Whatever goes wrong, above all if there is no such job.
    async fn corrupt_job(&self, prefix: Option<&str>, id: JobId) -> Result<(), BoxError>;
}

/// Spoils the schema by raw means, past the storage.
#[async_trait]
pub trait SchemaFaults: Send + Sync {
    /// Makes the schema look as if a later version of the storage had migrated it.
    ///
    /// # Errors
    /// Whatever goes wrong.
    async fn make_schema_newer(&self, prefix: Option<&str>) -> Result<(), BoxError>;
}

/// Cuts connections as a failing network or a restarting server would.
#[async_trait]
pub trait ConnectionFaults: Send + Sync {
    /// Cuts every connection that storages opened on this database have at the moment.
    ///
    /// # Errors
    /// Whatever goes wrong.
    async fn cut_connections(&self) -> Result<(), BoxError>;
}

/// Inserts jobs the way user code does in a transaction of its own.
#[async_trait]
pub trait CallerTransactions: Send + Sync {
    /// Begins a transaction, inserts the jobs through the storage's own method for that, and ends it as told.
    ///
    /// # Errors
    /// Whatever goes wrong.
    async fn insert_in_transaction(
        &self,
        prefix: Option<&str>,
        jobs: &[jobrunr_core::Job],
        end: TransactionEnd,
    ) -> Result<(), BoxError>;

    /// The same, and what the insert reported; `None` from a harness that does not tell.
    ///
    /// # Errors
    /// Whatever goes wrong.
    async fn insert_and_report(
        &self,
        prefix: Option<&str>,
        jobs: &[jobrunr_core::Job],
        end: TransactionEnd,
    ) -> Result<Option<InsertReport>, BoxError> {
        self.insert_in_transaction(prefix, jobs, end).await?;
        Ok(None)
    }
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// What was done in it becomes visible.
    Commit,
    /// Nothing was ever done.
    Rollback,
}

/// What a storage may be able to do, or a database can be made to suffer; declared by a harness, never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ability {
    /// [`StorageProvider::changes`] has a feed.
    ChangeFeed,
    /// [`TestDatabase::open`] accepts prefixes.
    Prefixes,
    /// What was stored is there again after every storage on the database was closed and a new one is opened.
    Durability,
    /// There is a schema: an empty database is told from one that is set up, and [`SchemaFaults`] exist.
    Schema,
    /// [`RowFaults`] exist.
    UnreadableRows,
    /// [`ConnectionFaults`] exist.
    Connections,
    /// [`CallerTransactions`] exist.
    CallerTransactions,
}

impl Ability {
    /// Every ability.
    pub const ALL: [Self; 7] = [
        Self::ChangeFeed,
        Self::Prefixes,
        Self::Durability,
        Self::Schema,
        Self::UnreadableRows,
        Self::Connections,
        Self::CallerTransactions,
    ];
}

/// Why there is no database to test with.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NoDatabase(String);

impl NoDatabase {
    /// There is none, for this reason.
    #[must_use]
    pub fn because(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}
