//! Who is alive, by the clock of the database.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::ServerId;
use jobrunr_core::storage::{
    Heartbeat, HeartbeatReport, ServerAnnouncement, ServerLoad, ServerRecord, ServerStore, StorageError,
};
use jobrunr_storage_sql::{Unreadable, from_micros, micros};
use serde_json::to_string;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::connection::Statement;
use crate::error::classify;
use crate::{PROVIDER, PostgresStorage};

const TO_JSON: &str = "announcements and loads are texts and numbers";

#[async_trait]
impl ServerStore for PostgresStorage {
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError> {
        let tell = self.statement(&self.inner.statements.storage_time);
        Ok(self.told_time("tell the time", tell).await?.0)
    }

    async fn announce_server(&self, server: &ServerAnnouncement) -> Result<DateTime<Utc>, StorageError> {
        let announce = self
            .statement(&self.inner.statements.announce_server)
            .bind(Uuid::from(server.id))
            .bind(to_string(server).expect(TO_JSON))
            .bind(to_string(&ServerLoad::default()).expect(TO_JSON));
        Ok(self.told_time("announce a server", announce).await?.0)
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError> {
        const OPERATION: &str = "send a heartbeat";
        let note = self
            .statement(&self.inner.statements.heartbeat)
            .bind(Uuid::from(heartbeat.server_id))
            .bind(to_string(&heartbeat.load).expect(TO_JSON));
        let (storage_time, row) = self.told_time(OPERATION, note).await?;
        let is_announced = row.try_get(1).map_err(|error| classify(&error, OPERATION))?;
        Ok(HeartbeatReport { storage_time, is_announced })
    }

    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError> {
        const OPERATION: &str = "list servers";
        let mut call = self.call(OPERATION).await?;
        let rows = call.rows(self.statement(&self.inner.statements.list_servers)).await?;
        call.finish().await?;
        let mut servers = Vec::with_capacity(rows.len());
        for row in &rows {
            match decode(row).map_err(|error| classify(&error, OPERATION))? {
                Ok(server) => servers.push(server),
                Err(unreadable) => tracing::error!("a server is passed over: {unreadable}"),
            }
        }
        Ok(servers)
    }

    async fn remove_server(&self, id: ServerId) -> Result<bool, StorageError> {
        let remove = self.statement(&self.inner.statements.remove_server).bind(Uuid::from(id));
        Ok(!self.write_for_sure("remove a server", remove).await?.is_empty())
    }

    async fn remove_silent_servers(&self, before: DateTime<Utc>) -> Result<Vec<ServerId>, StorageError> {
        const OPERATION: &str = "remove silent servers";
        let remove = self.statement(&self.inner.statements.remove_silent_servers).bind(micros(before));
        let rows = self.write_for_sure(OPERATION, remove).await?;
        let ids = rows.iter().map(|row| row.try_get::<Uuid, _>(0).map(ServerId::from));
        let mut removed = ids.collect::<Result<Vec<_>, _>>().map_err(|error| classify(&error, OPERATION))?;
        removed.sort_unstable();
        Ok(removed)
    }
}

impl PostgresStorage {
    /// Runs a statement whose first column is the storage's time.
    async fn told_time(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<(DateTime<Utc>, PgRow), StorageError> {
        let mut call = self.call(operation).await?;
        let row = call.row(statement).await?;
        call.finish().await?;
        let missing = || StorageError::SchemaMismatch {
            provider: PROVIDER,
            what: "the row that keeps the time is missing; set the storage up".to_owned(),
        };
        let row = row.ok_or_else(missing)?;
        let told: i64 = row.try_get(0).map_err(|error| classify(&error, operation))?;
        let told = from_micros(told).map_err(|why| why.into_error(PROVIDER, operation, "the clock"))?;
        Ok((told, row))
    }
}

fn decode(row: &PgRow) -> Result<Result<ServerRecord, Unreadable>, sqlx::Error> {
    let (announcement, load): (&str, &str) = (row.try_get(1)?, row.try_get(4)?);
    let (first, last): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
    let record = || {
        Ok(ServerRecord {
            announcement: serde_json::from_str(announcement)
                .map_err(|_| Unreadable::because("the announcement is no JSON of one"))?,
            first_heartbeat_at: from_micros(first)?,
            last_heartbeat_at: from_micros(last)?,
            load: serde_json::from_str(load)
                .map_err(|_| Unreadable::because("the load is no JSON of one"))?,
        })
    };
    Ok(record())
}
