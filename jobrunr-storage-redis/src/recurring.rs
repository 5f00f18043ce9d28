//! [`RecurringJobStore`]: recurring jobs as JSON, with what scripts need to know of them in front.

use async_trait::async_trait;
use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{RecurringJobQuery, RecurringJobStore, RecurringSave, StorageError};
use jobrunr_core::{RecurringJobId, Version};
use redis::cmd;

use crate::RedisStorage;
use crate::calls::{Call, Keeps};
use crate::changes::Hints;
use crate::encoding::{TIME, encode_time};
use crate::error::{Failed, corrupt};
use crate::scripts::{TASK_DELETE, TASK_SAVE};

/// How many are read at once.
const READ_AT_ONCE: usize = 500;

const LIST: &str = "list recurring jobs";

/// Reads what is stored: version, when it is due, JSON.
fn decode(stored: &str) -> Option<RecurringJob> {
    let (version, rest) = stored.split_once(' ')?;
    let (_, json) = rest.split_once(' ')?;
    let job: RecurringJob = serde_json::from_str(json).ok()?;
    Some(RecurringJob { version: Version::new(version.parse().ok()?), ..job })
}

#[async_trait]
impl RecurringJobStore for RedisStorage {
    async fn save_recurring_job(&self, job: &RecurringJob) -> Result<RecurringSave, StorageError> {
        const OPERATION: &str = "save a recurring job";
        let call = self.begin(OPERATION)?;
        let json = serde_json::to_string(job).map_err(|error| StorageError::Backend {
            provider: crate::PROVIDER,
            operation: OPERATION,
            source: error.into(),
        })?;
        let due = job.next_run_at.filter(|_| !job.paused).map_or_else(|| "-".to_owned(), encode_time);
        let mut arguments = call.arguments(&TASK_SAVE);
        arguments.arg(job.id.as_str()).arg(job.version.number()).arg(due).arg(json);
        let version: String = call.run(&TASK_SAVE, &arguments, Keeps::Write).await?;
        if version.is_empty() {
            return Ok(RecurringSave::Conflict);
        }
        let version = version.parse().map_err(|_| corrupt(OPERATION, format!("recurring job {}", job.id)))?;
        self.hint(Hints::recurring_jobs_changed());
        Ok(RecurringSave::Saved(Version::new(version)))
    }

    async fn find_recurring_job(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError> {
        const OPERATION: &str = "find a recurring job";
        let call = self.begin(OPERATION)?;
        let mut read = cmd("HGET");
        read.arg(self.inner.keys.tasks()).arg(id.as_str());
        let stored: Option<String> = call.read_one(&read).await?;
        let unreadable = || corrupt(OPERATION, format!("recurring job {id}"));
        stored.map(|stored| decode(&stored).ok_or_else(unreadable)).transpose()
    }

    async fn list_recurring_jobs(
        &self,
        query: &RecurringJobQuery,
    ) -> Result<Vec<RecurringJob>, StorageError> {
        let call = self.begin(LIST)?;
        let limit = query.limit.unwrap_or(usize::MAX);
        let mut found = Vec::new();
        if query.due_at.is_some() {
            let ids = call.due_ids(query).await?;
            for ids in ids.chunks(READ_AT_ONCE) {
                found.extend(call.read_recurring(ids, query).await?);
                if found.len() >= limit {
                    break;
                }
            }
        } else {
            let mut after = query.after.as_ref().map_or_else(|| "-".to_owned(), |id| format!("({id}"));
            while found.len() < limit {
                let ids = call.ids_after(&after).await?;
                let Some(last) = ids.last() else { break };
                after = format!("({last}");
                found.extend(call.read_recurring(&ids, query).await?);
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn delete_recurring_job(
        &self,
        id: &RecurringJobId,
        version: Option<Version>,
    ) -> Result<bool, StorageError> {
        let call = self.begin("delete a recurring job")?;
        let mut arguments = call.arguments(&TASK_DELETE);
        // Nothing that is stored has the version 0.
        arguments.arg(id.as_str()).arg(version.map_or(0, Version::number));
        let was_there: bool = call.run(&TASK_DELETE, &arguments, Keeps::Write).await?;
        if was_there {
            self.hint(Hints::recurring_jobs_changed());
        }
        Ok(was_there)
    }
}

impl Call<'_> {
    /// The next ids in their order.
    async fn ids_after(&self, after: &str) -> Result<Vec<String>, Failed> {
        let mut read = cmd("ZRANGEBYLEX");
        read.arg(self.storage.inner.keys.task_ids())
            .arg(after)
            .arg("+")
            .arg("LIMIT")
            .arg(0)
            .arg(READ_AT_ONCE);
        self.read_one(&read).await
    }

    /// The ids of those that are due, in their order.
    async fn due_ids(&self, query: &RecurringJobQuery) -> Result<Vec<String>, Failed> {
        let Some(due_at) = query.due_at else { return Ok(Vec::new()) };
        let mut read = cmd("ZRANGEBYLEX");
        // No id has a tilde.
        read.arg(self.storage.inner.keys.task_due()).arg("-").arg(format!("[{}~", encode_time(due_at)));
        let due: Vec<String> = self.read_one(&read).await?;
        let ids = due.iter().filter_map(|member| member.get(TIME..));
        let after = query.after.as_ref().map(RecurringJobId::as_str);
        let mut ids: Vec<String> =
            ids.filter(|id| after.is_none_or(|after| *id > after)).map(str::to_owned).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Reads recurring jobs by id; those that are gone, or not due any more, are left out.
    async fn read_recurring(
        &self,
        ids: &[String],
        query: &RecurringJobQuery,
    ) -> Result<Vec<RecurringJob>, Failed> {
        let mut read = cmd("HMGET");
        read.arg(self.storage.inner.keys.tasks()).arg(ids);
        let stored: Vec<Option<String>> = self.read_one(&read).await?;
        let mut found = Vec::with_capacity(stored.len());
        for (id, stored) in ids.iter().zip(stored) {
            let Some(stored) = stored else { continue };
            let job = decode(&stored).ok_or_else(|| corrupt(LIST, format!("recurring job {id}")))?;
            let is_due = |due_at| !job.paused && job.next_run_at.is_some_and(|next| next <= due_at);
            if query.due_at.is_none_or(is_due) {
                found.push(job);
            }
        }
        Ok(found)
    }
}
