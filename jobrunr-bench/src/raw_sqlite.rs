//! The raw limit of SQLite: prepared statements on the least tables a job queue needs, nothing else.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};

use crate::report::per_second;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE job (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, state INTEGER NOT NULL, version INTEGER NOT NULL,
        queue INTEGER NOT NULL, priority INTEGER NOT NULL, enqueued_at INTEGER NOT NULL, claimed_at INTEGER,
        finished_at INTEGER, updated_at INTEGER NOT NULL, server BLOB
    );
    CREATE INDEX job_ready ON job (queue, priority DESC, enqueued_at, id) WHERE state = 2;
    CREATE INDEX job_by_state ON job (state, updated_at);
    CREATE TABLE payload (number INTEGER PRIMARY KEY, signature TEXT NOT NULL, data TEXT NOT NULL);
";

const INSERT: &str = "INSERT INTO job (number, id, state, version, queue, priority, enqueued_at, updated_at)
    VALUES (?1, ?2, 2, 1, 1, 0, ?3, ?3)";
const INSERT_PAYLOAD: &str = "INSERT INTO payload (number, signature, data) VALUES (?1, 'noop', ?2)";
const CLAIM: &str =
    "UPDATE job SET state = 3, version = version + 1, claimed_at = ?1, updated_at = ?1, server = ?2
    WHERE number IN (SELECT number FROM job INDEXED BY job_ready WHERE state = 2 AND queue = 1
                     ORDER BY priority DESC, enqueued_at, id LIMIT ?3)
    RETURNING number, version, (SELECT data FROM payload WHERE payload.number = job.number)";
const COMPLETE: &str = "UPDATE job SET state = 5, version = version + 1, finished_at = ?1, updated_at = ?1
    WHERE number = ?2 AND version = ?3";

/// Opens an empty database.
fn open(path: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// Inserts jobs in transactions of `batch`; returns jobs a second.
pub(crate) fn insert(path: &Path, jobs: usize, batch: usize) -> anyhow::Result<f64> {
    let mut connection = open(path)?;
    let started = Instant::now();
    fill(&mut connection, jobs, batch)?;
    Ok(per_second(jobs, started.elapsed()))
}

fn fill(connection: &mut Connection, jobs: usize, batch: usize) -> anyhow::Result<()> {
    let data = serde_json::to_string(&crate::workload::Noop::new())?;
    let mut number = 0_i64;
    let mut left = jobs;
    while left > 0 {
        let rows = left.min(batch);
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            let mut insert_payload = transaction.prepare_cached(INSERT_PAYLOAD)?;
            for _ in 0..rows {
                number += 1;
                insert.execute(params![number, uuid::Uuid::now_v7().as_bytes(), number])?;
                insert_payload.execute(params![number, data])?;
            }
        }
        transaction.commit()?;
        left -= rows;
    }
    Ok(())
}

/// Fills a table, then claims and completes all of it, `batch` jobs a transaction; returns jobs a second.
pub(crate) fn drain(path: &Path, jobs: usize, batch: usize) -> anyhow::Result<f64> {
    let mut connection = open(path)?;
    fill(&mut connection, jobs, 1_000)?;
    let server = uuid::Uuid::now_v7();

    let started = Instant::now();
    let mut done = 0;
    let mut now = 1_000_000_000_i64;
    while done < jobs {
        now += 1;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let claimed: Vec<(i64, i64, String)> = transaction
            .prepare_cached(CLAIM)?
            .query_map(params![now, server.as_bytes(), i64::try_from(batch)?], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<Result<_, _>>()?;
        transaction.commit()?;

        now += 1;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut complete = transaction.prepare_cached(COMPLETE)?;
            for (number, version, _) in &claimed {
                done += complete.execute(params![now, number, version])?;
            }
        }
        transaction.commit()?;
    }
    Ok(per_second(jobs, started.elapsed()))
}
