//! Storing recurring jobs: each whole, as JSON, beside what is asked of it in SQL.

use async_trait::async_trait;
use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{Change, RecurringJobQuery, RecurringJobStore, RecurringSave, StorageError};
use jobrunr_core::{RecurringJobId, Version};
use jobrunr_storage_sql::{Unreadable, micros};
use rusqlite::{OptionalExtension, Row, params};

use crate::SqliteStorage;
use crate::error::Outcome;
use crate::session::{Session, View};

#[async_trait]
impl RecurringJobStore for SqliteStorage {
    async fn save_recurring_job(&self, job: &RecurringJob) -> Result<RecurringSave, StorageError> {
        let job = job.clone();
        self.write("save a recurring job", move |session| session.save_recurring_job(&job)).await
    }

    async fn find_recurring_job(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError> {
        let id = id.clone();
        self.read("find a recurring job", move |view| {
            let mut statement = view.prepare(&view.statements.find_recurring)?;
            let found = statement.query_row([id.as_str()], read).optional()?;
            Ok(found.as_ref().map(decode).transpose()?)
        })
        .await
    }

    async fn list_recurring_jobs(
        &self,
        query: &RecurringJobQuery,
    ) -> Result<Vec<RecurringJob>, StorageError> {
        let query = query.clone();
        let stored = self.read("list recurring jobs", move |view| list(view, &query)).await?;
        let mut jobs = Vec::with_capacity(stored.len());
        for row in stored {
            match decode(&row) {
                Ok(job) => jobs.push(job),
                Err(unreadable) => tracing::error!("recurring job {} is passed over: {unreadable}", row.id),
            }
        }
        Ok(jobs)
    }

    async fn delete_recurring_job(
        &self,
        id: &RecurringJobId,
        version: Option<Version>,
    ) -> Result<bool, StorageError> {
        let id = id.clone();
        let version = version.map(|version| i64::try_from(version.number()).unwrap_or(i64::MAX));
        self.write("delete a recurring job", move |session| {
            let mut delete = session.view.prepare(&session.view.statements.delete_recurring)?;
            let deleted = delete.execute(params![id.as_str(), version])? > 0;
            if deleted {
                session.note_change(Change::RecurringJobsChanged)?;
            }
            Ok(deleted)
        })
        .await
    }
}

struct StoredRecurringJob {
    id: String,
    version: i64,
    body: String,
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredRecurringJob> {
    Ok(StoredRecurringJob { id: row.get(0)?, version: row.get(1)?, body: row.get(2)? })
}

fn decode(stored: &StoredRecurringJob) -> Result<RecurringJob, Unreadable> {
    let unreadable = |_| Unreadable::because("what is stored of the recurring job is no JSON of one");
    let mut job: RecurringJob = serde_json::from_str(&stored.body).map_err(unreadable)?;
    let version = u64::try_from(stored.version);
    job.version = Version::new(version.map_err(|_| Unreadable::because("the version is negative"))?);
    Ok(job)
}

fn list(view: View<'_>, query: &RecurringJobQuery) -> Outcome<Vec<StoredRecurringJob>> {
    let after = query.after.as_ref().map_or("", RecurringJobId::as_str);
    let limit = query.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = match query.due_at {
        Some(due_at) => {
            let mut statement = view.prepare(&view.statements.list_due_recurring)?;
            statement.query_map(params![after, limit, micros(due_at)], read)?.collect::<Result<_, _>>()?
        }
        None => {
            let mut statement = view.prepare(&view.statements.list_recurring)?;
            statement.query_map(params![after, limit], read)?.collect::<Result<_, _>>()?
        }
    };
    Ok(rows)
}

impl Session<'_> {
    fn save_recurring_job(&mut self, job: &RecurringJob) -> Outcome<RecurringSave> {
        let statements = self.view.statements;
        let id = job.id.as_str();
        let stored: Option<i64> =
            self.view.prepare(&statements.recurring_version)?.query_row([id], |row| row.get(0)).optional()?;
        let stored = stored.and_then(|version| u64::try_from(version).ok()).map(Version::new);
        if job.version != Version::UNSAVED && stored != Some(job.version) {
            return Ok(RecurringSave::Conflict);
        }
        let version = stored.map_or(Version::FIRST, Version::next);
        let body = serde_json::to_string(&RecurringJob { version, ..job.clone() });
        let body = body.map_err(|_| Unreadable::because("a recurring job is not representable as JSON"))?;
        let number = i64::try_from(version.number()).unwrap_or(i64::MAX);
        let next_run_at = job.next_run_at.map(micros);
        let mut save = self.view.prepare(&statements.save_recurring)?;
        save.execute(params![id, number, job.paused, next_run_at, body])?;
        self.note_change(Change::RecurringJobsChanged)?;
        Ok(RecurringSave::Saved(version))
    }
}
