//! Storing recurring jobs: each whole, as JSON, beside what is asked of it in SQL.

use async_trait::async_trait;
use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{RecurringJobQuery, RecurringJobStore, RecurringSave, StorageError};
use jobrunr_core::{RecurringJobId, Version};
use jobrunr_storage_sql::{Unreadable, micros};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::changes::Hints;
use crate::error::classify;
use crate::jobs::signed;
use crate::{PROVIDER, PostgresStorage};

#[async_trait]
impl RecurringJobStore for PostgresStorage {
    async fn save_recurring_job(&self, job: &RecurringJob) -> Result<RecurringSave, StorageError> {
        const OPERATION: &str = "save a recurring job";
        let what = format!("recurring job {}", job.id);
        let body = serde_json::to_string(job).map_err(|_| {
            Unreadable::because("it is not representable as JSON").into_error(PROVIDER, OPERATION, what)
        })?;
        let next_run_at = job.next_run_at.map(micros);
        let statements = &self.inner.statements;
        let expected = (job.version != Version::UNSAVED).then_some(job.version.number());
        let save =
            if expected.is_none() { &statements.save_recurring } else { &statements.save_recurring_at };
        let save = self
            .statement(save)
            .bind(job.id.as_str().to_owned())
            .bind(job.paused)
            .bind(next_run_at)
            .bind(body);
        let save = match expected {
            Some(version) => save.bind(i64::try_from(version).unwrap_or(i64::MAX)),
            None => save,
        };
        let rows = self.write_for_sure(OPERATION, save).await?;
        let Some(row) = rows.first() else { return Ok(RecurringSave::Conflict) };
        let version: i64 = row.try_get(0).map_err(|error| classify(&error, OPERATION))?;
        self.hint(Hints::recurring_jobs_changed());
        Ok(RecurringSave::Saved(Version::new(u64::try_from(version).unwrap_or_default())))
    }

    async fn find_recurring_job(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError> {
        const OPERATION: &str = "find a recurring job";
        let find = self.statement(&self.inner.statements.find_recurring).bind(id.as_str().to_owned());
        let mut call = self.call(OPERATION).await?;
        let row = call.row(find).await?;
        call.finish().await?;
        let Some(row) = row else { return Ok(None) };
        let decoded = decode(&row).map_err(|error| classify(&error, OPERATION))?;
        let unreadable =
            |why: Unreadable| why.into_error(PROVIDER, OPERATION, format_args!("recurring job {id}"));
        decoded.map(Some).map_err(unreadable)
    }

    async fn list_recurring_jobs(
        &self,
        query: &RecurringJobQuery,
    ) -> Result<Vec<RecurringJob>, StorageError> {
        const OPERATION: &str = "list recurring jobs";
        let statements = &self.inner.statements;
        let after = query.after.as_ref().map_or("", RecurringJobId::as_str).to_owned();
        let limit = signed(query.limit.unwrap_or(usize::MAX));
        let list = match query.due_at {
            Some(due_at) => {
                self.statement(&statements.list_due_recurring).bind(after).bind(limit).bind(micros(due_at))
            }
            None => self.statement(&statements.list_recurring).bind(after).bind(limit),
        };
        let mut call = self.call(OPERATION).await?;
        let rows = call.rows(list).await?;
        call.finish().await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            match decode(row).map_err(|error| classify(&error, OPERATION))? {
                Ok(job) => jobs.push(job),
                Err(unreadable) => {
                    let id: String = row.try_get(0).map_err(|error| classify(&error, OPERATION))?;
                    tracing::error!("recurring job {id} is passed over: {unreadable}");
                }
            }
        }
        Ok(jobs)
    }

    async fn delete_recurring_job(
        &self,
        id: &RecurringJobId,
        version: Option<Version>,
    ) -> Result<bool, StorageError> {
        let version = version.map(|version| i64::try_from(version.number()).unwrap_or(i64::MAX));
        let delete = self.statement(&self.inner.statements.delete_recurring);
        let delete = delete.bind(id.as_str().to_owned()).bind(version);
        let was_there = !self.write_for_sure("delete a recurring job", delete).await?.is_empty();
        if was_there {
            self.hint(Hints::recurring_jobs_changed());
        }
        Ok(was_there)
    }
}

fn decode(row: &PgRow) -> Result<Result<RecurringJob, Unreadable>, sqlx::Error> {
    let (version, body): (i64, &str) = (row.try_get(1)?, row.try_get(2)?);
    let unreadable = |_| Unreadable::because("what is stored of the recurring job is no JSON of one");
    Ok(serde_json::from_str::<RecurringJob>(body).map_err(unreadable).and_then(|mut job| {
        let version = u64::try_from(version).map_err(|_| Unreadable::because("the version is negative"))?;
        job.version = Version::new(version);
        Ok(job)
    }))
}
