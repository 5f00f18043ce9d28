//! What a job's history needs apart from the hot row: archived entries and a result.

use jobrunr_core::{HistoryEntry, JobId, JsonText};
use jobrunr_storage_sql::{EncodedHistory, HotColumns, Tail, encode_entries, last_error};

use super::signed;
use crate::error::Outcome;
use crate::session::Session;
use crate::statements::RowSizes;
use crate::values::Values;

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

/// What is to be written beside the hot rows of one transaction's jobs.
#[derive(Debug, Default)]
pub(super) struct Beside<'j> {
    archived: Vec<(JobId, &'j Archived)>,
    results: Vec<(JobId, &'j TailResult)>,
}

impl<'j> Beside<'j> {
    pub(super) fn add(&mut self, id: JobId, archived: Option<&'j Archived>, result: Option<&'j TailResult>) {
        self.archived.extend(archived.map(|archived| (id, archived)));
        self.results.extend(result.map(|result| (id, result)));
    }
}

impl Session<'_> {
    pub(super) async fn write_beside(&mut self, beside: Beside<'_>) -> Outcome<()> {
        let Beside { archived, results } = beside;
        let length = |(_, archived): &(JobId, &Archived)| archived.entries.len() * 2;
        self.insert_rows(
            &self.shared.statements.insert_histories,
            &archived,
            length,
            |values, (id, archived)| {
                values.push_bytes(Some(id.as_bytes()));
                values.push_number(archived.first_entry);
                values.push_text(Some(&archived.entries));
                values.push_text(archived.last_error.as_deref());
            },
        )
        .await?;
        let length = |(_, result): &(JobId, &TailResult)| result.result.len();
        self.insert_rows(&self.shared.statements.save_results, &results, length, |values, (id, result)| {
            values.push_bytes(Some(id.as_bytes()));
            values.push_number(result.entry);
            values.push_text(Some(result.result.as_str()));
        })
        .await
    }

    /// Inserts rows, as many at once as there is a statement for and as fit into one.
    pub(super) async fn insert_rows<R: Sync>(
        &mut self,
        sizes: &RowSizes,
        mut rows: &[R],
        length: impl Fn(&R) -> usize,
        bind: impl Fn(&mut Values, &R),
    ) -> Outcome<()> {
        while !rows.is_empty() {
            let (size, statement) =
                sizes.at_most(rows_that_fit(rows, self.shared.max_statement_bytes, &length));
            let (now, later) = rows.split_at(size);
            let mut values = Values::new();
            now.iter().for_each(|row| bind(&mut values, row));
            self.execute(statement, values).await?;
            rows = later;
        }
        Ok(())
    }
}

/// How many of the first rows fit into one statement; at least one.
pub(super) fn rows_that_fit<R>(rows: &[R], max_bytes: usize, length: impl Fn(&R) -> usize) -> usize {
    let mut left = max_bytes;
    let fits = |row: &&R| match left.checked_sub(length(row)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    rows.iter().take_while(fits).count().max(1).min(rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_holds_what_fits_and_at_least_one_row() {
        let fit = |rows: &[usize]| rows_that_fit(rows, 10, |row| *row);

        assert_eq!(fit(&[]), 0);
        assert_eq!(fit(&[4, 6, 1]), 2);
        assert_eq!(fit(&[11, 1]), 1);
    }
}
