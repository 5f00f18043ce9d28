//! [`JobStore`]: storing, claiming and releasing jobs. One file each for what is done; here is what they share.

mod claim;
mod delete;
mod due;
mod gather;
mod insert;
mod rows;
mod save;
mod uncertain;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::storage::{
    ClaimRequest, DueReport, InsertReport, JobSelection, JobStore, SaveReport, StorageError,
    check_payload_sizes,
};
use jobrunr_core::{Job, JobId, JobMetadata};
use redis::cmd;

use crate::calls::Keeps;
use crate::encoding::encode_id;
use crate::error::corrupt;
use crate::scripts::JOB_DATA;
use crate::{PROVIDER, RedisStorage};
pub(crate) use gather::Gatherer;
pub(crate) use rows::{Fields, Row};
pub(crate) use uncertain::Uncertain;

/// How many jobs one script inserts, claims, saves or removes at most, so that nobody waits long for it.
const CHUNK: usize = 50;

/// How many scripts of one call are under way at once: while one runs, the next is written and the answer to the last read.
const CHUNKS_AT_ONCE: usize = 2;

#[async_trait]
impl JobStore for RedisStorage {
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        check_payload_sizes(PROVIDER, jobs, self.inner.options.max_payload_bytes)?;
        self.insert(jobs).await
    }

    async fn save_jobs(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        self.save(jobs).await
    }

    async fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        self.claim(request).await
    }

    async fn enqueue_due_jobs(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError> {
        self.enqueue_due(now, limit).await
    }

    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError> {
        const OPERATION: &str = "find a job";
        let call = self.begin(OPERATION)?;
        let key = encode_id(id);
        let mut read = cmd("HGETALL");
        read.arg(self.inner.keys.job(&key));
        let fields: Fields = call.read_one(&read).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        let unreadable = |what: String| corrupt(OPERATION, format!("job {id}: {what}"));
        let row = Row::read(fields).map_err(unreadable)?;
        let metadata = if row.has_metadata {
            call.load_metadata(&[&key])
                .await?
                .pop()
                .unwrap_or_else(|| Ok(JobMetadata::new()))
                .map_err(unreadable)?
        } else {
            JobMetadata::new()
        };
        row.into_job(id, metadata).map(Some).map_err(unreadable)
    }

    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        match selection {
            JobSelection::Ids(ids) => self.delete_by_id(ids).await,
            JobSelection::Aged { state, updated_before, signatures, limit } => {
                self.purge(*state, *updated_before, signatures, *limit).await
            }
        }
    }

    async fn save_job_metadata(&self, id: JobId, entries: &JobMetadata) -> Result<bool, StorageError> {
        let call = self.begin("save metadata of a job")?;
        let mut arguments = call.arguments(&JOB_DATA);
        arguments.arg(encode_id(id));
        for (name, value) in entries {
            arguments.arg(name).arg(value.to_string());
        }
        Ok(call.run::<bool>(&JOB_DATA, &arguments, Keeps::Write).await?)
    }
}
