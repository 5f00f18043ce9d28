//! What a piece of work is given: a connection, and what the storage knows.

use sqlx::Executor;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use crate::error::Outcome;
use crate::shared::Shared;
use crate::statements::{Statement, Statements};
use crate::values::Values;

/// One connection, for as long as one piece of work takes.
pub(crate) struct Session<'c> {
    pub(crate) connection: &'c mut MySqlConnection,
    pub(crate) shared: &'c Shared,
}

impl<'c> Session<'c> {
    pub(crate) fn statements(&self) -> &'c Statements {
        &self.shared.statements
    }

    /// Runs a statement; returns how many rows it found, changed or not.
    pub(crate) async fn execute(&mut self, statement: &Statement, values: Values) -> Outcome<u64> {
        let query = sqlx::query_with(statement.text(), values.into_arguments());
        Ok(self.connection.execute(query).await?.rows_affected())
    }

    /// Runs a statement and reads all of its rows.
    pub(crate) async fn rows(&mut self, statement: &Statement, values: Values) -> Outcome<Vec<MySqlRow>> {
        let query = sqlx::query_with(statement.text(), values.into_arguments());
        Ok(self.connection.fetch_all(query).await?)
    }

    /// Runs a statement that has at most one row.
    pub(crate) async fn row(&mut self, statement: &Statement, values: Values) -> Outcome<Option<MySqlRow>> {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// Runs a statement of several, none of which has values.
    pub(crate) async fn script(&mut self, statement: &Statement) -> Outcome<()> {
        self.connection.execute(sqlx::raw_sql(statement.text())).await?;
        Ok(())
    }
}
