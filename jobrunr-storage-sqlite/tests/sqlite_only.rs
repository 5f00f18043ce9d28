//! What the suite cannot know: locked, full, damaged and foreign files, other connections, the memory.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

#[path = "support/folder.rs"]
mod folder;

use std::time::Duration;

use chrono::{DateTime, Utc};
use folder::Folder;
use futures_util::{FutureExt, StreamExt};
use jobrunr_core::storage::{
    Change, ChangeStream, ClaimRequest, JobQuery, JobSearch, JobStore, RecurringJobStore, SetUp,
    StorageError, StorageExt, StorageProvider,
};
use jobrunr_core::{
    FailureKind, Job, JobDefinition, JobId, JobState, JsonText, ServerId, ServerRef, StateName,
};
use jobrunr_storage_sqlite::{SqliteOptions, SqliteStorage};
use rusqlite::{Connection, TransactionBehavior, params};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn a_job() -> Job {
    a_job_of("mail", JobState::enqueued(), at(0))
}

fn a_job_of(signature: &str, state: JobState, now: DateTime<Utc>) -> Job {
    let definition = JobDefinition::new(signature.parse().unwrap(), JsonText::of("to whom").unwrap());
    Job::new(JobId::new(), definition, state, now).unwrap()
}

fn a_claim(limit: usize) -> ClaimRequest {
    ClaimRequest::new(ServerRef { id: ServerId::new(), name: "one".to_owned() }, limit, at(100))
}

async fn open(options: SqliteOptions) -> SqliteStorage {
    let storage = SqliteStorage::open(options).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage
}

async fn open_in(folder: &Folder) -> SqliteStorage {
    open(SqliteOptions::file(folder.database())).await
}

fn connect(folder: &Folder) -> Connection {
    let connection = Connection::open(folder.database()).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
}

fn cause(error: &StorageError) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

#[tokio::test]
async fn while_another_process_holds_the_lock_calls_are_unavailable_and_nothing_is_lost() {
    let folder = Folder::new().unwrap();
    let storage = open(SqliteOptions::file(folder.database()).busy_timeout(Duration::from_millis(50))).await;
    let before = a_job();
    storage.insert_jobs(std::slice::from_ref(&before)).await.unwrap();
    let other = connect(&folder);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();

    let refused = a_job();
    let error = storage.insert_jobs(std::slice::from_ref(&refused)).await.unwrap_err();

    assert!(error.is_retryable() && cause(&error).contains("lock"), "{error:?}");
    assert_eq!(storage.find_job(before.id()).await.unwrap().as_ref(), Some(&before), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(storage.find_job(refused.id()).await.unwrap(), None);
    assert_eq!(storage.insert_jobs(&[refused]).await.unwrap().already_present, []);
    assert_eq!(storage.claim_jobs(&a_claim(9)).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_call_waits_for_a_lock_that_is_held_for_a_short_time() {
    let folder = Folder::new().unwrap();
    let storage = open_in(&folder).await;
    let other = connect(&folder);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let job = [a_job()];
    let mut insert = storage.insert_jobs(&job);

    assert!((&mut insert).now_or_never().is_none());
    other.execute_batch("COMMIT").unwrap();

    assert_eq!(insert.await.unwrap().already_present, []);
}

#[tokio::test]
async fn sixty_four_callers_share_their_commits() {
    let folder = Folder::new().unwrap();
    let storage = open_in(&folder).await;
    let before = storage.write_statistics();
    let other = connect(&folder);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let jobs: Vec<[Job; 1]> = (0..64).map(|_| [a_job()]).collect();
    let mut inserts = futures_util::future::join_all(jobs.iter().map(|job| storage.insert_jobs(job)));

    assert!((&mut inserts).now_or_never().is_none());
    other.execute_batch("COMMIT").unwrap();
    for end in inserts.await {
        end.unwrap();
    }

    let after = storage.write_statistics();
    assert_eq!(after.calls - before.calls, 64);
    assert!(after.commits - before.commits <= 2, "{after:?}");
    assert_eq!(storage.job_counts().await.unwrap().in_state(StateName::Enqueued), 64);
}

#[tokio::test]
async fn a_file_that_may_only_be_read_is_read_and_says_what_is_wrong_with_writing() {
    let folder = Folder::new().unwrap();
    let writing = open_in(&folder).await;
    let job = a_job();
    writing.insert_jobs(std::slice::from_ref(&job)).await.unwrap();
    let url = format!("sqlite:{}?mode=ro", folder.database().display());
    let reading = SqliteStorage::connect(&url).await.unwrap();

    reading.set_up(SetUp::Validate).await.unwrap();
    let error = reading.claim_jobs(&a_claim(1)).await.unwrap_err();

    assert!(
        matches!(&error, StorageError::Backend { .. }) && cause(&error).contains("only be read"),
        "{error:?}"
    );
    assert_eq!(reading.list_jobs(&JobQuery::all()).await.unwrap(), [job]);
    assert_eq!(writing.claim_jobs(&a_claim(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_disk_refuses_what_does_not_fit_and_keeps_what_is_there() {
    let folder = Folder::new().unwrap();
    let storage = open(SqliteOptions::file(folder.database()).max_file_bytes(600_000)).await;
    let mut stored = Vec::new();
    let error = loop {
        let batch: Vec<Job> = (0..100).map(|_| a_job()).collect();
        match storage.insert_jobs(&batch).await {
            Ok(_) => stored.extend(batch),
            Err(error) => break error,
        }
    };

    assert!(error.is_retryable() && cause(&error).contains("disk is full"), "{error:?}");
    assert!(!stored.is_empty());
    let limit = stored.len() + 100;
    let listed = storage.list_jobs(&JobQuery::all().limit(limit)).await.unwrap();
    assert_eq!(listed.len(), stored.len(), "nothing of the refused batch is there");
    let counts = storage.job_counts().await.unwrap();
    assert_eq!(counts.total(), stored.len() as u64);
    storage.close().await;

    let with_more_room = open_in(&folder).await;
    let batch: Vec<Job> = (0..100).map(|_| a_job()).collect();
    assert_eq!(with_more_room.insert_jobs(&batch).await.unwrap().already_present, []);
    assert_eq!(with_more_room.claim_jobs(&a_claim(limit)).await.unwrap().len(), limit);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_as_it_is() {
    let folder = Folder::new().unwrap();
    let content = "Dear diary, ".repeat(1_000);
    std::fs::write(folder.database(), &content).unwrap();

    let error = SqliteStorage::open(SqliteOptions::file(folder.database())).await.unwrap_err();

    assert!(
        matches!(&error, StorageError::Corrupt { what, .. } if what.contains("no SQLite database")),
        "{error:?}"
    );
    assert_eq!(std::fs::read_to_string(folder.database()).unwrap(), content);
}

#[tokio::test]
async fn damaged_pages_are_an_error_and_no_panic() {
    let folder = Folder::new().unwrap();
    let storage = open_in(&folder).await;
    let batch: Vec<Job> = (0..2_000).map(|_| a_job()).collect();
    storage.insert_jobs(&batch).await.unwrap();
    storage.close().await;
    let mut bytes = std::fs::read(folder.database()).unwrap();
    bytes[40 * 4_096..].fill(0xAA);
    std::fs::write(folder.database(), bytes).unwrap();

    let storage = SqliteStorage::open(SqliteOptions::file(folder.database())).await.unwrap();
    let listed = storage.list_jobs(&JobQuery::all().limit(2_000)).await;
    let claimed = storage.claim_jobs(&a_claim(2_000)).await;

    assert!(matches!(listed, Err(StorageError::Corrupt { .. })), "{listed:?}");
    assert!(matches!(claimed, Err(StorageError::Corrupt { .. })), "{claimed:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_made_says_so() {
    let folder = Folder::new().unwrap();
    let nowhere = folder.database().join("no/such/folder/jobs.db");

    let error = SqliteStorage::open(SqliteOptions::file(nowhere)).await.unwrap_err();

    assert!(matches!(error, StorageError::Backend { .. }) && cause(&error).contains("folder"), "{error:?}");
}

#[tokio::test]
async fn a_migration_that_was_changed_by_hand_is_refused() {
    let folder = Folder::new().unwrap();
    let storage = open_in(&folder).await;
    connect(&folder).execute("UPDATE jobrunr_migration SET checksum = 'x' WHERE number = 1", []).unwrap();

    for set_up in [SetUp::Migrate, SetUp::Validate] {
        let error = storage.set_up(set_up).await.unwrap_err();
        assert!(
            matches!(&error, StorageError::SchemaMismatch { what, .. } if what.contains("(jobs)")),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn validation_finds_a_table_that_somebody_removed() {
    let folder = Folder::new().unwrap();
    let storage = open_in(&folder).await;
    connect(&folder).execute_batch("DROP TABLE jobrunr_job_label").unwrap();

    let error = storage.set_up(SetUp::Validate).await.unwrap_err();

    assert!(
        matches!(&error, StorageError::SchemaMismatch { what, .. } if what.contains("label")),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_exported_schema_is_the_one_that_is_validated() {
    let folder = Folder::new().unwrap();
    connect(&folder).execute_batch(&SqliteStorage::export_schema("app_").unwrap()).unwrap();
    let storage =
        SqliteStorage::open(SqliteOptions::file(folder.database()).table_prefix("app_")).await.unwrap();

    storage.set_up(SetUp::Validate).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();

    storage.insert_jobs(&[a_job()]).await.unwrap();
    assert!(SqliteStorage::export_schema("\"; drop").is_err());
}

#[tokio::test]
async fn jobs_go_with_the_rows_of_the_same_transaction() {
    let folder = Folder::new().unwrap();
    let storage = open_in(&folder).await;
    let mut connection = connect(&folder);
    connection.execute_batch("CREATE TABLE orders (item TEXT)").unwrap();
    let (kept, dropped) = (a_job(), a_job());

    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    transaction.execute("INSERT INTO orders VALUES ('book')", []).unwrap();
    let report = storage.insert_in(&transaction, &[kept.clone(), kept.clone()]).unwrap();
    transaction.commit().unwrap();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    storage.insert_in(&transaction, &[dropped]).unwrap();
    drop(transaction);

    assert_eq!(report.already_present, [kept.id()], "the same id twice is one job");
    assert_eq!(storage.claim_jobs(&a_claim(9)).await.unwrap().len(), 1);
    let orders: i64 = connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!(orders, 1);
}

async fn wait_for(changes: &mut ChangeStream, wanted: impl Fn(&Change) -> bool) {
    let found = async { while !wanted(&changes.next().await.expect("the feed goes on")) {} };
    tokio::time::timeout(Duration::from_secs(5), found).await.expect("the hint comes in time");
}

#[tokio::test]
async fn what_another_process_does_is_noticed() {
    let folder = Folder::new().unwrap();
    let storage = open_in(&folder).await;
    let other = open_in(&folder).await;
    let mut changes = storage.changes().unwrap().subscribe();
    let due = a_job_of("mail", JobState::scheduled(at(50)), at(0));

    other.insert_jobs(&[a_job()]).await.unwrap();
    wait_for(&mut changes, |change| matches!(change, Change::JobsReady { .. })).await;
    other.insert_jobs(&[due]).await.unwrap();
    wait_for(&mut changes, |change| *change == Change::JobScheduled { scheduled_at: at(50) }).await;
    let mut running = other.claim_jobs(&a_claim(1)).await.unwrap().remove(0);
    running.delete(None, at(101)).unwrap();
    other.save_job(&mut running).await.unwrap();
    let deleted = Change::JobChanged { id: running.id(), state: StateName::Deleted };
    wait_for(&mut changes, |change| *change == deleted).await;
    let id = "nightly".parse().unwrap();
    let schedule = jobrunr_core::schedule::Interval::new(Duration::from_secs(60), at(0)).unwrap();
    let template = (&*a_job().shared_definition()).into();
    let nightly = jobrunr_core::recurring::RecurringJob::new(id, schedule.into(), template, at(0));
    other.save_recurring_job(&nightly).await.unwrap();
    wait_for(&mut changes, |change| *change == Change::RecurringJobsChanged).await;
}

#[tokio::test]
async fn jobs_inserted_by_a_foreign_transaction_are_noticed() {
    let folder = Folder::new().unwrap();
    let storage = open_in(&folder).await;
    let mut changes = storage.changes().unwrap().subscribe();
    let mut connection = connect(&folder);

    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    storage.insert_in(&transaction, &[a_job()]).unwrap();
    transaction.commit().unwrap();

    wait_for(&mut changes, |change| matches!(change, Change::JobsReady { .. })).await;
}

/// Every way in which what is stored of a job can be unreadable.
const DAMAGE: [&str; 6] = [
    "UPDATE jobrunr_job_data SET settings = '[' WHERE job = ?1",
    "UPDATE jobrunr_job_data SET labels = '7' WHERE job = ?1",
    "UPDATE jobrunr_job_data SET payload = x'FF00' WHERE job = ?1",
    "UPDATE jobrunr_job_data SET name = CAST(x'FFFE' AS TEXT) WHERE job = ?1",
    "DELETE FROM jobrunr_job_data WHERE job = ?1",
    "UPDATE jobrunr_job SET archived_entries = 7 WHERE seq = ?1",
];

#[tokio::test]
async fn whatever_is_unreadable_is_parked_shown_as_corrupt_and_can_be_deleted() {
    for damage in DAMAGE {
        let folder = Folder::new().unwrap();
        let storage = open_in(&folder).await;
        let (damaged, good) = (a_job(), a_job());
        storage.insert_jobs(&[damaged.clone(), good.clone()]).await.unwrap();
        assert_eq!(connect(&folder).execute(damage, params![1]).unwrap(), 1, "{damage}");

        assert_eq!(
            storage.list_jobs(&JobQuery::all()).await.unwrap(),
            std::slice::from_ref(&good),
            "{damage}"
        );
        assert!(
            matches!(storage.find_job(damaged.id()).await, Err(StorageError::Corrupt { .. })),
            "{damage}"
        );
        let claimed = storage.claim_jobs(&a_claim(1)).await.unwrap();

        assert_eq!(claimed[0].id(), good.id(), "{damage}");
        let mut parked = storage.find_job(damaged.id()).await.unwrap().unwrap();
        assert_eq!(parked.state_name(), StateName::Failed, "{damage}");
        assert_eq!(parked.last_failure().unwrap().kind, FailureKind::Corrupt, "{damage}");
        let counts = storage.job_counts().await.unwrap();
        assert_eq!(counts.in_state(StateName::Failed), 1, "{damage}");

        // A person may try again, in vain, and may give up.
        parked.requeue(None, at(200)).unwrap();
        storage.save_job(&mut parked).await.unwrap();
        assert_eq!(storage.claim_jobs(&a_claim(1)).await.unwrap(), [], "{damage}");
        let mut parked = storage.find_job(damaged.id()).await.unwrap().unwrap();
        assert_eq!(parked.state_name(), StateName::Failed, "{damage}");
        parked.delete(None, at(300)).unwrap();
        storage.save_job(&mut parked).await.unwrap();
        let found = storage.find_job(damaged.id()).await.unwrap().unwrap();
        assert_eq!(found.state_name(), StateName::Deleted, "{damage}");
        let counts = storage.job_counts().await.unwrap();
        assert_eq!((counts.in_state(StateName::Deleted), counts.total()), (1, 2), "{damage}");
    }
}

#[tokio::test]
async fn a_row_whose_columns_contradict_each_other_is_parked_and_may_be_tried_again() {
    let folder = Folder::new().unwrap();
    let storage = open_in(&folder).await;
    let job = a_job();
    storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap();
    connect(&folder).execute_batch("UPDATE jobrunr_job SET claimed_at = 7").unwrap();

    assert_eq!(storage.claim_jobs(&a_claim(1)).await.unwrap(), []);
    let mut parked = storage.find_job(job.id()).await.unwrap().unwrap();
    assert_eq!(parked.last_failure().unwrap().kind, FailureKind::Corrupt);
    parked.requeue(None, at(200)).unwrap();
    storage.save_job(&mut parked).await.unwrap();

    assert_eq!(storage.claim_jobs(&a_claim(1)).await.unwrap()[0].payload(), job.payload());
}

#[tokio::test]
async fn a_damaged_history_keeps_what_can_be_read_of_it() {
    let folder = Folder::new().unwrap();
    let storage = open_in(&folder).await;
    let mut job = a_job();
    storage.insert_job(&mut job).await.unwrap();
    let mut job = storage.claim_jobs(&a_claim(1)).await.unwrap().remove(0);
    job.give_back("first", at(110)).unwrap();
    storage.save_job(&mut job).await.unwrap();
    let mut job = storage.claim_jobs(&a_claim(1)).await.unwrap().remove(0);
    job.give_back("second", at(120)).unwrap();
    storage.save_job(&mut job).await.unwrap();
    connect(&folder)
        .execute("UPDATE jobrunr_job_history SET entries = '[' WHERE first_entry = 0", [])
        .unwrap();

    assert_eq!(storage.claim_jobs(&a_claim(1)).await.unwrap(), []);

    let parked = storage.find_job(job.id()).await.unwrap().unwrap();
    let states: Vec<StateName> = parked.history().iter().map(|entry| entry.state.name()).collect();
    assert_eq!(states, [StateName::Processing, StateName::Enqueued, StateName::Failed]);
    assert_eq!(parked.payload(), job.payload());
}

#[tokio::test]
async fn many_lanes_are_read_as_one_line_in_exact_order() {
    let storage = open(SqliteOptions::memory()).await;
    let mut jobs: Vec<Job> = (0..400)
        .map(|number| {
            let signature = format!("type-{}", number * 7 % 40);
            let mut definition =
                JobDefinition::new(signature.parse().unwrap(), JsonText::of(&number).unwrap());
            definition.priority = number * 3 % 5;
            definition.queue = format!("queue-{}", number % 3).parse().unwrap();
            let at = at(i64::from(number * 11 % 17));
            Job::new(JobId::new(), definition, JobState::enqueued(), at).unwrap()
        })
        .collect();
    storage.insert_jobs(&jobs).await.unwrap();

    let mut claimed = Vec::new();
    for limit in [1, 7, 90, 250, 300] {
        claimed.extend(storage.claim_jobs(&a_claim(limit)).await.unwrap());
    }

    jobs.sort_by_key(|job| (std::cmp::Reverse(job.priority()), job.enqueued_at(), job.id()));
    let ids = |jobs: &[Job]| jobs.iter().map(Job::id).collect::<Vec<_>>();
    assert_eq!(ids(&claimed), ids(&jobs));
}

#[tokio::test]
async fn a_database_in_memory_does_everything_and_is_gone_with_its_storage() {
    let storage = SqliteStorage::connect("sqlite::memory:").await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let other = SqliteStorage::connect("sqlite::memory:").await.unwrap();
    other.set_up(SetUp::Migrate).await.unwrap();
    let mut changes = storage.changes().unwrap().subscribe();

    storage.insert_jobs(&[a_job()]).await.unwrap();
    wait_for(&mut changes, |change| matches!(change, Change::JobsReady { .. })).await;
    let mut job = storage.claim_jobs(&a_claim(9)).await.unwrap().remove(0);
    job.succeed(Some(JsonText::of(&7).unwrap()), at(101)).unwrap();
    storage.save_job(&mut job).await.unwrap();

    assert_eq!(storage.find_job(job.id()).await.unwrap(), Some(job));
    assert_eq!(other.job_counts().await.unwrap().total(), 0, "each has a memory of its own");
    storage.close().await;
    assert!(matches!(storage.job_counts().await, Err(StorageError::Closed { .. })));
    assert_eq!(changes.next().await, None);
}
