//! What cannot be used says so, clearly and without secrets.

use jobrunr_core::storage::{SetUp, StorageError, StorageProvider};
use jobrunr_storage_redis::{RedisOptions, RedisStorage};

use crate::support::PrivateServer;
use crate::{a_server_with_a_storage, open};

/// The error with all its causes.
fn said(error: &StorageError) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        words += &format!(": {cause}");
        source = cause.source();
    }
    words
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() {
    let Some(server) = PrivateServer::start(&[]).await.unwrap() else { return };

    let refused = RedisStorage::connect(&server.url_with_password("secret-word")).await.unwrap_err();

    assert!(matches!(refused, StorageError::Backend { .. }), "{refused:?}");
    assert!(said(&refused).contains("password"), "{}", said(&refused));
    assert!(!format!("{refused:?} {}", said(&refused)).contains("secret-word"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_the_url_is_not_shown() {
    let refused = RedisStorage::connect("redis://:secret-word@127.0.0.1:1").await.unwrap_err();

    assert!(refused.is_retryable(), "{refused:?}");
    assert!(!format!("{refused:?} {}", said(&refused)).contains("secret-word"));
}

#[tokio::test]
async fn urls_and_prefixes_that_cannot_be_are_refused() {
    for url in [
        "mysql://u:secret-word@h/d",
        "redis://u:secret-word@h:port",
        "rediss://:secret-word@h",
        "valkeys://:secret-word@h",
        "secret-word",
    ] {
        let refused = RedisStorage::connect(url).await.unwrap_err();
        assert!(matches!(refused, StorageError::Unsupported { .. }), "{refused:?}");
        assert!(!format!("{refused:?} {}", said(&refused)).contains("secret-word"));
        assert!(said(&refused).contains("TLS"), "{}", said(&refused));
    }
    for hostile in ["}x{", "a b", "\"; drop table"] {
        let options = RedisOptions::default().key_prefix(hostile);
        let refused = RedisStorage::connect_with("redis://127.0.0.1:1", options).await.unwrap_err();
        assert!(matches!(refused, StorageError::Unsupported { .. }), "{refused:?}");
    }
}

/// The URL of a user who may do everything but this.
async fn a_guest(server: &PrivateServer, forbidden: &[&str]) -> String {
    let rules = ["ACL", "SETUSER", "guest", "on", ">word", "~*", "&*", "+@all"];
    server.ask(&[&rules, forbidden].concat()).await.unwrap();
    server.url_with_password("word").replace("//:", "//guest:")
}

#[tokio::test]
async fn a_server_that_may_throw_jobs_away_is_refused_unless_that_is_accepted() {
    let Some(server) = PrivateServer::start(&["maxmemory-policy allkeys-lru"]).await.unwrap() else { return };
    let strict = RedisStorage::connect(&server.url()).await.unwrap();

    let other_protocol = RedisStorage::connect(&format!("{}?protocol=resp3", server.url())).await.unwrap();
    let without_config = RedisStorage::connect(&a_guest(&server, &["-config"]).await).await.unwrap();

    for storage in [strict, other_protocol, without_config] {
        for set_up in [SetUp::Migrate, SetUp::Validate] {
            let refused = storage.set_up(set_up).await.unwrap_err();
            assert!(matches!(refused, StorageError::Unsupported { .. }), "{refused:?}");
            assert!(said(&refused).contains("allkeys-lru") && said(&refused).contains("noeviction"));
        }
    }
    open(&server.url(), RedisOptions::default().allow_eviction(true)).await;
}

#[tokio::test]
async fn a_server_that_keeps_its_settings_to_itself_can_be_used() {
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };
    storage.close().await;
    let url = a_guest(&server, &["-config", "-info", "-cluster"]).await;

    let storage = RedisStorage::connect(&url).await.unwrap();

    storage.set_up(SetUp::Validate).await.unwrap();
    storage.close().await;
}

#[tokio::test]
async fn a_full_memory_is_unavailable_until_there_is_room_and_takes_no_job_half() {
    use jobrunr_core::storage::{JobSearch, JobStore};
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();

    let refused = storage.insert_jobs(&[crate::an_enqueued_job()]).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    assert_eq!(storage.job_counts().await.unwrap().total(), 0);

    server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    storage.insert_jobs(&[crate::an_enqueued_job()]).await.unwrap();
    assert_eq!(storage.job_counts().await.unwrap().total(), 1);
    storage.close().await;
}

#[tokio::test]
async fn two_databases_of_one_server_see_and_hear_nothing_of_each_other() {
    use futures_util::StreamExt;
    use jobrunr_core::storage::{Change, JobSearch, JobStore};
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };
    let other = open(&format!("{}/1", server.url()), RedisOptions::default()).await;
    let mut heard = other.changes().unwrap().subscribe();
    assert_eq!(heard.next().await, Some(Change::Resync));

    storage.insert_jobs(&[crate::an_enqueued_job()]).await.unwrap();
    storage.close().await;
    let mut own = crate::an_enqueued_job();
    own.schedule(crate::at(5), None, crate::at(1)).unwrap();
    other.insert_jobs(&[own]).await.unwrap();

    assert_eq!(heard.next().await, Some(Change::JobScheduled { scheduled_at: crate::at(5) }));
    assert_eq!(other.job_counts().await.unwrap().total(), 1);
    other.close().await;
}
