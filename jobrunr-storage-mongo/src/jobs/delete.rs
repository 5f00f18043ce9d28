//! Removing jobs for good.

use std::collections::BTreeMap;

use jobrunr_core::JobId;
use jobrunr_core::storage::{JobSelection, SignatureSelection, StorageError};
use mongodb::bson::{Bson, Document, Uuid, doc};
use mongodb::options::Hint;

use super::counts::Deltas;
use super::{CHUNK, is_of};
use crate::MongoStorage;
use crate::call::{Broken, Commands, Work};
use crate::documents::{from_state_number, micros, state_number, uuid};
use crate::error::Failed;
use crate::indexes::STATE;

pub(super) const OPERATION: &str = "delete jobs";

impl MongoStorage {
    pub(super) async fn delete(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        let mut deleted = 0;
        match selection {
            JobSelection::Ids(ids) => {
                let mut ids: Vec<JobId> = ids.clone();
                ids.sort_unstable();
                ids.dedup();
                for chunk in ids.chunks(CHUNK) {
                    let ids = chunk.iter().map(|id| uuid(*id)).collect();
                    deleted += self.transact(&DeleteJobs { ids, only: Document::new() }).await?;
                }
            }
            JobSelection::Aged { state, updated_before, signatures, limit } => {
                let mut limit = *limit;
                let mut only =
                    doc! { "state": state_number(*state), "updated": { "$lt": micros(*updated_before) } };
                while limit > 0 {
                    let wanted = limit.min(CHUNK);
                    let found = self.find_aged(only.clone(), signatures, wanted).await?;
                    let was_last = found.ids.len() < wanted;
                    if found.ids.is_empty() {
                        break;
                    }
                    let removed = self.transact(&DeleteJobs { ids: found.ids, only: only.clone() }).await?;
                    deleted += removed;
                    limit -= usize::try_from(removed).unwrap_or(limit).min(limit);
                    if was_last {
                        break;
                    }
                    // What was passed over need not be looked at again.
                    only.insert(
                        "updated",
                        doc! { "$gte": found.last_updated, "$lt": micros(*updated_before) },
                    );
                }
            }
        }
        Ok(deleted)
    }

    async fn find_aged(
        &self,
        only: Document,
        signatures: &SignatureSelection,
        wanted: usize,
    ) -> Result<Found, Failed> {
        let jobs = self.jobs::<Document>();
        let found = async {
            let mut cursor = jobs
                .find(only)
                .projection(doc! { "lane": 1, "updated": 1 })
                .sort(doc! { "updated": 1, "_id": 1 })
                .hint(Hint::Name(STATE.to_owned()))
                .await?;
            let mut found = Found { ids: Vec::new(), last_updated: i64::MIN };
            while found.ids.len() < wanted && cursor.advance().await? {
                let document = cursor.deserialize_current()?;
                found.last_updated = document.get_i64("updated").unwrap_or(i64::MIN);
                let is_wanted = is_of(signatures, document.get_str("lane").unwrap_or_default());
                if let (true, Some(Bson::Binary(id))) = (is_wanted, document.get("_id")) {
                    found.ids.extend(id.to_uuid().ok());
                }
            }
            Ok(found)
        };
        self.limited(OPERATION, found).await
    }
}

struct Found {
    ids: Vec<Uuid>,
    /// When the last job that was looked at was updated.
    last_updated: i64,
}

/// Jobs to be removed, if they are still what they were found by.
struct DeleteJobs {
    ids: Vec<Uuid>,
    only: Document,
}

impl Work for DeleteJobs {
    type Output = u64;
    const OPERATION: &'static str = OPERATION;

    async fn run(&self, commands: &mut Commands<'_>, counts: &mut Deltas) -> Result<u64, Broken> {
        let collection = commands.storage.inner.collections.jobs.clone();
        let mut deleted = 0;
        // Race: where there are no transactions, a job may change its state between being looked at and being removed.
        for _ in 0..10 {
            let mut these = self.only.clone();
            these.insert("_id", doc! { "$in": &self.ids });
            let found = commands.find_by_id(&collection, these, doc! { "state": 1 }, self.ids.len()).await?;
            if found.is_empty() {
                break;
            }
            let mut by_state: BTreeMap<i32, Vec<Bson>> = BTreeMap::new();
            for document in &found {
                if let (Ok(state), Some(id)) = (document.get_i32("state"), document.get("_id")) {
                    by_state.entry(state).or_default().push(id.clone());
                }
            }
            let mut removed = 0;
            for (state, ids) in by_state {
                let count = self.remove(commands, ids, state).await?;
                removed += u64::try_from(count).unwrap_or_default();
                if let Some(state) = from_state_number(state) {
                    counts.add(state, -count);
                }
            }
            deleted += removed;
            if usize::try_from(removed) == Ok(found.len()) {
                break;
            }
        }
        Ok(deleted)
    }
}

impl DeleteJobs {
    /// Removes those of the jobs that are still in this state; returns how many.
    async fn remove(&self, commands: &mut Commands<'_>, ids: Vec<Bson>, state: i32) -> Result<i64, Broken> {
        let collection = commands.storage.inner.collections.jobs.clone();
        let mut these = self.only.clone();
        these.extend(doc! { "_id": { "$in": &ids }, "state": state });
        let delete = doc! { "q": these, "limit": 0, "hint": "_id_" };
        match commands.write(doc! { "delete": &collection, "deletes": [delete] }).await {
            Ok(answer) => Ok(answer.get_i32("n").map_or(0, i64::from)),
            // The answer was lost, and in no transaction it may have happened all the same. Whoever tries again would not
            // find the jobs, so they would never be counted.
            Err(broken) if commands.session.is_none() && broken.is_uncertain() => {
                let (before, these) = (ids.len(), doc! { "_id": { "$in": ids } });
                let left = commands.find_by_id(&collection, these, doc! { "_id": 1 }, before).await?;
                Ok(i64::try_from(before - left.len()).unwrap_or_default())
            }
            Err(broken) => Err(broken),
        }
    }
}
