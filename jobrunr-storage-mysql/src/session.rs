//! What a piece of work is given: a connection, and what the storage knows.

use std::time::Duration;

use sqlx::Executor;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use crate::error::{Failure, Outcome};
use crate::shared::Shared;
use crate::statements::{Statement, Statements};
use crate::values::Values;

/// One connection, for as long as one piece of work takes.
pub(crate) struct Session<'c> {
    pub(crate) connection: &'c mut MySqlConnection,
    pub(crate) shared: &'c Shared,
    /// How long one statement may take.
    limit: Option<Duration>,
}

impl<'c> Session<'c> {
    /// On a connection of the storage's, which is given up when an answer takes too long.
    pub(crate) const fn new(connection: &'c mut MySqlConnection, shared: &'c Shared) -> Self {
        Self { connection, shared, limit: Some(shared.options.call_timeout) }
    }

    /// On a connection of the caller's, who alone can give it up: answers are waited for.
    pub(crate) const fn of_caller(connection: &'c mut MySqlConnection, shared: &'c Shared) -> Self {
        Self { connection, shared, limit: None }
    }

    /// The same, for statements that take this much longer because they wait.
    pub(crate) fn with_time_to_wait(&mut self, longer: Duration) -> Session<'_> {
        let limit = self.limit.map(|limit| limit + longer);
        Session { connection: &mut *self.connection, shared: self.shared, limit }
    }

    pub(crate) fn statements(&self) -> &'c Statements {
        &self.shared.statements
    }

    /// Runs a statement; returns how many rows it found, changed or not.
    pub(crate) async fn execute(&mut self, statement: &Statement, values: Values) -> Outcome<u64> {
        let query = sqlx::query_with(statement.text(), values.into_arguments());
        Ok(in_time(self.limit, self.connection.execute(query)).await?.rows_affected())
    }

    /// Runs a statement and reads all of its rows.
    pub(crate) async fn rows(&mut self, statement: &Statement, values: Values) -> Outcome<Vec<MySqlRow>> {
        let query = sqlx::query_with(statement.text(), values.into_arguments());
        in_time(self.limit, self.connection.fetch_all(query)).await
    }

    /// Runs a statement that has at most one row.
    pub(crate) async fn row(&mut self, statement: &Statement, values: Values) -> Outcome<Option<MySqlRow>> {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// Runs a statement that has no values and is not worth preparing, or cannot be.
    pub(crate) async fn command(&mut self, statement: &Statement) -> Outcome<()> {
        in_time(self.limit, self.connection.execute(sqlx::raw_sql(statement.text()))).await?;
        Ok(())
    }

    /// Runs a statement that changes the schema, however long that takes.
    pub(crate) async fn change_schema(&mut self, statement: &Statement) -> Outcome<()> {
        self.connection.execute(sqlx::raw_sql(statement.text())).await?;
        Ok(())
    }
}

/// Waits for an answer of the database, no longer than the limit.
async fn in_time<T>(
    limit: Option<Duration>,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Outcome<T> {
    let Some(limit) = limit else { return Ok(answer.await?) };
    match tokio::time::timeout(limit, answer).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(Failure::TimedOut(limit)),
    }
}

impl Shared {
    /// Waits for an answer of the database, no longer than the options say.
    pub(crate) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Outcome<T> {
        in_time(Some(self.options.call_timeout), answer).await
    }
}
