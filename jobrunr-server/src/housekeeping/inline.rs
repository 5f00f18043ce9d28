//! The chores that make jobs ready, done once, one after the other: for servers that have no tasks.

use chrono::{DateTime, Utc};
use jobrunr_core::storage::{RecurringJobQuery, StorageError};

use super::recurring::Complaints;
use super::{due, signals, ticks, waiters};
use crate::engine::Engine;

/// The chores that make jobs ready, and what they remember.
#[derive(Default)]
pub(crate) struct Chores {
    complaints: Complaints,
    next_deadline: Option<DateTime<Utc>>,
}

impl Chores {
    /// Creates the runs of due ticks, releases due jobs and those that waited for others, and ends what waited too long.
    pub(crate) async fn keep_up(&mut self, engine: &Engine) -> Result<(), StorageError> {
        let now = engine.now();
        let query = RecurringJobQuery { due_at: Some(now), ..RecurringJobQuery::default() };
        let due_jobs = engine.storage.list_recurring_jobs(&query).await?;
        ticks::deal_with(engine, due_jobs, now, &mut self.complaints).await?;
        self.next_deadline = signals::time_out(engine).await?;
        waiters::release(engine).await?;
        due::release(engine).await
    }

    /// When, as far as is known, the next job has waited too long for its signal.
    pub(crate) const fn next_deadline(&self) -> Option<DateTime<Utc>> {
        self.next_deadline
    }
}
