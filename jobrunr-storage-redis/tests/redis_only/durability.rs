//! Writes that wait for replicas and disks.

use std::time::Duration;

use jobrunr_core::storage::{JobSearch, JobStore, StorageError, StorageProvider};
use jobrunr_storage_redis::{Durability, RedisOptions, RedisStorage};

use crate::support::PrivateServer;
use crate::{an_enqueued_job, open, wait_until};

#[tokio::test]
async fn a_write_waits_for_replicas_and_is_unavailable_without_them() {
    let Some(primary) = PrivateServer::start(&[]).await.unwrap() else { return };
    let replica = format!("replicaof 127.0.0.1 {}", primary.port);
    let mut replica = PrivateServer::start(&[&replica]).await.unwrap().expect("Redis is here");
    wait_until("the replica is connected", async || {
        primary.ask(&["INFO", "replication"]).await.is_ok_and(|info| info.contains("state=online"))
    })
    .await;
    let durability = Durability::Replicas { at_least: 1, within: Duration::from_secs(5) };
    let storage = open(&primary.url(), RedisOptions::default().durability(durability)).await;

    let writes = (0..20).map(|_| async { storage.insert_jobs(&[an_enqueued_job()]).await.unwrap() });
    futures_util::future::join_all(writes).await;
    let copied = replica.ask(&["ZCARD", "{jobrunr}:created"]).await.unwrap();
    assert!(copied.contains("20"), "{copied}");

    replica.kill().unwrap();
    let job = an_enqueued_job();
    let refused = storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    replica.start_again().await.unwrap();
    wait_until("the replica is back", async || {
        primary.ask(&["INFO", "replication"]).await.is_ok_and(|info| info.contains("state=online"))
    })
    .await;
    let again = storage.insert_jobs(&[job]).await.unwrap();

    assert_eq!(again.already_present, [], "it is the first that was answered");
    assert_eq!(storage.job_counts().await.unwrap().total(), 21);
    storage.close().await;
}

#[tokio::test]
async fn a_server_that_cannot_wait_for_disks_says_so() {
    let Some(server) = PrivateServer::start(&["appendonly yes"]).await.unwrap() else { return };
    let within = Duration::from_secs(5);
    let durability = Durability::Disk { replicas: 0, within };
    let options = RedisOptions::default().durability(durability);
    let storage = RedisStorage::connect_with(&server.url(), options).await.unwrap();
    let can_wait = server.ask(&["WAITAOF", "1", "0", "5000"]).await.is_ok();

    let set_up = storage.set_up(jobrunr_core::storage::SetUp::Migrate).await;

    match set_up {
        Ok(()) => assert!(can_wait),
        Err(error) => {
            assert!(!can_wait && matches!(error, StorageError::Unsupported { .. }), "{error:?}");
        }
    }
    storage.close().await;
}
