//! Storing, claiming and releasing jobs.

mod claim;
mod counting;
mod counts;
mod delete;
mod due;
mod gather;
mod insert;
mod park;
mod save;
mod settle;
mod uncertain;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::storage::{
    ClaimRequest, DueReport, InsertReport, JobSelection, JobStore, SaveReport, SignatureSelection,
    StorageError, check_payload_sizes,
};
use jobrunr_core::{Job, JobId, JobMetadata};
use mongodb::Cursor;
use mongodb::bson::{Document, RawBsonRef, RawDocument, doc};

pub(crate) use counts::{Deltas, SHARDS, SUCCESSES, Shards, field as count_field};
pub(crate) use gather::Gatherer;
pub(crate) use insert::insert_in_session;
pub(crate) use uncertain::Uncertain;

use crate::documents::{JobDocument, Unreadable, metadata_key, split_lane, uuid as stored_uuid};
use crate::{MongoStorage, PROVIDER};

/// How many jobs one command writes at most.
const CHUNK: usize = 1_000;

/// How many bytes one command has at most, a little less than what MongoDB takes.
const MAX_COMMAND_BYTES: usize = 12 << 20;

#[async_trait]
impl JobStore for MongoStorage {
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        let _open = self.begin(insert::OPERATION)?;
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
        let storage = self.clone();
        self.to_its_end(due::OPERATION, async move { storage.release_due(now, limit).await }).await
    }

    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError> {
        const OPERATION: &str = "find a job";
        let _open = self.begin(OPERATION)?;
        let jobs = self.jobs::<JobDocument>();
        let found = async {
            let mut cursor = jobs.find(doc! { "_id": stored_uuid(id) }).limit(1).await?;
            if !cursor.advance().await? {
                return Ok(None);
            }
            Ok(Some(read_job(&cursor)))
        };
        match self.limited(OPERATION, found).await? {
            None => Ok(None),
            Some(Ok(job)) => Ok(Some(job)),
            Some(Err((_, unreadable))) => Err(unreadable.into_error(OPERATION, format_args!("job {id}"))),
        }
    }

    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        let (storage, selection) = (self.clone(), selection.clone());
        self.to_its_end(delete::OPERATION, async move { storage.delete(&selection).await }).await
    }

    async fn save_job_metadata(&self, id: JobId, entries: &JobMetadata) -> Result<bool, StorageError> {
        const OPERATION: &str = "save metadata of a job";
        let _open = self.begin(OPERATION)?;
        let jobs = self.jobs::<Document>();
        let filter = doc! { "_id": stored_uuid(id) };
        if entries.is_empty() {
            let found = jobs.find_one(filter).projection(doc! { "_id": 1 });
            return Ok(self.limited(OPERATION, found.into_future()).await?.is_some());
        }
        let fields = entries.iter();
        let set: Document = fields
            .map(|(name, value)| (format!("metadata.{}", metadata_key(name)), value.to_string().into()))
            .collect();
        let saved = jobs.update_one(filter, doc! { "$set": set });
        Ok(self.limited(OPERATION, saved.into_future()).await?.matched_count > 0)
    }
}

/// Why a stored job cannot be read, and which it is, as far as that is readable.
pub(crate) type Unread = (Option<JobId>, Unreadable);

/// The job at which a cursor is.
pub(crate) fn read_job(cursor: &Cursor<JobDocument>) -> Result<Job, Unread> {
    read_document(cursor.deserialize_current().ok(), cursor.current())
}

/// The job of a document, which may not have the fields of one.
fn read_document(document: Option<JobDocument>, raw: &RawDocument) -> Result<Job, Unread> {
    if let Some(document) = document {
        let id = document.id();
        return document.into_job().map_err(|unreadable| (Some(id), unreadable));
    }
    let id = match raw.get("_id") {
        Ok(Some(RawBsonRef::Binary(binary))) => uuid::Uuid::from_slice(binary.bytes).ok().map(JobId::from),
        _ => None,
    };
    Err((id, Unreadable::because("its document has not the fields of a job")))
}

/// Whether a type is meant, as a condition on a lane.
fn is_of(selection: &SignatureSelection, lane: &str) -> bool {
    let Some((_, signature)) = split_lane(lane) else { return false };
    match selection {
        SignatureSelection::All => true,
        SignatureSelection::Only(wanted) => wanted.iter().any(|wanted| wanted.as_str() == signature),
        SignatureSelection::Except(unwanted) => {
            !unwanted.iter().any(|unwanted| unwanted.as_str() == signature)
        }
    }
}
