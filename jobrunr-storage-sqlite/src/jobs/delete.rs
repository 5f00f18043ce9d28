//! Removing jobs for good, with all that belongs to them.

use chrono::{DateTime, Utc};
use jobrunr_core::storage::SignatureSelection;
use jobrunr_core::{JobId, StateName};
use jobrunr_storage_sql::{Wanted, micros};
use rusqlite::params;

use crate::error::Outcome;
use crate::session::Session;

impl Session<'_> {
    /// Removes the jobs with these ids; returns how many there were.
    pub(super) fn delete_jobs(&mut self, ids: &[JobId]) -> Outcome<usize> {
        let mut deleted = 0;
        for id in ids {
            let Some(place) = self.find_place(*id)? else { continue };
            self.delete_job(place.seq)?;
            self.count(place.lane, place.state(), None);
            deleted += 1;
        }
        Ok(deleted)
    }

    /// Removes jobs that have been in a state for long enough; returns how many.
    pub(super) fn delete_aged_jobs(
        &mut self,
        state: StateName,
        updated_before: DateTime<Utc>,
        signatures: &SignatureSelection,
        limit: usize,
    ) -> Outcome<usize> {
        let wanted = Wanted::from(signatures);
        let mut aged_jobs = Vec::new();
        let mut statement = self.view.prepare(&self.view.statements.aged_jobs)?;
        let mut rows = statement.query(params![state.index(), micros(updated_before)])?;
        // The index alone is read here, so that jobs of other types are passed over fast.
        while aged_jobs.len() < limit
            && let Some(row) = rows.next()?
        {
            let (seq, lane): (i64, i64) = (row.get(0)?, row.get(1)?);
            let is_wanted = match &wanted {
                Wanted::All => true,
                some => self.lane(lane)?.is_some_and(|lane| some.contains(&lane.signature)),
            };
            if is_wanted {
                aged_jobs.push((seq, lane));
            }
        }
        drop(rows);
        for (seq, lane) in &aged_jobs {
            self.delete_job(*seq)?;
            self.count(*lane, Some(state), None);
        }
        Ok(aged_jobs.len())
    }

    fn delete_job(&self, seq: i64) -> Outcome<()> {
        let statements = self.view.statements;
        for delete in [
            &statements.delete_job,
            &statements.delete_job_data,
            &statements.delete_history,
            &statements.delete_result,
            &statements.delete_job_metadata,
            &statements.delete_labels,
            &statements.delete_recurring_run,
        ] {
            self.view.prepare(delete)?.execute([seq])?;
        }
        Ok(())
    }
}
