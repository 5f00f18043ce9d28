//! Writes whose caller must be told what came of them, because trying again would not tell: compare-and-set, saves and
//! removals of recurring jobs, releases of due jobs, and removals that are counted or told of.
//!
//! Each is a transaction of its own, whose id is known before it is committed. If the answer to the commit is lost, the
//! database is asked what became of that id.

use std::time::Duration;

use jobrunr_core::storage::StorageError;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::time::Instant;

use crate::PostgresStorage;
use crate::connection::{Call, Statement};
use crate::error::classify;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl PostgresStorage {
    /// Runs a statement in a transaction of its own, to its known end. Its rows have the column `written_by`.
    pub(crate) async fn write_for_sure(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<Vec<PgRow>, StorageError> {
        let mut call = self.transaction(operation).await?;
        let rows = call.rows(statement).await?;
        let written_by = written_by(&rows, operation)?;
        call.finish_for_sure(written_by).await?;
        Ok(rows)
    }

    /// Runs a statement that gives a number as [`write_for_sure`](Self::write_for_sure) does.
    pub(crate) async fn count_written(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<u64, StorageError> {
        let rows = self.write_for_sure(operation, statement).await?;
        let count = rows.first().map(|row| row.try_get::<i64, _>(0)).transpose();
        let count = count.map_err(|error| classify(&error, operation))?;
        Ok(u64::try_from(count.unwrap_or(0)).unwrap_or(0))
    }

    /// Whether a transaction was committed; `None` if that cannot be found out in the time that a call may take.
    async fn was_committed(&self, operation: &'static str, transaction: &str) -> Option<bool> {
        let until = Instant::now() + self.inner.options.call_timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.status_of(operation, transaction).await {
                Ok(status) => match status.as_deref() {
                    Some("committed") => return Some(true),
                    Some("aborted") => return Some(false),
                    // The server has not noticed yet that the connection is gone.
                    Some(_) => {}
                    None => return None,
                },
                Err(error) if error.is_retryable() => {}
                Err(_) => return None,
            }
            if Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn status_of(
        &self,
        operation: &'static str,
        transaction: &str,
    ) -> Result<Option<String>, StorageError> {
        let ask = self.statement(&self.inner.statements.transaction_status).bind(transaction.to_owned());
        let mut call = self.call(operation).await?;
        let row = call.row(ask).await?;
        call.finish().await?;
        let status = row.map(|row| row.try_get(0)).transpose();
        Ok(status.map_err(|error| classify(&error, operation))?.flatten())
    }
}

impl Call<'_> {
    /// Ends the call like [`finish`](Self::finish); if the answer is lost, finds out whether the transaction of this id
    /// took effect. Without an id it wrote nothing.
    pub(crate) async fn finish_for_sure(self, written_by: Option<String>) -> Result<(), StorageError> {
        let (storage, operation) = (self.storage(), self.operation());
        let failed = match self.finish().await {
            Err(failed) if failed.is_uncertain => failed,
            finished => return Ok(finished?),
        };
        let Some(transaction) = written_by else { return Ok(()) };
        match storage.was_committed(operation, &transaction).await {
            Some(true) => Ok(()),
            Some(false) | None => Err(failed.error),
        }
    }
}

/// The transaction that wrote what rows tell of; `None` if nothing was written.
pub(crate) fn written_by(rows: &[PgRow], operation: &'static str) -> Result<Option<String>, StorageError> {
    let id = rows.first().map(|row| row.try_get("written_by")).transpose();
    Ok(id.map_err(|error| classify(&error, operation))?.flatten())
}
