//! What finds jobs without looking at all of them. Everything here can be rebuilt from the rows.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::lanes::{Lanes, Postings};
use super::table::{Columns, Row};
use crate::ids::JobId;
use crate::job::JobDefinition;
use crate::names::{Label, QueueName, RecurringJobId};
use crate::state::{HistoryEntry, StateName};
use crate::storage::JobCounts;

/// A place in an order of instants.
pub(super) type InstantKey = (DateTime<Utc>, JobId);

/// A place in a queue: higher priority first, then who came first, then the smaller id.
pub(super) type LineKey = (Reverse<i32>, DateTime<Utc>, JobId);

/// Every index over the jobs, and their counts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Indexes {
    /// ENQUEUED jobs in line, by queue.
    pub(super) ready: Lanes<QueueName, LineKey>,
    /// SCHEDULED jobs by when they are due.
    pub(super) due: BTreeSet<InstantKey>,
    /// All jobs by when they were created, by state.
    pub(super) created: Lanes<StateName, InstantKey>,
    /// All jobs by when they were updated, by state.
    pub(super) updated: Lanes<StateName, InstantKey>,
    /// Jobs by each of their labels.
    pub(super) labelled: Postings<Label>,
    /// Jobs by the recurring job that made them, by state.
    pub(super) recurring: Postings<(RecurringJobId, StateName)>,
    /// AWAITING jobs by the job they wait for.
    pub(super) awaiting: Postings<JobId>,
    /// How many there are.
    pub(super) counts: JobCounts,
}

impl Indexes {
    pub(super) fn insert(&mut self, id: JobId, row: &Row) {
        for label in &row.definition.labels {
            self.labelled.insert(label.clone(), id);
        }
        self.enter(id, &row.definition, &row.columns);
    }

    pub(super) fn remove(&mut self, id: JobId, row: &Row) {
        for label in &row.definition.labels {
            self.labelled.remove(label, id);
        }
        self.leave(id, &row.definition, &row.columns);
    }

    /// Puts a job whose row has changed to its new places.
    pub(super) fn update(&mut self, id: JobId, old: &Columns, row: &Row) {
        self.leave(id, &row.definition, old);
        self.enter(id, &row.definition, &row.columns);
    }

    /// Counts the successes among entries that were written.
    pub(super) fn count_successes(&mut self, written: &[HistoryEntry]) {
        let successes = written.iter().filter(|entry| entry.state.name() == StateName::Succeeded);
        self.counts.succeeded_all_time += successes.map(|_| 1).sum::<u64>();
    }

    fn enter(&mut self, id: JobId, definition: &JobDefinition, columns: &Columns) {
        let JobDefinition { signature, queue, settings, .. } = definition;
        let state = columns.state;
        self.created.insert(&state, signature, (columns.created_at, id));
        self.updated.insert(&state, signature, (columns.updated_at, id));
        if let Some(key) = line_key(id, definition, columns) {
            self.ready.insert(queue, signature, key);
        }
        if let Some(due_at) = due_at(columns) {
            self.due.insert((due_at, id));
        }
        if let Some(recurring) = &settings.recurring_job_id {
            self.recurring.insert((recurring.clone(), state), id);
        }
        if let Some(awaited) = columns.awaited_job_id {
            self.awaiting.insert(awaited, id);
        }
        self.counts.set(state, self.counts.in_state(state) + 1);
    }

    fn leave(&mut self, id: JobId, definition: &JobDefinition, columns: &Columns) {
        let JobDefinition { signature, queue, settings, .. } = definition;
        let state = columns.state;
        self.created.remove(&state, signature, &(columns.created_at, id));
        self.updated.remove(&state, signature, &(columns.updated_at, id));
        if let Some(key) = line_key(id, definition, columns) {
            self.ready.remove(queue, signature, &key);
        }
        if let Some(due_at) = due_at(columns) {
            self.due.remove(&(due_at, id));
        }
        if let Some(recurring) = &settings.recurring_job_id {
            self.recurring.remove(&(recurring.clone(), state), id);
        }
        if let Some(awaited) = columns.awaited_job_id {
            self.awaiting.remove(&awaited, id);
        }
        self.counts.set(state, self.counts.in_state(state) - 1);
    }
}

fn line_key(id: JobId, definition: &JobDefinition, columns: &Columns) -> Option<LineKey> {
    let enqueued_at = columns.enqueued_at.filter(|_| columns.state == StateName::Enqueued)?;
    Some((Reverse(definition.priority), enqueued_at, id))
}

fn due_at(columns: &Columns) -> Option<DateTime<Utc>> {
    columns.scheduled_at.filter(|_| columns.state == StateName::Scheduled)
}
