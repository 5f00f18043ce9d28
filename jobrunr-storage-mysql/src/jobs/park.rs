//! Parking a job that cannot be read, so that it holds up nobody: FAILED of kind `Corrupt`, all that is stored kept.

use jobrunr_core::{Failure, FailureKind, HistoryEntry, JobId, JobState, StateName};
use jobrunr_storage_sql::{HotColumns, Tail, Unreadable, from_micros};
use sqlx::mysql::MySqlRow;

use super::archive::{Archived, Beside};
use super::ended::Ended;
use super::save::HotRow;
use crate::columns::Columns;
use crate::error::Outcome;
use crate::rows::read_row;
use crate::session::Session;

impl Session<'_> {
    /// Parks an ENQUEUED job, given its row as it was read by `lock_ready_jobs`; returns the version it has then.
    pub(super) async fn park(
        &mut self,
        id: JobId,
        row: &MySqlRow,
        why: &Unreadable,
        now: i64,
    ) -> Outcome<i64> {
        let number = |index| row.number_or(index).unwrap_or(0);
        let (version, lane, updated_at) = (number(1) + 1, row.small_or(2).unwrap_or(0), number(7));
        let archived = usize::try_from(number(11)).unwrap_or(0);
        let at = now.max(updated_at);
        let mut entries = readable_tail(row);
        let message = format!("what is stored of this job cannot be read: {why}");
        let failure = Failure::new(FailureKind::Corrupt, message).do_not_retry();
        entries.push(HistoryEntry { at: from_micros(at)?, state: JobState::failed(failure) });
        let columns = HotColumns {
            state: StateName::Failed,
            queued_at: row.optional_number(5).ok().flatten(),
            created_at: number(6),
            updated_at: at,
            scheduled_at: row.optional_number(13).ok().flatten(),
            awaited_job_id: None,
            archived_entries: archived + entries.len(),
            tail: Tail::default(),
        };
        let server = row.small_or(10).unwrap_or(0);
        self.write_rows(&[HotRow { id, version, lane, priority: 0, server, columns: &columns }]).await?;
        let archived = Archived::of(archived, &entries);
        let mut beside = Beside::default();
        beside.add(id, archived.as_ref(), None);
        self.write_beside(beside).await?;
        let mut ended = Ended::default();
        ended.count(lane, Some(StateName::Enqueued), Some(StateName::Failed));
        self.write_ended(ended).await?;
        Ok(version)
    }
}

/// The entries that the columns of an ENQUEUED job say, as far as they can be read without its archive.
fn readable_tail(row: &MySqlRow) -> Vec<HistoryEntry> {
    let entries = read_row(row).and_then(|row| {
        let columns = HotColumns { archived_entries: 0, ..row.columns };
        columns.history(Vec::new(), None, None)
    });
    entries.unwrap_or_default()
}
