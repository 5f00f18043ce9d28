//! A database whose clock was ahead and has been set back: it is not waited for until it is there again.

use std::time::Duration;

use chrono::TimeDelta;
use jobrunr_core::ServerId;
use jobrunr_core::storage::{Heartbeat, ServerLoad, ServerStore, StorageProvider};
use jobrunr_storage_mongo::MongoStorage;
use jobrunr_storage_mongo::mongodb::bson::{Document, doc};
use storage_conformance_tests::TestDatabase;

use crate::support::{Fresh, Mongo};
use crate::{a_storage_on, an_announcement};

const HOUR: Duration = Duration::from_secs(3_600);

/// What a clock leaves behind that was ahead by this.
async fn put_heartbeats_ahead(fresh: &Fresh, by: Duration) {
    let servers = fresh.database().collection::<Document>("jobrunr_servers");
    let by = i64::try_from(by.as_micros()).unwrap();
    servers.update_many(doc! {}, doc! { "$inc": { "last_heartbeat": by } }).await.unwrap();
}

async fn beat(storage: &MongoStorage, server_id: ServerId) {
    let heartbeat = Heartbeat { server_id, load: ServerLoad::default() };
    assert!(storage.heartbeat(&heartbeat).await.unwrap().is_announced);
}

#[tokio::test]
async fn a_server_that_died_while_the_clock_was_ahead_looks_silent_soon_after_it_was_set_back() {
    let Some((fresh, storage)) = a_storage_on(Mongo::ReplicaSet).await else { return };
    let (living, dead) = (an_announcement(), an_announcement());
    storage.announce_server(&living).await.unwrap();
    storage.announce_server(&dead).await.unwrap();
    put_heartbeats_ahead(&fresh, HOUR).await;

    beat(&storage, living.id).await;
    let listed = storage.list_servers().await.unwrap();
    let now = storage.storage_time().await.unwrap();

    assert_eq!(listed.len(), 2);
    for server in listed {
        assert!(server.last_heartbeat_at <= now, "{server:?} is heard of before {now}");
    }
    while storage.storage_time().await.unwrap() <= now {}
    beat(&storage, living.id).await;
    let removed = storage.remove_silent_servers(now + TimeDelta::microseconds(1)).await.unwrap();
    assert_eq!(removed, [dead.id]);
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn the_clock_of_another_member_that_is_a_little_behind_takes_no_heartbeat_back() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let server = an_announcement();
    let announced_at = storage.announce_server(&server).await.unwrap();
    let ahead = Duration::from_secs(4);
    put_heartbeats_ahead(&fresh, ahead).await;

    beat(&storage, server.id).await;
    let listed = storage.list_servers().await.unwrap();

    assert_eq!(listed[0].last_heartbeat_at, announced_at + ahead);
    storage.close().await;
    fresh.destroy().await;
}
