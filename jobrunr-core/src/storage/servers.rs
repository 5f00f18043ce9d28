//! Who is alive: background job servers and their heartbeats.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::StorageError;
use crate::ids::ServerId;
use crate::names::{JobSignature, QueueName};

/// Keeps one row a server.
#[async_trait]
pub trait ServerStore: Send + Sync {
    /// Tells the storage's own time.
    ///
    /// *Promises:* never earlier than what an earlier call told. Only a clock that was set back by more than a few seconds may
    /// be followed: it was wrong before, and no server would look silent until it is there again.
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError>;

    /// Adds a server, whose first and last heartbeat are now, by the storage's clock; returns that time.
    ///
    /// *Promises:* announcing an id that is there is fine and changes only its announcement: neither its heartbeats nor its
    /// load.
    ///
    /// *Held by* scenario 52.
    async fn announce_server(&self, server: &ServerAnnouncement) -> Result<DateTime<Utc>, StorageError>;

    /// Notes that a server is alive, now, by the storage's clock, and how busy it is.
    ///
    /// *Promises:* a server whose row is gone is not added again but told so.
    ///
    /// *Held by* scenarios 53 and 54.
    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError>;

    /// Lists all servers, the oldest first heartbeat first, then by id.
    ///
    /// *Held by* scenario 52.
    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError>;

    /// Removes one server; tells whether there was one.
    ///
    /// *Held by* scenario 55.
    async fn remove_server(&self, id: ServerId) -> Result<bool, StorageError>;

    /// Removes the servers whose last heartbeat was before this instant, exclusively; returns which, sorted by id.
    ///
    /// *Promises:* two callers at once report each server once.
    ///
    /// *Held by* scenarios 55 and 56.
    async fn remove_silent_servers(&self, before: DateTime<Utc>) -> Result<Vec<ServerId>, StorageError>;
}

/// What a server says of itself once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAnnouncement {
    /// The id of this life of the server.
    pub id: ServerId,
    /// Its name, for people.
    pub name: String,
    /// How many jobs it runs at once.
    pub workers: usize,
    /// How often it sends a heartbeat.
    pub poll_interval: Duration,
    /// After what silence it is to be taken for dead.
    pub server_timeout: Duration,
    /// The queues it serves, in order; all if empty.
    pub queues: Vec<QueueName>,
    /// The job types it has handlers for.
    pub signatures: Vec<JobSignature>,
}

/// How busy a server is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLoad {
    /// Jobs it runs at the moment.
    pub occupied_workers: usize,
    /// Whether it claims no jobs for now.
    pub is_paused: bool,
    /// Memory of its machine, in bytes.
    pub total_memory_bytes: u64,
    /// Memory of its machine that is free, in bytes.
    pub free_memory_bytes: u64,
    /// Memory that its process takes, in bytes.
    pub process_memory_bytes: u64,
    /// CPU load of its machine over the last interval, in thousandths of all cores.
    pub cpu_load_permille: u16,
    /// CPU load of its process over the last interval, in thousandths of all cores.
    pub process_cpu_load_permille: u16,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Of which server.
    pub server_id: ServerId,
    /// How busy it is.
    pub load: ServerLoad,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatReport {
    /// The storage's own time.
    pub storage_time: DateTime<Utc>,
    /// Whether the server's row is there; if not, it was declared dead and its jobs are, or will be, somebody else's.
    pub is_announced: bool,
}

/// One server as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRecord {
    /// What it said of itself.
    pub announcement: ServerAnnouncement,
    /// When it was announced.
    pub first_heartbeat_at: DateTime<Utc>,
    /// Its last sign of life.
    pub last_heartbeat_at: DateTime<Utc>,
    /// How busy it was then.
    pub load: ServerLoad,
}
