//! Storing recurring jobs: each whole, as JSON, beside what is asked of it.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{RecurringJobQuery, RecurringJobStore, RecurringSave, StorageError};
use jobrunr_core::{RecurringJobId, Version};
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{FindOptions, Hint, ReturnDocument};

use crate::MongoStorage;
use crate::changes::Hints;
use crate::documents::{Unreadable, micros, version_number};
use crate::error::{DUPLICATE_KEY, code_of};
use crate::indexes::DUE;

#[async_trait]
impl RecurringJobStore for MongoStorage {
    async fn save_recurring_job(&self, job: &RecurringJob) -> Result<RecurringSave, StorageError> {
        const OPERATION: &str = "save a recurring job";
        let _open = self.begin(OPERATION)?;
        let body = serde_json::to_string(job).map_err(|_| {
            Unreadable::because("it is not representable as JSON").into_error(OPERATION, "a recurring job")
        })?;
        let change = doc! {
            "$set": {
                "paused": job.paused,
                "next_run": job.next_run_at.map_or(Bson::Null, |at| Bson::from(micros(at))),
                "body": body,
            },
            "$inc": { "version": 1_i64 },
        };
        let mut stored = doc! { "_id": job.id.as_str() };
        let is_new_or_replaced = job.version == Version::UNSAVED;
        if !is_new_or_replaced {
            stored.insert("version", version_number(job.version));
        }
        let recurring = self.recurring();
        let saved = async {
            loop {
                let save = recurring
                    .find_one_and_update(stored.clone(), change.clone())
                    .projection(doc! { "version": 1 })
                    .upsert(is_new_or_replaced)
                    .return_document(ReturnDocument::After);
                match save.await {
                    // Race: somebody else has just created it.
                    Err(error) if code_of(&error) == Some(DUPLICATE_KEY) => {}
                    saved => return saved,
                }
            }
        };
        let Some(saved) = self.limited(OPERATION, saved).await? else { return Ok(RecurringSave::Conflict) };
        self.hint(Hints::recurring_jobs_changed());
        let version = version_of(&saved).map_err(|why| why.into_error(OPERATION, &job.id))?;
        Ok(RecurringSave::Saved(version))
    }

    async fn find_recurring_job(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError> {
        const OPERATION: &str = "find a recurring job";
        let recurring = self.recurring();
        let found =
            self.call(OPERATION, recurring.find_one(doc! { "_id": id.as_str() }).into_future()).await?;
        found.as_ref().map(decode).transpose().map_err(|why| why.into_error(OPERATION, id))
    }

    async fn list_recurring_jobs(
        &self,
        query: &RecurringJobQuery,
    ) -> Result<Vec<RecurringJob>, StorageError> {
        const OPERATION: &str = "list recurring jobs";
        let _open = self.begin(OPERATION)?;
        if query.limit == Some(0) {
            return Ok(Vec::new());
        }
        let mut fits = Document::new();
        if let Some(after) = &query.after {
            fits.insert("_id", doc! { "$gt": after.as_str() });
        }
        if let Some(due_at) = query.due_at {
            fits.extend(doc! { "paused": false, "next_run": { "$lte": micros(due_at) } });
        }
        // Of thousands few are due, and those are sorted sooner than all are walked in order.
        let by_time = query.due_at.map(|_| Hint::Name(DUE.to_owned()));
        let options = FindOptions::builder()
            .sort(doc! { "_id": 1 })
            .limit(query.limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)))
            .hint(by_time)
            .build();
        let recurring = self.recurring();
        let listed =
            async { recurring.find(fits).with_options(options).await?.try_collect::<Vec<Document>>().await };
        let mut jobs = Vec::new();
        for document in self.limited(OPERATION, listed).await? {
            match decode(&document) {
                Ok(job) => jobs.push(job),
                Err(unreadable) => {
                    let id = document.get_str("_id").unwrap_or("of unknown id");
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
        let recurring = self.recurring();
        let mut stored = doc! { "_id": id.as_str() };
        if let Some(version) = version {
            stored.insert("version", version_number(version));
        }
        let delete = recurring.delete_one(stored);
        let deleted = self.call("delete a recurring job", delete.into_future()).await?.deleted_count > 0;
        if deleted {
            self.hint(Hints::recurring_jobs_changed());
        }
        Ok(deleted)
    }
}

impl MongoStorage {
    fn recurring(&self) -> Collection<Document> {
        self.collection(&self.inner.collections.recurring)
    }
}

fn version_of(document: &Document) -> Result<Version, Unreadable> {
    let version = document.get_i64("version").ok().and_then(|version| u64::try_from(version).ok());
    version.map(Version::new).ok_or(Unreadable::because("the version is none"))
}

fn decode(document: &Document) -> Result<RecurringJob, Unreadable> {
    let unreadable = || Unreadable::because("what is stored of the recurring job is no JSON of one");
    let body = document.get_str("body").map_err(|_| unreadable())?;
    let job: RecurringJob = serde_json::from_str(body).map_err(|_| unreadable())?;
    Ok(RecurringJob { version: version_of(document)?, ..job })
}
