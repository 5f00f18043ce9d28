//! Who is alive.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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
use crate::error::{DUPLICATE_KEY, Failed, code_of};

const TO_JSON: &str = "announcements and loads are texts and numbers";

/// How far the server's time may go back and be held back: the clocks of servers of one set differ a little. A clock that was
/// set back further is followed, else no server would look silent until it has caught up.
const HELD_BACK: Duration = Duration::from_secs(5);

fn held_back() -> i64 {
    i64::try_from(HELD_BACK.as_micros()).unwrap_or(i64::MAX)
}

/// The server's own time in microseconds, as an update sees it; it counts in milliseconds.
fn server_time() -> Document {
    doc! { "$multiply": [{ "$toLong": "$$NOW" }, 1_000_i64] }
}

/// That a heartbeat was noted by a clock that has been set back since.
fn is_ahead() -> Document {
    doc! { "$gt": ["$last_heartbeat", { "$add": [server_time(), held_back()] }] }
}

/// The time to tell. `latest` was told last, `asked_after` when the server was asked, and `now` is what it answered.
fn time_to_tell(latest: i64, asked_after: i64, now: i64) -> i64 {
    let is_a_step = |before: i64| before.saturating_sub(now) > held_back();
    // An answer that was slow is behind what was told meanwhile, and no clock was set.
    if is_a_step(latest) && is_a_step(asked_after) { now } else { latest.max(now) }
}

/// Servers that a call has removed, or may have, and has not reported. No server has the id of an earlier one, so the next
/// call sees whether they are gone.
#[derive(Debug, Default)]
pub(crate) struct Removals(Mutex<Vec<ServerId>>);

/// A call that removes servers. However it ends, what it does not report is left to the next one.
struct Removing<'s> {
    removals: &'s Removals,
    removed: Vec<ServerId>,
    /// Those of which it is not known.
    doubtful: Vec<ServerId>,
}

impl Removals {
    fn begin(&self) -> Removing<'_> {
        let doubtful = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Removing { removals: self, removed: Vec::new(), doubtful }
    }
}

impl Removing<'_> {
    fn report(mut self) -> Vec<ServerId> {
        let mut removed = std::mem::take(&mut self.removed);
        removed.sort_unstable();
        removed
    }
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        let mut left = self.removals.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.append(&mut self.removed);
        left.append(&mut self.doubtful);
    }
}

#[async_trait]
impl ServerStore for MongoStorage {
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError> {
        const OPERATION: &str = "tell the time";
        let asked_after = self.latest_time();
        let hello = self.inner.database.run_command(doc! { "hello": 1 });
        let answer = self.call(OPERATION, hello.into_future()).await?;
        let time = answer.get_datetime("localTime").map(|time| time.timestamp_millis().saturating_mul(1_000));
        self.told(OPERATION, asked_after, time.map_err(|_| Unreadable::because("the answer has no time")))
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
        let asked_after = self.latest_time();
        let announced = self.limited(OPERATION, announced).await?;
        self.told(OPERATION, asked_after, time_of(announced.as_ref()))
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError> {
        const OPERATION: &str = "send a heartbeat";
        let _open = self.begin(OPERATION)?;
        let change = vec![doc! { "$set": {
            "last_heartbeat": {
                "$cond": [is_ahead(), server_time(), { "$max": ["$last_heartbeat", server_time()] }],
            },
            "load": { "$literal": to_string(&heartbeat.load).expect(TO_JSON) },
            "time": server_time(),
        } }];
        let servers = self.servers();
        let beat = servers
            .find_one_and_update(doc! { "_id": uuid(heartbeat.server_id) }, change)
            .projection(doc! { "time": 1 })
            .return_document(ReturnDocument::After);
        let asked_after = self.latest_time();
        let found = self.limited(OPERATION, beat.into_future()).await?;
        let is_announced = found.is_some();
        let storage_time = match found {
            Some(found) => self.told(OPERATION, asked_after, time_of(Some(&found)))?,
            None => self.storage_time().await?,
        };
        Ok(HeartbeatReport { storage_time, is_announced })
    }

    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError> {
        const OPERATION: &str = "list servers";
        let _open = self.begin(OPERATION)?;
        let mut listed = self.stored_servers(OPERATION).await?;
        if listed.iter().any(|document| document.get_bool("is_ahead") == Ok(true)) {
            self.pull_back_heartbeats(OPERATION).await?;
            listed = self.stored_servers(OPERATION).await?;
        }
        let mut records = Vec::new();
        for document in listed {
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
        let mut removing = self.inner.removals.begin();
        match self.remove_silent(OPERATION, before, &mut removing).await {
            Err(failed) if removing.removed.is_empty() => Err(failed.error),
            Err(failed) => {
                tracing::warn!("fewer servers than are silent were removed: {}", failed.error);
                Ok(removing.report())
            }
            Ok(()) => Ok(removing.report()),
        }
    }
}

impl MongoStorage {
    fn servers(&self) -> Collection<Document> {
        self.collection(&self.inner.collections.servers)
    }

    /// Every server, the oldest first, and whether its heartbeat is ahead of the clock.
    async fn stored_servers(&self, operation: &'static str) -> Result<Vec<Document>, Failed> {
        let servers = self.servers();
        let fields = doc! {
            "announcement": 1, "first_heartbeat": 1, "last_heartbeat": 1, "load": 1, "is_ahead": is_ahead(),
        };
        let listed = async {
            let sorted =
                servers.find(doc! {}).projection(fields).sort(doc! { "first_heartbeat": 1, "_id": 1 });
            sorted.await?.try_collect::<Vec<Document>>().await
        };
        self.limited(operation, listed).await
    }

    /// Ends heartbeats that a clock noted which has been set back since: a server that died then would not look silent
    /// before that time comes again.
    async fn pull_back_heartbeats(&self, operation: &'static str) -> Result<(), Failed> {
        let servers = self.servers();
        let now = vec![doc! { "$set": { "last_heartbeat": server_time() } }];
        let pulled = servers.update_many(doc! { "$expr": is_ahead() }, now);
        let pulled = self.limited(operation, pulled.into_future()).await?;
        tracing::warn!(
            "the clock of MongoDB was set back; {} heartbeats were ahead of it",
            pulled.modified_count
        );
        Ok(())
    }

    /// Removes silent servers one by one, so that of two callers at once only one is told of each.
    async fn remove_silent(
        &self,
        operation: &'static str,
        before: DateTime<Utc>,
        removing: &mut Removing<'_>,
    ) -> Result<(), Failed> {
        let servers = self.servers();
        let found = |these| {
            let found =
                async { servers.find(these).projection(doc! { "_id": 1 }).await?.try_collect().await };
            self.limited::<Vec<Document>>(operation, found)
        };
        if !removing.doubtful.is_empty() {
            let ids: Vec<_> = removing.doubtful.iter().map(|id| uuid(*id)).collect();
            let left: Vec<ServerId> =
                found(doc! { "_id": { "$in": ids } }).await?.iter().filter_map(id_of).collect();
            let doubtful = std::mem::take(&mut removing.doubtful);
            removing.removed.extend(doubtful.into_iter().filter(|id| !left.contains(id)));
        }
        let silent = doc! { "$lt": micros(before) };
        let ids = found(doc! { "last_heartbeat": &silent }).await?;
        for id in ids.iter().filter_map(id_of::<ServerId>) {
            removing.doubtful.push(id);
            let remove = servers.delete_one(doc! { "_id": uuid(id), "last_heartbeat": &silent });
            let is_removed = self.limited(operation, remove.into_future()).await?.deleted_count > 0;
            removing.doubtful.pop();
            // Race: another one may have removed it, or it has been heard of.
            removing.removed.extend(is_removed.then_some(id));
        }
        Ok(())
    }

    /// The latest time that was told.
    fn latest_time(&self) -> i64 {
        self.inner.latest_time.load(Ordering::Relaxed)
    }

    /// The time that the server tells, but not one a little earlier than what was told before: servers take turns.
    fn told(
        &self,
        operation: &'static str,
        asked_after: i64,
        time: Result<i64, Unreadable>,
    ) -> Result<DateTime<Utc>, StorageError> {
        let told = time.and_then(|now| {
            let tell = |latest| Some(time_to_tell(latest, asked_after, now));
            let latest = self.inner.latest_time.fetch_update(Ordering::Relaxed, Ordering::Relaxed, tell);
            // It is never refused.
            let latest = latest.unwrap_or_else(|latest| latest);
            from_micros(time_to_tell(latest, asked_after, now))
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_clock_that_goes_back_a_little_is_held_back_and_one_that_was_set_is_followed() {
        assert_eq!(time_to_tell(i64::MIN, i64::MIN, 100 * SECOND), 100 * SECOND, "the first time");
        assert_eq!(time_to_tell(100 * SECOND, 100 * SECOND, 101 * SECOND), 101 * SECOND);
        assert_eq!(
            time_to_tell(100 * SECOND, 100 * SECOND, 95 * SECOND),
            100 * SECOND,
            "five seconds are little"
        );
        assert_eq!(time_to_tell(100 * SECOND, 100 * SECOND, 94 * SECOND), 94 * SECOND);
        assert_eq!(
            time_to_tell(94 * SECOND, 100 * SECOND, 93 * SECOND),
            94 * SECOND,
            "others have followed it"
        );
    }

    #[test]
    fn a_slow_answer_is_no_clock_that_was_set() {
        assert_eq!(time_to_tell(130 * SECOND, 100 * SECOND, 101 * SECOND), 130 * SECOND);
    }
}
