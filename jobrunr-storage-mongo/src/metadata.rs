//! Small values that belong to the cluster as a whole or to an owner of their own.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use jobrunr_core::storage::{CompareAndSet, Metadata, MetadataStore, StorageError};
use mongodb::Collection;
use mongodb::bson::{Document, doc};

use crate::MongoStorage;
use crate::documents::{Unreadable, from_micros, micros};
use crate::error::{DUPLICATE_KEY, code_of};

#[async_trait]
impl MetadataStore for MongoStorage {
    async fn save_metadata(&self, metadata: &Metadata) -> Result<(), StorageError> {
        const OPERATION: &str = "save metadata";
        let Metadata { name, owner, value, created_at, updated_at } = metadata;
        let change = doc! {
            "$set": { "value": value, "updated": micros(*updated_at) },
            "$setOnInsert": { "created": micros(*created_at) },
        };
        let values = self.values();
        let saved = async {
            loop {
                match values
                    .update_one(doc! { "name": name, "owner": owner }, change.clone())
                    .upsert(true)
                    .await
                {
                    // Race: somebody else has just saved the first value.
                    Err(error) if code_of(&error) == Some(DUPLICATE_KEY) => {}
                    saved => return saved,
                }
            }
        };
        self.call(OPERATION, saved).await.map(drop)
    }

    async fn find_metadata(&self, name: &str, owner: &str) -> Result<Option<Metadata>, StorageError> {
        const OPERATION: &str = "find metadata";
        let values = self.values();
        let found = values.find_one(doc! { "name": name, "owner": owner });
        let found = self.call(OPERATION, found.into_future()).await?;
        let read = found.as_ref().map(decode).transpose();
        read.map_err(|why| why.into_error(OPERATION, format_args!("metadata {name} of {owner}")))
    }

    async fn list_metadata(&self, name: &str) -> Result<Vec<Metadata>, StorageError> {
        const OPERATION: &str = "list metadata";
        let values = self.values();
        let listed = async {
            let sorted = values.find(doc! { "name": name }).sort(doc! { "owner": 1 });
            sorted.await?.try_collect::<Vec<Document>>().await
        };
        let listed = self.call(OPERATION, listed).await?;
        let read = listed.iter().map(decode).collect::<Result<Vec<_>, _>>();
        read.map_err(|why| why.into_error(OPERATION, format_args!("metadata {name}")))
    }

    async fn delete_metadata(&self, name: &str, owner: Option<&str>) -> Result<u64, StorageError> {
        let mut these = doc! { "name": name };
        if let Some(owner) = owner {
            these.insert("owner", owner);
        }
        let values = self.values();
        let deleted = self.call("delete metadata", values.delete_many(these).into_future());
        Ok(deleted.await?.deleted_count)
    }

    async fn compare_and_set_metadata(&self, change: &CompareAndSet) -> Result<bool, StorageError> {
        const OPERATION: &str = "compare and set metadata";
        let CompareAndSet { name, owner, expected, new, now } = change;
        let now = micros(*now);
        let values = self.values();
        let changed = async {
            let Some(expected) = expected else {
                let first =
                    doc! { "name": name, "owner": owner, "value": new, "created": now, "updated": now };
                return match values.insert_one(first).await {
                    Ok(_) => Ok(true),
                    Err(error) if code_of(&error) == Some(DUPLICATE_KEY) => Ok(false),
                    Err(error) => Err(error),
                };
            };
            let these = doc! { "name": name, "owner": owner, "value": { "$eq": expected } };
            let updated = values.update_one(these, doc! { "$set": { "value": new, "updated": now } }).await?;
            Ok(updated.matched_count > 0)
        };
        self.call(OPERATION, changed).await
    }
}

impl MongoStorage {
    fn values(&self) -> Collection<Document> {
        self.collection(&self.inner.collections.metadata)
    }
}

fn decode(document: &Document) -> Result<Metadata, Unreadable> {
    let text = |field| {
        let text = document.get_str(field).map_err(|_| Unreadable::because("a text is missing"))?;
        Ok(text.to_owned())
    };
    let instant = |field| {
        let micros = document.get_i64(field).map_err(|_| Unreadable::because("an instant is missing"))?;
        from_micros(micros)
    };
    Ok(Metadata {
        name: text("name")?,
        owner: text("owner")?,
        value: text("value")?,
        created_at: instant("created")?,
        updated_at: instant("updated")?,
    })
}
