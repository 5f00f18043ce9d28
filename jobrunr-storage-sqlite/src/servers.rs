//! Who is alive.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::ServerId;
use jobrunr_core::storage::{
    Heartbeat, HeartbeatReport, ServerAnnouncement, ServerLoad, ServerRecord, ServerStore, StorageError,
};
use jobrunr_storage_sql::{Unreadable, from_micros, micros};
use rusqlite::{Row, params};
use serde_json::to_string;
use uuid::Uuid;

use crate::error::Failure;
use crate::{PROVIDER, SqliteStorage};

const TELL_TIME: &str = "tell the time";
const TO_JSON: &str = "announcements and loads are texts and numbers";

#[async_trait]
impl ServerStore for SqliteStorage {
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError> {
        self.check_open(TELL_TIME)?;
        from_micros(self.now()).map_err(|unreadable| unreadable.into_error(PROVIDER, TELL_TIME, "the clock"))
    }

    async fn announce_server(&self, server: &ServerAnnouncement) -> Result<DateTime<Utc>, StorageError> {
        let (id, announcement) = (server.id, to_string(server).expect(TO_JSON));
        let load = to_string(&ServerLoad::default()).expect(TO_JSON);
        let storage = self.clone();
        self.write("announce a server", move |session| {
            let now = storage.now();
            let mut announce = session.view.prepare(&session.view.statements.announce_server)?;
            announce.execute(params![id.as_bytes(), announcement, now, load])?;
            Ok(from_micros(now)?)
        })
        .await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError> {
        let (id, load) = (heartbeat.server_id, to_string(&heartbeat.load).expect(TO_JSON));
        let storage = self.clone();
        self.write_lightly("send a heartbeat", move |session| {
            let now = storage.now();
            let mut note = session.view.prepare(&session.view.statements.heartbeat)?;
            let is_announced = note.execute(params![now, load, id.as_bytes()])? > 0;
            Ok(HeartbeatReport { storage_time: from_micros(now)?, is_announced })
        })
        .await
    }

    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError> {
        let rows = self
            .read("list servers", |view| {
                let mut statement = view.prepare(&view.statements.list_servers)?;
                let rows = statement.query_map([], StoredServer::read)?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?)
            })
            .await?;
        let mut servers = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.id;
            match row.decode() {
                Ok(server) => servers.push(server),
                Err(unreadable) => tracing::error!("server {id} is passed over: {unreadable}"),
            }
        }
        Ok(servers)
    }

    async fn remove_server(&self, id: ServerId) -> Result<bool, StorageError> {
        self.write("remove a server", move |session| {
            let mut remove = session.view.prepare(&session.view.statements.remove_server)?;
            Ok(remove.execute([id.as_bytes()])? > 0)
        })
        .await
    }

    async fn remove_silent_servers(&self, before: DateTime<Utc>) -> Result<Vec<ServerId>, StorageError> {
        let mut removed = self
            .write("remove silent servers", move |session| {
                let mut remove = session.view.prepare(&session.view.statements.remove_silent_servers)?;
                let ids = remove.query_map([micros(before)], |row| row.get::<_, Uuid>(0))?;
                let ids = ids.map(|id| id.map(ServerId::from)).collect::<Result<Vec<_>, _>>();
                ids.map_err(Failure::from)
            })
            .await?;
        removed.sort_unstable();
        Ok(removed)
    }
}

struct StoredServer {
    id: Uuid,
    announcement: String,
    first_heartbeat_at: i64,
    last_heartbeat_at: i64,
    load: String,
}

impl StoredServer {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            announcement: row.get(1)?,
            first_heartbeat_at: row.get(2)?,
            last_heartbeat_at: row.get(3)?,
            load: row.get(4)?,
        })
    }

    fn decode(&self) -> Result<ServerRecord, Unreadable> {
        let announcement = serde_json::from_str(&self.announcement);
        let load = serde_json::from_str(&self.load);
        Ok(ServerRecord {
            announcement: announcement
                .map_err(|_| Unreadable::because("the announcement is no JSON of one"))?,
            first_heartbeat_at: from_micros(self.first_heartbeat_at)?,
            last_heartbeat_at: from_micros(self.last_heartbeat_at)?,
            load: load.map_err(|_| Unreadable::because("the load is no JSON of one"))?,
        })
    }
}
