//! How MongoDB carries out what is asked of it all the time: by an index, however many jobs there are.

use std::time::Duration;

use jobrunr_core::recurring::{JobTemplate, RecurringJob};
use jobrunr_core::schedule::Interval;
use jobrunr_core::storage::{
    ClaimRequest, JobQuery, JobSearch, JobSelection, JobStore, RecurringJobQuery, RecurringJobStore,
    ServerStore, SetUp, SignatureSelection, StorageExt, StorageProvider,
};
use jobrunr_core::{Job, JobId, JobState, StateName};
use jobrunr_storage_mongo::MongoStorage;
use jobrunr_storage_mongo::mongodb::Database;
use jobrunr_storage_mongo::mongodb::bson::{Bson, Document, doc};
use storage_conformance_tests::TestDatabase;

use crate::support::Mongo;
use crate::{a_definition, a_server, an_enqueued_job, at};

/// Jobs in many states: some wait, most have ended.
pub(crate) async fn fill(storage: &MongoStorage) {
    let server = a_server();
    let mut jobs: Vec<Job> = (0..3_000).map(|_| an_enqueued_job()).collect();
    for job in &mut jobs[..2_500] {
        job.start_processing(&server, at(1)).unwrap();
        job.succeed(None, at(2)).unwrap();
    }
    for second in 0..500 {
        let state = JobState::scheduled(at(1_000 + second));
        jobs.push(Job::new(JobId::new(), a_definition(), state, at(0)).unwrap());
    }
    storage.insert_jobs(&jobs).await.unwrap();
}

/// Every command on jobs, recurring jobs, servers and metadata that is carried out meanwhile, with its plan.
pub(crate) async fn profiling(database: &Database, work: impl AsyncFn()) -> Vec<Document> {
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    work().await;
    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let mut commands = profiled(database).await;
    // An insert has none.
    commands.retain(|command| command.contains_key("planSummary"));
    commands
}

/// Every command on jobs, recurring jobs, servers and metadata that was profiled.
async fn profiled(database: &Database) -> Vec<Document> {
    let profile = database.collection::<Document>("system.profile");
    let ours = doc! { "ns": { "$regex": "jobrunr_(jobs|servers|recurring_jobs|metadata)$" }, "op": { "$in": ["query", "getmore", "command", "update", "remove", "insert"] } };
    let mut cursor = profile.find(ours).await.unwrap();
    let mut commands = Vec::new();
    while cursor.advance().await.unwrap() {
        commands.push(cursor.deserialize_current().unwrap());
    }
    commands
}

/// How much of this kind a command has looked at.
pub(crate) fn examined(command: &Document, what: &str) -> usize {
    match command.get(what) {
        Some(Bson::Int32(count)) => usize::try_from(*count).unwrap(),
        Some(Bson::Int64(count)) => usize::try_from(*count).unwrap(),
        _ => 0,
    }
}

#[tokio::test]
async fn everything_that_servers_do_goes_by_an_index() {
    let Some(fresh) = Mongo::StandAlone.fresh().await else { return };
    let storage = fresh.open_mongo(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    fill(&storage).await;
    let database = fresh.database();
    database.run_command(doc! { "profile": 2 }).await.unwrap();

    let mut claimed = storage.claim_jobs(&ClaimRequest::new(a_server(), 100, at(5))).await.unwrap();
    for job in &mut claimed[..50] {
        job.succeed(None, at(6)).unwrap();
    }
    for job in &mut claimed[50..] {
        job.give_back("stopped", at(6)).unwrap();
    }
    assert_eq!(storage.save_all(&mut claimed).await.unwrap(), []);
    assert_eq!(storage.enqueue_due_jobs(at(1_010), 100).await.unwrap().released.len(), 11);
    storage.job_counts().await.unwrap();
    storage.find_job(claimed[0].id()).await.unwrap().unwrap();
    for order in ["updated", "created"] {
        let query = JobQuery::in_state(StateName::Succeeded).limit(20);
        let query = if order == "updated" { query.newest_first() } else { query };
        storage.list_jobs(&query).await.unwrap();
    }
    // What the master asks.
    storage.list_jobs(&JobQuery::in_state(StateName::Processing).server_not_in([])).await.unwrap();
    let due = RecurringJobQuery { due_at: Some(at(10)), limit: Some(100), ..RecurringJobQuery::default() };
    storage.list_recurring_jobs(&due).await.unwrap();
    storage.list_signatures(&StateName::ALL).await.unwrap();
    storage.remove_silent_servers(at(0)).await.unwrap();
    let aged = JobSelection::Aged {
        state: StateName::Succeeded,
        updated_before: at(3),
        signatures: SignatureSelection::All,
        limit: 100,
    };
    assert_eq!(storage.delete_jobs(&aged).await.unwrap(), 100);
    assert_eq!(storage.delete_jobs(&JobSelection::Ids(vec![claimed[0].id()])).await.unwrap(), 1);

    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let commands = profiled(&database).await;
    let plans: Vec<&str> =
        commands.iter().filter_map(|command| command.get_str("planSummary").ok()).collect();
    assert!(plans.len() >= 10, "the profile holds what was done: {plans:?}");
    for plan in &plans {
        assert!(!plan.contains("COLLSCAN"), "{plan} of {plans:?}");
    }
    // A page in the order of creation walks past jobs of other states.
    let is_page = |command: &&Document| {
        command
            .get_document("command")
            .is_ok_and(|sent| sent.get_document("sort").is_ok_and(|sort| sort.contains_key("created")))
    };
    for command in commands.iter().filter(|command| !is_page(command)) {
        let found = ["nreturned", "nMatched", "ndeleted"].map(|what| examined(command, what));
        assert!(examined(command, "docsExamined") <= found.into_iter().sum(), "{command}");
    }
    let planned = |index: &str| plans.iter().any(|plan| plan.contains(index));
    assert!(planned("DISTINCT_SCAN { state: 1, lane: 1"), "{plans:?}");
    assert!(planned("IXSCAN { state: 1, lane: 1, rank: 1, queued: 1"), "{plans:?}");
    assert!(planned("IXSCAN { state: 1, scheduled: 1"), "{plans:?}");
    assert!(planned("IXSCAN { state: 1, updated: 1"), "{plans:?}");
    assert!(planned("IXSCAN { paused: 1, next_run: 1"), "{plans:?}");
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn a_claim_looks_at_no_more_than_it_takes() {
    let Some(fresh) = Mongo::StandAlone.fresh().await else { return };
    let storage = fresh.open_mongo(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    fill(&storage).await;

    let commands = profiling(&fresh.database(), async || {
        assert_eq!(storage.claim_jobs(&ClaimRequest::new(a_server(), 10, at(5))).await.unwrap().len(), 10);
    })
    .await;

    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        assert!(examined(&command, "docsExamined") <= 10, "{command}");
    }
    storage.close().await;
    fresh.destroy().await;
}

/// 5 000 recurring jobs: 20 are due at second 0, as many are paused that would be, all others are due later.
async fn fill_with_recurring_jobs(storage: &MongoStorage, database: &Database) {
    let schedule = Interval::new(Duration::from_secs(60), at(0)).unwrap();
    for number in 0..=40 {
        let id = format!("job-{number}").parse().unwrap();
        let mut job = RecurringJob::new(id, schedule.into(), JobTemplate::from(&a_definition()), at(0));
        job.next_run_at = Some(if number < 40 { at(0) } else { at(1) });
        job.paused = number % 2 == 1;
        storage.save_recurring_job(&job).await.unwrap();
    }
    let stored = database.collection::<Document>("jobrunr_recurring_jobs");
    let later = stored.find_one(doc! { "_id": "job-40" }).await.unwrap().unwrap();
    let like_it = (41..5_000).map(|number| {
        let mut other = later.clone();
        other.insert("_id", format!("job-{number}"));
        other
    });
    stored.insert_many(like_it).await.unwrap();
}

#[tokio::test]
async fn of_5_000_recurring_jobs_one_command_reads_those_that_are_due_and_no_others() {
    let Some(fresh) = Mongo::StandAlone.fresh().await else { return };
    let storage = fresh.open_mongo(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let database = fresh.database();
    fill_with_recurring_jobs(&storage, &database).await;
    database.run_command(doc! { "profile": 2 }).await.unwrap();

    let due = RecurringJobQuery { due_at: Some(at(0)), ..RecurringJobQuery::default() };
    let found = storage.list_recurring_jobs(&due).await.unwrap();

    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let commands = profiled(&database).await;
    let [look] = &commands[..] else { panic!("a look is one command: {commands:?}") };
    assert_eq!((found.len(), examined(look, "docsExamined")), (20, 20), "{look}");
    assert!(examined(look, "keysExamined") <= 21, "those that are due, and where they end: {look}");
    storage.close().await;
    fresh.destroy().await;
}
