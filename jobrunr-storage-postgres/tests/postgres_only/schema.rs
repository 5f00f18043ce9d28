//! Setting up: by many at once, by hand, and from an older schema with data in it.

use jobrunr_core::storage::{JobQuery, JobSearch, JobStore, SetUp, StorageError, StorageProvider};
use jobrunr_core::{Job, JobId, JobState};
use jobrunr_storage_postgres::PostgresStorage;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use crate::support::{Place, Schema, url};
use crate::{an_enqueued_job, at};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_that_start_at_once_set_up_one_schema() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let storage = schema.open_postgres(None).await.unwrap();
        starting.spawn(async move {
            storage.set_up(SetUp::Migrate).await.unwrap();
            storage.insert_jobs(&[an_enqueued_job()]).await.unwrap();
            storage.close().await;
        });
    }
    starting.join_all().await;

    let storage = schema.open_postgres(None).await.unwrap();
    storage.set_up(SetUp::Validate).await.unwrap();
    assert_eq!(storage.job_counts().await.unwrap().total(), 8);
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn the_exported_sql_makes_what_validation_accepts() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let storage = schema.open_postgres(Some("app_")).await.unwrap();
    let before = storage.set_up(SetUp::Validate).await.unwrap_err();
    assert!(matches!(before, StorageError::SchemaMismatch { .. }), "{before:?}");

    let sql = PostgresStorage::migration_sql(&schema.options(Some("app_"))).unwrap();
    schema.execute(&sql).await.unwrap();

    storage.set_up(SetUp::Validate).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.insert_jobs(&[an_enqueued_job()]).await.unwrap();
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn a_schema_without_its_latest_migration_is_brought_up_to_date_with_its_data() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let mut job = an_enqueued_job();
    job.schedule(at(9), Some("later".to_owned()), at(1)).unwrap();
    storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap();
    // As it was before the functions came, and what was made after them.
    schema
        .execute(
            "DO $$ DECLARE f text; BEGIN FOR f IN SELECT p.oid::regprocedure::text FROM pg_proc p \
             WHERE p.pronamespace = current_schema()::regnamespace LOOP EXECUTE 'DROP FUNCTION ' || f; END LOOP; END $$; \
             ALTER TABLE jobrunr_job_data DROP COLUMN created_at; DELETE FROM jobrunr_migration WHERE number > 2",
        )
        .await
        .unwrap();

    let missing = storage.set_up(SetUp::Validate).await.unwrap_err();
    storage.set_up(SetUp::Migrate).await.unwrap();

    assert!(missing.to_string().contains("migration 3 (functions), migration 4 (creation)"), "{missing}");
    job.mark_inserted();
    assert_eq!(storage.find_job(job.id()).await.unwrap(), Some(job));
    assert_eq!(storage.enqueue_due_jobs(at(9), 10).await.unwrap().released.len(), 1);
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn jobs_of_before_creation_was_indexed_are_listed_among_those_of_after() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let mut next = 0;
    let mut a_job = || {
        next += 1;
        Job::new(JobId::new(), an_enqueued_job().definition().clone(), JobState::enqueued(), at(next))
            .unwrap()
    };
    let mut jobs = vec![a_job(), a_job()];
    storage.insert_jobs(&jobs).await.unwrap();
    schema
        .execute(
            "ALTER TABLE jobrunr_job_data DROP COLUMN created_at; DROP FUNCTION jobrunr_are_few; \
             DELETE FROM jobrunr_migration WHERE number > 3",
        )
        .await
        .unwrap();

    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.set_up(SetUp::Validate).await.unwrap();
    // One by itself, several, and some that have more to say.
    let mut others = [vec![a_job()], vec![a_job(), a_job()], vec![a_job(), a_job()]];
    for job in &mut others[2] {
        job.schedule(at(99), Some("later".to_owned()), at(98)).unwrap();
    }
    for others in others {
        storage.insert_jobs(&others).await.unwrap();
        jobs.extend(others);
    }

    let listed = storage.list_jobs(&JobQuery::all()).await.unwrap();
    assert_eq!(listed.iter().map(Job::id).collect::<Vec<_>>(), jobs.iter().map(Job::id).collect::<Vec<_>>());
    let same =
        "SELECT FROM jobrunr_job j JOIN jobrunr_job_data d ON d.job = j.id AND d.created_at = j.created_at";
    assert_eq!(schema.execute(same).await.unwrap(), 7);
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn a_user_who_may_create_nothing_can_use_what_is_set_up() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url.clone(), Place::NamedSchema).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let name = &schema.name;
    schema
        .execute(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA {name} TO {name}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {name}"
        ))
        .await
        .unwrap();
    let administrator = url.split_once("://").unwrap().1.split_once('@').unwrap().0;
    let restricted = PostgresStorage::connect_with(
        &url.replace(administrator, &format!("{name}:x")),
        schema.options(None).without_listener(),
    )
    .await
    .unwrap();

    restricted.set_up(SetUp::Migrate).await.unwrap();
    restricted.insert_jobs(&[an_enqueued_job()]).await.unwrap();

    assert_eq!(restricted.job_counts().await.unwrap().total(), 1);
    restricted.close().await;
    storage.close().await;
    schema.execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await.unwrap();
    schema.drop_schema().await;
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_also_where_the_pool_is_the_application_s() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::SearchPath).await.unwrap();
    // Says what an old server would.
    let old = "CREATE FUNCTION current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT '120022' $$";
    schema.execute(old).await.unwrap();
    let connect: PgConnectOptions = schema.url().parse().unwrap();
    let path = format!("{},pg_catalog", schema.name);
    let pool = PgPool::connect_with(connect.options([("search_path", path)])).await.unwrap();
    let storage = PostgresStorage::with_pool(pool.clone(), schema.options(None)).unwrap();

    for set_up in [SetUp::Migrate, SetUp::Validate] {
        let refused = storage.set_up(set_up).await.unwrap_err();

        assert!(matches!(refused, StorageError::Unsupported { .. }), "{refused:?}");
        assert!(refused.to_string().contains("version 13"), "{refused}");
    }
    storage.close().await;
    pool.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn what_somebody_removed_from_the_schema_is_missed_by_validation() {
    let Some(url) = url() else { return };
    for removal in [
        "DROP TABLE jobrunr_job_label",
        "DROP TABLE jobrunr_recurring_job",
        "ALTER TABLE jobrunr_job DROP COLUMN priority",
        "ALTER TABLE jobrunr_job_data DROP COLUMN created_at",
        "ALTER TABLE jobrunr_job_history DROP COLUMN last_error",
        "ALTER TABLE jobrunr_count DROP COLUMN succeeded_all_time",
        "DROP FUNCTION jobrunr_release",
    ] {
        let schema = Schema::create(url.clone(), Place::NamedSchema).await.unwrap();
        let storage = schema.open_postgres(None).await.unwrap();
        storage.set_up(SetUp::Migrate).await.unwrap();
        storage.set_up(SetUp::Validate).await.unwrap();

        schema.execute(removal).await.unwrap();
        let missing = storage.set_up(SetUp::Validate).await.unwrap_err();

        assert!(matches!(missing, StorageError::SchemaMismatch { .. }), "{removal}: {missing:?}");
        let name = removal.rsplit(' ').next().unwrap();
        assert!(missing.to_string().contains(name), "{missing}");
        storage.close().await;
        schema.drop_schema().await;
    }
}
