//! Removing silent servers over a connection that breaks: each is reported once.

use chrono::TimeDelta;
use jobrunr_core::ServerId;
use jobrunr_core::storage::{ServerStore, StorageProvider};
use jobrunr_storage_mongo::MongoStorage;
use storage_conformance_tests::TestDatabase;

use crate::answers::assert_unavailable;
use crate::support::Mongo;
use crate::{a_storage_on, an_announcement};

async fn three_servers(storage: &MongoStorage) -> Vec<ServerId> {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let server = an_announcement();
        storage.announce_server(&server).await.unwrap();
        ids.push(server.id);
    }
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_silent_server_whose_removal_was_not_answered_is_reported_by_the_next_call() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let ids = three_servers(&storage).await;
    let before = storage.storage_time().await.unwrap() + TimeDelta::days(1);

    fresh.proxy.cut_next_answer("delete");
    assert_unavailable(&storage.remove_silent_servers(before).await);
    let removed = storage.remove_silent_servers(before).await.unwrap();

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!(removed, ids);
    assert_eq!(storage.remove_silent_servers(before).await.unwrap(), []);
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn silent_servers_that_were_removed_are_reported_although_another_one_was_not() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let ids = three_servers(&storage).await;
    let before = storage.storage_time().await.unwrap() + TimeDelta::days(1);

    fresh.proxy.cut_answer_after(1, "delete");
    let first = storage.remove_silent_servers(before).await.unwrap();
    let second = storage.remove_silent_servers(before).await.unwrap();

    assert_eq!(fresh.proxy.losses(), 1);
    assert_eq!((first.len(), second.len()), (1, 2));
    let mut removed = [first, second].concat();
    removed.sort_unstable();
    assert_eq!(removed, ids);
    storage.close().await;
    fresh.destroy().await;
}
