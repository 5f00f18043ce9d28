//! The raw limit of MySQL and MariaDB: statements on the least table a job queue needs, nothing else.
//!
//! The layout is the one with the fewest index entries to write: payloads in the row, and one index whose first column
//! says where a job stands.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, Row};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::database::SingleInsert;
use crate::report::per_second;
use crate::workload::Noop;

const SCHEMA: &str = "
    CREATE TABLE job (
        id BINARY(16) NOT NULL PRIMARY KEY, version BIGINT NOT NULL, place INT NOT NULL, priority INT NOT NULL,
        place_at BIGINT NOT NULL, enqueued_at BIGINT NOT NULL, claimed_at BIGINT NOT NULL DEFAULT 0,
        finished_at BIGINT NOT NULL DEFAULT 0, updated_at BIGINT NOT NULL, server INT NOT NULL DEFAULT 0,
        signature VARCHAR(128) NOT NULL, data LONGTEXT NOT NULL,
        KEY ready (place, priority, place_at, id)
    ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4
";
const SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

const INSERT: &str = "INSERT INTO job (id, version, place, priority, place_at, enqueued_at, updated_at, signature, data) VALUES ";
const ROW: &str = "(?, 1, 16, 0, ?, ?, ?, 'noop', ?)";
const LOCK: &str = "SELECT id, version, data FROM job FORCE INDEX (ready) WHERE place = 16
    ORDER BY priority, place_at, id LIMIT ? FOR UPDATE SKIP LOCKED";

/// Connections that claim and complete at once.
const CONNECTIONS: usize = 4;

async fn connect(url: &str) -> anyhow::Result<MySqlConnection> {
    let mut connection = MySqlConnection::connect(url).await?;
    connection.execute(sqlx::raw_sql(SESSION)).await?;
    Ok(connection)
}

pub(crate) async fn create(url: &str) -> anyhow::Result<MySqlConnection> {
    let mut connection = connect(url).await?;
    connection.execute(sqlx::raw_sql(SCHEMA)).await?;
    Ok(connection)
}

fn payload() -> anyhow::Result<String> {
    Ok(serde_json::to_string(&Noop::new())?)
}

/// Inserts rows of payloads as large as a no-op job's by one statement, prepared once for each number of rows.
async fn insert_rows(connection: &mut MySqlConnection, rows: usize, data: &str) -> anyhow::Result<()> {
    let sql = format!("{INSERT}{}", vec![ROW; rows].join(","));
    let mut insert = sqlx::query(AssertSqlSafe(sql));
    for at in (0_i64..).take(rows) {
        insert = insert.bind(Uuid::now_v7().as_bytes().to_vec()).bind(at).bind(at).bind(at).bind(data);
    }
    insert.execute(connection).await?;
    Ok(())
}

async fn fill(connection: &mut MySqlConnection, jobs: usize, batch: usize) -> anyhow::Result<()> {
    let data = payload()?;
    let mut left = jobs;
    while left > 0 {
        let rows = left.min(batch);
        insert_rows(connection, rows, &data).await?;
        left -= rows;
    }
    Ok(())
}

/// Inserts jobs in transactions of `batch`; returns jobs a second.
pub(crate) async fn insert(url: &str, jobs: usize, batch: usize) -> anyhow::Result<f64> {
    let mut connection = create(url).await?;
    let started = Instant::now();
    fill(&mut connection, jobs, batch).await?;
    let rate = per_second(jobs, started.elapsed());
    connection.close().await?;
    Ok(rate)
}

/// Inserts jobs for a while; returns jobs a second.
pub(crate) async fn insert_for(url: &str, how: SingleInsert, how_long: Duration) -> anyhow::Result<f64> {
    let first = connect(url).await?;
    let data = payload()?;
    let (count, rows) = match how {
        SingleInsert::Together { rows } => (1, rows),
        SingleInsert::OneByOne { connections } => (connections, 1),
    };
    let mut connections = vec![first];
    while connections.len() < count {
        connections.push(connect(url).await?);
    }
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let data = data.clone();
        tasks.spawn(async move {
            let mut inserted = 0;
            while started.elapsed() < how_long {
                insert_rows(&mut connection, rows, &data).await?;
                inserted += rows;
            }
            anyhow::Ok(inserted)
        });
    }
    let mut inserted = 0;
    while let Some(task) = tasks.join_next().await {
        inserted += task??;
    }
    Ok(per_second(inserted, started.elapsed()))
}

/// Fills a table, then claims and completes all of it, `batch` jobs a transaction; returns jobs a second.
pub(crate) async fn drain(url: &str, jobs: usize, batch: usize) -> anyhow::Result<f64> {
    let mut connection = create(url).await?;
    fill(&mut connection, jobs, 1_000).await?;
    let mut connections = vec![connection];
    while connections.len() < CONNECTIONS {
        connections.push(connect(url).await?);
    }

    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(claim_and_complete(connection, batch));
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    let rate = per_second(jobs, started.elapsed());
    anyhow::ensure!(done == u64::try_from(jobs)?, "{done} of {jobs} jobs were completed");
    Ok(rate)
}

async fn claim_and_complete(mut connection: MySqlConnection, batch: usize) -> anyhow::Result<u64> {
    let limit = i64::try_from(batch)?;
    let (mut done, mut now) = (0, 1_000_000_000_i64);
    loop {
        now += 1;
        let mut transaction = connection.begin().await?;
        let claimed = sqlx::query(LOCK).bind(limit).fetch_all(&mut *transaction).await?;
        if claimed.is_empty() {
            return Ok(done);
        }
        let mut ids = String::with_capacity(36 * claimed.len());
        for row in &claimed {
            let (id, _data): (&[u8], &str) = (row.try_get_unchecked(0)?, row.try_get(2)?);
            ids.push_str(if ids.is_empty() { "x'" } else { ",x'" });
            for byte in id {
                write!(ids, "{byte:02x}")?;
            }
            ids.push('\'');
        }
        let claim = format!(
            "UPDATE job SET place = 3, place_at = {now}, claimed_at = {now}, updated_at = {now}, server = 1, \
             version = version + 1 WHERE id IN ({ids})"
        );
        sqlx::raw_sql(AssertSqlSafe(claim)).execute(&mut *transaction).await?;
        transaction.commit().await?;
        let complete = format!(
            "UPDATE job SET place = 5, place_at = {now}, finished_at = {now}, updated_at = {now}, \
             version = version + 1 WHERE id IN ({ids})"
        );
        done += sqlx::raw_sql(AssertSqlSafe(complete)).execute(&mut connection).await?.rows_affected();
    }
}
