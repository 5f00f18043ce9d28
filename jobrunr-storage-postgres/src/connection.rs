//! A call on its way: a connection, a time limit, and the end of the storage.

use std::time::Duration;

use jobrunr_core::storage::StorageError;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, raw_sql};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::error::{classify, is_uncertain};
use crate::lent::{Condition, Lent};
use crate::{Inner, PROVIDER, PostgresStorage};

/// A statement with what is bound to it.
pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// One call: it keeps the storage from being closed under it, and one connection.
pub(crate) struct Call<'s> {
    storage: &'s PostgresStorage,
    operation: &'static str,
    connection: Lent,
    /// Held until the call ends; closing the storage waits for it.
    _under_way: TaskTrackerToken,
}

/// Why a statement failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: StorageError,
    /// Whether it may have taken effect all the same.
    pub(crate) is_uncertain: bool,
    /// Whether something was there already.
    pub(crate) is_duplicate: bool,
}

impl Failed {
    pub(crate) fn of(error: &sqlx::Error, operation: &'static str) -> Self {
        Self {
            error: classify(error, operation),
            is_uncertain: is_uncertain(error),
            is_duplicate: error.as_database_error().is_some_and(|error| error.is_unique_violation()),
        }
    }

    fn timed_out(operation: &'static str, limit: Duration) -> Self {
        let source = format!("the database did not answer within {limit:?}").into();
        let error = StorageError::Unavailable { provider: PROVIDER, operation, source };
        Self { error, is_uncertain: true, is_duplicate: false }
    }
}

impl From<Failed> for StorageError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        Self { error, is_uncertain: false, is_duplicate: false }
    }
}

impl PostgresStorage {
    /// Notes that a call begins, unless the storage was closed.
    pub(crate) fn begin(&self, operation: &'static str) -> Result<TaskTrackerToken, StorageError> {
        // Race: the token is taken before the look at the door, so that closing waits for whoever still gets in.
        let token = self.inner.under_way.token();
        if self.inner.under_way.is_closed() {
            return Err(StorageError::Closed { provider: PROVIDER, operation });
        }
        Ok(token)
    }

    /// Begins a call and gets it a connection.
    pub(crate) async fn call(&self, operation: &'static str) -> Result<Call<'_>, StorageError> {
        self.call_with(self.begin(operation)?, operation).await
    }

    /// Begins a call on a connection that was kept, or on another if there is none.
    pub(crate) async fn call_on(
        &self,
        kept: Option<Lent>,
        operation: &'static str,
    ) -> Result<Call<'_>, StorageError> {
        let Some(connection) = kept else { return self.call(operation).await };
        Ok(Call { storage: self, operation, connection, _under_way: self.begin(operation)? })
    }

    /// Begins a call that may be a part of closing the storage, on a connection that was kept, or on another if there is none.
    pub(crate) async fn last_call_on(
        &self,
        kept: Option<Lent>,
        operation: &'static str,
    ) -> Result<Call<'_>, StorageError> {
        let token = self.inner.under_way.token();
        let Some(connection) = kept else { return self.call_with(token, operation).await };
        Ok(Call { storage: self, operation, connection, _under_way: token })
    }

    async fn call_with(
        &self,
        token: TaskTrackerToken,
        operation: &'static str,
    ) -> Result<Call<'_>, StorageError> {
        let mut call = self.call_on_another(token, operation).await?;
        if !self.inner.options.statement_cache {
            // Where statements are not kept, two messages of one statement may meet different connections of a pooler,
            // unless a transaction holds them together.
            call.begin_transaction().await?;
        }
        Ok(call)
    }

    /// Begins a call whose statements take effect together, when it is finished.
    pub(crate) async fn transaction(&self, operation: &'static str) -> Result<Call<'_>, StorageError> {
        let mut call = self.call_on_another(self.begin(operation)?, operation).await?;
        call.begin_transaction().await?;
        Ok(call)
    }

    async fn call_on_another(
        &self,
        token: TaskTrackerToken,
        operation: &'static str,
    ) -> Result<Call<'_>, StorageError> {
        let Inner { pool, options, under_way, .. } = &*self.inner;
        // Boxed because it is large, and part of all that is done here.
        let connection = Box::pin(pool.acquire()).await.map_err(|error| classify(&error, operation))?;
        let connection = Lent::new(connection, under_way.clone(), options.connect_timeout);
        Ok(Call { storage: self, operation, connection, _under_way: token })
    }

    /// A statement that is kept prepared, or not, as the options say.
    pub(crate) fn statement(&self, sql: &std::sync::Arc<str>) -> Statement {
        let sql = AssertSqlSafe(std::sync::Arc::clone(sql));
        sqlx::query(sql).persistent(self.inner.options.statement_cache)
    }
}

impl<'s> Call<'s> {
    async fn begin_transaction(&mut self) -> Result<(), Failed> {
        self.control("BEGIN").await?;
        self.connection.condition = Condition::InTransaction;
        Ok(())
    }

    /// Runs what begins or ends a transaction.
    async fn control(&mut self, sql: &'static str) -> Result<(), Failed> {
        // Also where this is dropped on its way.
        let before = std::mem::replace(&mut self.connection.condition, Condition::Unknown);
        let limit = self.storage.inner.options.call_timeout;
        let done = tokio::time::timeout(limit, raw_sql(sql).execute(self.connection.connection())).await;
        let done = done.map_err(|_| Failed::timed_out(self.operation, limit))?;
        let done = done.map(drop).map_err(|error| Failed::of(&error, self.operation));
        if done.as_ref().is_err_and(|failed| !failed.is_uncertain) {
            self.connection.condition = before;
        }
        done
    }

    /// Runs a statement.
    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<PgRow>, Failed> {
        let limit = self.storage.inner.options.call_timeout;
        let rows = statement.fetch_all(self.connection.connection());
        let failed = match tokio::time::timeout(limit, rows).await {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) => Failed::of(&error, self.operation),
            Err(_) => Failed::timed_out(self.operation, limit),
        };
        if !failed.is_uncertain {
            return Err(failed);
        }
        let before = std::mem::replace(&mut self.connection.condition, Condition::Unknown);
        // What is not committed does not take effect.
        Err(Failed { is_uncertain: before != Condition::InTransaction, ..failed })
    }

    /// Runs SQL text of any number of statements, without a time limit.
    pub(crate) async fn script(&mut self, sql: String) -> Result<(), StorageError> {
        self.try_script(sql).await.map_err(|error| classify(&error, self.operation))
    }

    /// Runs SQL text as [`script`](Self::script) does; the error is the driver's.
    pub(crate) async fn try_script(&mut self, sql: String) -> Result<(), sqlx::Error> {
        raw_sql(AssertSqlSafe(sql)).execute(self.connection.connection()).await.map(drop)
    }

    /// Runs a statement that gives at most one row.
    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<PgRow>, Failed> {
        Ok(self.rows(statement).await?.into_iter().next())
    }

    /// Ends the call; what it did takes effect, if it had not yet.
    pub(crate) async fn finish(self) -> Result<(), Failed> {
        self.finish_and_keep().await.map(drop)
    }

    /// Ends the call like [`finish`](Self::finish) and gives its connection, which others may use as it is.
    pub(crate) async fn finish_and_keep(mut self) -> Result<Option<Lent>, Failed> {
        let in_transaction = self.connection.condition == Condition::InTransaction;
        if in_transaction {
            self.control("COMMIT").await?;
            self.connection.condition = Condition::Plain;
        }
        Ok(Some(self.connection).filter(|_| !in_transaction))
    }

    pub(crate) const fn storage(&self) -> &'s PostgresStorage {
        self.storage
    }

    pub(crate) const fn operation(&self) -> &'static str {
        self.operation
    }
}
