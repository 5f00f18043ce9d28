//! The end of a storage's use in one process, and what outlives it.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, try_join_all};
use futures_util::stream::StreamExt;
use jobrunr_core::storage::{
    BoxError, CompareAndSet, Heartbeat, JobQuery, JobSelection, Metadata, RecurringJobQuery, ServerLoad,
    SetUp, StorageError, StorageExt, StorageProvider,
};
use jobrunr_core::{JobMetadata, ServerId, StateName};
use serde_json::json;
use tokio::sync::Barrier;

use crate::builders::{
    a_claim, a_job, a_recurring_job, an_announcement, an_enqueued_job, at, enqueued_jobs, failure,
    insert_all, recurring_id,
};
use crate::content::{UNBOUNDED, assert_sound, everything, find};
use crate::{Fixture, ScenarioResult};

type Call<'a> = (&'static str, BoxFuture<'a, Result<(), StorageError>>);

/// Every call of the contract, with something to do.
fn every_call(storage: &dyn StorageProvider) -> Vec<Call<'_>> {
    macro_rules! calls {
        ($($name:ident($($argument:expr),*)),+ $(,)?) => {
            vec![$((stringify!($name), async move { storage.$name($($argument),*).await.map(drop) }.boxed())),+]
        };
    }
    let query = JobQuery::all;
    let change = || CompareAndSet {
        name: "name".to_owned(),
        owner: "owner".to_owned(),
        expected: None,
        new: "new".to_owned(),
        now: at(0),
    };
    let metadata = || JobMetadata::from([("name".to_owned(), json!(1))]);
    calls![
        set_up(SetUp::Migrate),
        insert_jobs(&[an_enqueued_job()]),
        save_jobs(&[an_enqueued_job()]),
        claim_jobs(&a_claim(1, at(1))),
        enqueue_due_jobs(at(1), 1),
        find_job(an_enqueued_job().id()),
        delete_jobs(&JobSelection::Ids(vec![an_enqueued_job().id()])),
        save_job_metadata(an_enqueued_job().id(), &metadata()),
        list_jobs(&query()),
        count_jobs(&query()),
        job_counts(),
        list_signatures(&StateName::ALL),
        save_recurring_job(&a_recurring_job("report")),
        find_recurring_job(&recurring_id("report")),
        list_recurring_jobs(&RecurringJobQuery::default()),
        delete_recurring_job(&recurring_id("report"), None),
        storage_time(),
        announce_server(&an_announcement("server")),
        heartbeat(&Heartbeat { server_id: ServerId::new(), load: ServerLoad::default() }),
        list_servers(),
        remove_server(ServerId::new()),
        remove_silent_servers(at(0)),
        save_metadata(&Metadata::new("name", "owner", "value", at(0))),
        find_metadata("name", "owner"),
        list_metadata("name"),
        delete_metadata("name", None),
        compare_and_set_metadata(&change()),
    ]
}

/// Whoever still calls is told that it is over, by every call.
pub async fn after_close_every_call_says_closed(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.another_storage().await?;
    for (name, call) in every_call(&*storage) {
        call.await.map_err(|error| format!("{name} failed before the close: {error}"))?;
    }
    let mut changes = storage.changes().map(|feed| feed.subscribe());

    storage.close().await;
    storage.close().await;

    for (name, call) in every_call(&*storage) {
        match call.await {
            Err(StorageError::Closed { provider, operation }) => {
                assert_eq!(provider, storage.name());
                assert!(!operation.is_empty());
            }
            other => panic!("{name} answered {other:?} after the close"),
        }
    }
    if let Some(changes) = &mut changes {
        while changes.next().await.is_some() {}
    }
    if let Some(feed) = storage.changes() {
        assert_eq!(feed.subscribe().next().await, None, "a feed of a closed storage ends at once");
    }
    fixture
        .storage()
        .job_counts()
        .await
        .map_err(|error| format!("another storage was closed too: {error}"))?;
    Ok(())
}

/// Calls that race with the end have a result or are told, and never hang; what was confirmed is there.
pub async fn calls_that_race_with_close_end(fixture: &Fixture<'_>) -> ScenarioResult {
    let mut confirmed = Vec::new();
    for _ in 0..5 {
        let storage = fixture.another_storage().await?;
        let start = Arc::new(Barrier::new(9));
        let callers = (0..8).map(|_| {
            let (storage, start) = (Arc::clone(&storage), Arc::clone(&start));
            tokio::spawn(async move {
                let mut inserted = Vec::new();
                start.wait().await;
                loop {
                    let mut job = an_enqueued_job();
                    match storage.insert_job(&mut job).await {
                        Ok(_) => inserted.push(job),
                        Err(StorageError::Closed { .. }) => return Ok::<_, BoxError>(inserted),
                        Err(other) => return Err(other.into()),
                    }
                    match storage.list_jobs(&JobQuery::all().limit(5)).await {
                        Ok(_) | Err(StorageError::Closed { .. }) => {}
                        Err(other) => return Err(other.into()),
                    }
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        start.wait().await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        storage.close().await;
        for inserted in try_join_all(callers).await? {
            confirmed.extend(inserted?);
        }
    }

    for job in &confirmed {
        assert_eq!(find(fixture.storage(), job.id()).await?, *job, "what was confirmed is stored");
    }
    assert_sound(&everything(fixture.storage()).await?);
    Ok(())
}

/// Everything is there again after all processes were gone.
pub async fn what_was_stored_survives_closing_everything(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let metadata = JobMetadata::from([("step".to_owned(), json!([1, "two"]))]);
    insert_all(storage, &mut enqueued_jobs(50)).await?;
    insert_all(storage, &mut [a_job().labelled(&["a"]).scheduled(at(0), at(9)).with_metadata(metadata)])
        .await?;
    let mut claimed = storage.claim_jobs(&a_claim(20, at(1))).await?;
    for job in &mut claimed[..10] {
        job.succeed(None, at(2))?;
    }
    for job in &mut claimed[10..15] {
        job.fail(failure("the paper jam"), at(2))?;
    }
    assert_eq!(storage.save_all(&mut claimed[..15]).await?, []);
    storage.save_recurring_job(&a_recurring_job("report")).await?;
    storage.announce_server(&an_announcement("server")).await?;
    storage.save_metadata(&Metadata::new("name", "owner", "value", at(0))).await?;
    let jobs = everything(storage).await?;
    let counts = storage.job_counts().await?;
    let recurring = storage.list_recurring_jobs(&RecurringJobQuery::default()).await?;
    let servers = storage.list_servers().await?;
    let values = storage.list_metadata("name").await?;
    let mut whole = Vec::new();
    for job in &jobs {
        whole.push(find(storage, job.id()).await?);
    }

    storage.close().await;
    let again = fixture.another_storage().await?;

    assert!(everything(&*again).await? == jobs, "the jobs are not as they were");
    for job in whole {
        assert_eq!(find(&*again, job.id()).await?, job);
    }
    assert_eq!(again.job_counts().await?, counts);
    assert_eq!(again.list_recurring_jobs(&RecurringJobQuery::default()).await?, recurring);
    assert_eq!(again.list_servers().await?, servers);
    assert_eq!(again.list_metadata("name").await?, values);
    assert_eq!(again.count_jobs(&JobQuery::all().label("a").error_contains("jam")).await?, 0);
    assert_eq!(again.enqueue_due_jobs(at(9), 5).await?.released.len(), 1);
    assert_eq!(again.claim_jobs(&a_claim(UNBOUNDED, at(10))).await?.len(), 31);
    Ok(())
}
