//! Who is alive.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use jobrunr_core::ServerId;
use jobrunr_core::storage::{
    Heartbeat, HeartbeatReport, ServerAnnouncement, ServerLoad, ServerRecord, ServerStore, StorageError,
};
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;
use serde_json::to_string;

use crate::MongoStorage;
use crate::documents::{Unreadable, from_micros, id_of, micros, uuid};
use crate::error::{DUPLICATE_KEY, code_of};

const TO_JSON: &str = "announcements and loads are texts and numbers";

/// The server's own time in microseconds, as an update sees it; it counts in milliseconds.
fn server_time() -> Document {
    doc! { "$multiply": [{ "$toLong": "$$NOW" }, 1_000_i64] }
}

#[async_trait]
impl ServerStore for MongoStorage {
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError> {
        const OPERATION: &str = "tell the time";
        let hello = self.inner.database.run_command(doc! { "hello": 1 });
        let answer = self.call(OPERATION, hello.into_future()).await?;
        let time = answer.get_datetime("localTime").map(|time| time.timestamp_millis().saturating_mul(1_000));
        self.told(OPERATION, time.map_err(|_| Unreadable::because("the answer has no time")))
    }

    async fn announce_server(&self, server: &ServerAnnouncement) -> Result<DateTime<Utc>, StorageError> {
        const OPERATION: &str = "announce a server";
        let _open = self.begin(OPERATION)?;
        let load = to_string(&ServerLoad::default()).expect(TO_JSON);
        let change = vec![doc! { "$set": {
            "announcement": { "$literal": to_string(server).expect(TO_JSON) },
            "first_heartbeat": { "$ifNull": ["$first_heartbeat", server_time()] },
            "last_heartbeat": { "$ifNull": ["$last_heartbeat", server_time()] },
            "load": { "$ifNull": ["$load", { "$literal": load }] },
            "time": server_time(),
        } }];
        let servers = self.servers();
        let announced = async {
            loop {
                let announce = servers
                    .find_one_and_update(doc! { "_id": uuid(server.id) }, change.clone())
                    .projection(doc! { "time": 1 })
                    .upsert(true)
                    .return_document(ReturnDocument::After);
                match announce.await {
                    // Race: it has just been announced.
                    Err(error) if code_of(&error) == Some(DUPLICATE_KEY) => {}
                    announced => return announced,
                }
            }
        };
        let announced = self.limited(OPERATION, announced).await?;
        self.told(OPERATION, time_of(announced.as_ref()))
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError> {
        const OPERATION: &str = "send a heartbeat";
        let _open = self.begin(OPERATION)?;
        let change = vec![doc! { "$set": {
            "last_heartbeat": { "$max": ["$last_heartbeat", server_time()] },
            "load": { "$literal": to_string(&heartbeat.load).expect(TO_JSON) },
            "time": server_time(),
        } }];
        let servers = self.servers();
        let beat = servers
            .find_one_and_update(doc! { "_id": uuid(heartbeat.server_id) }, change)
            .projection(doc! { "time": 1 })
            .return_document(ReturnDocument::After);
        let found = self.limited(OPERATION, beat.into_future()).await?;
        let is_announced = found.is_some();
        let storage_time = match found {
            Some(found) => self.told(OPERATION, time_of(Some(&found)))?,
            None => self.storage_time().await?,
        };
        Ok(HeartbeatReport { storage_time, is_announced })
    }

    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError> {
        const OPERATION: &str = "list servers";
        let _open = self.begin(OPERATION)?;
        let servers = self.servers();
        let listed = async {
            let sorted = servers.find(doc! {}).sort(doc! { "first_heartbeat": 1, "_id": 1 });
            sorted.await?.try_collect::<Vec<Document>>().await
        };
        let mut records = Vec::new();
        for document in self.limited(OPERATION, listed).await? {
            match decode(&document) {
                Ok(record) => records.push(record),
                Err(unreadable) => {
                    let id = id_of::<ServerId>(&document).map(|id| id.to_string()).unwrap_or_default();
                    tracing::error!("server {id} is passed over: {unreadable}");
                }
            }
        }
        Ok(records)
    }

    async fn remove_server(&self, id: ServerId) -> Result<bool, StorageError> {
        let servers = self.servers();
        let removed =
            self.call("remove a server", servers.delete_one(doc! { "_id": uuid(id) }).into_future());
        Ok(removed.await?.deleted_count > 0)
    }

    async fn remove_silent_servers(&self, before: DateTime<Utc>) -> Result<Vec<ServerId>, StorageError> {
        const OPERATION: &str = "remove silent servers";
        let _open = self.begin(OPERATION)?;
        let servers = self.servers();
        let mut removed = Vec::new();
        // One by one, so that of two callers at once only one is told of each.
        loop {
            let silent = doc! { "last_heartbeat": { "$lt": micros(before) } };
            let remove = servers.find_one_and_delete(silent).projection(doc! { "_id": 1 });
            match self.limited(OPERATION, remove.into_future()).await? {
                None => break,
                Some(gone) => removed.extend(id_of::<ServerId>(&gone)),
            }
        }
        removed.sort_unstable();
        Ok(removed)
    }
}

impl MongoStorage {
    fn servers(&self) -> Collection<Document> {
        self.collection(&self.inner.collections.servers)
    }

    /// The time that the server tells, but never one earlier than what was told before: servers take turns, and clocks
    /// are set.
    fn told(
        &self,
        operation: &'static str,
        time: Result<i64, Unreadable>,
    ) -> Result<DateTime<Utc>, StorageError> {
        let told = time.and_then(|now| {
            let latest = self.inner.latest_time.fetch_max(now, Ordering::Relaxed).max(now);
            from_micros(latest)
        });
        told.map_err(|unreadable| unreadable.into_error(operation, "the server's time"))
    }
}

fn time_of(document: Option<&Document>) -> Result<i64, Unreadable> {
    let time = document.and_then(|document| document.get_i64("time").ok());
    time.ok_or(Unreadable::because("the answer has no time"))
}

fn decode(document: &Document) -> Result<ServerRecord, Unreadable> {
    let text = |field| document.get_str(field).map_err(|_| Unreadable::because("a field is missing"));
    let instant = |field| {
        let micros = document.get_i64(field).map_err(|_| Unreadable::because("an instant is missing"))?;
        from_micros(micros)
    };
    Ok(ServerRecord {
        announcement: serde_json::from_str(text("announcement")?)
            .map_err(|_| Unreadable::because("the announcement is no JSON of one"))?,
        first_heartbeat_at: instant("first_heartbeat")?,
        last_heartbeat_at: instant("last_heartbeat")?,
        load: serde_json::from_str(text("load")?)
            .map_err(|_| Unreadable::because("the load is no JSON of one"))?,
    })
}
