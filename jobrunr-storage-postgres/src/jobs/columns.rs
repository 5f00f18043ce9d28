//! Values of many jobs, column by column, as one statement takes them.

use jobrunr_core::{HistoryEntry, JobId, StateName};
use jobrunr_storage_sql::{EncodedHistory, HotColumns, Tail, encode_entries, last_error};
use uuid::Uuid;

/// Archived entries of many jobs.
#[derive(Debug, Default)]
pub(super) struct HistoryColumns {
    pub(super) jobs: Vec<Uuid>,
    pub(super) firsts: Vec<i32>,
    pub(super) entries: Vec<String>,
    pub(super) errors: Vec<Option<String>>,
}

impl HistoryColumns {
    /// Adds what an encoded history says must be archived, if anything.
    pub(super) fn add(&mut self, id: JobId, encoded: &EncodedHistory<'_>) {
        if encoded.to_archive.is_empty() {
            return;
        }
        self.jobs.push(id.into());
        self.firsts.push(short(encoded.columns.archived_entries - encoded.to_archive.len()));
        self.entries.push(encode_entries(encoded.to_archive));
        self.errors.push(last_error(encoded.to_archive).map(without_nul));
    }
}

/// Results of many jobs.
#[derive(Debug, Default)]
pub(super) struct ResultColumns {
    pub(super) jobs: Vec<Uuid>,
    pub(super) entries: Vec<i32>,
    pub(super) results: Vec<String>,
}

impl ResultColumns {
    /// Adds the result of the tail's SUCCEEDED entry, if it has one.
    pub(super) fn add(&mut self, id: JobId, encoded: &EncodedHistory<'_>) {
        let Some(result) = encoded.result else { return };
        let HotColumns { archived_entries, tail, .. } = &encoded.columns;
        let Tail { scheduled_entry_at, enqueued_entry_at, claimed_at, .. } = tail;
        let before = [scheduled_entry_at, enqueued_entry_at, claimed_at].into_iter().flatten().count();
        self.jobs.push(id.into());
        self.entries.push(short(archived_entries + before));
        self.results.push(result.as_str().to_owned());
    }
}

/// The columns of the hot row that say the present, of many jobs.
#[derive(Debug, Default)]
pub(super) struct RowColumns {
    pub(super) states: Vec<i16>,
    pub(super) updated: Vec<i64>,
    pub(super) archived: Vec<i32>,
    pub(super) queued: Vec<Option<i64>>,
    pub(super) scheduled: Vec<Option<i64>>,
    pub(super) scheduled_entries: Vec<Option<i64>>,
    pub(super) enqueued_entries: Vec<Option<i64>>,
    pub(super) claimed: Vec<Option<i64>>,
    pub(super) finished: Vec<Option<i64>>,
    pub(super) deleted: Vec<Option<i64>>,
    pub(super) reasons: Vec<Option<String>>,
    pub(super) awaited: Vec<Option<Uuid>>,
}

impl RowColumns {
    pub(super) fn add(&mut self, columns: HotColumns) {
        let Tail {
            scheduled_entry_at,
            enqueued_entry_at,
            claimed_at,
            finished_at,
            deleted_at,
            deleted_reason,
        } = columns.tail;
        self.states.push(i16::from(columns.state.index()));
        self.updated.push(columns.updated_at);
        self.archived.push(short(columns.archived_entries));
        // Only what waits in line has a place in it.
        self.queued.push(columns.queued_at.filter(|_| columns.state == StateName::Enqueued));
        self.scheduled.push(columns.scheduled_at);
        self.scheduled_entries.push(scheduled_entry_at);
        self.enqueued_entries.push(enqueued_entry_at);
        self.claimed.push(claimed_at);
        self.finished.push(finished_at);
        self.deleted.push(deleted_at);
        self.reasons.push(deleted_reason.map(|reason| reason.replace('\0', "\u{FFFD}")));
        self.awaited.push(columns.awaited_job_id.map(Uuid::from));
    }
}

/// How many of these entries are successes.
pub(super) fn successes(entries: &[HistoryEntry]) -> i32 {
    let successes = entries.iter().filter(|entry| entry.state.name() == StateName::Succeeded);
    i32::try_from(successes.count()).unwrap_or(i32::MAX)
}

/// A length as its column holds it.
pub(super) fn short(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A text that is only searched, as PostgreSQL can hold it.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}
