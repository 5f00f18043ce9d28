//! Inserting jobs.

use std::sync::Arc;

use jobrunr_core::{Job, JobDefinition, JobId, JobMetadata, ServerRef, StateName};
use jobrunr_storage_sql::{HotColumns, Lane, StoredDefinition, Tail, encode_history};
use rusqlite::params;

use super::archive::{Archived, TailResult};
use super::version_column;
use crate::error::Outcome;
use crate::session::Session;

/// A job to be inserted, encoded by whoever asked for it, so that the writer has less to do.
#[derive(Debug)]
pub(super) struct NewJob {
    id: JobId,
    version: i64,
    lane: Lane,
    columns: HotColumns,
    server: Option<ServerRef>,
    definition: Arc<JobDefinition>,
    labels: Option<String>,
    settings: Option<String>,
    archived: Option<Archived>,
    result: Option<TailResult>,
    metadata: Vec<(String, String)>,
    successes: i64,
}

impl NewJob {
    pub(super) fn of(job: &Job) -> Self {
        let definition = job.shared_definition();
        let encoded = encode_history(job, 0);
        Self {
            id: job.id(),
            version: version_column(job.version()),
            lane: Lane { queue: definition.queue.clone(), signature: definition.signature.clone() },
            labels: StoredDefinition::encode_labels(&definition.labels),
            settings: StoredDefinition::encode_settings(&definition.settings),
            definition,
            archived: Archived::from_history(&encoded),
            result: TailResult::from_history(&encoded),
            metadata: encode_metadata(job.metadata()),
            successes: successes(job.history()),
            server: encoded.server,
            columns: encoded.columns,
        }
    }
}

/// How many times a job with these entries succeeded.
pub(super) fn successes(entries: &[jobrunr_core::HistoryEntry]) -> i64 {
    super::signed(entries.iter().filter(|entry| entry.state.name() == StateName::Succeeded).count())
}

pub(super) fn encode_metadata(metadata: &JobMetadata) -> Vec<(String, String)> {
    metadata.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
}

impl Session<'_> {
    /// Inserts jobs; returns those that are there already.
    pub(super) fn insert_jobs(&mut self, jobs: &[NewJob]) -> Outcome<Vec<JobId>> {
        let mut inserts = self.take_inserts()?;
        let mut already_present = Vec::new();
        for job in jobs {
            let lane = self.lane_number(&job.lane)?;
            let server = job.server.as_ref().map(|server| self.server_number(server)).transpose()?;
            let HotColumns { state, queued_at, created_at, updated_at, scheduled_at, .. } = &job.columns;
            let Tail {
                scheduled_entry_at,
                enqueued_entry_at,
                claimed_at,
                finished_at,
                deleted_at,
                deleted_reason,
            } = &job.columns.tail;
            let inserted = inserts.job.execute(params![
                job.id.as_bytes(),
                state.index(),
                job.version,
                lane,
                -i64::from(job.definition.priority),
                queued_at,
                created_at,
                updated_at,
                super::signed(job.columns.archived_entries),
                !job.metadata.is_empty(),
                server,
                scheduled_at,
                job.columns.awaited_job_id.as_ref().map(JobId::as_bytes),
                scheduled_entry_at,
                enqueued_entry_at,
                claimed_at,
                finished_at,
                deleted_at,
                deleted_reason,
            ])?;
            if inserted == 0 {
                already_present.push(job.id);
                continue;
            }
            let seq = self.view.connection.last_insert_rowid();
            let payload = job.definition.payload.as_str();
            inserts.data.execute(params![seq, job.definition.name, job.labels, job.settings, payload])?;
            self.insert_rest(seq, job)?;
            self.count(lane, None, Some(*state));
            self.count_successes(lane, job.successes);
            match state {
                StateName::Enqueued => self.note_ready(&job.lane.queue),
                StateName::Scheduled => self.note_scheduled(*scheduled_at),
                _ => {}
            }
        }
        self.keep_inserts(inserts);
        Ok(already_present)
    }

    /// What most jobs do not have.
    fn insert_rest(&mut self, seq: i64, job: &NewJob) -> Outcome<()> {
        let statements = self.view.statements;
        for label in &job.definition.labels {
            self.view.prepare(&statements.insert_label)?.execute(params![label.as_str(), seq])?;
        }
        if let Some(id) = &job.definition.settings.recurring_job_id {
            self.view.prepare(&statements.insert_recurring_run)?.execute(params![id.as_str(), seq])?;
        }
        if let Some(archived) = &job.archived {
            self.archive(seq, archived)?;
        }
        if let Some(result) = &job.result {
            self.save_result(seq, result)?;
        }
        for (name, value) in &job.metadata {
            self.view.prepare(&statements.save_job_metadata)?.execute(params![seq, name, value])?;
        }
        Ok(())
    }
}
