//! Who is alive and who is the master: decided by every server for itself, from the same rows.

use std::sync::Arc;

use chrono::TimeDelta;
use jobrunr_core::storage::{ServerRecord, StorageError};

use crate::engine::Engine;

/// Removes the servers that fell silent, and finds out whether this one is the master.
///
/// The longest time-out that any server announced counts for all, so that servers with other intervals are not removed
/// too early. The master is the live server whose first heartbeat is the oldest, and then the one with the smallest id.
pub(crate) async fn hold(engine: &Arc<Engine>) -> Result<(), StorageError> {
    let servers = engine.storage.list_servers().await?;
    let timeout = servers.iter().map(|server| server.announcement.server_timeout).max();
    let timeout = timeout.unwrap_or_default().max(engine.settings.server_timeout);
    let silent_before = engine.now() - TimeDelta::from_std(timeout).unwrap_or(TimeDelta::MAX);

    let mut removed = Vec::new();
    if servers.iter().any(|server| server.last_heartbeat_at < silent_before) {
        removed = engine.storage.remove_silent_servers(silent_before).await?;
        for id in &removed {
            tracing::warn!(server.id = %id, "a server has not been heard of for {timeout:?} and was removed");
        }
    }
    let alive = servers.iter().filter(|server| server.last_heartbeat_at >= silent_before);
    let master = alive.min_by_key(|server| rank(server)).map(|server| server.announcement.id);
    let is_elected = master == Some(engine.membership.life().id());

    let has_changed = engine.membership.set_elected(is_elected);
    if has_changed && is_elected {
        tracing::info!("this server is the master now");
        engine.due_times.note(engine.now());
        engine.recurring_jobs_changed.notify_one();
    }
    if !removed.is_empty() || (has_changed && is_elected) {
        engine.servers_changed.notify_one();
    }
    Ok(())
}

fn rank(server: &ServerRecord) -> impl Ord {
    (server.first_heartbeat_at, server.announcement.id)
}
