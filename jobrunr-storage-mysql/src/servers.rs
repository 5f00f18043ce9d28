//! Who is alive.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::ServerId;
use jobrunr_core::storage::{
    Heartbeat, HeartbeatReport, ServerAnnouncement, ServerLoad, ServerRecord, ServerStore, StorageError,
};
use jobrunr_storage_sql::{Unreadable, from_micros, micros};
use serde_json::to_string;
use sqlx::mysql::MySqlRow;

use crate::MySqlStorage;
use crate::columns::Columns;
use crate::error::Outcome;
use crate::session::Session;
use crate::values::Values;
use crate::work::Work;

const TO_JSON: &str = "announcements and loads are texts and numbers";

impl Session<'_> {
    /// The storage's time in microseconds, never earlier than what was told before.
    async fn storage_time(&mut self) -> Outcome<i64> {
        let row = self.row(&self.shared.statements.storage_time, Values::new()).await?;
        let now = row.ok_or(sqlx::Error::RowNotFound)?.number(0)?;
        Ok(self.shared.tell_time(now))
    }
}

#[async_trait]
impl ServerStore for MySqlStorage {
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError> {
        self.shared
            .call("tell the time", |session| {
                Box::pin(async move { Ok(from_micros(session.storage_time().await?)?) })
            })
            .await
    }

    async fn announce_server(&self, server: &ServerAnnouncement) -> Result<DateTime<Utc>, StorageError> {
        let (id, announcement) = (server.id, to_string(server).expect(TO_JSON));
        let load = to_string(&ServerLoad::default()).expect(TO_JSON);
        self.shared
            .call("announce a server", move |session| {
                let values = Values::new().bytes(id.as_bytes()).text(&announcement);
                let load = load.clone();
                Box::pin(async move {
                    let now = session.storage_time().await?;
                    let values = values.number(now).number(now).text(&load);
                    session.execute(&session.shared.statements.announce_server, values).await?;
                    Ok(from_micros(now)?)
                })
            })
            .await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError> {
        let (id, load) = (heartbeat.server_id, to_string(&heartbeat.load).expect(TO_JSON));
        self.shared
            .call("send a heartbeat", move |session| {
                let load = load.clone();
                Box::pin(async move {
                    let now = session.storage_time().await?;
                    let values = Values::new().number(now).text(&load).bytes(id.as_bytes());
                    let found = session.execute(&session.shared.statements.heartbeat, values).await?;
                    Ok(HeartbeatReport { storage_time: from_micros(now)?, is_announced: found > 0 })
                })
            })
            .await
    }

    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError> {
        self.shared
            .call("list servers", |session| {
                Box::pin(async move {
                    let rows = session.rows(&session.shared.statements.list_servers, Values::new()).await?;
                    let mut servers = Vec::with_capacity(rows.len());
                    for row in &rows {
                        match decode(row) {
                            Ok(server) => servers.push(server),
                            Err(unreadable) => tracing::error!("a server is passed over: {unreadable}"),
                        }
                    }
                    Ok(servers)
                })
            })
            .await
    }

    async fn remove_server(&self, id: ServerId) -> Result<bool, StorageError> {
        let removed = self.shared.write("remove a server", RemoveServers { which: Which::One(id) }).await?;
        Ok(!removed.is_empty())
    }

    async fn remove_silent_servers(&self, before: DateTime<Utc>) -> Result<Vec<ServerId>, StorageError> {
        let work = RemoveServers { which: Which::Silent { before: micros(before) } };
        let mut removed = self.shared.write("remove silent servers", work).await?;
        removed.sort_unstable();
        Ok(removed)
    }
}

fn decode(row: &MySqlRow) -> Result<ServerRecord, Unreadable> {
    let announcement = serde_json::from_str(row.text_or(1)?);
    let load = serde_json::from_str(row.text_or(4)?);
    Ok(ServerRecord {
        announcement: announcement.map_err(|_| Unreadable::because("the announcement is no JSON of one"))?,
        first_heartbeat_at: from_micros(row.number_or(2)?)?,
        last_heartbeat_at: from_micros(row.number_or(3)?)?,
        load: load.map_err(|_| Unreadable::because("the load is no JSON of one"))?,
    })
}

/// Removes servers and tells which. If it was done without an answer, the next caller finds less to do: the jobs of a
/// server are found by its absence, not by this report.
struct RemoveServers {
    which: Which,
}

enum Which {
    One(ServerId),
    Silent { before: i64 },
}

#[async_trait]
impl Work for RemoveServers {
    type Output = Vec<ServerId>;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<Vec<ServerId>> {
        let statements = session.statements();
        let doomed = match self.which {
            Which::One(id) => vec![id],
            Which::Silent { before } => {
                let rows =
                    session.rows(&statements.lock_silent_servers, Values::new().number(before)).await?;
                rows.iter().map(|row| Ok(row.id(0)?.into())).collect::<Outcome<Vec<ServerId>>>()?
            }
        };
        let mut removed = Vec::with_capacity(doomed.len());
        for id in doomed {
            let values = Values::new().bytes(id.as_bytes());
            if session.execute(&statements.remove_server, values).await? > 0 {
                removed.push(id);
            }
        }
        Ok(removed)
    }

    async fn happened(&mut self, _session: &mut Session<'_>) -> Outcome<bool> {
        Ok(false)
    }
}
