//! [`RecurringJobStore`]: storing recurring jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::MemoryStorage;
use crate::ids::Version;
use crate::names::RecurringJobId;
use crate::recurring::RecurringJob;
use crate::storage::{RecurringJobQuery, RecurringJobStore, RecurringSave, StorageError};

/// All recurring jobs, and when those that are not paused are due.
#[derive(Default)]
pub(super) struct RecurringJobTable {
    rows: BTreeMap<RecurringJobId, RecurringJob>,
    due: BTreeSet<(DateTime<Utc>, RecurringJobId)>,
}

#[async_trait]
impl RecurringJobStore for MemoryStorage {
    async fn save_recurring_job(&self, job: &RecurringJob) -> Result<RecurringSave, StorageError> {
        let saved = self.with("save a recurring job", |content| content.recurring.save(job))?;
        if matches!(saved, RecurringSave::Saved(_)) {
            self.database.feeds.send_recurring_jobs_changed();
        }
        Ok(saved)
    }

    async fn find_recurring_job(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError> {
        self.with("find a recurring job", |content| content.recurring.rows.get(id).cloned())
    }

    async fn list_recurring_jobs(
        &self,
        query: &RecurringJobQuery,
    ) -> Result<Vec<RecurringJob>, StorageError> {
        self.with("list recurring jobs", |content| content.recurring.list(query))
    }

    async fn delete_recurring_job(
        &self,
        id: &RecurringJobId,
        version: Option<Version>,
    ) -> Result<bool, StorageError> {
        let was_there =
            self.with("delete a recurring job", |content| content.recurring.delete(id, version))?;
        if was_there {
            self.database.feeds.send_recurring_jobs_changed();
        }
        Ok(was_there)
    }
}

impl RecurringJobTable {
    fn save(&mut self, job: &RecurringJob) -> RecurringSave {
        let stored = self.rows.get(&job.id).map(|stored| stored.version);
        if job.version != Version::UNSAVED && stored != Some(job.version) {
            return RecurringSave::Conflict;
        }
        let version = stored.map_or(Version::FIRST, Version::next);
        self.delete(&job.id, None);
        self.due.extend(due_key(job));
        self.rows.insert(job.id.clone(), RecurringJob { version, ..job.clone() });
        RecurringSave::Saved(version)
    }

    fn delete(&mut self, id: &RecurringJobId, version: Option<Version>) -> bool {
        let stored = self.rows.get(id).map(|stored| stored.version);
        if version.is_some() && version != stored {
            return false;
        }
        let Some(job) = self.rows.remove(id) else { return false };
        if let Some(key) = due_key(&job) {
            self.due.remove(&key);
        }
        true
    }

    fn list(&self, query: &RecurringJobQuery) -> Vec<RecurringJob> {
        let RecurringJobQuery { due_at, after, limit } = query;
        let limit = limit.unwrap_or(usize::MAX);
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let Some(due_at) = due_at else {
            let jobs = self.rows.range::<RecurringJobId, _>((start, Bound::Unbounded));
            return jobs.take(limit).map(|(_, job)| job.clone()).collect();
        };
        let due = self.due.iter().take_while(|(next_run_at, _)| next_run_at <= due_at);
        let ids: BTreeSet<_> = due.map(|(_, id)| id).filter(|id| after.as_ref() < Some(*id)).collect();
        ids.into_iter().take(limit).map(|id| self.rows[id].clone()).collect()
    }
}

/// The place of a recurring job among those that become due; a paused one has none.
fn due_key(job: &RecurringJob) -> Option<(DateTime<Utc>, RecurringJobId)> {
    let next_run_at = job.next_run_at.filter(|_| !job.paused)?;
    Some((next_run_at, job.id.clone()))
}
