//! The rows of the jobs, each with what is asked of it often, and the moves between states that keep the indexes right.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::indexes::Indexes;
use super::lanes::Wanted;
use super::merge::{Direction, Merge, Span};
use crate::ids::{JobId, ServerId, Version};
use crate::job::{Job, JobDefinition, JobMetadata, ServerRef, StoredJob};
use crate::names::QueueName;
use crate::state::{HistoryEntry, JobState, StateName};
use crate::storage::OrderField;

/// One stored job.
pub(super) struct Row {
    pub(super) version: Version,
    pub(super) definition: Arc<JobDefinition>,
    pub(super) history: Vec<HistoryEntry>,
    pub(super) metadata: JobMetadata,
    pub(super) columns: Columns,
}

/// What a job's history says of the present.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub(super) state: StateName,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
    pub(super) scheduled_at: Option<DateTime<Utc>>,
    pub(super) enqueued_at: Option<DateTime<Utc>>,
    pub(super) server_id: Option<ServerId>,
    pub(super) awaited_job_id: Option<JobId>,
}

impl Columns {
    fn of(job: &Job) -> Self {
        let awaited_job_id = match job.state() {
            JobState::Awaiting { job, .. } => *job,
            _ => None,
        };
        Self {
            state: job.state_name(),
            created_at: job.created_at(),
            updated_at: job.updated_at(),
            scheduled_at: job.scheduled_at(),
            enqueued_at: job.enqueued_at(),
            server_id: job.server_id(),
            awaited_job_id,
        }
    }

    /// What [`OrderField::of`] says of the job.
    pub(super) fn instant(&self, field: OrderField) -> DateTime<Utc> {
        match field {
            OrderField::CreatedAt => self.created_at,
            OrderField::UpdatedAt => self.updated_at,
            OrderField::ScheduledAt => self.scheduled_at.unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}

impl Row {
    /// The row of a new job.
    pub(super) fn of(job: &Job) -> Self {
        Self {
            version: job.version(),
            definition: job.shared_definition(),
            history: job.history().to_vec(),
            metadata: job.metadata().clone(),
            columns: Columns::of(job),
        }
    }

    /// The job without its metadata.
    pub(super) fn job(&self, id: JobId) -> Job {
        Job::from_stored(StoredJob {
            id,
            version: self.version,
            definition: Arc::clone(&self.definition),
            history: self.history.clone(),
            metadata: JobMetadata::new(),
        })
    }

    /// The whole job.
    pub(super) fn whole_job(&self, id: JobId) -> Job {
        self.job(id).with_metadata(self.metadata.clone())
    }
}

/// All jobs.
///
/// The rows are kept in a tree, not in a hash table: that would have to be rebuilt now and then as it grows, and every
/// caller would wait.
#[derive(Default)]
pub(super) struct JobTable {
    pub(super) rows: BTreeMap<JobId, Box<Row>>,
    pub(super) indexes: Indexes,
}

impl JobTable {
    /// Adds a job; tells whether its id is new.
    pub(super) fn insert(&mut self, id: JobId, row: Box<Row>) -> bool {
        let Entry::Vacant(place) = self.rows.entry(id) else { return false };
        let row = place.insert(row);
        self.indexes.insert(id, row);
        self.indexes.count_successes(&row.history);
        true
    }

    /// Writes what was added to the history of a job; tells whether it is stored at the version it carries.
    pub(super) fn save(&mut self, job: &Job) -> bool {
        let is_same =
            |row: &&mut Box<Row>| row.version == job.version() && row.columns.created_at == job.created_at();
        let row = self.rows.get_mut(&job.id()).filter(is_same);
        let Some(row) = row else { return false };
        append(&mut self.indexes, row, job);
        true
    }

    /// Removes a job.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Box<Row>> {
        let row = self.rows.remove(&id)?;
        self.indexes.remove(id, &row);
        Some(row)
    }

    /// The first jobs of the wanted types in the line of one queue, or in that of all of them.
    pub(super) fn first_in_line(
        &self,
        queue: Option<&QueueName>,
        wanted: &Wanted<'_>,
        limit: usize,
    ) -> Vec<JobId> {
        let ready = &self.indexes.ready;
        let lanes = queue.map_or_else(|| ready.of_all(wanted), |queue| ready.of(queue, wanted));
        let line = Merge::new(lanes, Span::ALL, Direction::Ascending);
        line.take(limit).map(|(_, _, id)| id).collect()
    }

    /// The first SCHEDULED jobs that are due at `now`.
    pub(super) fn first_due(&self, now: DateTime<Utc>, limit: usize) -> Vec<JobId> {
        let due = self.indexes.due.iter().take_while(|(due_at, _)| *due_at <= now);
        due.take(limit).map(|(_, id)| *id).collect()
    }

    /// The jobs in this state and of these types that were updated first, before this instant.
    pub(super) fn first_updated(
        &self,
        state: StateName,
        wanted: &Wanted<'_>,
        before: DateTime<Utc>,
        limit: usize,
    ) -> Vec<JobId> {
        let lanes = self.indexes.updated.of(&state, wanted);
        let oldest = Merge::new(lanes, Span::ALL, Direction::Ascending);
        oldest.take_while(|(updated_at, _)| *updated_at < before).take(limit).map(|(_, id)| id).collect()
    }

    /// Gives an ENQUEUED job to a server.
    pub(super) fn start_processing(&mut self, id: JobId, server: &ServerRef, now: DateTime<Utc>) -> Job {
        let row = self.rows.get_mut(&id).expect("indexes name stored jobs only");
        let mut job = row.whole_job(id);
        job.start_processing(server, now).expect("the line of a queue names ENQUEUED jobs only");
        append(&mut self.indexes, row, &job);
        job.mark_saved();
        job
    }

    /// Puts a SCHEDULED job in its queue.
    pub(super) fn enqueue(&mut self, id: JobId, now: DateTime<Utc>) -> Job {
        let row = self.rows.get_mut(&id).expect("indexes name stored jobs only");
        let mut job = row.job(id);
        job.enqueue(now).expect("the index of due jobs names SCHEDULED jobs only");
        append(&mut self.indexes, row, &job);
        job.mark_saved();
        job
    }
}

/// Adds the new entries of `job` to its row, whose version becomes the next one.
fn append(indexes: &mut Indexes, row: &mut Row, job: &Job) {
    row.version = row.version.next();
    let added = job.new_entries();
    if added.is_empty() {
        return;
    }
    row.history.extend_from_slice(added);
    let old = std::mem::replace(&mut row.columns, Columns::of(job));
    // What was written once stays, whatever the caller's job says of it.
    row.columns.created_at = old.created_at;
    indexes.update(job.id(), &old, row);
    indexes.count_successes(added);
}
