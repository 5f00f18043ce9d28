//! What is wrong with a cluster as a whole, and no single job or server tells of.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::names::JobSignature;
use crate::state::StateName;
use crate::storage::{ServerRecord, StorageError, StorageProvider};

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Problem {
    /// Jobs of this type wait in their queues, and no live server has a handler for it.
    UnhandledType {
        /// The job type.
        signature: JobSignature,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnhandledType { signature } => {
                write!(f, "jobs of type {signature:?} wait, but no server that is alive has a handler for it")
            }
        }
    }
}

/// Lists the problems there are now, sorted.
///
/// Asks the storage for the job types that wait and, if there are any, for the servers: three small reads. While servers
/// start, a type may have no server for a moment.
///
/// # Errors
/// What the storage says.
pub async fn list_problems(storage: &dyn StorageProvider) -> Result<Vec<Problem>, StorageError> {
    // Race: a server that is announced after the types were listed may have enqueued and handle one of them; asked for
    // in this order it is seen.
    let waiting = storage.list_signatures(&[StateName::Enqueued]).await?;
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let servers = storage.list_servers().await?;
    let now = storage.storage_time().await?;
    let timeout = servers.iter().map(|server| server.announcement.server_timeout).max().unwrap_or_default();
    let alive = servers.iter().filter(|server| is_alive(server, timeout, now));
    let handled: HashSet<&JobSignature> = alive.flat_map(|server| &server.announcement.signatures).collect();
    let unhandled = waiting.into_iter().filter(|signature| !handled.contains(signature));
    Ok(unhandled.map(|signature| Problem::UnhandledType { signature }).collect())
}

/// Whether a server was heard of within the time-out, as servers judge it: by the longest of all that were announced.
fn is_alive(server: &ServerRecord, timeout: Duration, now: DateTime<Utc>) -> bool {
    let timeout = TimeDelta::from_std(timeout).unwrap_or(TimeDelta::MAX);
    now.signed_duration_since(server.last_heartbeat_at) <= timeout
}
