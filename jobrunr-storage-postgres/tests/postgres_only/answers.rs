//! A connection that is cut between a request and its answer: what came of the call is found out.

use futures_util::StreamExt;
use jobrunr_core::StateName;
use jobrunr_core::storage::{
    ClaimRequest, JobQuery, JobSearch, JobStore, SetUp, StorageError, StorageProvider,
};
use jobrunr_storage_postgres::PostgresStorage;

use crate::support::proxy::Proxy;
use crate::support::{Place, Schema, url};
use crate::{a_server, an_enqueued_job, at};

/// A storage behind a proxy, with the schema it works in.
struct Setting {
    schema: Schema,
    proxy: Proxy,
    storage: PostgresStorage,
    /// Another storage on the same schema, past the proxy.
    direct: PostgresStorage,
}

impl Setting {
    async fn new() -> Option<Self> {
        let url = url()?;
        let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
        let options = schema.url().parse::<sqlx::postgres::PgConnectOptions>().unwrap();
        let proxy = Proxy::to(options.get_port()).await.unwrap();
        let behind =
            schema.url().replace(&format!(":{}/", options.get_port()), &format!(":{}/", proxy.port()));
        let storage = PostgresStorage::connect_with(
            &behind,
            schema.options(None).max_connections(1).without_listener(),
        )
        .await
        .unwrap();
        storage.set_up(SetUp::Migrate).await.unwrap();
        let direct = schema.open_postgres(None).await.unwrap();
        let mut changes = direct.changes().unwrap().subscribe();
        changes.next().await.unwrap();
        // Everything is prepared and numbered, and the hint of this insert has gone out: the next statement is the call
        // itself.
        storage.insert_jobs(&[an_enqueued_job()]).await.unwrap();
        let mut warm = storage.claim_jobs(&ClaimRequest::new(a_server(), 1, at(0))).await.unwrap();
        warm[0].succeed(None, at(0)).unwrap();
        storage.save_jobs(&warm).await.unwrap();
        changes.next().await.unwrap();
        // The one connection it uses is the one that is cut.
        Some(Self { schema, proxy, storage, direct })
    }

    async fn dispose(self) {
        self.storage.close().await;
        self.direct.close().await;
        self.schema.drop_schema().await;
    }
}

fn assert_unavailable<T: std::fmt::Debug>(result: &Result<T, StorageError>) {
    assert!(matches!(result, Err(StorageError::Unavailable { .. })), "{result:?}");
}

#[tokio::test]
async fn an_insert_whose_answer_is_lost_is_there_once_and_is_new_when_tried_again() {
    let Some(setting) = Setting::new().await else { return };
    let jobs: Vec<_> = (0..100).map(|_| an_enqueued_job()).collect();

    setting.proxy.cut_next_answer();
    assert_unavailable(&setting.storage.insert_jobs(&jobs).await);
    let again = setting.storage.insert_jobs(&jobs).await.unwrap();

    assert_eq!(setting.proxy.cuts_so_far(), 1);
    assert_eq!(again.already_present, []);
    let count = setting.storage.count_jobs(&JobQuery::in_state(StateName::Enqueued)).await.unwrap();
    assert_eq!(count, 100);
    let third = setting.storage.insert_jobs(&jobs).await.unwrap();
    assert_eq!(third.already_present.len(), 100, "what is known is not uncertain any more");
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
async fn the_jobs_of_a_claim_whose_answer_is_lost_come_with_the_next_claim_of_the_server() {
    let Some(setting) = Setting::new().await else { return };
    let storage = &setting.storage;
    let new: Vec<_> = (0..10).map(|_| an_enqueued_job()).collect();
    setting.direct.insert_jobs(&new).await.unwrap();
    let (server, other) = (a_server(), a_server());
    // Both servers are known to the storage, so that the next message is the claim itself.
    for server in [&server, &other] {
        let none = ClaimRequest::new(server.clone(), 1, at(1)).of_signatures(["none".parse().unwrap()]);
        assert_eq!(storage.claim_jobs(&none).await.unwrap(), []);
    }

    setting.proxy.cut_next_answer();
    assert_unavailable(&storage.claim_jobs(&ClaimRequest::new(server.clone(), 4, at(2))).await);
    let of_other = storage.claim_jobs(&ClaimRequest::new(other, 100, at(3))).await.unwrap();
    let found = storage.claim_jobs(&ClaimRequest::new(server.clone(), 100, at(4))).await.unwrap();

    assert_eq!(setting.proxy.cuts_so_far(), 1);
    assert_eq!((of_other.len(), found.len()), (6, 4));
    assert!(found.iter().all(|job| job.updated_at() == at(2) && job.server_id() == Some(server.id)));
    let nothing_left = storage.claim_jobs(&ClaimRequest::new(server, 100, at(5))).await.unwrap();
    assert_eq!(nothing_left, [], "a job is found once");
    setting.dispose().await;
}

#[tokio::test]
async fn a_claim_that_is_dropped_on_its_way_loses_nothing() {
    let Some(setting) = Setting::new().await else { return };
    let storage = &setting.storage;
    let new: Vec<_> = (0..200).map(|_| an_enqueued_job()).collect();
    setting.direct.insert_jobs(&new).await.unwrap();
    let server = a_server();
    let mut claimed = 0;
    for microseconds in (0..5_000).step_by(100) {
        let request = ClaimRequest::new(server.clone(), 3, at(1));
        let limit = std::time::Duration::from_micros(microseconds);
        if let Ok(jobs) = tokio::time::timeout(limit, storage.claim_jobs(&request)).await {
            claimed += jobs.unwrap().len();
        }
    }

    loop {
        let jobs = storage.claim_jobs(&ClaimRequest::new(server.clone(), 50, at(2))).await.unwrap();
        if jobs.is_empty() {
            break;
        }
        claimed += jobs.len();
    }

    assert_eq!(claimed, 200);
    setting.dispose().await;
}
