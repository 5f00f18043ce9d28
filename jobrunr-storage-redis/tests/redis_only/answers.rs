//! A connection that is cut between a request and its answer: what came of the call is found out.

use jobrunr_core::StateName;
use jobrunr_core::storage::{ClaimRequest, JobSearch, JobStore, StorageError, StorageProvider};
use jobrunr_storage_redis::{RedisOptions, RedisStorage};

use crate::support::{PrivateServer, Proxy};
use crate::{a_server, a_server_with_a_storage, an_enqueued_job, at, open};

/// A storage behind a proxy, and another one past it.
struct Setting {
    _server: PrivateServer,
    proxy: Proxy,
    storage: RedisStorage,
    direct: RedisStorage,
}

impl Setting {
    async fn new() -> Option<Self> {
        let (server, direct) = a_server_with_a_storage(&[]).await?;
        let proxy = Proxy::to(server.port).await.unwrap();
        let storage = open(&proxy.url_of(&server), RedisOptions::default()).await;
        // Every script is loaded and the lane is known: the next script is the call itself.
        direct.insert_jobs(&[an_enqueued_job()]).await.unwrap();
        let mut warm = storage.claim_jobs(&ClaimRequest::new(a_server(), 1, at(0))).await.unwrap();
        warm[0].succeed(None, at(0)).unwrap();
        storage.save_jobs(&warm).await.unwrap();
        Some(Self { _server: server, proxy, storage, direct })
    }

    async fn dispose(self) {
        self.storage.close().await;
        self.direct.close().await;
    }
}

fn assert_unavailable<T: std::fmt::Debug>(result: &Result<T, StorageError>) {
    assert!(matches!(result, Err(StorageError::Unavailable { .. })), "{result:?}");
}

#[tokio::test]
async fn an_insert_whose_answer_is_lost_is_there_once_and_is_new_when_tried_again() {
    let Some(setting) = Setting::new().await else { return };
    // One chunk of many, and one small call that is gathered.
    for count in [100, 1] {
        let jobs: Vec<_> = (0..count).map(|_| an_enqueued_job()).collect();
        let before = setting.storage.job_counts().await.unwrap().in_state(StateName::Enqueued);

        setting.proxy.cut_next_answer();
        assert_unavailable(&setting.storage.insert_jobs(&jobs).await);
        let again = setting.storage.insert_jobs(&jobs).await.unwrap();

        assert_eq!(again.already_present, []);
        let after = setting.storage.job_counts().await.unwrap().in_state(StateName::Enqueued);
        assert_eq!(after - before, count);
        let third = setting.storage.insert_jobs(&jobs).await.unwrap();
        assert_eq!(third.already_present.len(), jobs.len(), "what is known is not uncertain any more");
    }
    assert_eq!(setting.proxy.cuts_so_far(), 2);
    setting.dispose().await;
}

#[tokio::test]
async fn a_save_whose_answer_is_lost_has_won_when_tried_again() {
    let Some(setting) = Setting::new().await else { return };
    let storage = &setting.storage;
    let new: Vec<_> = (0..10).map(|_| an_enqueued_job()).collect();
    setting.direct.insert_jobs(&new).await.unwrap();
    let mut jobs = storage.claim_jobs(&ClaimRequest::new(a_server(), 10, at(1))).await.unwrap();
    for job in &mut jobs {
        job.succeed(None, at(2)).unwrap();
    }

    setting.proxy.cut_next_answer();
    assert_unavailable(&storage.save_jobs(&jobs).await);
    let again = storage.save_jobs(&jobs).await.unwrap();

    assert_eq!(setting.proxy.cuts_so_far(), 1);
    assert_eq!(again.conflicts, []);
    for job in &jobs {
        let stored = storage.find_job(job.id()).await.unwrap().unwrap();
        assert_eq!(stored.history(), job.history());
    }
    let counts = storage.job_counts().await.unwrap();
    assert_eq!((counts.in_state(StateName::Succeeded), counts.succeeded_all_time), (11, 11));
    let third = storage.save_jobs(&jobs).await.unwrap();
    assert_eq!(third.conflicts.len(), 10, "what is known is not uncertain any more");
    setting.dispose().await;
}

#[tokio::test]
async fn a_save_that_lost_to_somebody_else_stays_a_conflict_though_its_answer_was_lost() {
    let Some(setting) = Setting::new().await else { return };
    let storage = &setting.storage;
    setting.direct.insert_jobs(&[an_enqueued_job()]).await.unwrap();
    let claimed = storage.claim_jobs(&ClaimRequest::new(a_server(), 1, at(1))).await.unwrap();
    let (mut mine, mut theirs) = (claimed.clone(), claimed);
    theirs[0].delete(None, at(2)).unwrap();
    setting.direct.save_jobs(&theirs).await.unwrap();
    mine[0].succeed(None, at(3)).unwrap();

    setting.proxy.cut_next_answer();
    assert_unavailable(&storage.save_jobs(&mine).await);
    let again = storage.save_jobs(&mine).await.unwrap();

    assert_eq!(again.conflicts, [mine[0].id()]);
    setting.dispose().await;
}

#[tokio::test]
async fn the_jobs_of_a_claim_whose_answer_is_lost_come_with_the_next_claim_of_the_server() {
    let Some(setting) = Setting::new().await else { return };
    let storage = &setting.storage;
    let new: Vec<_> = (0..10).map(|_| an_enqueued_job()).collect();
    setting.direct.insert_jobs(&new).await.unwrap();
    let (server, other) = (a_server(), a_server());

    setting.proxy.cut_next_answer();
    assert_unavailable(&storage.claim_jobs(&ClaimRequest::new(server.clone(), 10, at(1))).await);
    let by_other = storage.claim_jobs(&ClaimRequest::new(other, 10, at(2))).await.unwrap();
    let first = storage.claim_jobs(&ClaimRequest::new(server.clone(), 6, at(3))).await.unwrap();
    let second = storage.claim_jobs(&ClaimRequest::new(server.clone(), 10, at(4))).await.unwrap();
    let third = storage.claim_jobs(&ClaimRequest::new(server, 10, at(5))).await.unwrap();

    assert_eq!(setting.proxy.cuts_so_far(), 1);
    assert_eq!((by_other.len(), first.len(), second.len(), third.len()), (0, 6, 4, 0));
    for job in first.iter().chain(&second) {
        assert_eq!(storage.find_job(job.id()).await.unwrap().as_ref(), Some(job));
        assert_eq!(job.updated_at(), at(1), "it was claimed when the lost call claimed it");
    }
    setting.dispose().await;
}

#[tokio::test]
async fn the_jobs_of_a_claim_that_was_dropped_come_with_the_next_claim_of_the_server() {
    let Some(setting) = Setting::new().await else { return };
    let new: Vec<_> = (0..10).map(|_| an_enqueued_job()).collect();
    setting.direct.insert_jobs(&new).await.unwrap();
    let server = a_server();
    let request = ClaimRequest::new(server.clone(), 10, at(1));

    // It is polled until the server has carried it out, and never until it is done.
    let mut claim = Box::pin(setting.storage.claim_jobs(&request));
    let in_line = async || setting.direct.job_counts().await.unwrap().in_state(StateName::Enqueued);
    while in_line().await > 0 {
        assert!(futures_util::poll!(&mut claim).is_pending());
    }
    drop(claim);
    let claimed = setting.storage.claim_jobs(&ClaimRequest::new(server, 20, at(2))).await.unwrap();

    assert_eq!(claimed.len(), 10);
    setting.dispose().await;
}
