//! Storing recurring jobs: each whole, as JSON, beside what is asked of it in SQL.

use async_trait::async_trait;
use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{RecurringJobQuery, RecurringJobStore, RecurringSave, StorageError};
use jobrunr_core::{RecurringJobId, Version};
use jobrunr_storage_sql::{Unreadable, micros};
use sqlx::mysql::MySqlRow;

use crate::MySqlStorage;
use crate::columns::Columns;
use crate::error::Outcome;
use crate::session::Session;
use crate::values::Values;
use crate::work::Work;

#[async_trait]
impl RecurringJobStore for MySqlStorage {
    async fn save_recurring_job(&self, job: &RecurringJob) -> Result<RecurringSave, StorageError> {
        let work = SaveRecurringJob { job: job.clone(), written: None };
        let saved = self.shared.write("save a recurring job", work).await?;
        Ok(saved.map_or(RecurringSave::Conflict, RecurringSave::Saved))
    }

    async fn find_recurring_job(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError> {
        let id = id.clone();
        self.shared
            .call("find a recurring job", move |session| {
                let values = Values::new().bytes(id.as_str().as_bytes());
                Box::pin(async move {
                    let row = session.row(&session.shared.statements.find_recurring, values).await?;
                    Ok(row.map(|row| decode(&row)).transpose()?)
                })
            })
            .await
    }

    async fn list_recurring_jobs(
        &self,
        query: &RecurringJobQuery,
    ) -> Result<Vec<RecurringJob>, StorageError> {
        let query = query.clone();
        self.shared
            .call("list recurring jobs", move |session| {
                let query = query.clone();
                Box::pin(async move { list(session, &query).await })
            })
            .await
    }

    async fn delete_recurring_job(
        &self,
        id: &RecurringJobId,
        version: Option<Version>,
    ) -> Result<bool, StorageError> {
        let work = DeleteRecurringJob { id: id.clone(), version };
        self.shared.write("delete a recurring job", work).await
    }
}

fn decode(row: &MySqlRow) -> Result<RecurringJob, Unreadable> {
    let unreadable = |_| Unreadable::because("what is stored of the recurring job is no JSON of one");
    let mut job: RecurringJob = serde_json::from_str(row.text_or(2)?).map_err(unreadable)?;
    let version = u64::try_from(row.number_or(1)?);
    job.version = Version::new(version.map_err(|_| Unreadable::because("the version is negative"))?);
    Ok(job)
}

async fn list(session: &mut Session<'_>, query: &RecurringJobQuery) -> Outcome<Vec<RecurringJob>> {
    let after = query.after.as_ref().map_or("", RecurringJobId::as_str).as_bytes();
    let limit = query.limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let statements = session.statements();
    let rows = match query.due_at {
        Some(due_at) => {
            let values = Values::new().number(micros(due_at)).bytes(after).number(limit);
            session.rows(&statements.list_due_recurring, values).await?
        }
        None => session.rows(&statements.list_recurring, Values::new().bytes(after).number(limit)).await?,
    };
    let mut jobs = Vec::with_capacity(rows.len());
    for row in &rows {
        match decode(row) {
            Ok(job) => jobs.push(job),
            Err(unreadable) => {
                let id = row.text_or(0).unwrap_or("of unknown id");
                tracing::error!("recurring job {id} is passed over: {unreadable}");
            }
        }
    }
    Ok(jobs)
}

struct SaveRecurringJob {
    job: RecurringJob,
    /// What the last try wrote.
    written: Option<(i64, String)>,
}

#[async_trait]
impl Work for SaveRecurringJob {
    /// The new version; `None` if somebody else was faster.
    type Output = Option<Version>;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<Option<Version>> {
        self.written = None;
        let statements = session.statements();
        let id = self.job.id.as_str().as_bytes();
        let stored = session.row(&statements.lock_recurring, Values::new().bytes(id)).await?;
        let stored = stored.map(|row| row.number(0)).transpose()?;
        let stored = stored.and_then(|version| u64::try_from(version).ok()).map(Version::new);
        if self.job.version != Version::UNSAVED && stored != Some(self.job.version) {
            return Ok(None);
        }
        let version = stored.map_or(Version::FIRST, Version::next);
        let body = serde_json::to_string(&RecurringJob { version, ..self.job.clone() });
        let body = body.map_err(|_| Unreadable::because("a recurring job is not representable as JSON"))?;
        let number = i64::try_from(version.number()).unwrap_or(i64::MAX);
        let values = Values::new().bytes(id).number(number).number(i64::from(self.job.paused));
        let values = values.number(self.job.next_run_at.map(micros)).text(&body);
        // Race: two that create it at once both find none; the row of the one that is second must not replace the first's.
        let save =
            if stored.is_some() { &statements.replace_recurring } else { &statements.insert_recurring };
        session.execute(save, values).await?;
        self.written = Some((number, body));
        Ok(Some(version))
    }

    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let Some((version, body)) = &self.written else { return Ok(false) };
        let statements = session.statements();
        let id = || Values::new().bytes(self.job.id.as_str().as_bytes());
        session.row(&statements.lock_recurring, id()).await?;
        let row = session.row(&statements.find_recurring, id()).await?;
        let Some(row) = row else { return Ok(false) };
        Ok(row.number(1)? == *version && row.text(2)? == body)
    }

    fn retries_duplicates(&self) -> bool {
        true
    }
}

struct DeleteRecurringJob {
    id: RecurringJobId,
    version: Option<Version>,
}

#[async_trait]
impl Work for DeleteRecurringJob {
    type Output = bool;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let version = self.version.map(|version| i64::try_from(version.number()).unwrap_or(i64::MAX));
        let values = Values::new().bytes(self.id.as_str().as_bytes()).number(version);
        Ok(session.execute(&session.shared.statements.delete_recurring, values).await? > 0)
    }

    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let values = Values::new().bytes(self.id.as_str().as_bytes());
        Ok(session.row(&session.shared.statements.lock_recurring, values).await?.is_none())
    }
}
