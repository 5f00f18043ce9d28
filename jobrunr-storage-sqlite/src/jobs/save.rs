//! Saving jobs: the columns of the hot row change, entries they cannot say are archived, nothing else is written.

use std::sync::Arc;

use jobrunr_core::storage::Change;
use jobrunr_core::{HistoryEntry, Job, JobDefinition, JobId, ServerRef, StateName, StoredJob};
use jobrunr_storage_sql::{EncodedHistory, HotColumns, Lane, Tail, encode_history, micros, tail_start};
use rusqlite::params;

use super::archive::{Archived, TailResult};
use super::insert::successes;
use super::{Place, signed, version_column};
use crate::error::Outcome;
use crate::rows::read_job;
use crate::session::Session;

/// A job to be saved, encoded by whoever asked for it.
#[derive(Debug)]
pub(super) struct SavedJob {
    id: JobId,
    version: i64,
    /// Whether it is the first of its id in its batch; no other can win.
    is_first: bool,
    lane: Lane,
    definition: Arc<JobDefinition>,
    new_entries: Vec<HistoryEntry>,
    /// What the row must look like for `change` to fit; `None` if that is not known.
    stored: Option<Stored>,
    change: RowChange,
}

/// What the row of a job looks like before a save.
#[derive(Debug, Clone, Copy)]
struct Stored {
    state: StateName,
    archived_entries: i64,
    updated_at: i64,
}

/// What a save makes of the row.
#[derive(Debug)]
struct RowChange {
    columns: HotColumns,
    server: Option<ServerRef>,
    archived: Option<Archived>,
    result: Option<TailResult>,
    /// Whether a success is all that is new, and goes into its column.
    is_plain_success: bool,
}

impl RowChange {
    fn of(encoded: EncodedHistory<'_>, is_plain_success: bool) -> Self {
        Self {
            archived: Archived::from_history(&encoded),
            result: TailResult::from_history(&encoded),
            columns: encoded.columns,
            server: encoded.server,
            is_plain_success,
        }
    }
}

impl SavedJob {
    pub(super) fn of(job: &Job, is_first: bool) -> Self {
        let definition = job.shared_definition();
        let new_entries = job.new_entries().to_vec();
        let stored_entries = &job.history()[..job.history().len() - new_entries.len()];
        let archived = tail_start(stored_entries);
        let stored = stored_entries.last().map(|last| Stored {
            state: last.state.name(),
            archived_entries: signed(archived),
            updated_at: micros(last.at),
        });
        let encoded = encode_history(job, archived);
        let is_plain_success = new_entries.len() == 1
            && encoded.columns.state == StateName::Succeeded
            && encoded.columns.archived_entries == archived;
        Self {
            id: job.id(),
            version: version_column(job.version()),
            is_first,
            lane: Lane { queue: definition.queue.clone(), signature: definition.signature.clone() },
            definition,
            new_entries,
            stored,
            change: RowChange::of(encoded, is_plain_success),
        }
    }
}

impl Session<'_> {
    /// Saves jobs; returns those that lost.
    pub(super) fn save_jobs(&mut self, jobs: &[SavedJob]) -> Outcome<Vec<JobId>> {
        let mut conflicts = Vec::new();
        for job in jobs {
            if !job.is_first || !self.save_job(job)? {
                conflicts.push(job.id);
            }
        }
        Ok(conflicts)
    }

    fn save_job(&mut self, job: &SavedJob) -> Outcome<bool> {
        let lane = self.lane_number(&job.lane)?;
        if let Some(stored) = job.stored
            && self.change_row(job, &stored, &job.change)?
        {
            self.note_saved(job, lane, stored.state)?;
            return Ok(true);
        }
        // The row does not look as it should. Almost always somebody else was faster.
        match self.find_place(job.id)? {
            Some(place) if place.version == job.version => self.save_unexpected(job, &place),
            _ => Ok(false),
        }
    }

    /// Changes the row, and what is beside it, if it looks as expected.
    fn change_row(&mut self, job: &SavedJob, stored: &Stored, change: &RowChange) -> Outcome<bool> {
        let changed = if change.is_plain_success {
            self.change_to_success(job, stored, change)?
        } else {
            self.change_all_columns(job, stored, change)?
        };
        if changed && (change.archived.is_some() || change.result.is_some()) {
            let seq = self.find_place(job.id)?.map_or(0, |place| place.seq);
            if let Some(archived) = &change.archived {
                self.archive(seq, archived)?;
            }
            if let Some(result) = &change.result {
                self.save_result(seq, result)?;
            }
        }
        Ok(changed)
    }

    fn change_to_success(&mut self, job: &SavedJob, stored: &Stored, change: &RowChange) -> Outcome<bool> {
        let statements = self.view.statements;
        let (version, at) = (job.version + 1, change.columns.updated_at);
        let Stored { archived_entries, updated_at, .. } = stored;
        let id = job.id.as_bytes();
        if let Some(seq) = self.recall_claimed(job.id) {
            let mut save = self.view.prepare(&statements.save_claimed_success)?;
            if save.execute(params![version, at, id, job.version, archived_entries, updated_at, seq])? == 1 {
                return Ok(true);
            }
        }
        let mut save = self.view.prepare(&statements.save_success)?;
        Ok(save.execute(params![version, at, id, job.version, archived_entries, updated_at])? == 1)
    }

    fn change_all_columns(&mut self, job: &SavedJob, stored: &Stored, change: &RowChange) -> Outcome<bool> {
        let HotColumns { state, queued_at, updated_at, scheduled_at, .. } = &change.columns;
        let Tail {
            scheduled_entry_at,
            enqueued_entry_at,
            claimed_at,
            finished_at,
            deleted_at,
            deleted_reason,
        } = &change.columns.tail;
        let server = change.server.as_ref().map(|server| self.server_number(server)).transpose()?;
        let mut save = self.view.prepare(&self.view.statements.save_job)?;
        let changed = save.execute(params![
            state.index(),
            job.version + 1,
            queued_at,
            updated_at,
            signed(change.columns.archived_entries),
            server,
            scheduled_at,
            change.columns.awaited_job_id.as_ref().map(JobId::as_bytes),
            scheduled_entry_at,
            enqueued_entry_at,
            claimed_at,
            finished_at,
            deleted_at,
            deleted_reason,
            job.id.as_bytes(),
            job.version,
            stored.archived_entries,
            stored.updated_at,
        ])?;
        Ok(changed == 1)
    }

    /// Adds the new entries to a row whose version is right but which does not look as the job's history says it
    /// should: what is stored is kept, whatever it is.
    fn save_unexpected(&mut self, job: &SavedJob, place: &Place) -> Outcome<bool> {
        let Some(state) = place.state() else { return Ok(false) };
        let stored = Stored { state, archived_entries: place.archived_entries, updated_at: place.updated_at };
        let whole = read_job(self.view, &self.view.statements.load_job, place.seq, false)?;
        let archived = usize::try_from(place.archived_entries).unwrap_or(0);
        let change = match whole {
            Some(whole) if whole.is_intact && whole.job.is_ok() => {
                let found = whole.job?;
                if micros(found.created_at()) != job.change.columns.created_at {
                    // The job was purged, and its id given to a later one.
                    return Ok(false);
                }
                let history = found.history().iter().chain(&job.new_entries).cloned().collect();
                let grown = Job::from_stored(StoredJob {
                    id: job.id,
                    version: found.version(),
                    definition: Arc::clone(&job.definition),
                    history,
                    metadata: jobrunr_core::JobMetadata::new(),
                });
                RowChange::of(encode_history(&grown, archived), false)
            }
            // What is stored cannot be read, so nothing can be said of its tail: the new entries are only added to it.
            _ => RowChange {
                columns: HotColumns {
                    archived_entries: archived + job.new_entries.len(),
                    tail: Tail::default(),
                    ..job.change.columns.clone()
                },
                server: job.change.server.clone(),
                archived: Archived::of(archived, &job.new_entries),
                result: None,
                is_plain_success: false,
            },
        };
        let changed = self.change_row(job, &stored, &change)?;
        if changed {
            self.note_saved(job, place.lane, state)?;
        }
        Ok(changed)
    }

    fn note_saved(&mut self, job: &SavedJob, lane: i64, from: StateName) -> Outcome<()> {
        let to = job.new_entries.last().map_or(from, |entry| entry.state.name());
        self.count(lane, Some(from), Some(to));
        self.count_successes(lane, successes(&job.new_entries));
        match to {
            StateName::Enqueued => self.note_ready(&job.lane.queue),
            StateName::Scheduled => self.note_scheduled(job.change.columns.scheduled_at),
            _ => {}
        }
        let was_running = matches!(from, StateName::Processing | StateName::Processed);
        if was_running && to == StateName::Deleted {
            self.note_change(Change::JobChanged { id: job.id, state: to })?;
        }
        Ok(())
    }
}
