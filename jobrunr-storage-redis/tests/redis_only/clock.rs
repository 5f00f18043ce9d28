//! The clock of a server that was ahead, and was set right.

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::ServerId;
use jobrunr_core::storage::{Heartbeat, ServerAnnouncement, ServerLoad, ServerStore, StorageProvider};
use jobrunr_storage_redis::RedisStorage;
use std::time::Duration;

use crate::a_server_with_a_storage;
use crate::support::PrivateServer;

fn encode(instant: DateTime<Utc>) -> String {
    format!("1{:019}", instant.timestamp_micros())
}

/// Makes the time that was told last one that is still to come.
async fn tell_time_ahead(server: &PrivateServer, by: TimeDelta, storage: &RedisStorage) -> DateTime<Utc> {
    let ahead = storage.storage_time().await.unwrap() + by;
    server.ask(&["SET", "{jobrunr}:clock", &encode(ahead)]).await.unwrap();
    ahead
}

fn an_announcement() -> ServerAnnouncement {
    ServerAnnouncement {
        id: ServerId::new(),
        name: "one".to_owned(),
        workers: 1,
        poll_interval: Duration::from_secs(15),
        server_timeout: Duration::from_secs(60),
        queues: vec![],
        signatures: vec![],
    }
}

#[tokio::test]
async fn the_time_stands_still_for_a_small_step_back_and_follows_a_large_one() {
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };

    let ahead = tell_time_ahead(&server, TimeDelta::seconds(3), &storage).await;
    assert_eq!(storage.storage_time().await.unwrap(), ahead);

    for by in [TimeDelta::seconds(60), TimeDelta::hours(1), TimeDelta::days(10_000)] {
        let ahead = tell_time_ahead(&server, by, &storage).await;
        let first = storage.storage_time().await.unwrap();
        assert!(first < ahead - by + TimeDelta::seconds(30), "{first} is not what the clock shows");
        assert!(storage.storage_time().await.unwrap() > first, "it goes on");
    }
    storage.close().await;
}

#[tokio::test]
async fn a_server_that_was_heard_by_a_clock_that_was_ahead_is_missed_all_the_same() {
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };
    let (dead, alive) = (an_announcement(), an_announcement());
    storage.announce_server(&dead).await.unwrap();
    storage.announce_server(&alive).await.unwrap();
    let ahead = tell_time_ahead(&server, TimeDelta::hours(1), &storage).await;
    let last = format!("{}:last", dead.id.as_uuid().simple());
    server.ask(&["HSET", "{jobrunr}:servers", &last, &encode(ahead)]).await.unwrap();

    let beat = Heartbeat { server_id: alive.id, load: ServerLoad::default() };
    storage.heartbeat(&beat).await.unwrap();
    let corrected_at = storage.storage_time().await.unwrap();
    let beat_at = storage.heartbeat(&beat).await.unwrap().storage_time;

    assert!(beat_at > corrected_at);
    assert_eq!(storage.remove_silent_servers(beat_at).await.unwrap(), [dead.id]);
    storage.close().await;
}
