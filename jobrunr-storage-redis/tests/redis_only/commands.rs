//! What calls cost the server, counted in commands: that does not depend on what else the machine does.

use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::recurring::{JobTemplate, RecurringJob};
use jobrunr_core::schedule::Cron;
use jobrunr_core::storage::{
    Change, ClaimRequest, CompareAndSet, Heartbeat, JobQuery, JobSearch, JobSelection, JobStore, Metadata,
    MetadataStore, RecurringJobQuery, RecurringJobStore, ServerAnnouncement, ServerLoad, ServerStore,
    SignatureSelection, StorageProvider,
};
use jobrunr_core::{Job, JobMetadata, ServerId, StateName, Version};
use jobrunr_storage_redis::{RedisOptions, RedisStorage};

use crate::support::PrivateServer;
use crate::{a_server, a_server_with_a_storage, an_enqueued_job, at, open};

/// As many as one script takes.
const CHUNK: usize = 50;

/// How many commands a script may run besides those for each of its jobs.
const BESIDES: u64 = 20;

/// What looks at every key, or at all of one.
const FORBIDDEN: [&str; 5] = ["scan", "keys", "hscan", "sscan", "zscan"];

/// How many commands this took the server, those that scripts run among them.
async fn cost<T>(server: &PrivateServer, call: impl Future<Output = T>) -> (u64, T) {
    server.ask(&["CONFIG", "RESETSTAT"]).await.unwrap();
    let result = call.await;
    let mut counts = server.command_counts().await.unwrap();
    // What this test asks, and the hints, which are sent whenever there is time.
    for name in ["config|resetstat", "info", "auth", "hello", "select", "client|setinfo", "publish"] {
        counts.remove(name);
    }
    (counts.values().sum(), result)
}

#[tokio::test]
async fn a_script_runs_two_commands_a_job_at_most_and_few_more() {
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };
    let jobs: Vec<Job> = (0..CHUNK).map(|_| an_enqueued_job()).collect();
    let scheduled = jobs.iter().map(|_| {
        let mut job = an_enqueued_job();
        job.schedule(at(5), None, at(1)).unwrap();
        job
    });
    let scheduled: Vec<Job> = scheduled.collect();
    let claim = ClaimRequest::new(a_server(), CHUNK, at(2));
    // Scripts and lanes are known from here on.
    run_every_operation(&storage).await;
    let of_jobs = |commands_a_job: u64| commands_a_job * u64::try_from(CHUNK).unwrap();

    let (inserting, _) = cost(&server, storage.insert_jobs(&jobs)).await;
    let (claiming, claimed) = cost(&server, storage.claim_jobs(&claim)).await;
    let mut claimed = claimed.unwrap();
    claimed.iter_mut().for_each(|job| job.succeed(None, at(3)).unwrap());
    let (saving, saved) = cost(&server, storage.save_jobs(&claimed)).await;
    storage.insert_jobs(&scheduled).await.unwrap();
    let (releasing, released) = cost(&server, storage.enqueue_due_jobs(at(6), CHUNK)).await;
    let ids = jobs.iter().map(Job::id).collect();
    let (deleting, deleted) = cost(&server, storage.delete_jobs(&JobSelection::Ids(ids))).await;

    assert_eq!((claimed.len(), saved.unwrap().conflicts.len()), (CHUNK, 0));
    assert_eq!((released.unwrap().released.len(), deleted.unwrap()), (CHUNK, 50));
    for (what, commands, commands_a_job) in [
        ("insert", inserting, 1),
        ("claim", claiming, 2),
        ("save", saving, 2),
        ("release", releasing, 2),
        ("delete", deleting, 2),
    ] {
        let most = of_jobs(commands_a_job) + BESIDES;
        assert!(commands <= most, "{what} takes {commands} commands, more than {most}");
    }
    storage.close().await;
}

#[tokio::test]
async fn no_operation_looks_through_keys() {
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };
    storage.close().await;
    server.ask(&["CONFIG", "RESETSTAT"]).await.unwrap();
    let storage = open(&server.url(), RedisOptions::default()).await;

    run_every_operation(&storage).await;
    storage.close().await;

    let counts = server.command_counts().await.unwrap();
    assert!(counts["evalsha"] > 10, "{counts:?}");
    for forbidden in FORBIDDEN {
        assert_eq!(counts.get(forbidden), None, "{forbidden} is called");
    }
}

#[tokio::test]
async fn every_operation_works_by_the_other_protocol_too() {
    let Some(server) = PrivateServer::start(&[]).await.unwrap() else { return };
    let storage = open(&format!("{}?protocol=resp3", server.url()), RedisOptions::default()).await;

    run_every_operation(&storage).await;

    storage.close().await;
}

/// Calls every method of the storage at least once; no job of it is left.
async fn run_every_operation(storage: &RedisStorage) {
    let mut heard = storage.changes().unwrap().subscribe();
    assert_eq!(heard.next().await, Some(Change::Resync));
    keep_jobs(storage).await;
    search(storage).await;
    keep_servers(storage).await;
    keep_recurring_jobs(storage).await;
    keep_metadata(storage).await;
    for state in StateName::ALL {
        let updated_before = chrono::DateTime::<chrono::Utc>::MAX_UTC;
        let signatures = SignatureSelection::Except(vec!["another".parse().unwrap()]);
        let aged = JobSelection::Aged { state, updated_before, signatures, limit: usize::MAX };
        storage.delete_jobs(&aged).await.unwrap();
    }
    assert_eq!(storage.job_counts().await.unwrap().total(), 0);
}

async fn keep_jobs(storage: &RedisStorage) {
    let mut jobs: Vec<Job> = (0..30).map(|_| an_enqueued_job()).collect();
    jobs[29].schedule(at(5), None, at(1)).unwrap();
    storage.insert_jobs(&jobs).await.unwrap();
    let id = jobs[0].id();
    let notes = JobMetadata::from([("note".to_owned(), "text".into())]);
    assert!(storage.save_job_metadata(id, &notes).await.unwrap());
    assert_eq!(storage.find_job(id).await.unwrap().unwrap().metadata(), &notes);
    assert_eq!(storage.enqueue_due_jobs(at(6), 10).await.unwrap().released.len(), 1);
    let mut claimed = storage.claim_jobs(&ClaimRequest::new(a_server(), 20, at(7))).await.unwrap();
    claimed.iter_mut().for_each(|job| job.succeed(None, at(8)).unwrap());
    assert_eq!(storage.save_jobs(&claimed).await.unwrap().conflicts, []);
    assert_eq!(storage.delete_jobs(&JobSelection::Ids(vec![id])).await.unwrap(), 1);
}

async fn search(storage: &RedisStorage) {
    let succeeded = JobQuery::in_state(StateName::Succeeded);
    for query in [
        JobQuery::all(),
        succeeded.clone().newest_first().offset(5),
        succeeded.name_contains("TEST"),
        JobQuery::all().name_contains("nowhere"),
    ] {
        storage.list_jobs(&query).await.unwrap();
        storage.count_jobs(&query).await.unwrap();
    }
    assert_eq!(storage.list_signatures(&StateName::ALL).await.unwrap().len(), 1);
}

async fn keep_servers(storage: &RedisStorage) {
    let server = ServerAnnouncement {
        id: ServerId::new(),
        name: "one".to_owned(),
        workers: 1,
        poll_interval: Duration::from_secs(15),
        server_timeout: Duration::from_secs(60),
        queues: vec![],
        signatures: vec![],
    };
    storage.announce_server(&server).await.unwrap();
    let beat = Heartbeat { server_id: server.id, load: ServerLoad::default() };
    assert!(storage.heartbeat(&beat).await.unwrap().is_announced);
    let now = storage.storage_time().await.unwrap();
    assert_eq!(storage.list_servers().await.unwrap().len(), 1);
    assert_eq!(storage.remove_silent_servers(now - chrono::TimeDelta::hours(1)).await.unwrap(), []);
    assert!(storage.remove_server(server.id).await.unwrap());
}

async fn keep_recurring_jobs(storage: &RedisStorage) {
    let template = JobTemplate::from(an_enqueued_job().definition());
    let job = RecurringJob::new("nightly".parse().unwrap(), Cron::hourly().into(), template, at(0));
    storage.save_recurring_job(&job).await.unwrap();
    assert!(storage.find_recurring_job(&job.id).await.unwrap().is_some());
    for due_at in [None, Some(at(1))] {
        let query = RecurringJobQuery { due_at, ..RecurringJobQuery::default() };
        storage.list_recurring_jobs(&query).await.unwrap();
    }
    assert!(storage.delete_recurring_job(&job.id, Some(Version::FIRST)).await.unwrap());
}

async fn keep_metadata(storage: &RedisStorage) {
    storage.save_metadata(&Metadata::new("name", "owner", "value", at(0))).await.unwrap();
    assert!(storage.find_metadata("name", "owner").await.unwrap().is_some());
    assert_eq!(storage.list_metadata("name").await.unwrap().len(), 1);
    let change = CompareAndSet {
        name: "name".to_owned(),
        owner: "owner".to_owned(),
        expected: Some("value".to_owned()),
        new: "other".to_owned(),
        now: at(1),
    };
    assert!(storage.compare_and_set_metadata(&change).await.unwrap());
    assert_eq!(storage.delete_metadata("name", Some("owner")).await.unwrap(), 1);
    assert_eq!(storage.delete_metadata("name", None).await.unwrap(), 0);
}
