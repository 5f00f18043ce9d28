//! [`ServerStore`]: one row a server, and the clock of the storage.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::ServerId;
use jobrunr_core::storage::{
    Heartbeat, HeartbeatReport, ServerAnnouncement, ServerLoad, ServerRecord, ServerStore, StorageError,
};
use redis::cmd;
use serde::Serialize;

use crate::RedisStorage;
use crate::calls::{Call, Keeps};
use crate::encoding::{decode_id, decode_time, encode_server, encode_time};
use crate::error::corrupt;
use crate::scripts::{CLOCK, SILENT};

#[async_trait]
impl ServerStore for RedisStorage {
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError> {
        let call = self.begin("tell the time")?;
        call.tell_time("time", "", &()).await.map(|(now, _)| now)
    }

    async fn announce_server(&self, server: &ServerAnnouncement) -> Result<DateTime<Utc>, StorageError> {
        let call = self.begin("announce a server")?;
        call.tell_time("announce", &encode_server(server.id), server).await.map(|(now, _)| now)
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError> {
        let call = self.begin("send a heartbeat")?;
        let told = call.tell_time("beat", &encode_server(heartbeat.server_id), &heartbeat.load).await;
        told.map(|(storage_time, is_announced)| HeartbeatReport { storage_time, is_announced })
    }

    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError> {
        const OPERATION: &str = "list servers";
        let call = self.begin(OPERATION)?;
        let mut read = cmd("HGETALL");
        read.arg(self.inner.keys.servers());
        let stored: Vec<(String, String)> = call.read_one(&read).await?;
        let mut rows: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for (name, value) in &stored {
            let Some((id, field)) = name.split_once(':') else { continue };
            rows.entry(id).or_default().insert(field, value);
        }
        let read = |(id, row): (&str, BTreeMap<&str, &str>)| {
            decode(&row).ok_or_else(|| corrupt(OPERATION, format!("server {id}")))
        };
        let mut servers = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        servers.sort_by_key(|server| (server.first_heartbeat_at, server.announcement.id));
        Ok(servers)
    }

    async fn remove_server(&self, id: ServerId) -> Result<bool, StorageError> {
        let call = self.begin("remove a server")?;
        let id = encode_server(id);
        let mut remove = cmd("HDEL");
        remove.arg(self.inner.keys.servers());
        for field in ["announced", "first", "last", "load"] {
            remove.arg(format!("{id}:{field}"));
        }
        Ok(call.write::<u32>(&remove).await? > 0)
    }

    async fn remove_silent_servers(&self, before: DateTime<Utc>) -> Result<Vec<ServerId>, StorageError> {
        let call = self.begin("remove silent servers")?;
        let mut arguments = call.arguments(&SILENT);
        arguments.arg(encode_time(before));
        let silent: Vec<String> = call.run(&SILENT, &arguments, Keeps::Write).await?;
        let mut silent: Vec<ServerId> = silent.iter().filter_map(|id| decode_id(id)).collect();
        silent.sort_unstable();
        Ok(silent)
    }
}

fn decode(row: &BTreeMap<&str, &str>) -> Option<ServerRecord> {
    let load = match row.get("load") {
        Some(load) => serde_json::from_str(load).ok()?,
        None => ServerLoad::default(),
    };
    Some(ServerRecord {
        announcement: serde_json::from_str(row.get("announced")?).ok()?,
        first_heartbeat_at: decode_time(row.get("first")?)?,
        last_heartbeat_at: decode_time(row.get("last")?)?,
        load,
    })
}

impl Call<'_> {
    /// Asks for the time, and does what belongs to it; tells whether the server is (or was) there.
    async fn tell_time(
        &self,
        act: &str,
        id: &str,
        text: &(impl Serialize + Sync),
    ) -> Result<(DateTime<Utc>, bool), StorageError> {
        let text = serde_json::to_string(text).expect("what servers say is JSON");
        let mut arguments = self.arguments(&CLOCK);
        arguments.arg(act).arg(id).arg(text);
        let (now, is_there): (String, bool) = self.run(&CLOCK, &arguments, Keeps::Nothing).await?;
        let now = decode_time(&now).ok_or_else(|| corrupt(self.operation, "the clock of the storage"))?;
        Ok((now, is_there))
    }
}
