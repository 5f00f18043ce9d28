//! A call on its way: a connection, a time limit, and the end of the storage.

use std::ops::DerefMut;
use std::time::Duration;

use jobrunr_core::storage::StorageError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::error::{classify, is_uncertain};
use crate::{PROVIDER, PostgresStorage};

/// A statement with what is bound to it.
pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// One call: it keeps the storage from being closed under it, and one connection.
pub(crate) struct Call<'s> {
    storage: &'s PostgresStorage,
    operation: &'static str,
    connection: Held,
    /// Held until the call ends; closing the storage waits for it.
    _under_way: TaskTrackerToken,
}

enum Held {
    /// A connection on which each statement is a transaction.
    Plain(PoolConnection<Postgres>),
    /// Where statements are not kept, two messages of one statement may meet different connections of a pooler, unless
    /// a transaction holds them together.
    InTransaction(Transaction<'static, Postgres>),
}

impl Held {
    fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::Plain(connection) => connection.deref_mut(),
            Self::InTransaction(transaction) => transaction.deref_mut(),
        }
    }
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
        kept: Option<PoolConnection<Postgres>>,
        operation: &'static str,
    ) -> Result<Call<'_>, StorageError> {
        let Some(connection) = kept else { return self.call(operation).await };
        let token = self.begin(operation)?;
        Ok(Call { storage: self, operation, connection: Held::Plain(connection), _under_way: token })
    }

    /// Begins a call that may be a part of closing the storage, on a connection that was kept, or on another if there is none.
    pub(crate) async fn last_call_on(
        &self,
        kept: Option<PoolConnection<Postgres>>,
        operation: &'static str,
    ) -> Result<Call<'_>, StorageError> {
        let token = self.inner.under_way.token();
        let Some(connection) = kept else { return self.call_with(token, operation).await };
        Ok(Call { storage: self, operation, connection: Held::Plain(connection), _under_way: token })
    }

    async fn call_with(
        &self,
        token: TaskTrackerToken,
        operation: &'static str,
    ) -> Result<Call<'_>, StorageError> {
        let connection = if self.inner.options.statement_cache {
            self.inner.pool.acquire().await.map(Held::Plain)
        } else {
            self.inner.pool.begin().await.map(Held::InTransaction)
        };
        let connection = connection.map_err(|error| classify(&error, operation))?;
        Ok(Call { storage: self, operation, connection, _under_way: token })
    }

    /// Begins a call whose statements take effect together, when it is finished.
    pub(crate) async fn transaction(&self, operation: &'static str) -> Result<Call<'_>, StorageError> {
        let token = self.begin(operation)?;
        let transaction = self.inner.pool.begin().await.map_err(|error| classify(&error, operation))?;
        Ok(Call { storage: self, operation, connection: Held::InTransaction(transaction), _under_way: token })
    }

    /// A statement that is kept prepared, or not, as the options say.
    pub(crate) fn statement(&self, sql: &std::sync::Arc<str>) -> Statement {
        let sql = AssertSqlSafe(std::sync::Arc::clone(sql));
        sqlx::query(sql).persistent(self.inner.options.statement_cache)
    }
}

impl Call<'_> {
    /// Runs a statement.
    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<PgRow>, Failed> {
        let limit = self.storage.inner.options.call_timeout;
        let rows = statement.fetch_all(self.connection.connection());
        match tokio::time::timeout(limit, rows).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                let failed = Failed::of(&error, self.operation);
                if failed.is_uncertain {
                    self.give_up_connection();
                }
                Err(failed)
            }
            Err(_) => {
                self.give_up_connection();
                Err(Failed::timed_out(self.operation, limit))
            }
        }
    }

    /// Runs SQL text of any number of statements, without a time limit.
    pub(crate) async fn script(&mut self, sql: String) -> Result<(), StorageError> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql));
        let done = script.execute(self.connection.connection()).await;
        done.map(drop).map_err(|error| classify(&error, self.operation))
    }

    /// Runs a statement that gives at most one row.
    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<PgRow>, Failed> {
        Ok(self.rows(statement).await?.into_iter().next())
    }

    /// Ends the call; what it did takes effect, if it had not yet.
    pub(crate) async fn finish(self) -> Result<(), Failed> {
        let Self { operation, connection, storage, _under_way } = self;
        match connection {
            Held::Plain(_) => Ok(()),
            Held::InTransaction(transaction) => {
                let limit = storage.inner.options.call_timeout;
                match tokio::time::timeout(limit, transaction.commit()).await {
                    Ok(committed) => committed.map_err(|error| Failed::of(&error, operation)),
                    Err(_) => Err(Failed::timed_out(operation, limit)),
                }
            }
        }
    }

    /// Ends the call like [`finish`](Self::finish) and gives its connection, if that is of use to others as it is.
    pub(crate) async fn finish_and_keep(self) -> Result<Option<PoolConnection<Postgres>>, Failed> {
        match self {
            Self { connection: Held::Plain(connection), .. } => Ok(Some(connection)),
            call => call.finish().await.map(|()| None),
        }
    }

    /// Keeps a connection in an unknown state from being used again.
    fn give_up_connection(&mut self) {
        if let Held::Plain(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }

    pub(crate) const fn operation(&self) -> &'static str {
        self.operation
    }
}
