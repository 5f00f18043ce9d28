//! Keys that another version wrote, and keys that are not there.

use jobrunr_core::storage::{JobSearch, JobStore, SetUp, StorageError, StorageProvider};
use jobrunr_storage_redis::{RedisOptions, RedisStorage};

use crate::support::PrivateServer;
use crate::{a_server_with_a_storage, an_enqueued_job};

const SCHEMA: &str = "{jobrunr}:schema";

async fn assert_mismatch(storage: &RedisStorage, words: &str) {
    for set_up in [SetUp::Migrate, SetUp::Validate] {
        let refused = storage.set_up(set_up).await.unwrap_err();
        assert!(matches!(refused, StorageError::SchemaMismatch { .. }), "{refused:?}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
}

#[tokio::test]
async fn keys_of_earlier_and_later_versions_and_of_none_are_refused_and_left_as_they_are() {
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };
    storage.insert_jobs(&[an_enqueued_job()]).await.unwrap();

    for (layout, words) in [
        ("4", "layout 4"),
        ("2", "layout 2"),
        ("1", "layout 1"),
        ("0", "no layout that is known"),
        ("x", "no layout that is known"),
    ] {
        server.ask(&["SET", SCHEMA, layout]).await.unwrap();
        assert_mismatch(&storage, words).await;
        assert_eq!(server.ask(&["GET", SCHEMA]).await.unwrap(), layout);
    }

    server.ask(&["SET", SCHEMA, "3"]).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    assert_eq!(storage.job_counts().await.unwrap().total(), 1, "what was there before is there still");
    storage.close().await;
}

#[tokio::test]
async fn a_server_without_the_keys_is_refused_where_none_may_be_made() {
    let Some(server) = PrivateServer::start(&[]).await.unwrap() else { return };
    let storage = RedisStorage::connect_with(&server.url(), RedisOptions::default()).await.unwrap();

    let refused = storage.set_up(SetUp::Validate).await.unwrap_err();

    assert!(matches!(refused, StorageError::SchemaMismatch { .. }), "{refused:?}");
    assert!(refused.to_string().contains(SCHEMA), "{refused}");
    assert_eq!(server.ask(&["DBSIZE"]).await.unwrap(), "0");
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.set_up(SetUp::Validate).await.unwrap();
    storage.close().await;
}

#[tokio::test]
async fn eight_that_set_up_at_once_agree() {
    let Some(server) = PrivateServer::start(&[]).await.unwrap() else { return };
    let set_ups = (0..8).map(|_| async {
        let storage = RedisStorage::connect(&server.url()).await.unwrap();
        storage.set_up(SetUp::Migrate).await.unwrap();
        storage.close().await;
    });

    futures_util::future::join_all(set_ups).await;

    assert_eq!(server.ask(&["GET", SCHEMA]).await.unwrap(), "3");
}
