//! Parking a job that cannot be read, so that it holds up nobody: FAILED of kind `Corrupt`, all that is stored kept.

use jobrunr_core::{Failure, FailureKind, HistoryEntry, JobState, StateName};
use jobrunr_storage_sql::{HotColumns, Unreadable, from_micros};
use rusqlite::params;

use super::Place;
use super::archive::Archived;
use super::signed;
use crate::error::Outcome;
use crate::rows::read_row;
use crate::session::Session;

impl Session<'_> {
    /// Parks an ENQUEUED job.
    pub(super) fn park(&mut self, seq: i64, why: &Unreadable, now: i64) -> Outcome<()> {
        let statements = self.view.statements;
        let place = self.view.prepare(&statements.load_place)?.query_row([seq], Place::read)?;
        let at = now.max(place.updated_at);
        let archived = usize::try_from(place.archived_entries).unwrap_or(0);
        let mut entries = self.readable_tail(seq)?;
        let message = format!("what is stored of this job cannot be read: {why}");
        let failure = Failure::new(FailureKind::Corrupt, message).do_not_retry();
        entries.push(HistoryEntry { at: from_micros(at)?, state: JobState::failed(failure) });
        if let Some(archived) = Archived::of(archived, &entries) {
            self.archive(seq, &archived)?;
        }
        let archived_entries = signed(archived + entries.len());
        self.view.prepare(&statements.park_job)?.execute(params![at, archived_entries, seq])?;
        self.count(place.lane, Some(StateName::Enqueued), Some(StateName::Failed));
        Ok(())
    }

    /// The entries that the columns of an ENQUEUED job say, as far as they can be read without its archive.
    fn readable_tail(&self, seq: i64) -> Outcome<Vec<HistoryEntry>> {
        let mut statement = self.view.prepare(&self.view.statements.load_ready_job)?;
        let row = statement.query_row([seq], |row| Ok(read_row(row)))?;
        let entries = row.and_then(|row| {
            let columns = HotColumns { archived_entries: 0, ..row.columns };
            columns.history(Vec::new(), None, None)
        });
        Ok(entries.unwrap_or_default())
    }
}
