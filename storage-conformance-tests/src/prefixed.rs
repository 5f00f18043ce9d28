//! The same harness with everything under a prefix, to run the whole suite a second time.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::storage::{BoxError, InsertReport, StorageError, StorageProvider};
use jobrunr_core::{Job, JobId};

use crate::harness::{
    Ability, CallerTransactions, ConnectionFaults, NoDatabase, RowFaults, SchemaFaults, StorageHarness,
    TestDatabase, TransactionEnd,
};

/// Runs every scenario of another harness under one prefix.
///
/// ```ignore
/// mod with_a_prefix {
///     conformance_tests!(Prefixed::new(MyHarness, "app_"));
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Prefixed<H> {
    harness: H,
    prefix: &'static str,
}

impl<H> Prefixed<H> {
    /// Opens every storage of `harness` under `prefix`, before the prefix that a scenario asks for.
    #[must_use]
    pub const fn new(harness: H, prefix: &'static str) -> Self {
        Self { harness, prefix }
    }
}

#[async_trait]
impl<H: StorageHarness> StorageHarness for Prefixed<H> {
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        let database = self.harness.create().await?;
        Ok(Box::new(PrefixedDatabase { database, prefix: self.prefix }))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        self.harness.abilities()
    }

    fn time_limit(&self) -> Duration {
        self.harness.time_limit()
    }
}

struct PrefixedDatabase {
    database: Box<dyn TestDatabase>,
    prefix: &'static str,
}

impl PrefixedDatabase {
    fn join(&self, prefix: Option<&str>) -> String {
        format!("{}{}", self.prefix, prefix.unwrap_or_default())
    }
}

#[async_trait]
impl TestDatabase for PrefixedDatabase {
    async fn open(&self, prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError> {
        self.database.open(Some(&self.join(prefix))).await
    }

    fn row_faults(&self) -> Option<&dyn RowFaults> {
        self.database.row_faults().map(|_| self as &dyn RowFaults)
    }

    fn schema_faults(&self) -> Option<&dyn SchemaFaults> {
        self.database.schema_faults().map(|_| self as &dyn SchemaFaults)
    }

    fn connection_faults(&self) -> Option<&dyn ConnectionFaults> {
        self.database.connection_faults()
    }

    fn caller_transactions(&self) -> Option<&dyn CallerTransactions> {
        self.database.caller_transactions().map(|_| self as &dyn CallerTransactions)
    }

    async fn destroy(&self) {
        self.database.destroy().await;
    }
}

const ASKED_BEFORE: &str = "the accessor told that the database has this ability";

#[async_trait]
impl RowFaults for PrefixedDatabase {
    async fn corrupt_job(&self, prefix: Option<&str>, id: JobId) -> Result<(), BoxError> {
        let faults = self.database.row_faults().expect(ASKED_BEFORE);
        faults.corrupt_job(Some(&self.join(prefix)), id).await
    }
}

#[async_trait]
impl SchemaFaults for PrefixedDatabase {
    async fn make_schema_newer(&self, prefix: Option<&str>) -> Result<(), BoxError> {
        let faults = self.database.schema_faults().expect(ASKED_BEFORE);
        faults.make_schema_newer(Some(&self.join(prefix))).await
    }
}

#[async_trait]
impl CallerTransactions for PrefixedDatabase {
    async fn insert_in_transaction(
        &self,
        prefix: Option<&str>,
        jobs: &[Job],
        end: TransactionEnd,
    ) -> Result<(), BoxError> {
        let transactions = self.database.caller_transactions().expect(ASKED_BEFORE);
        transactions.insert_in_transaction(Some(&self.join(prefix)), jobs, end).await
    }

    async fn insert_and_report(
        &self,
        prefix: Option<&str>,
        jobs: &[Job],
        end: TransactionEnd,
    ) -> Result<Option<InsertReport>, BoxError> {
        let transactions = self.database.caller_transactions().expect(ASKED_BEFORE);
        transactions.insert_and_report(Some(&self.join(prefix)), jobs, end).await
    }
}
