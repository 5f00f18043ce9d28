//! The raw limit of PostgreSQL: prepared statements on the least tables a job queue needs, nothing else.

use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection, Row};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::database::SingleInsert;
use crate::report::per_second;
use crate::workload::Noop;

const SCHEMA: &str = "
    CREATE TABLE job (
        id uuid PRIMARY KEY, version bigint NOT NULL, enqueued_at bigint NOT NULL, updated_at bigint NOT NULL,
        claimed_at bigint, finished_at bigint, queue integer NOT NULL, priority integer NOT NULL, server integer,
        state smallint NOT NULL
    );
    CREATE INDEX job_ready ON job (queue, priority DESC, enqueued_at, id) WHERE state = 2;
    CREATE INDEX job_by_state ON job (state, updated_at);
    CREATE TABLE payload (job uuid PRIMARY KEY, signature text NOT NULL, data text NOT NULL);
";

/// No plan may read whole tables, whatever the statistics of a table say that grows this fast.
const SESSION: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET jit = off";

const INSERT: &str = "WITH j AS (
        INSERT INTO job (id, version, enqueued_at, updated_at, queue, priority, state)
        SELECT n.id, 1, n.at, n.at, 1, 0, 2 FROM unnest($1::uuid[], $2::bigint[]) AS n (id, at)
    ) INSERT INTO payload (job, signature, data)
    SELECT n.id, 'noop', n.data FROM unnest($1::uuid[], $3::text[]) AS n (id, data)";
const INSERT_ONE: &str = "WITH j AS (
        INSERT INTO job (id, version, enqueued_at, updated_at, queue, priority, state) VALUES ($1, 1, $2, $2, 1, 0, 2)
    ) INSERT INTO payload (job, signature, data) VALUES ($1, 'noop', $3)";
const CLAIM: &str = "WITH j AS (
        UPDATE job SET state = 3, version = version + 1, claimed_at = $1, updated_at = $1, server = 1
        WHERE id = ANY (ARRAY(
            SELECT id FROM job WHERE state = 2 AND queue = 1 ORDER BY priority DESC, enqueued_at, id LIMIT $2
            FOR UPDATE SKIP LOCKED
        )) RETURNING id, version
    ) SELECT j.id, j.version, payload.data FROM j JOIN payload ON payload.job = j.id";
const COMPLETE: &str = "UPDATE job SET state = 5, version = version + 1, finished_at = $1, updated_at = $1
    WHERE id = ANY ($2) AND state = 3";

/// Connections that claim and complete at once: more are not faster on two cores, fewer are slower.
const CONNECTIONS: usize = 4;

async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute(sqlx::raw_sql(SESSION)).await?;
    Ok(connection)
}

pub(crate) async fn create(url: &str) -> anyhow::Result<PgConnection> {
    let mut connection = connect(url).await?;
    connection.execute(sqlx::raw_sql(SCHEMA)).await?;
    Ok(connection)
}

fn payload() -> anyhow::Result<String> {
    Ok(serde_json::to_string(&Noop::new())?)
}

async fn insert_rows(connection: &mut PgConnection, rows: usize, data: &str) -> anyhow::Result<()> {
    let ids: Vec<Uuid> = (0..rows).map(|_| Uuid::now_v7()).collect();
    let instants: Vec<i64> = (0_i64..).take(rows).collect();
    let payloads: Vec<&str> = std::iter::repeat_n(data, rows).collect();
    sqlx::query(INSERT).bind(ids).bind(instants).bind(payloads).execute(connection).await?;
    Ok(())
}

async fn fill(connection: &mut PgConnection, jobs: usize, batch: usize) -> anyhow::Result<()> {
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
    let mut first = connect(url).await?;
    let data = payload()?;
    let mut connections = vec![];
    if let SingleInsert::OneByOne { connections: count } = how {
        for _ in 0..count {
            connections.push(connect(url).await?);
        }
    }
    let started = Instant::now();
    let mut inserted = 0;
    match how {
        SingleInsert::Together { rows } => {
            while started.elapsed() < how_long {
                insert_rows(&mut first, rows, &data).await?;
                inserted += rows;
            }
        }
        SingleInsert::OneByOne { .. } => {
            let mut tasks = JoinSet::new();
            for mut connection in connections {
                let data = data.clone();
                tasks.spawn(async move {
                    let mut inserted = 0;
                    while started.elapsed() < how_long {
                        let insert = sqlx::query(INSERT_ONE).bind(Uuid::now_v7()).bind(1_i64).bind(&data);
                        insert.execute(&mut connection).await?;
                        inserted += 1;
                    }
                    anyhow::Ok(inserted)
                });
            }
            while let Some(task) = tasks.join_next().await {
                inserted += task??;
            }
        }
    }
    Ok(per_second(inserted, started.elapsed()))
}

/// Fills a table, then claims and completes all of it, `batch` jobs a transaction; returns jobs a second.
pub(crate) async fn drain(url: &str, jobs: usize, batch: usize) -> anyhow::Result<f64> {
    let mut connection = create(url).await?;
    fill(&mut connection, jobs, 1_000).await?;
    let limit = i64::try_from(batch)?;
    let mut tasks = JoinSet::new();
    let mut connections = vec![connection];
    while connections.len() < CONNECTIONS {
        connections.push(connect(url).await?);
    }

    let started = Instant::now();
    for mut connection in connections {
        tasks.spawn(async move {
            let (mut done, mut now) = (0, 1_000_000_000_i64);
            loop {
                now += 1;
                let claimed = sqlx::query(CLAIM).bind(now).bind(limit).fetch_all(&mut connection).await?;
                if claimed.is_empty() {
                    return anyhow::Ok(done);
                }
                let mut ids = Vec::with_capacity(claimed.len());
                for row in &claimed {
                    let _data: &str = row.try_get(2)?;
                    ids.push(row.try_get::<Uuid, _>(0)?);
                }
                let complete = sqlx::query(COMPLETE).bind(now).bind(ids).execute(&mut connection).await?;
                done += complete.rows_affected();
            }
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    let rate = per_second(jobs, started.elapsed());
    anyhow::ensure!(done == u64::try_from(jobs)?, "{done} of {jobs} jobs were completed");
    Ok(rate)
}
