//! What a job's history needs apart from the hot row: archived entries and a result.

use jobrunr_core::{HistoryEntry, JsonText};
use jobrunr_storage_sql::{EncodedHistory, HotColumns, Tail, encode_entries, last_error};
use rusqlite::params;

use super::signed;
use crate::error::Outcome;
use crate::session::Session;

/// Entries to be archived in one row.
#[derive(Debug)]
pub(super) struct Archived {
    first_entry: i64,
    entries: String,
    last_error: Option<String>,
}

impl Archived {
    /// `None` if there are no entries.
    pub(super) fn of(first_entry: usize, entries: &[HistoryEntry]) -> Option<Self> {
        (!entries.is_empty()).then(|| Self {
            first_entry: signed(first_entry),
            entries: encode_entries(entries),
            last_error: last_error(entries).map(str::to_owned),
        })
    }

    /// The entries that an encoded history says must be archived.
    pub(super) fn from_history(encoded: &EncodedHistory<'_>) -> Option<Self> {
        let first = encoded.columns.archived_entries - encoded.to_archive.len();
        Self::of(first, encoded.to_archive)
    }
}

/// The result of the tail's SUCCEEDED entry, with the index of that entry.
#[derive(Debug, Clone)]
pub(super) struct TailResult {
    entry: i64,
    result: JsonText,
}

impl TailResult {
    pub(super) fn from_history(encoded: &EncodedHistory<'_>) -> Option<Self> {
        let HotColumns { archived_entries, tail, .. } = &encoded.columns;
        let Tail { scheduled_entry_at, enqueued_entry_at, claimed_at, .. } = tail;
        let before = [scheduled_entry_at, enqueued_entry_at, claimed_at].into_iter().flatten().count();
        encoded.result.map(|result| Self { entry: signed(archived_entries + before), result: result.clone() })
    }
}

impl Session<'_> {
    pub(super) fn archive(&self, seq: i64, archived: &Archived) -> Outcome<()> {
        let Archived { first_entry, entries, last_error } = archived;
        let mut insert = self.view.prepare(&self.view.statements.insert_history)?;
        insert.execute(params![seq, first_entry, entries, last_error])?;
        Ok(())
    }

    pub(super) fn save_result(&self, seq: i64, result: &TailResult) -> Outcome<()> {
        let mut save = self.view.prepare(&self.view.statements.save_result)?;
        save.execute(params![seq, result.entry, result.result.as_str()])?;
        Ok(())
    }
}
