//! No hot statement ever reads the whole table of jobs: with few rows and many, before and after ANALYZE, with plans made
//! for the values and plans kept for all, and with a plan that was made when the table was small.

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::storage::{
    ClaimRequest, JobCursor, JobOrder, JobQuery, JobSearch, JobStore, OrderField, RecurringJobQuery,
    RecurringJobStore, SetUp, StorageProvider, TimeWindow,
};
use jobrunr_core::{Failure, FailureKind, JobId, StateName};
use jobrunr_storage_postgres::PostgresStorage;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Row};

use crate::support::{Place, Schema, skip, url};
use crate::{a_server, an_enqueued_job, at};

/// One connection, so that what its statements did can be told.
async fn pool(schema: &Schema, plans: &str) -> PgPool {
    let options: PgConnectOptions = schema.url().parse().unwrap();
    let options = options.options([("plan_cache_mode", plans)]);
    PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap()
}

/// How often this connection's database has read the whole table of jobs.
async fn whole_reads(schema: &Schema, pool: &PgPool) -> i64 {
    // Counts are handed in by each connection when it has been idle for a moment, or when it is asked to.
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(pool).await.unwrap();
    sqlx::query("SELECT 1").execute(pool).await.unwrap();
    let reads = "SELECT seq_scan FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = 'jobrunr_job'";
    sqlx::query(reads).bind(&schema.name).fetch_one(pool).await.unwrap().get(0)
}

/// Everything a server does all day.
async fn work(storage: &PostgresStorage) {
    let server = a_server();
    let of = |limit| ClaimRequest::new(server.clone(), limit, at(10));
    let mut jobs = storage.claim_jobs(&of(100)).await.unwrap();
    assert_eq!(jobs.len(), 100);
    for (index, job) in jobs.iter_mut().enumerate() {
        if index % 10 == 0 {
            job.fail(Failure::new(FailureKind::Error, "no"), at(11)).unwrap();
            job.schedule(at(12), Some("retry".to_owned()), at(11)).unwrap();
        } else {
            job.succeed(None, at(11)).unwrap();
        }
    }
    assert_eq!(storage.save_jobs(&jobs).await.unwrap().conflicts, []);
    assert_eq!(storage.enqueue_due_jobs(at(12), 5).await.unwrap().released.len(), 5);
    let one = storage.claim_jobs(&of(1).from_queues(["default".parse().unwrap()])).await.unwrap();
    assert_eq!(one.len(), 1);
    let typed = of(1).of_signatures(["mail".parse().unwrap(), "none".parse().unwrap()]);
    assert_eq!(storage.claim_jobs(&typed).await.unwrap().len(), 1);
    let aged = jobrunr_core::storage::JobSelection::Aged {
        state: StateName::Succeeded,
        updated_before: at(0),
        signatures: Default::default(),
        limit: 10,
    };
    storage.delete_jobs(&aged).await.unwrap();
}

async fn fill(schema: &Schema, finished: i64, ready: i64) {
    let base = at(0).timestamp_micros();
    schema
        .execute(&format!(
            "INSERT INTO jobrunr_job (id, version, created_at, updated_at, lane, priority, archived_entries, state, \
             has_metadata, queued_at, enqueued_entry_at, claimed_at, finished_at, server) \
             SELECT gen_random_uuid(), 3, {base} + g, {base} + g, 1, 0, 0, 5, false, NULL, {base} + g, {base} + g, \
             {base} + g, 1 FROM generate_series(1, {finished}) AS g; \
             WITH new AS (INSERT INTO jobrunr_job (id, version, created_at, updated_at, lane, priority, \
             archived_entries, state, has_metadata, queued_at, enqueued_entry_at) \
             SELECT gen_random_uuid(), 1, {base} + g, {base} + g, 1, 0, 0, 2, false, {base} + g, {base} + g \
             FROM generate_series(1, {ready}) AS g RETURNING id, created_at) \
             INSERT INTO jobrunr_job_data (job, name, payload, created_at) \
             SELECT id, 'name', '1', created_at FROM new"
        ))
        .await
        .unwrap();
}

async fn assert_no_whole_read(finished: i64, ready: i64) {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::SearchPath).await.unwrap();
    let Ok(1) = schema.execute("SELECT FROM pg_proc WHERE proname = 'pg_stat_force_next_flush'").await else {
        return skip("this version of PostgreSQL does not hand in its counts when asked");
    };
    let set_up = schema.open_postgres(None).await.unwrap();
    set_up.set_up(SetUp::Migrate).await.unwrap();
    set_up.insert_jobs(&[an_enqueued_job()]).await.unwrap();
    schema.execute("ALTER TABLE jobrunr_job SET (autovacuum_enabled = off)").await.unwrap();
    let mut pools = Vec::new();
    for plans in ["auto", "force_custom_plan", "force_generic_plan"] {
        let pool = pool(&schema, plans).await;
        let storage =
            PostgresStorage::with_pool(pool.clone(), schema.options(None).without_listener()).unwrap();
        // With plans of the time when the table was empty.
        storage.claim_jobs(&ClaimRequest::new(a_server(), 1, at(1))).await.unwrap();
        storage.enqueue_due_jobs(at(0), 1).await.unwrap();
        pools.push((plans, pool, storage));
    }
    fill(&schema, finished, ready).await;

    for is_analysed in [false, true] {
        if is_analysed {
            schema.execute("ANALYZE jobrunr_job").await.unwrap();
        }
        for (plans, pool, storage) in &pools {
            let before = whole_reads(&schema, pool).await;
            work(storage).await;
            let reads = whole_reads(&schema, pool).await - before;
            assert_eq!(reads, 0, "{plans}, {finished} finished and {ready} ready, analysed: {is_analysed}");
        }
    }

    let (_, pool, _) = &pools[0];
    let before = whole_reads(&schema, pool).await;
    sqlx::query("SELECT max(version) FROM jobrunr_job").execute(pool).await.unwrap();
    assert_ne!(whole_reads(&schema, pool).await, before, "a whole read is seen");

    for (_, pool, storage) in pools {
        storage.close().await;
        pool.close().await;
    }
    set_up.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn nothing_hot_reads_a_table_of_1_000_jobs_as_a_whole() {
    assert_no_whole_read(0, 1_000).await;
}

#[tokio::test]
async fn nothing_hot_reads_a_table_of_50_000_jobs_as_a_whole() {
    assert_no_whole_read(25_000, 25_000).await;
}

#[tokio::test]
async fn nothing_hot_reads_a_table_of_a_million_jobs_as_a_whole() {
    assert_no_whole_read(950_000, 50_000).await;
}

/// How often this connection's database has looked for jobs by state.
async fn looks_by_state(schema: &Schema, pool: &PgPool) -> i64 {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(pool).await.unwrap();
    sqlx::query("SELECT 1").execute(pool).await.unwrap();
    let looks = "SELECT idx_scan FROM pg_stat_user_indexes WHERE schemaname = $1 AND indexrelname = 'jobrunr_job_updated'";
    sqlx::query(looks).bind(&schema.name).fetch_one(pool).await.unwrap().get(0)
}

/// Where no job was running when the table was analysed, those that run now would seem to be the shortest way to any job.
#[tokio::test]
async fn saves_find_jobs_by_id_though_statistics_know_of_no_running_job() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::SearchPath).await.unwrap();
    let Ok(1) = schema.execute("SELECT FROM pg_proc WHERE proname = 'pg_stat_force_next_flush'").await else {
        return skip("this version of PostgreSQL does not hand in its counts when asked");
    };
    let pool = pool(&schema, "auto").await;
    let storage = PostgresStorage::with_pool(pool.clone(), schema.options(None).without_listener()).unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.insert_jobs(&[an_enqueued_job()]).await.unwrap();
    fill(&schema, 0, 10_000).await;
    schema.execute("ANALYZE jobrunr_job").await.unwrap();
    let mut jobs = storage.claim_jobs(&ClaimRequest::new(a_server(), 100, at(10))).await.unwrap();
    let mut others = jobs.split_off(50);
    for job in &mut jobs {
        job.succeed(None, at(11)).unwrap();
    }
    for job in &mut others {
        job.fail(Failure::new(FailureKind::Error, "no"), at(11)).unwrap();
    }

    let before = looks_by_state(&schema, &pool).await;
    assert_eq!(storage.save_jobs(&jobs).await.unwrap().conflicts, []);
    assert_eq!(storage.save_jobs(&others).await.unwrap().conflicts, []);

    assert_eq!(looks_by_state(&schema, &pool).await, before, "a save has looked through all running jobs");
    sqlx::query("SET enable_seqscan = off").execute(&pool).await.unwrap();
    sqlx::query("SELECT min(updated_at) FROM jobrunr_job WHERE state = 3").execute(&pool).await.unwrap();
    assert_ne!(looks_by_state(&schema, &pool).await, before, "such a look is seen");

    storage.close().await;
    pool.close().await;
    schema.drop_schema().await;
}

/// How often this connection's database has looked at recurring jobs: by the index of those that are due, and otherwise.
async fn looks_at_recurring_jobs(schema: &Schema, pool: &PgPool) -> (i64, i64) {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(pool).await.unwrap();
    sqlx::query("SELECT 1").execute(pool).await.unwrap();
    let looks = "SELECT (SELECT sum(idx_scan)::bigint FROM pg_stat_user_indexes WHERE schemaname = $1 \
        AND indexrelname = 'jobrunr_recurring_job_due'), seq_scan + (SELECT sum(idx_scan)::bigint \
        FROM pg_stat_user_indexes WHERE schemaname = $1 AND indexrelname = 'jobrunr_recurring_job_pkey') \
        FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = 'jobrunr_recurring_job'";
    let row = sqlx::query(looks).bind(&schema.name).fetch_one(pool).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn of_many_recurring_jobs_those_that_are_due_are_found_by_their_index() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::SearchPath).await.unwrap();
    let Ok(1) = schema.execute("SELECT FROM pg_proc WHERE proname = 'pg_stat_force_next_flush'").await else {
        return skip("this version of PostgreSQL does not hand in its counts when asked");
    };
    let set_up = schema.open_postgres(None).await.unwrap();
    set_up.set_up(SetUp::Migrate).await.unwrap();
    schema.execute("ALTER TABLE jobrunr_recurring_job SET (autovacuum_enabled = off)").await.unwrap();
    let base = at(0).timestamp_micros();
    let fill = format!(
        "INSERT INTO jobrunr_recurring_job (id, version, paused, next_run_at, body) \
         SELECT 'job-' || g, 1, g % 7 = 0, {base} + g, repeat('x', 600) FROM generate_series(1, 5000) AS g"
    );
    schema.execute(&fill).await.unwrap();
    let due = RecurringJobQuery { due_at: Some(at(0)), ..RecurringJobQuery::default() };

    for is_analysed in [false, true] {
        if is_analysed {
            schema.execute("ANALYZE jobrunr_recurring_job").await.unwrap();
        }
        for plans in ["auto", "force_custom_plan", "force_generic_plan"] {
            let pool = pool(&schema, plans).await;
            let storage =
                PostgresStorage::with_pool(pool.clone(), schema.options(None).without_listener()).unwrap();
            let before = looks_at_recurring_jobs(&schema, &pool).await;

            for _ in 0..10 {
                assert_eq!(storage.list_recurring_jobs(&due).await.unwrap(), []);
            }

            let after = looks_at_recurring_jobs(&schema, &pool).await;
            let looks = (after.0 - before.0, after.1 - before.1);
            assert_eq!(looks, (10, 0), "{plans}, analysed: {is_analysed}");
            storage.close().await;
            pool.close().await;
        }
    }
    set_up.close().await;
    schema.drop_schema().await;
}

/// The jobs by whose creation pages are read: 4 100 that wait, then 45 900 that have succeeded, a microsecond apart.
async fn fill_in_order(schema: &Schema) {
    let base = at(0).timestamp_micros();
    schema
        .execute(&format!(
            "WITH new AS (INSERT INTO jobrunr_job (id, version, created_at, updated_at, lane, priority, \
             archived_entries, state, has_metadata, queued_at, enqueued_entry_at, claimed_at, finished_at, server) \
             SELECT gen_random_uuid(), 3, {base} + g, {base} + g, 1, 0, 0, CASE WHEN g > 4100 THEN 5 ELSE 2 END, \
             false, CASE WHEN g <= 4100 THEN {base} + g END, {base} + g, CASE WHEN g > 4100 THEN {base} + g END, \
             CASE WHEN g > 4100 THEN {base} + g END, CASE WHEN g > 4100 THEN 1 END \
             FROM generate_series(1, 50000) AS g RETURNING id, created_at) \
             INSERT INTO jobrunr_job_data (job, name, payload, created_at) \
             SELECT id, 'name', '1', created_at FROM new"
        ))
        .await
        .unwrap();
}

/// Rows of jobs and their payloads that this connection's database has read, and how often it has read either table whole.
async fn rows_read(schema: &Schema, pool: &PgPool) -> (i64, i64) {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(pool).await.unwrap();
    sqlx::query("SELECT 1").execute(pool).await.unwrap();
    let reads = "SELECT sum(seq_tup_read + idx_tup_fetch)::bigint, sum(seq_scan)::bigint FROM pg_stat_user_tables \
        WHERE schemaname = $1 AND relname IN ('jobrunr_job', 'jobrunr_job_data')";
    let row = sqlx::query(reads).bind(&schema.name).fetch_one(pool).await.unwrap();
    (row.get(0), row.get(1))
}

/// The job with this number, counted from 1.
fn created(number: i64) -> DateTime<Utc> {
    at(0) + TimeDelta::microseconds(number)
}

/// A schema with the jobs by which pages are read; `None` if the database cannot tell what it has read.
async fn filled_in_order() -> Option<(Schema, PostgresStorage)> {
    let schema = Schema::create(url()?, Place::SearchPath).await.unwrap();
    let Ok(1) = schema.execute("SELECT FROM pg_proc WHERE proname = 'pg_stat_force_next_flush'").await else {
        skip("this version of PostgreSQL does not hand in its counts when asked");
        return None;
    };
    let set_up = schema.open_postgres(None).await.unwrap();
    set_up.set_up(SetUp::Migrate).await.unwrap();
    // The lane and the server that the others name.
    set_up.insert_jobs(&[an_enqueued_job()]).await.unwrap();
    let job = set_up.claim_jobs(&ClaimRequest::new(a_server(), 1, at(0))).await.unwrap();
    set_up.delete_jobs(&jobrunr_core::storage::JobSelection::Ids(vec![job[0].id()])).await.unwrap();
    for table in ["jobrunr_job", "jobrunr_job_data"] {
        schema.execute(&format!("ALTER TABLE {table} SET (autovacuum_enabled = off)")).await.unwrap();
    }
    fill_in_order(&schema).await;
    Some((schema, set_up))
}

/// A page of 20 of them.
struct Page {
    query: JobQuery,
    /// The number of its first job.
    first: i64,
    /// From the number of each job to the next.
    step: i64,
    /// How many rows may be read for it.
    most: i64,
}

/// Each page is what it should be and is found by an index, whatever is known of the data and however plans are made.
async fn assert_found_by_index(schema: &Schema, pages: impl IntoIterator<Item = (JobQuery, i64, i64, i64)>) {
    let pages: Vec<Page> = pages
        .into_iter()
        .map(|(query, first, step, most)| Page { query: query.limit(20), first, step, most })
        .collect();
    for is_analysed in [false, true] {
        if is_analysed {
            schema.execute("ANALYZE jobrunr_job; ANALYZE jobrunr_job_data").await.unwrap();
        }
        for plans in ["auto", "force_custom_plan", "force_generic_plan"] {
            let pool = pool(schema, plans).await;
            let storage =
                PostgresStorage::with_pool(pool.clone(), schema.options(None).without_listener()).unwrap();
            for Page { query, first, step, most } in &pages {
                // More often than plans are made for the values.
                for _ in 0..7 {
                    let before = rows_read(schema, &pool).await;
                    let page = storage.list_jobs(query).await.unwrap();
                    let after = rows_read(schema, &pool).await;

                    let what = format!("{plans}, analysed: {is_analysed}, {query:?}");
                    let listed: Vec<_> = page.iter().map(jobrunr_core::Job::created_at).collect();
                    let expected: Vec<_> = (0..20).map(|place| created(first + step * place)).collect();
                    assert_eq!(listed, expected, "{what}");
                    assert_eq!(after.1 - before.1, 0, "a table was read whole: {what}");
                    assert!(after.0 - before.0 <= *most, "{} rows were read: {what}", after.0 - before.0);
                }
            }
            storage.close().await;
            pool.close().await;
        }
    }
}

#[tokio::test]
async fn pages_by_creation_come_in_order_from_their_index() {
    let Some((schema, set_up)) = filled_in_order().await else { return };
    let succeeded = JobQuery::in_state(StateName::Succeeded);
    let both = JobQuery::in_states([StateName::Enqueued, StateName::Succeeded]);
    let cursor = JobCursor { instant: created(25_000), id: JobId::from(uuid::Uuid::nil()) };
    // As many rows may be read as see that a state has more than 4 000 jobs, and two for each job that is gone through.
    let pages = [
        (JobQuery::all(), 1, 1, 100),
        (JobQuery::all().newest_first(), 50_000, -1, 100),
        (JobQuery::all().after(cursor), 25_000, 1, 100),
        (JobQuery::all().newest_first().after(cursor), 24_999, -1, 100),
        (JobQuery::all().created(TimeWindow::from(created(30_000))), 30_000, 1, 100),
        (succeeded.clone().newest_first(), 50_000, -1, 4_200),
        (succeeded.clone(), 4_101, 1, 12_300),
        (succeeded.clone().after(cursor), 25_000, 1, 4_200),
        (succeeded.clone().newest_first().after(cursor), 24_999, -1, 4_200),
        (both.clone().newest_first(), 50_000, -1, 4_200),
        (both.offset(10), 11, 1, 4_200),
        (JobQuery::all().name_contains("AM"), 1, 1, 200),
    ];

    assert_found_by_index(&schema, pages).await;

    // What is too far from the end is found all the same, and where nothing is left nobody looks further.
    let enqueued = JobQuery::in_state(StateName::Enqueued).newest_first().limit(20);
    let far: Vec<_> =
        set_up.list_jobs(&enqueued).await.unwrap().iter().map(jobrunr_core::Job::created_at).collect();
    assert_eq!(far, (0..20).map(|place| created(4_100 - place)).collect::<Vec<_>>());
    let last = set_up.list_jobs(&enqueued.clone().created(TimeWindow::before(created(6)))).await.unwrap();
    assert_eq!(last.len(), 5);
    set_up.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn pages_by_update_are_merged_from_the_index_of_each_state() {
    let Some((schema, set_up)) = filled_in_order().await else { return };
    let oldest = JobOrder::ascending(OrderField::UpdatedAt);
    let newest = JobOrder::descending(OrderField::UpdatedAt);
    let both = JobQuery::in_states([StateName::Succeeded, StateName::Enqueued, StateName::Succeeded]);
    // The first ten that follow it were ENQUEUED when they were written, the others SUCCEEDED.
    let cursor = JobCursor { instant: created(4_091), id: JobId::from(uuid::Uuid::nil()) };
    let window = TimeWindow::between(created(4_095), created(4_195));
    // As many rows may be read as a page reaches over, of each of two states, and two for each job of the page. Windows
    // with two ends are believed to be so small that all of them is read, until the table is analysed.
    let mut pages = Vec::new();
    for query in [JobQuery::all(), both] {
        pages.extend([
            (query.clone().order(oldest), 1, 1, 100),
            (query.clone().order(newest).updated(TimeWindow::before(created(50_001))), 50_000, -1, 100),
            (query.clone().order(oldest).after(cursor), 4_091, 1, 100),
            (query.clone().order(newest).after(cursor), 4_090, -1, 100),
            (query.clone().order(oldest).updated(window), 4_095, 1, 150),
            (query.clone().order(newest).updated(window), 4_194, -1, 150),
            (query.clone().order(oldest).updated(window).offset(30), 4_125, 1, 180),
            (query.order(oldest).offset(100), 101, 1, 300),
        ]);
    }

    assert_found_by_index(&schema, pages).await;

    set_up.close().await;
    schema.drop_schema().await;
}
