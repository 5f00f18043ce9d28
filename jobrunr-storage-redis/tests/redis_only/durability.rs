//! Writes that wait for replicas and disks.

use std::time::{Duration, Instant};

use jobrunr_core::storage::{ClaimRequest, JobSearch, JobStore, ServerStore, StorageError, StorageProvider};
use jobrunr_storage_redis::{Durability, RedisOptions, RedisStorage};

use crate::support::{PrivateServer, Proxy};
use crate::{a_server, a_server_with_a_storage, an_enqueued_job, at, open};

fn one_replica(within: Duration) -> RedisOptions {
    RedisOptions::default().durability(Durability::Replicas { at_least: 1, within })
}

#[tokio::test]
async fn a_write_waits_for_replicas_and_is_unavailable_without_them() {
    let Some(primary) = PrivateServer::start(&[]).await.unwrap() else { return };
    let mut replica = primary.replica().await.unwrap();
    let storage = open(&primary.url(), one_replica(Duration::from_secs(5))).await;

    let writes = (0..20).map(|_| async { storage.insert_jobs(&[an_enqueued_job()]).await.unwrap() });
    futures_util::future::join_all(writes).await;
    let copied = replica.ask(&["ZCARD", "{jobrunr}:created"]).await.unwrap();
    assert!(copied.contains("20"), "{copied}");

    replica.kill().unwrap();
    let job = an_enqueued_job();
    let refused = storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    replica.start_again().await.unwrap();
    primary.wait_for_replica().await.unwrap();
    let again = storage.insert_jobs(&[job]).await.unwrap();

    assert_eq!(again.already_present, [], "it is the first that was answered");
    assert_eq!(storage.job_counts().await.unwrap().total(), 21);
    storage.close().await;
}

#[tokio::test]
async fn a_claim_waits_for_replicas_and_jobs_that_it_could_not_make_safe_come_with_the_next_one() {
    let Some(primary) = PrivateServer::start(&[]).await.unwrap() else { return };
    let mut replica = primary.replica().await.unwrap();
    let storage = open(&primary.url(), one_replica(Duration::from_secs(2))).await;
    storage.insert_jobs(&[an_enqueued_job()]).await.unwrap();
    let claim = ClaimRequest::new(a_server(), 10, at(1));

    replica.kill().unwrap();
    let refused = storage.claim_jobs(&claim).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    let by_other = storage.claim_jobs(&ClaimRequest::new(a_server(), 10, at(1))).await.unwrap();
    assert_eq!(by_other, [], "a claim that takes nothing waits for nothing");
    replica.start_again().await.unwrap();
    primary.wait_for_replica().await.unwrap();
    let claimed = storage.claim_jobs(&claim).await.unwrap();

    assert_eq!(claimed.len(), 1);
    let copied = replica.ask(&["ZCARD", "{jobrunr}:state:3"]).await.unwrap();
    assert!(copied.contains('1'), "{copied}");
    storage.close().await;
}

#[tokio::test]
async fn what_an_earlier_try_wrote_is_not_taken_for_safe_before_it_is() {
    let Some((primary, direct)) = a_server_with_a_storage(&[]).await else { return };
    let replica = primary.replica().await.unwrap();
    let proxy = Proxy::to(primary.port).await.unwrap();
    let storage = open(&proxy.url_of(&primary), one_replica(Duration::from_secs(2))).await;
    direct.insert_jobs(&[an_enqueued_job()]).await.unwrap();
    let job = an_enqueued_job();
    let barriers = async || primary.command_counts().await.unwrap()["set"];

    replica.freeze().unwrap();
    proxy.cut_next_answer();
    let first = storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap_err();
    let before = barriers().await;
    // It finds the job there and writes nothing, and its connection is a new one.
    let second = storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap_err();

    assert!(first.is_retryable() && second.is_retryable(), "{first:?} {second:?}");
    assert_eq!(barriers().await, before + 1, "a wait answers for what its own connection wrote last");
    replica.let_go_on().unwrap();
    let third = storage.insert_jobs(&[job]).await.unwrap();
    assert_eq!(third.already_present, [], "it is the first that was answered");
    storage.close().await;
    direct.close().await;
}

#[tokio::test]
async fn nobody_else_waits_while_writes_wait_for_a_replica_that_is_away() {
    let Some((server, direct)) = a_server_with_a_storage(&[]).await else { return };
    let (within, call_timeout) = (Duration::from_secs(4), Duration::from_secs(1));
    let options = one_replica(within).call_timeout(call_timeout);
    let storage = RedisStorage::connect_with(&server.url(), options).await.unwrap();
    let (one, other) = ([an_enqueued_job()], [an_enqueued_job()]);

    let began = Instant::now();
    let writes = async {
        let first = storage.insert_jobs(&one);
        let second = async {
            crate::wait_until("the first is written", async || {
                direct.job_counts().await.unwrap().total() == 1
            })
            .await;
            storage.insert_jobs(&other).await
        };
        tokio::join!(first, second)
    };
    let others = async {
        let mut answers = 0;
        while began.elapsed() < within {
            storage.storage_time().await.unwrap();
            assert_eq!(storage.list_servers().await.unwrap(), []);
            assert!(storage.job_counts().await.unwrap().total() <= 2);
            answers += 1;
        }
        answers
    };
    let ((first, second), answers) = tokio::join!(writes, others);

    assert!(answers > 100, "{answers} answers in {within:?}");
    for refused in [first.unwrap_err(), second.unwrap_err()] {
        let source = std::error::Error::source(&refused).unwrap().to_string();
        assert!(source.contains("fewer replicas"), "{refused:?}: the connection outlasts the wait");
    }
    assert!(began.elapsed() < 3 * within, "one wait of others, and one of one's own");
    storage.close().await;
    direct.close().await;
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
