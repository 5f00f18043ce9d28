//! The schema: collections, indexes, and the document that says which version of them there is.
//!
//! Every step may be done again and by several processes at once, so nobody has to wait for a lock that a dead process
//! holds.

use futures_util::TryStreamExt;
use jobrunr_core::storage::StorageError;
use mongodb::IndexModel;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::IndexOptions;

use crate::error::{Failed, INDEX_CONFLICTS, NAMESPACE_EXISTS, classify, code_of};
use crate::jobs::SHARDS;
use crate::{Collections, MongoStorage, PROVIDER};

/// The version of the schema that this version of the storage needs.
const VERSION: i32 = 1;

const OPERATION: &str = "set up";

/// The name of the index that claims go by.
pub(crate) const READY: &str = "ready";
/// The name of the index by state and time.
pub(crate) const STATE: &str = "state";
/// The name of the index of what is due, of jobs and of recurring jobs.
pub(crate) const DUE: &str = "due";

/// An index as it must be.
struct Index {
    collection: String,
    name: &'static str,
    keys: Document,
    /// What is in it; all documents if `None`.
    only: Option<Document>,
    is_unique: bool,
    expires_after_seconds: Option<i32>,
}

/// Every index, and the only place that knows one.
fn indexes(collections: &Collections) -> Vec<Index> {
    let index = |collection: &str, name, keys| Index {
        collection: collection.to_owned(),
        name,
        keys,
        only: None,
        is_unique: false,
        expires_after_seconds: None,
    };
    let Collections { jobs, recurring, metadata, hints, servers, .. } = collections;
    vec![
        // ENQUEUED jobs, in the order in which each lane is claimed.
        Index {
            only: Some(doc! { "state": 2 }),
            ..index(jobs, READY, doc! { "state": 1, "lane": 1, "rank": 1, "queued": 1, "_id": 1 })
        },
        // SCHEDULED jobs by when they are due.
        Index {
            only: Some(doc! { "state": 1 }),
            ..index(jobs, DUE, doc! { "state": 1, "scheduled": 1, "_id": 1 })
        },
        // Lists, counts and retention; with the lane, so that a purge of some types reads no job of others.
        index(jobs, STATE, doc! { "state": 1, "updated": 1, "_id": 1, "lane": 1 }),
        index(jobs, "created", doc! { "created": 1, "_id": 1 }),
        // Most jobs are not in it. One for all that is found by: in a transaction an update looks up each index in the catalog,
        // which is read whole each time (MongoDB 6.0).
        Index {
            only: Some(doc! { "tags": { "$exists": true } }),
            ..index(jobs, "tags", doc! { "tags": 1, "_id": 1 })
        },
        index(recurring, DUE, doc! { "paused": 1, "next_run": 1 }),
        index(servers, "heartbeat", doc! { "last_heartbeat": 1 }),
        Index { is_unique: true, ..index(metadata, "owner", doc! { "name": 1, "owner": 1 }) },
        Index { expires_after_seconds: Some(60), ..index(hints, "expiry", doc! { "at": 1 }) },
    ]
}

impl Index {
    fn model(&self) -> IndexModel {
        let options = IndexOptions::builder()
            .name(self.name.to_owned())
            .unique(self.is_unique.then_some(true))
            .partial_filter_expression(self.only.clone())
            .expire_after(
                self.expires_after_seconds
                    .map(|seconds| std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
            )
            .build();
        IndexModel::builder().keys(self.keys.clone()).options(options).build()
    }

    /// What there is of it is not what must be there.
    fn differs_from(&self, stored: &Document) -> bool {
        let keys = |document: &Document| -> Vec<(String, Option<i64>)> {
            let number = |value: &Bson| value.as_i64().or_else(|| value.as_i32().map(i64::from));
            document.iter().map(|(name, value)| (name.clone(), number(value))).collect()
        };
        let stored_keys = stored.get_document("key").map(keys).unwrap_or_default();
        stored_keys != keys(&self.keys)
            || stored.get_document("partialFilterExpression").ok() != self.only.as_ref()
            || stored.get_bool("unique").unwrap_or(false) != self.is_unique
    }
}

impl MongoStorage {
    /// Creates what is missing and brings what is old up to date.
    pub(crate) async fn migrate(&self) -> Result<(), StorageError> {
        let _open = self.begin(OPERATION)?;
        if self.stored_version().await? > Some(VERSION) {
            return Err(too_new());
        }
        self.create_collections().await?;
        self.create_indexes().await?;
        self.create_counts().await?;
        let is_older = doc! { "_id": "schema" };
        let current = doc! { "$max": { "version": VERSION } };
        let schema = self.collection::<Document>(&self.inner.collections.schema);
        // Two processes that begin at once may both want to create it.
        for _ in 0..3 {
            match schema.update_one(is_older.clone(), current.clone()).upsert(true).await {
                Err(error) if code_of(&error) == Some(crate::error::DUPLICATE_KEY) => {}
                updated => return updated.map(drop).map_err(|error| classify(&error, OPERATION)),
            }
        }
        Ok(())
    }

    /// Changes nothing; fails unless everything is as this version needs it.
    pub(crate) async fn validate(&self) -> Result<(), StorageError> {
        let _open = self.begin(OPERATION)?;
        match self.stored_version().await? {
            None => {
                return Err(mismatch(
                    "its collections are missing; set it up with `SetUp::Migrate`".to_owned(),
                ));
            }
            Some(version) if version > VERSION => return Err(too_new()),
            Some(version) if version < VERSION => {
                return Err(mismatch(format!(
                    "it has version {version} and {VERSION} is needed; set it up with `SetUp::Migrate`"
                )));
            }
            Some(_) => {}
        }
        for index in indexes(&self.inner.collections) {
            let found = self.stored_indexes(&index.collection).await?;
            match found.iter().find(|found| found.get_str("name") == Ok(index.name)) {
                None => {
                    return Err(mismatch(format!(
                        "the index {} of {} is missing",
                        index.name, index.collection
                    )));
                }
                Some(found) if index.differs_from(found) => return Err(altered(&index)),
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn stored_version(&self) -> Result<Option<i32>, StorageError> {
        let schema = self.collection::<Document>(&self.inner.collections.schema);
        let found = self.limited(OPERATION, schema.find_one(doc! { "_id": "schema" }).into_future()).await?;
        // What has no version that can be read is nothing that this program made.
        Ok(found.map(|found| found.get_i32("version").unwrap_or(i32::MAX)))
    }

    async fn stored_indexes(&self, collection: &str) -> Result<Vec<Document>, StorageError> {
        let answer = self.inner.database.run_command(doc! { "listIndexes": collection });
        let answer = match answer.await {
            Ok(answer) => answer,
            // The collection is missing.
            Err(error) if code_of(&error) == Some(26) => return Ok(Vec::new()),
            Err(error) => return Err(classify(&error, OPERATION)),
        };
        let batch = answer.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        Ok(batch.into_iter().flatten().filter_map(|index| index.as_document().cloned()).collect())
    }

    async fn create_collections(&self) -> Result<(), StorageError> {
        let Collections { schema, jobs, counts, recurring, servers, metadata, hints } =
            &self.inner.collections;
        for name in [schema, jobs, counts, recurring, servers, metadata, hints] {
            match self.inner.database.create_collection(name).await {
                Err(error) if code_of(&error) != Some(NAMESPACE_EXISTS) => {
                    return Err(classify(&error, OPERATION));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn create_indexes(&self) -> Result<(), StorageError> {
        let mut indexes = indexes(&self.inner.collections);
        indexes.sort_by(|one, other| one.collection.cmp(&other.collection));
        for of_collection in indexes.chunk_by(|one, other| one.collection == other.collection) {
            let collection = self.collection::<Document>(&of_collection[0].collection);
            let models = of_collection.iter().map(Index::model);
            if let Err(error) = collection.create_indexes(models).await {
                if !code_of(&error).is_some_and(|code| INDEX_CONFLICTS.contains(&code)) {
                    return Err(classify(&error, OPERATION));
                }
                let stored = self.stored_indexes(&of_collection[0].collection).await?;
                let is_altered = |index: &&Index| {
                    stored
                        .iter()
                        .any(|found| found.get_str("name") == Ok(index.name) && index.differs_from(found))
                };
                let altered_index = of_collection.iter().find(is_altered).unwrap_or(&of_collection[0]);
                return Err(altered(altered_index));
            }
        }
        Ok(())
    }

    /// Every shard of the counts, at zero.
    async fn create_counts(&self) -> Result<(), StorageError> {
        let counts = self.collection::<Document>(&self.inner.collections.counts);
        let there: Vec<Document> = async { counts.find(doc! {}).await?.try_collect().await }
            .await
            .map_err(|error| classify(&error, OPERATION))?;
        let is_there = |shard: &i32| there.iter().any(|found| found.get_i32("_id") == Ok(*shard));
        let missing: Vec<Document> = (0..i32::from(SHARDS))
            .filter(|shard| !is_there(shard))
            .map(|shard| doc! { "_id": shard })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        match counts.insert_many(missing).ordered(false).await {
            // Race: another process made some of them.
            Err(error) if code_of(&error) == Some(crate::error::DUPLICATE_KEY) => Ok(()),
            inserted => Ok(inserted.map(drop).map_err(|error| Failed::of(&error, OPERATION))?),
        }
    }
}

fn mismatch(what: String) -> StorageError {
    StorageError::SchemaMismatch { provider: PROVIDER, what }
}

fn too_new() -> StorageError {
    mismatch(format!("it was made by a later version; this one knows version {VERSION} and changes nothing"))
}

fn altered(index: &Index) -> StorageError {
    mismatch(format!(
        "the index {} of {} is another than this version needs; drop it and set the storage up again",
        index.name, index.collection
    ))
}
