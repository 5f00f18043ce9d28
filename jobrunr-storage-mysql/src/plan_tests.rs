//! The plans of hot statements, as the database explains them: each finds its rows by an index, however many there are.
//!
//! `FORCE INDEX` and `STRAIGHT_JOIN` leave the optimizer no choice; what is tested is that they stand where they must.

use jobrunr_core::JobId;
use jobrunr_core::StateName;
use jobrunr_core::storage::{JobCursor, JobOrder, JobQuery, OrderField, SetUp, StorageProvider, TimeWindow};
use jobrunr_storage_sql::{Search, render_list};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use crate::columns::Columns;
use crate::dialect::{self, MySql};
use crate::statements::Statement;
use crate::values::{Rows, Values};
use crate::{MySqlOptions, MySqlStorage};

/// From so many jobs on, reading all of them for a page is too much.
const MANY_JOBS: usize = 50_000;

const URL: &str = "JOBRUNR_TEST_MYSQL_URL";

#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
fn server() -> Option<MySqlConnectOptions> {
    let url = std::env::var(URL).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        let required = std::env::var("JOBRUNR_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!required, "{URL} is not set");
        eprintln!("SKIPPED: {URL} is not set; `cargo xtask databases up` starts a server");
    }
    url.map(|url| url.parse().unwrap())
}

/// How one table of a statement is read.
#[derive(Debug)]
struct Step {
    table: String,
    access: String,
    key: String,
}

async fn explain(connection: &mut MySqlConnection, statement: &str, values: Values) -> Vec<Step> {
    let text = AssertSqlSafe(format!("EXPLAIN {statement}"));
    let rows = connection.fetch_all(sqlx::query_with(text, values.into_arguments())).await.unwrap();
    let steps = rows.iter().map(|row| {
        let text = |name: &str| {
            let index = row_index(row, name);
            row.optional_text(index).unwrap().unwrap_or_default()
        };
        Step { table: text("table"), access: text("type"), key: text("key") }
    });
    steps.collect()
}

fn row_index(row: &sqlx::mysql::MySqlRow, name: &str) -> usize {
    use sqlx::{Column, Row};
    row.columns().iter().position(|column| column.name() == name).unwrap()
}

/// Fills the table of jobs with copies of one, most of them SUCCEEDED, `waiting` of them in line.
async fn fill(connection: &mut MySqlConnection, jobs: usize, waiting: usize) {
    let sql = format!(
        "INSERT INTO jobrunr_job (id, version, lane, place, place_rank, place_at, priority, queued_at, created_at, \
         updated_at, name, payload) \
         WITH RECURSIVE digit (d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM digit WHERE d < 9), \
         number (n) AS (SELECT a.d + b.d * 10 + c.d * 100 + e.d * 1000 + f.d * 10000 + 1 \
         FROM digit a, digit b, digit c, digit e, digit f) \
         SELECT UNHEX(MD5(n)), 1, 16, IF(n <= {waiting}, 16, 5), IF(n <= {waiting}, -1, 0), n, 0, n, n, n, 'n', '1' \
         FROM number WHERE n <= {jobs}"
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
}

#[tokio::test]
async fn hot_statements_find_their_rows_by_an_index() {
    let Some(server) = server() else { return };
    let name = format!("jobrunr_test_{}", uuid::Uuid::now_v7().simple());
    let mut connection = server.connect().await.unwrap();
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let options = MySqlOptions::connect_with(server.clone().database(&name));
    let storage = MySqlStorage::open(options).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let mut inside = server.clone().database(&name).connect().await.unwrap();

    check_plan_of_due_recurring_jobs(&storage, &mut inside).await;
    check_plans_where_statistics_know_no_row(&storage, &mut inside).await;
    for (jobs, waiting) in [(1_000, 500), (MANY_JOBS, 40_000), (MANY_JOBS, 100)] {
        inside.execute("DELETE FROM jobrunr_job").await.unwrap();
        fill(&mut inside, jobs, waiting).await;
        for is_analyzed in [false, true] {
            if is_analyzed {
                inside.execute("ANALYZE TABLE jobrunr_job").await.unwrap();
            }
            let what = format!("{jobs} jobs, {waiting} wait, analyzed: {is_analyzed}");
            check_plans(&storage, &mut inside, &what).await;
            if jobs >= MANY_JOBS {
                check_plans_of_pages(&storage, &mut inside, &what).await;
                check_merged_pages(&storage, &mut inside, waiting, &what).await;
            }
        }
    }

    inside.close().await.unwrap();
    storage.close().await;
    connection.execute(AssertSqlSafe(format!("DROP DATABASE {name}"))).await.unwrap();
}

/// However many recurring jobs there are, the master reads those that are due, by one query.
async fn check_plan_of_due_recurring_jobs(storage: &MySqlStorage, connection: &mut MySqlConnection) {
    let fill = "INSERT INTO jobrunr_recurring_job (id, version, paused, next_run_at, body) \
        WITH RECURSIVE digit (d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM digit WHERE d < 9), \
        number (n) AS (SELECT a.d + b.d * 10 + c.d * 100 + e.d * 1000 + 1 FROM digit a, digit b, digit c, digit e) \
        SELECT CONCAT('job-', n), 1, n % 7 = 0, n, '{}' FROM number WHERE n <= 5000";
    connection.execute(fill).await.unwrap();
    for is_analyzed in [false, true] {
        if is_analyzed {
            connection.execute("ANALYZE TABLE jobrunr_recurring_job").await.unwrap();
        }
        let values = Values::new().number(10).bytes(b"").number(i64::MAX);
        let statement = storage.shared.statements.list_due_recurring.as_str();
        let steps = explain(connection, statement, values).await;
        let read: Vec<_> = steps.iter().map(|step| (step.access.as_str(), step.key.as_str())).collect();
        assert_eq!(read, [("range", "due")], "analyzed: {is_analyzed}: {steps:?}");
    }
}

/// The tables that hold more of a job than its row, and how to fill each from `number`.
const BESIDE: [(&str, &str); 6] = [
    ("jobrunr_job_history (job, first_entry, entries)", "UNHEX(MD5(n)), 0, '[]'"),
    ("jobrunr_job_result (job, entry, result)", "UNHEX(MD5(n)), 0, '1'"),
    ("jobrunr_job_metadata (job, name, value)", "UNHEX(MD5(n)), 'name', '1'"),
    ("jobrunr_job_label (label, job)", "CONCAT('label-', n % 7), UNHEX(MD5(n))"),
    ("jobrunr_recurring_run (recurring_job_id, job)", "CONCAT('nightly-', n % 7), UNHEX(MD5(n))"),
    ("jobrunr_job_waiting (awaited_job_id, job)", "UNHEX(MD5(n % 7)), UNHEX(MD5(n))"),
];

/// The worst case: the tables were analyzed when they were empty, have grown since, and nobody has noticed.
async fn check_plans_where_statistics_know_no_row(storage: &MySqlStorage, connection: &mut MySqlConnection) {
    let tables = BESIDE.map(|(table, _)| table.split_once(' ').unwrap().0);
    for table in tables.into_iter().chain(["jobrunr_job"]) {
        for sql in [format!("ALTER TABLE {table} STATS_AUTO_RECALC = 0"), format!("ANALYZE TABLE {table}")] {
            connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
        }
    }
    fill(connection, MANY_JOBS, 40_000).await;
    for (table, values) in BESIDE {
        let sql = format!(
            "INSERT INTO {table} WITH RECURSIVE digit (d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM digit WHERE d < 9), \
             number (n) AS (SELECT a.d + b.d * 10 + c.d * 100 + e.d * 1000 + 1 FROM digit a, digit b, digit c, digit e) \
             SELECT {values} FROM number"
        );
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    }
    for is_analyzed in [false, true] {
        if is_analyzed {
            for table in tables {
                let sql = AssertSqlSafe(format!("ANALYZE TABLE {table}"));
                connection.execute(sqlx::raw_sql(sql)).await.unwrap();
            }
        }
        let what = format!("statistics of empty tables, analyzed since: {is_analyzed}");
        check_plans(storage, connection, &what).await;
        check_plans_by_id(storage, connection, &what).await;
    }
    for table in tables.into_iter().chain(["jobrunr_job"]) {
        let sql = AssertSqlSafe(format!("ALTER TABLE {table} STATS_AUTO_RECALC = DEFAULT"));
        connection.execute(sqlx::raw_sql(sql)).await.unwrap();
    }
}

/// What reads or removes rows of jobs that are named looks each of them up.
async fn check_plans_by_id(storage: &MySqlStorage, connection: &mut MySqlConnection, what: &str) {
    let statements = &storage.shared.statements;
    let ids: Vec<JobId> = (0..500).map(|_| JobId::new()).collect();
    for (name, statement, key) in [
        ("present_jobs", &statements.present_jobs, "PRIMARY"),
        ("load_jobs", &statements.load_jobs, "PRIMARY"),
        ("load_histories", &statements.load_histories, "PRIMARY"),
        ("load_metadata", &statements.load_metadata, "PRIMARY"),
        ("delete_histories", &statements.delete_histories, "PRIMARY"),
        ("delete_results", &statements.delete_results, "PRIMARY"),
        ("delete_job_metadata", &statements.delete_job_metadata, "PRIMARY"),
        ("delete_labels", &statements.delete_labels, "job"),
        ("delete_recurring_runs", &statements.delete_recurring_runs, "job"),
        ("delete_waiting", &statements.delete_waiting, "job"),
    ] {
        let values = Values::new().text(&Rows::of_ids(&ids));
        let steps = explain(connection, statement.as_str(), values).await;
        assert_eq!(steps[0].table, "w", "{name}, {what}: {steps:?}");
        // The names of servers are few: reading all of them is right.
        let of_jobs: Vec<&Step> = steps[1..].iter().filter(|step| step.table != "s").collect();
        assert!(!of_jobs.is_empty(), "{name}, {what}: {steps:?}");
        for step in of_jobs {
            let is_by_key = ["eq_ref", "ref"].contains(&step.access.as_str()) && step.key == key;
            assert!(is_by_key, "{name}, {what}: {steps:?}");
        }
    }
}

async fn check_plans(storage: &MySqlStorage, connection: &mut MySqlConnection, what: &str) {
    let statements = &storage.shared.statements;
    let ids: Vec<JobId> = (0..500).map(|_| JobId::new()).collect();
    let ids = || Values::new().text(&Rows::of_ids(&ids));
    let by_id: [(&str, &Statement, Values); 6] = [
        ("claim_jobs", &statements.claim_jobs, ids().number(1).number(1).number(1).number(1)),
        ("lock_jobs", &statements.lock_jobs, ids()),
        ("save_successes", &statements.save_successes, ids()),
        ("save_jobs", &statements.save_jobs, ids()),
        ("release_jobs", &statements.release_jobs, ids().number(1).number(1).number(1).number(1)),
        ("delete_jobs", &statements.delete_jobs, ids()),
    ];
    for (name, statement, values) in by_id {
        let steps = explain(connection, statement.as_str(), values).await;
        assert_eq!(steps.len(), 2, "{name}, {what}: {steps:?}");
        assert_eq!(steps[0].table, "w", "{name}, {what}: {steps:?}");
        assert_eq!(
            (steps[1].access.as_str(), steps[1].key.as_str()),
            ("eq_ref", "PRIMARY"),
            "{name}, {what}"
        );
    }
    let (_, peek) = statements.peek.for_lanes(1);
    let by_place: [(&str, &Statement, Values); 4] = [
        ("lock_ready_jobs", &statements.lock_ready_jobs, Values::new().number(16).number(500)),
        ("lock_due_jobs", &statements.lock_due_jobs, Values::new().number(1).number(500)),
        ("next_due", &statements.next_due, Values::new()),
        ("peek", peek, Values::new().number(16).number(1)),
    ];
    for (name, statement, values) in by_place {
        let steps = explain(connection, statement.as_str(), values).await;
        let of_jobs = steps.iter().find(|step| step.key == "place");
        let of_jobs = of_jobs.unwrap_or_else(|| panic!("{name}, {what}: {steps:?}"));
        assert!(["ref", "range"].contains(&of_jobs.access.as_str()), "{name}, {what}: {steps:?}");
    }
}

/// Where all jobs fit into a few pages the optimizer may read them all, and so it may as long as it believes that they do:
/// the database notices within seconds that a table has grown.
async fn check_plans_of_pages(storage: &MySqlStorage, connection: &mut MySqlConnection, what: &str) {
    let page = |order| JobQuery::in_state(StateName::Succeeded).order(order).limit(20);
    let updated = JobOrder::descending(OrderField::UpdatedAt);
    let long_ago = TimeWindow::before(chrono::DateTime::UNIX_EPOCH);
    let after = JobCursor { instant: chrono::DateTime::UNIX_EPOCH, id: JobId::new() };
    for (name, query, key) in [
        ("a page by update", page(updated), "place"),
        ("the next page by update", page(updated).after(after), "place"),
        ("what ended long ago", page(JobOrder::ascending(OrderField::UpdatedAt)).updated(long_ago), "place"),
        ("a page by creation", JobQuery::all().newest_first().limit(20), "created"),
        ("a page by creation in a state", page(JobOrder::descending(OrderField::CreatedAt)), "created"),
    ] {
        let Search { sql, values } = render_list(&query, &MySql::ManyWait, &storage.shared.prefix);
        let steps = explain(connection, &sql, dialect::bind(&values)).await;
        assert_eq!(steps[0].key, key, "{name}, {what}: {steps:?}");
        if name == "what ended long ago" {
            assert_eq!(steps[0].access, "range", "{name}, {what}: {steps:?}");
        }
    }
}

/// How many rows a search reads, those that it has put aside itself among them.
async fn rows_read(connection: &mut MySqlConnection, search: &Search) -> u64 {
    connection.execute(sqlx::raw_sql("FLUSH STATUS")).await.unwrap();
    let text = AssertSqlSafe(search.sql.clone());
    let values = dialect::bind(&search.values).into_arguments();
    assert_eq!(connection.fetch_all(sqlx::query_with(text, values)).await.unwrap().len(), 20, "{search:?}");
    let counters = connection.fetch_all("SHOW SESSION STATUS LIKE 'Handler_read%'").await.unwrap();
    counters.iter().map(|row| row.optional_text(1).unwrap().unwrap().parse::<u64>().unwrap()).sum()
}

/// Pages by update of several states read what they may need of each, and put it aside to merge it; where few wait, those
/// are sorted.
async fn check_merged_pages(
    storage: &MySqlStorage,
    connection: &mut MySqlConnection,
    waiting: usize,
    what: &str,
) {
    let at = |micros| chrono::DateTime::from_timestamp_micros(micros).unwrap();
    let ended = JobQuery::in_states([StateName::Succeeded, StateName::Failed]);
    let cursor = JobCursor { instant: at(45_000), id: JobId::new() };
    let window = TimeWindow::between(at(40_500), at(49_000));
    for order in [JobOrder::ascending(OrderField::UpdatedAt), JobOrder::descending(OrderField::UpdatedAt)] {
        // What begins before the end of the index may be reached from there: 5 000 jobs to the cursor, 1 000 to the window.
        let mut pages = vec![
            (ended.clone(), 100),
            (ended.clone().after(cursor), 5_100),
            (ended.clone().updated(window), 1_100),
            (ended.clone().offset(100), 500),
        ];
        if waiting <= 4_000 {
            pages.push((JobQuery::all(), 100 + 3 * waiting as u64));
        }
        for (query, most) in pages {
            let query = query.order(order).limit(20);
            let search = render_list(&query, &MySql::FewWait, &storage.shared.prefix);
            let rows = rows_read(connection, &search).await;
            assert!(rows <= most, "{rows} rows were read, {what}: {query:?}");
        }
    }
    let few_wait = storage.shared.statements.few_wait.as_str();
    let steps = explain(connection, few_wait, Values::new()).await;
    let by_place =
        steps.iter().find(|step| step.table == "j").map(|step| (step.access.as_str(), step.key.as_str()));
    assert_eq!(by_place, Some(("range", "place")), "{what}: {steps:?}");
    let row = connection.fetch_one(AssertSqlSafe(few_wait.to_owned())).await.unwrap();
    assert_eq!(row.number(0).unwrap() != 0, waiting <= 4_000, "{what}");
}
