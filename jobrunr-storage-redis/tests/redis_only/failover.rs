//! A failover that loses a claim after it was answered: the job is claimed again, and has the same version.

use jobrunr_core::storage::{ClaimRequest, JobStore, StorageProvider};
use jobrunr_core::{Job, ServerRef};
use jobrunr_storage_redis::{RedisOptions, RedisStorage};

use crate::support::PrivateServer;
use crate::{a_server, a_server_with_a_storage, an_enqueued_job, at, open, wait_until};

/// One job that two claims gave away at the same version, and where the second of them is what happened.
struct TwoClaims {
    _servers: [PrivateServer; 2],
    before: RedisStorage,
    after: RedisStorage,
    lost: Job,
    held: Job,
}

impl TwoClaims {
    async fn by(first: (ServerRef, i64), second: (ServerRef, i64)) -> Option<Self> {
        let (primary, before) = a_server_with_a_storage(&[]).await?;
        let replica = primary.replica().await.unwrap();
        before.insert_jobs(&[an_enqueued_job()]).await.unwrap();
        wait_until("the job is copied", async || {
            replica.ask(&["ZCARD", "{jobrunr}:created"]).await.unwrap().contains('1')
        })
        .await;
        replica.ask(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        let after = open(&replica.url(), RedisOptions::default()).await;
        let claim = |(server, second)| ClaimRequest::new(server, 1, at(second));
        let lost = before.claim_jobs(&claim(first)).await.unwrap().remove(0);
        let held = after.claim_jobs(&claim(second)).await.unwrap().remove(0);
        assert_eq!((lost.id(), lost.version()), (held.id(), held.version()));
        Some(Self { _servers: [primary, replica], before, after, lost, held })
    }

    /// Who held the job by the claim that was lost saves, and so does who holds it.
    async fn assert_that_the_lost_one_loses(self) {
        let Self { _servers, before, after, mut lost, mut held } = self;
        lost.succeed(None, at(10)).unwrap();
        held.succeed(None, at(11)).unwrap();

        let report = after.save_jobs(std::slice::from_ref(&lost)).await.unwrap();
        let stored = after.find_job(lost.id()).await.unwrap().unwrap();

        assert_eq!(report.conflicts, [lost.id()]);
        assert_eq!(stored.history(), &held.history()[..2], "nothing of it is written");
        let report = after.save_jobs(std::slice::from_ref(&held)).await.unwrap();
        assert_eq!(report.conflicts, []);
        let stored = after.find_job(held.id()).await.unwrap().unwrap();
        assert_eq!(stored.history(), held.history());
        before.close().await;
        after.close().await;
    }
}

#[tokio::test]
async fn a_claim_that_was_lost_does_not_end_the_run_of_another_server() {
    let Some(claims) = TwoClaims::by((a_server(), 1), (a_server(), 1)).await else { return };

    claims.assert_that_the_lost_one_loses().await;
}

#[tokio::test]
async fn a_claim_that_was_lost_does_not_end_a_later_run_of_the_same_server() {
    let server = a_server();
    let Some(claims) = TwoClaims::by((server.clone(), 1), (server, 2)).await else { return };

    claims.assert_that_the_lost_one_loses().await;
}
