//! No hot statement may look at more rows than it needs, whatever SQLite believes about the data.

use jobrunr_core::storage::{ClaimRequest, JobQuery, JobStore, SetUp, StorageProvider};
use jobrunr_core::{Job, JobDefinition, JobId, JobState, JsonText, ServerId, ServerRef, StateName};
use jobrunr_storage_sql::render_list;
use rusqlite::Connection;

use super::*;
use crate::search::Sqlite;
use crate::session::View;
use crate::{SqliteOptions, SqliteStorage};

/// Those that are used while jobs are inserted, claimed, saved and released, and those of housekeeping.
const HOT: [&str; 21] = [
    "insert_job",
    "insert_job_data",
    "insert_history",
    "find_job",
    "load_job",
    "load_history",
    "load_metadata",
    "ready_jobs",
    "next_ready_lane",
    "load_ready_job",
    "load_ready_jobs",
    "claim_jobs",
    "save_success",
    "save_claimed_success",
    "save_job",
    "find_place",
    "due_jobs",
    "release_job",
    "next_due",
    "aged_jobs",
    "delete_job",
];

fn at(second: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn a_job(number: i64) -> Job {
    let definition = JobDefinition::new("mail".parse().unwrap(), JsonText::of(&number).unwrap());
    let state = if number % 10 == 0 { JobState::scheduled(at(number)) } else { JobState::enqueued() };
    let mut job = Job::new(JobId::new(), definition, state, at(number)).unwrap();
    let server = ServerRef { id: ServerId::new(), name: "one".to_owned() };
    if number % 3 == 1 && job.start_processing(&server, at(number)).is_ok() {
        job.succeed(None, at(number)).unwrap();
    }
    job
}

fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let parameters = statement.parameter_count();
    let nulls = rusqlite::params_from_iter(std::iter::repeat_n(rusqlite::types::Null, parameters));
    statement.query_map(nulls, |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn assert_plans_are_good(view: View<'_>) {
    for name in HOT {
        let (_, sql) = view.statements.all().find(|(other, _)| *other == name).unwrap();
        for step in plan(view.connection, sql) {
            // Of lanes and servers there may be so few that reading all of them is the shortest way.
            let reads_little = ["SEARCH ", "SCAN l ", "SCAN s ", "LIST SUBQUERY", "CREATE BLOOM FILTER"]
                .iter()
                .any(|start| step.starts_with(start));
            assert!(reads_little, "{name}: {step}");
        }
    }
}

#[test]
fn hot_statements_are_statements() {
    let statements = Statements::render(&TablePrefix::default());

    for name in HOT {
        assert!(statements.all().any(|(other, _)| other == name), "{name}");
    }
}

#[tokio::test]
async fn hot_statements_search_and_never_scan_with_few_and_many_rows_before_and_after_analyze() {
    let storage = SqliteStorage::open(SqliteOptions::memory()).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let mut rows = 0;
    for many in [1_000, 50_000] {
        let jobs: Vec<Job> = (rows..many).map(a_job).collect();
        storage.insert_jobs(&jobs).await.unwrap();
        rows = many;

        for analyze in ["", "ANALYZE"] {
            storage
                .write("test", move |session| {
                    session.view.connection.execute_batch(analyze)?;
                    assert_plans_are_good(session.view);
                    Ok(())
                })
                .await
                .unwrap();
        }
    }
    let server = ServerRef { id: ServerId::new(), name: "one".to_owned() };
    assert_eq!(storage.claim_jobs(&ClaimRequest::new(server, 10, at(0))).await.unwrap().len(), 10);
}

#[tokio::test]
async fn a_page_of_one_state_in_the_order_of_its_index_is_read_without_sorting() {
    let storage = SqliteStorage::open(SqliteOptions::memory()).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let order = jobrunr_core::storage::JobOrder::descending(jobrunr_core::storage::OrderField::UpdatedAt);
    let query = JobQuery::in_state(StateName::Succeeded).order(order);
    let search = render_list(&query, &Sqlite, storage.prefix());

    let steps = storage.read("test", move |view| Ok(plan(view.connection, &search.sql))).await.unwrap();

    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(steps[0].contains("jobrunr_job_updated (state=?)"), "{steps:?}");
}

#[tokio::test]
async fn a_page_of_several_states_by_update_is_merged_from_the_index() {
    let storage = SqliteStorage::open(SqliteOptions::memory()).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let order = jobrunr_core::storage::JobOrder::descending(jobrunr_core::storage::OrderField::UpdatedAt);
    let search = render_list(&JobQuery::all().order(order), &Sqlite, storage.prefix());
    let jobs: Vec<Job> = (0..1_000).map(a_job).collect();
    storage.insert_jobs(&jobs).await.unwrap();

    for analyze in ["", "ANALYZE"] {
        let sql = search.sql.clone();
        let steps = storage.write("test", move |session| {
            session.view.connection.execute_batch(analyze)?;
            Ok(plan(session.view.connection, &sql))
        });
        let steps = steps.await.unwrap();

        let by_state = "SEARCH j USING COVERING INDEX jobrunr_job_updated (state=?)";
        assert_eq!(steps.iter().filter(|step| *step == by_state).count(), StateName::ALL.len(), "{steps:?}");
        // Only what was merged is sorted, once.
        let sorts = steps.iter().filter(|step| step.contains("ORDER BY")).count();
        assert_eq!((sorts, steps.last().unwrap().as_str()), (1, "USE TEMP B-TREE FOR ORDER BY"), "{steps:?}");
    }
}

#[tokio::test]
async fn of_many_recurring_jobs_those_that_are_due_are_found_by_their_index() {
    let storage = SqliteStorage::open(SqliteOptions::memory()).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let fill = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 5000) \
        INSERT INTO jobrunr_recurring_job (id, version, paused, next_run_at, body) \
        SELECT 'job-' || n, 1, n % 7 = 0, n, '{}' FROM number";

    for change in ["", fill, "ANALYZE"] {
        let steps = storage.write("test", move |session| {
            session.view.connection.execute_batch(change)?;
            Ok(plan(session.view.connection, &session.view.statements.list_due_recurring))
        });
        let steps = steps.await.unwrap();

        let by_time = "SEARCH jobrunr_recurring_job USING INDEX jobrunr_recurring_job_due (next_run_at<?)";
        assert_eq!(steps[0], by_time, "{change}: {steps:?}");
    }
}
