//! Storing, claiming, releasing and removing jobs. Each step is in a file of its own below `jobs/`.

mod claim;
mod columns;
mod gather;
mod insert;
mod release;
mod save;
mod shards;
mod uncertain;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::storage::{
    ClaimRequest, DueReport, InsertReport, JobSelection, JobStore, SaveReport, SignatureSelection,
    StorageError, check_payload_sizes,
};
use jobrunr_core::{Job, JobId, JobMetadata};
use jobrunr_storage_sql::micros;
use sqlx::Row;
use uuid::Uuid;

use crate::error::classify;
use crate::{PROVIDER, PostgresStorage};
pub(crate) use gather::SmallInserts;
pub(crate) use insert::check_texts;
pub(crate) use shards::Shards;
pub(crate) use uncertain::Uncertain;

/// Most jobs in one statement.
const CHUNK: usize = 1_000;

#[async_trait]
impl JobStore for PostgresStorage {
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        check_payload_sizes(PROVIDER, jobs, self.inner.options.max_payload_bytes)?;
        insert::check_texts(jobs)?;
        self.insert(jobs).await
    }

    async fn save_jobs(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        self.save(jobs).await
    }

    async fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        self.claim(request).await
    }

    async fn enqueue_due_jobs(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError> {
        self.release(now, limit).await
    }

    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError> {
        const OPERATION: &str = "find a job";
        let mut call = self.call(OPERATION).await?;
        let find = self.statement(&self.inner.statements.find_jobs).bind(vec![Uuid::from(id)]);
        let rows = call.rows(find).await?;
        let found = self.read_jobs(&mut call, &rows).await?.pop();
        call.finish().await?;
        let Some(found) = found else { return Ok(None) };
        match (found.job, found.salvaged) {
            (Ok(job), _) | (Err(_), Some(job)) => Ok(Some(job)),
            (Err(unreadable), None) => {
                self.report_unreadable(Some(id), &unreadable);
                Err(unreadable.into_error(PROVIDER, OPERATION, format_args!("job {id}")))
            }
        }
    }

    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        let _open = self.begin("delete jobs")?;
        let mut deleted = 0;
        match selection {
            JobSelection::Ids(ids) => {
                for chunk in ids.chunks(CHUNK) {
                    let mut ids: Vec<Uuid> = chunk.iter().map(|id| Uuid::from(*id)).collect();
                    // In one order everywhere, so that two that delete the same jobs cannot wait for each other.
                    ids.sort_unstable();
                    deleted += self.delete(ids).await?;
                }
            }
            JobSelection::Aged { state, updated_before, signatures, limit } => {
                let (wanted, unwanted) = texts_of(signatures);
                let mut left = *limit;
                while left > 0 {
                    let count = left.min(CHUNK);
                    let shard = self.inner.shards.take();
                    let delete = self
                        .statement(&self.inner.statements.delete_aged)
                        .bind(i16::from(state.index()))
                        .bind(micros(*updated_before))
                        .bind(wanted.clone())
                        .bind(unwanted.clone())
                        .bind(signed(count))
                        .bind(shard.number());
                    let gone = self.count_written("delete jobs", delete).await?;
                    deleted += gone;
                    let gone = usize::try_from(gone).unwrap_or(usize::MAX);
                    left = left.saturating_sub(gone);
                    if gone < count {
                        break;
                    }
                }
            }
        }
        Ok(deleted)
    }

    async fn save_job_metadata(&self, id: JobId, entries: &JobMetadata) -> Result<bool, StorageError> {
        const OPERATION: &str = "save metadata of a job";
        let (names, values) = insert::encode_metadata(entries);
        insert::check_names(&names)?;
        let save = self
            .statement(&self.inner.statements.save_job_metadata)
            .bind(Uuid::from(id))
            .bind(names)
            .bind(values);
        let mut call = self.call(OPERATION).await?;
        let row = call.row(save).await?;
        call.finish().await?;
        let exists = row.map(|row| row.try_get(0)).transpose();
        Ok(exists.map_err(|error| classify(&error, OPERATION))?.unwrap_or(false))
    }
}

impl PostgresStorage {
    async fn delete(&self, ids: Vec<Uuid>) -> Result<u64, StorageError> {
        let shard = self.inner.shards.take();
        let delete = self.statement(&self.inner.statements.delete).bind(ids).bind(shard.number());
        self.count_written("delete jobs", delete).await
    }

    /// Runs a statement that gives a number.
    pub(crate) async fn count_of(
        &self,
        operation: &'static str,
        statement: crate::connection::Statement,
    ) -> Result<u64, StorageError> {
        let mut call = self.call(operation).await?;
        let row = call.row(statement).await?;
        call.finish().await?;
        let count = row.map(|row| row.try_get::<i64, _>(0)).transpose();
        let count = count.map_err(|error| classify(&error, operation))?;
        Ok(u64::try_from(count.unwrap_or(0)).unwrap_or(0))
    }
}

/// A number of things as a column or a limit holds it.
pub(crate) fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A selection of types as two lists, wanted and unwanted; a missing list is no condition.
fn texts_of(signatures: &SignatureSelection) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let texts = |signatures: &[jobrunr_core::JobSignature]| {
        signatures.iter().map(|signature| signature.as_str().to_owned()).collect()
    };
    match signatures {
        SignatureSelection::All => (None, None),
        SignatureSelection::Only(wanted) => (Some(texts(wanted)), None),
        SignatureSelection::Except(unwanted) => (None, Some(texts(unwanted))),
    }
}
