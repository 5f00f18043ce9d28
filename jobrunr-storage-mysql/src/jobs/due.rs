//! Releasing scheduled jobs whose time has come.

use async_trait::async_trait;
use jobrunr_core::JobId;
use jobrunr_core::storage::DueReport;
use jobrunr_storage_sql::from_micros;

use super::signed;
use crate::columns::Columns;
use crate::error::Outcome;
use crate::session::Session;
use crate::values::{Rows, Values};
use crate::work::Work;

/// Releases the first due jobs.
pub(super) struct ReleaseJobs {
    pub(super) now: i64,
    pub(super) limit: usize,
    /// What the last try released: jobs, the versions they got and when they were updated.
    pub(super) released: Vec<(JobId, i64, i64)>,
}

#[async_trait]
impl Work for ReleaseJobs {
    type Output = DueReport;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<DueReport> {
        let statements = session.statements();
        let values = Values::new().number(self.now).number(signed(self.limit));
        self.released.clear();
        if self.limit > 0 {
            for row in session.rows(&statements.lock_due_jobs, values).await? {
                self.released.push((row.id(0)?.into(), row.number(1)? + 1, row.number(2)?.max(self.now)));
            }
        }
        let released: Vec<JobId> = self.released.iter().map(|(id, ..)| *id).collect();
        if !released.is_empty() {
            let now = self.now;
            let values = Values::new().text(&Rows::of_ids(&released));
            let values = values.number(now).number(now).number(now).number(now);
            session.execute(&statements.release_jobs, values).await?;
        }
        let next_due = session.row(&statements.next_due, Values::new()).await?;
        let next_due_at = next_due.map(|row| row.number(0)).transpose()?.map(from_micros).transpose()?;
        Ok(DueReport { released, next_due_at })
    }

    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let locked = session.lock_jobs(self.released.iter().map(|(id, ..)| *id)).await?;
        Ok(self.released.iter().any(|(id, version, updated_at)| {
            locked.get(id).is_some_and(|row| row.version == *version && row.updated_at == *updated_at)
        }))
    }
}
