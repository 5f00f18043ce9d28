//! Releasing jobs whose time has come.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use jobrunr_core::JobId;
use jobrunr_core::storage::{DueReport, StorageError};
use jobrunr_storage_sql::{from_micros, micros};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::signed;
use crate::changes::Hints;
use crate::connection::Statement;
use crate::error::classify;
use crate::outcomes::written_by;
use crate::{PROVIDER, PostgresStorage};

const OPERATION: &str = "release due jobs";

/// What a release did, as its rows tell.
#[derive(Debug, Default)]
struct Released {
    /// The jobs, with the time each was due.
    jobs: Vec<(i64, JobId)>,
    lanes: BTreeSet<i32>,
    next_due_at: Option<i64>,
}

impl Released {
    fn read(rows: &[PgRow]) -> Result<Self, sqlx::Error> {
        let mut released = Self::default();
        for row in rows {
            match row.try_get::<Option<Uuid>, _>(0)? {
                Some(id) => {
                    released.jobs.push((row.try_get(2)?, JobId::from(id)));
                    released.lanes.insert(row.try_get(1)?);
                }
                None => released.next_due_at = row.try_get(2)?,
            }
        }
        released.jobs.sort_unstable();
        Ok(released)
    }

    fn report(self) -> Result<DueReport, StorageError> {
        let next_due_at = self.next_due_at.map(from_micros).transpose();
        let next_due_at = next_due_at.map_err(|why| why.into_error(PROVIDER, OPERATION, "a job"))?;
        Ok(DueReport { released: self.jobs.into_iter().map(|(_, id)| id).collect(), next_due_at })
    }
}

impl PostgresStorage {
    pub(super) async fn release(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError> {
        let failed = |error| classify(&error, OPERATION);
        if self.inner.options.statement_cache {
            // Mostly nothing is due, and to see that takes no transaction.
            let mut call = self.call(OPERATION).await?;
            let nothing = Released::read(&call.rows(self.release_up_to(now, 0)).await?).map_err(failed)?;
            call.finish().await?;
            if nothing.next_due_at.is_none_or(|next_due_at| next_due_at > micros(now)) {
                return nothing.report();
            }
        }
        let mut call = self.transaction(OPERATION).await?;
        let rows = call.rows(self.release_up_to(now, limit)).await?;
        let released = Released::read(&rows).map_err(failed)?;
        let lanes: Vec<i32> = released.lanes.iter().copied().collect();
        // Before the end: what fails after it would leave jobs that nobody is told of.
        let found = self.look_up(&mut call, &lanes, &[]).await?;
        call.finish_for_sure(written_by(&rows, OPERATION)?).await?;
        let mut hints = Hints::default();
        for lane in lanes.iter().filter_map(|lane| found.lane(*lane)) {
            hints.note_ready(&lane.queue);
        }
        self.hint(hints);
        released.report()
    }

    fn release_up_to(&self, now: DateTime<Utc>, limit: usize) -> Statement {
        self.statement(&self.inner.statements.release).bind(micros(now)).bind(signed(limit))
    }
}
