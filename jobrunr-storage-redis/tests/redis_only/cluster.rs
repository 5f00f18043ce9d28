//! A cluster whose master is killed: a replica takes over.

use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::storage::{Change, ClaimRequest, JobSearch, JobStore, ServerStore, StorageProvider};
use jobrunr_core::{Job, StateName};
use jobrunr_storage_redis::{Durability, RedisOptions};

use crate::support::PrivateServer;
use crate::{a_server, an_enqueued_job, at, open, wait_until};

const SETTINGS: &[&str] = &["cluster-enabled yes", "cluster-node-timeout 1500", "appendonly yes"];

/// Three masters and one replica of the one that has the keys; it is the first, the replica the last.
async fn a_cluster() -> Option<Vec<PrivateServer>> {
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(PrivateServer::start(SETTINGS).await.unwrap()?);
    }
    // The slot of `{jobrunr}:` goes to the first.
    let slot: u16 = {
        let answer = servers[0].ask(&["CLUSTER", "KEYSLOT", "{jobrunr}:"]).await.unwrap();
        answer.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    let own = |server: usize, first: u16, last: u16| {
        let (first, last) = (first.to_string(), last.to_string());
        let servers = &servers;
        async move { servers[server].ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await.unwrap() }
    };
    own(0, slot, slot).await;
    own(1, 0, slot - 1).await;
    own(2, slot + 1, 16_383).await;
    for other in &servers[1..] {
        let (port, bus) = (other.port.to_string(), other.bus.to_string());
        servers[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await.unwrap();
    }
    let id = servers[0].ask(&["CLUSTER", "MYID"]).await.unwrap();
    wait_until("the replica knows its master", async || {
        servers[3].ask(&["CLUSTER", "REPLICATE", &id]).await.is_ok()
    })
    .await;
    wait_until("the cluster is whole", async || {
        let info = servers[3].ask(&["CLUSTER", "INFO"]).await.unwrap_or_default();
        let replication = servers[0].ask(&["INFO", "replication"]).await.unwrap_or_default();
        info.contains("cluster_state:ok") && replication.contains("state=online")
    })
    .await;
    Some(servers)
}

#[tokio::test]
async fn after_a_failover_calls_go_to_the_new_master_and_nothing_that_a_replica_had_is_lost() {
    let Some(mut servers) = a_cluster().await else { return };
    // The URL names a node that has none of the keys.
    let durability = Durability::Replicas { at_least: 1, within: Duration::from_secs(10) };
    let storage = open(&servers[1].url(), RedisOptions::default().durability(durability)).await;
    let other = open(&servers[2].url(), RedisOptions::default()).await;
    let mut heard = other.changes().unwrap().subscribe();
    assert_eq!(heard.next().await, Some(Change::Resync));
    let jobs: Vec<Job> = (0..500).map(|_| an_enqueued_job()).collect();
    storage.insert_jobs(&jobs).await.unwrap();

    servers[0].kill().unwrap();
    wait_until("calls are answered again", async || other.job_counts().await.is_ok()).await;

    assert_eq!(other.job_counts().await.unwrap().in_state(StateName::Enqueued), 500);
    let claim = ClaimRequest::new(a_server(), 500, at(1));
    wait_until("the new master can be written to", async || storage.storage_time().await.is_ok()).await;
    // It has no replica that the other storage's claims could wait for.
    let claimed = other.claim_jobs(&claim).await.unwrap();
    assert_eq!(claimed.len(), 500);
    let resync = async { while heard.next().await != Some(Change::Resync) {} };
    tokio::time::timeout(Duration::from_secs(60), resync).await.expect("the feed comes back");
    storage.close().await;
    other.close().await;
}
