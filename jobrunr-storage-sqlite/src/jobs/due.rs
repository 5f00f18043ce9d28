//! Releasing jobs whose time has come.

use chrono::{DateTime, Utc};
use jobrunr_core::StateName;
use jobrunr_core::storage::DueReport;
use jobrunr_storage_sql::{from_micros, micros};
use rusqlite::params;
use uuid::Uuid;

use super::signed;
use crate::error::Outcome;
use crate::session::Session;

struct DueJob {
    seq: i64,
    id: Uuid,
    lane: i64,
    updated_at: i64,
}

impl Session<'_> {
    pub(super) fn enqueue_due_jobs(&mut self, now: DateTime<Utc>, limit: usize) -> Outcome<DueReport> {
        let statements = self.view.statements;
        let mut due_jobs = self.view.prepare(&statements.due_jobs)?;
        let due_jobs = due_jobs.query_map(params![micros(now), signed(limit)], |row| {
            Ok(DueJob { seq: row.get(0)?, id: row.get(1)?, lane: row.get(2)?, updated_at: row.get(3)? })
        })?;
        // All are read before the first is changed: the change takes it out of the index that is being read.
        let due_jobs: Vec<DueJob> = due_jobs.collect::<Result<_, _>>()?;
        let mut release = self.view.prepare(&statements.release_job)?;
        let mut released = Vec::with_capacity(due_jobs.len());
        for job in due_jobs {
            release.execute(params![micros(now).max(job.updated_at), job.seq])?;
            self.count(job.lane, Some(StateName::Scheduled), Some(StateName::Enqueued));
            if let Some(lane) = self.lane(job.lane)? {
                self.note_ready(&lane.queue);
            }
            released.push(job.id.into());
        }
        let next_due: Option<i64> =
            self.view.prepare(&statements.next_due)?.query_row([], |row| row.get(0))?;
        Ok(DueReport { released, next_due_at: next_due.map(from_micros).transpose()? })
    }
}
