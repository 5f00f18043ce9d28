//! Parking a claimed job that cannot be read, so that it holds up nobody: FAILED of kind `Corrupt`, all that is stored
//! kept.

use chrono::{DateTime, Utc};
use jobrunr_core::{Failure, FailureKind, HistoryEntry, JobId, JobState, StateName};
use mongodb::bson::{Bson, Document, Uuid, doc};

use super::claim::OPERATION;
use super::counts::Deltas;
use crate::MongoStorage;
use crate::call::{Broken, Commands, Work};
use crate::documents::{Unreadable, encode_entry, from_micros, from_uuid, state_number, uuid};
use crate::error::Failed;
use crate::marks::{Mark, Token};

impl MongoStorage {
    /// Parks a job that a claim left this mark on, unless anybody has written since.
    pub(super) async fn park(&self, id: JobId, why: &Unreadable, mark: Mark) -> Result<(), Failed> {
        let message = format!("what is stored of this job cannot be read: {why}");
        self.transact(&Park { id, mark, message }).await
    }
}

/// What the update of a claim or a release cannot be made on.
fn is_broken() -> Document {
    doc! { "$or": [
        { "version": { "$not": { "$type": "number" } } },
        { "history": { "$not": { "$type": "array" } } },
        { "marks": { "$not": { "$type": "array" } } },
    ] }
}

/// That an update can be made on a document.
pub(super) fn is_whole() -> Document {
    doc! {
        "version": { "$type": "number" },
        "history": { "$type": "array" },
        "marks": { "$type": "array" },
    }
}

impl MongoStorage {
    /// Parks those of the jobs in this state that cannot even be moved on, so that they are in nobody's way.
    pub(super) async fn park_broken(&self, ids: Vec<Uuid>, state: StateName) -> Result<(), Failed> {
        let parked = self.transact(&ParkBroken { ids, state }).await?;
        if parked > 0 {
            tracing::error!("{parked} jobs whose documents are broken were parked");
        }
        Ok(())
    }
}

struct ParkBroken {
    ids: Vec<Uuid>,
    state: StateName,
}

impl Work for ParkBroken {
    type Output = i64;
    const OPERATION: &'static str = OPERATION;

    async fn run(&self, commands: &mut Commands<'_>, counts: &mut Deltas) -> Result<i64, Broken> {
        let mut these = is_broken();
        these.extend(doc! { "_id": { "$in": &self.ids }, "state": state_number(self.state) });
        let change = doc! { "$set": {
            "state": state_number(StateName::Failed),
            "version": 1_i64,
            "marks": [],
            "error": "the document of this job is broken",
        } };
        let update = doc! { "q": these, "u": change, "multi": true, "hint": "_id_" };
        let collection = commands.storage.inner.collections.jobs.clone();
        let answer = commands.write(doc! { "update": collection, "updates": [update] }).await?;
        let parked = i64::from(answer.get_i32("n").unwrap_or_default());
        counts.add(StateName::Failed, parked);
        Ok(parked)
    }
}

struct Park {
    id: JobId,
    mark: Mark,
    message: String,
}

impl Work for Park {
    type Output = ();
    const OPERATION: &'static str = OPERATION;

    async fn run(&self, commands: &mut Commands<'_>, counts: &mut Deltas) -> Result<(), Broken> {
        let collection = commands.storage.inner.collections.jobs.clone();
        let mut held = self.mark.is_last();
        held.extend(doc! { "_id": uuid(self.id), "state": state_number(StateName::Processing) });
        let fields = doc! { "updated": 1, "server": 1, "server_name": 1, "history": 1 };
        let found = commands.find_by_id(&collection, held.clone(), fields, 1).await?;
        let Some(document) = found.first() else { return Ok(()) };
        let mut change = doc! {
            "$set": { "state": state_number(StateName::Failed), "error": &self.message },
            "$inc": { "version": 1_i64 },
        };
        // Nothing can be added to a history that is not even a list.
        let entries = self.entries(document);
        let mut push = doc! { "marks": Token::random().mark(entries.len()).pushed() };
        if document.get_array("history").is_ok() {
            push.insert("history", doc! { "$each": entries });
        }
        change.insert("$push", push);
        let update = doc! { "q": held, "u": change };
        let answer = commands.write(doc! { "update": &collection, "updates": [update] }).await?;
        if answer.get_i32("n") == Ok(1) {
            counts.add(StateName::Failed, 1);
        }
        Ok(())
    }
}

impl Park {
    /// The entry that the fields say, and that of the failure.
    fn entries(&self, document: &Document) -> Vec<Bson> {
        let at = document.get_i64("updated").ok().and_then(|at| from_micros(at).ok()).unwrap_or_default();
        let failure = Failure::new(FailureKind::Corrupt, &self.message).do_not_retry();
        let entries = processing_entry(document, at)
            .into_iter()
            .chain([HistoryEntry { at, state: JobState::failed(failure) }]);
        entries.map(|entry| Bson::from(encode_entry(&entry))).collect()
    }
}

fn processing_entry(document: &Document, at: DateTime<Utc>) -> Option<HistoryEntry> {
    let Some(Bson::Binary(server)) = document.get("server") else { return None };
    let server_name = document.get_str("server_name").ok()?.to_owned();
    let server_id = from_uuid(server.to_uuid().ok()?);
    Some(HistoryEntry { at, state: JobState::Processing { server_id, server_name } })
}
