//! Releasing scheduled jobs whose time has come.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::JobId;
use jobrunr_core::storage::{DueReport, StorageError};
use jobrunr_storage_sql::{from_micros, micros};

use super::signed;
use crate::columns::Columns;
use crate::error::Outcome;
use crate::session::Session;
use crate::shared::Shared;
use crate::values::{Rows, Values};
use crate::work::Work;

impl Shared {
    /// Releases the first due jobs. Where none is due that is seen without locks and without a transaction.
    pub(super) async fn release(self: &Arc<Self>, now: i64, limit: usize) -> Result<DueReport, StorageError> {
        const OPERATION: &str = "release due jobs";
        let next_due_at = self.call(OPERATION, |session| Box::pin(session.next_due())).await?;
        if limit == 0 || next_due_at.is_none_or(|due_at| micros(due_at) > now) {
            return Ok(DueReport { released: Vec::new(), next_due_at });
        }
        self.write(OPERATION, ReleaseJobs { now, limit, released: Vec::new() }).await
    }
}

impl Session<'_> {
    async fn next_due(&mut self) -> Outcome<Option<DateTime<Utc>>> {
        let row = self.row(&self.shared.statements.next_due, Values::new()).await?;
        Ok(row.map(|row| row.number(0)).transpose()?.map(from_micros).transpose()?)
    }
}

/// Releases the first due jobs.
struct ReleaseJobs {
    now: i64,
    limit: usize,
    /// What the last try released: jobs, the versions they got and when they were updated.
    released: Vec<(JobId, i64, i64)>,
}

#[async_trait]
impl Work for ReleaseJobs {
    type Output = DueReport;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<DueReport> {
        let statements = session.statements();
        let values = Values::new().number(self.now).number(signed(self.limit));
        self.released.clear();
        for row in session.rows(&statements.lock_due_jobs, values).await? {
            self.released.push((row.id(0)?.into(), row.number(1)? + 1, row.number(2)?.max(self.now)));
        }
        let released: Vec<JobId> = self.released.iter().map(|(id, ..)| *id).collect();
        if !released.is_empty() {
            let now = self.now;
            let values = Values::new().text(&Rows::of_ids(&released));
            let values = values.number(now).number(now).number(now).number(now);
            session.execute(&statements.release_jobs, values).await?;
        }
        let next_due_at = session.next_due().await?;
        Ok(DueReport { released, next_due_at })
    }

    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let locked = session.lock_jobs(self.released.iter().map(|(id, ..)| *id)).await?;
        Ok(self.released.iter().any(|(id, version, updated_at)| {
            locked.get(id).is_some_and(|row| row.version == *version && row.updated_at == *updated_at)
        }))
    }
}
