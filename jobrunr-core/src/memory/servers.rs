//! [`ServerStore`]: who is alive, by this storage's own clock.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Content, MemoryStorage};
use crate::ids::ServerId;
use crate::storage::{
    Heartbeat, HeartbeatReport, ServerAnnouncement, ServerLoad, ServerRecord, ServerStore, StorageError,
};

/// All servers, and the latest time that was told.
#[derive(Default)]
pub(super) struct ServerTable {
    rows: BTreeMap<ServerId, ServerRecord>,
    told: Option<DateTime<Utc>>,
}

#[async_trait]
impl ServerStore for MemoryStorage {
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError> {
        self.at_storage_time("tell the time", |_, now| now)
    }

    async fn announce_server(&self, server: &ServerAnnouncement) -> Result<DateTime<Utc>, StorageError> {
        self.at_storage_time("announce a server", |servers, now| {
            let announcement = server.clone();
            if let Some(record) = servers.rows.get_mut(&server.id) {
                record.announcement = announcement;
            } else {
                let record = ServerRecord {
                    announcement,
                    first_heartbeat_at: now,
                    last_heartbeat_at: now,
                    load: ServerLoad::default(),
                };
                servers.rows.insert(server.id, record);
            }
            now
        })
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError> {
        self.at_storage_time("note a heartbeat", |servers, now| {
            let record = servers.rows.get_mut(&heartbeat.server_id);
            let is_announced = record.is_some();
            if let Some(record) = record {
                record.last_heartbeat_at = now;
                record.load = heartbeat.load;
            }
            HeartbeatReport { storage_time: now, is_announced }
        })
    }

    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError> {
        self.with("list servers", |content| {
            let mut servers: Vec<_> = content.servers.rows.values().cloned().collect();
            servers.sort_by_key(|server| (server.first_heartbeat_at, server.announcement.id));
            servers
        })
    }

    async fn remove_server(&self, id: ServerId) -> Result<bool, StorageError> {
        self.with("remove a server", |content| content.servers.rows.remove(&id).is_some())
    }

    async fn remove_silent_servers(&self, before: DateTime<Utc>) -> Result<Vec<ServerId>, StorageError> {
        self.with("remove silent servers", |content| {
            let is_silent = |_: &ServerId, server: &mut ServerRecord| server.last_heartbeat_at < before;
            content.servers.rows.extract_if(.., is_silent).map(|(id, _)| id).collect()
        })
    }
}

impl MemoryStorage {
    /// Does one piece of work on the servers at the storage's own time, which never goes back.
    fn at_storage_time<R>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut ServerTable, DateTime<Utc>) -> R,
    ) -> Result<R, StorageError> {
        // The clock is somebody else's code: it is not asked under the lock.
        let read = self.database.options.clock.now();
        self.with(operation, |Content { servers, .. }| {
            let now = servers.told.map_or(read, |told| told.max(read));
            servers.told = Some(now);
            work(servers, now)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::clock::Clock;
    use crate::memory::MemoryStorageOptions;

    /// A clock that is one second behind each time it is read.
    #[derive(Debug)]
    struct Backwards(AtomicI64);

    impl Clock for Backwards {
        fn now(&self) -> DateTime<Utc> {
            DateTime::from_timestamp(self.0.fetch_sub(1, Ordering::Relaxed), 0).unwrap()
        }
    }

    #[tokio::test]
    async fn the_storage_time_never_goes_back_though_its_clock_does() {
        let clock = Arc::new(Backwards(AtomicI64::new(1_000)));
        let storage = MemoryStorage::with_options(MemoryStorageOptions::default().clock(clock));
        let first = storage.storage_time().await.unwrap();

        let heartbeat = Heartbeat { server_id: ServerId::new(), load: ServerLoad::default() };
        let second = storage.heartbeat(&heartbeat).await.unwrap().storage_time;

        assert_eq!((first, second), (first, first));
    }
}
