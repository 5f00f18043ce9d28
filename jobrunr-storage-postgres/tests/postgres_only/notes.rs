//! What a run writes down with its job leaves the row alone that claims and saves go by.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::{JobStore, SetUp, StorageProvider};
use jobrunr_core::{JobContext, JobHandler, JobId, JobLog, JobRequest, JobResult, JobScheduler};
use jobrunr_server::BackgroundJobServer;
use jobrunr_storage_postgres::PostgresStorage;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use uuid::Uuid;

use crate::support::{Place, Schema, url};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Work {}

impl JobRequest for Work {
    const JOB_TYPE: &'static str = "work";
}

/// A row of the table of jobs: where it lies, which transaction wrote it, and the version of the job.
type JobRow = (String, String, i64);

/// Writes things down, and looks at the row of its own job now and then.
struct Writer {
    pool: PgPool,
}

impl Writer {
    async fn row(&self, id: JobId) -> Result<JobRow, sqlx::Error> {
        let row = "SELECT ctid::text, xmin::text, version::bigint FROM jobrunr_job WHERE id = $1";
        sqlx::query_as(row).bind(Uuid::from(id)).fetch_one(&self.pool).await
    }

    /// Waits until log lines are stored; there is no other sign of it.
    async fn log_is_stored(&self, id: JobId) -> Result<(), sqlx::Error> {
        let chunks = "SELECT count(*) FROM jobrunr_job_metadata WHERE job = $1 AND name LIKE 'jobrunr-log-%'";
        while sqlx::query_scalar::<_, i64>(chunks).bind(Uuid::from(id)).fetch_one(&self.pool).await? == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl JobHandler<Work> for Writer {
    type Output = Vec<JobRow>;

    async fn run(&self, _: Work, context: &JobContext) -> JobResult<Vec<JobRow>> {
        let id = context.job_id();
        let mut rows = vec![self.row(id).await?];
        context.save("cursor", &1).await?;
        rows.push(self.row(id).await?);

        context.save("cursor", &2).await?;
        context.save("another", &1).await?;
        rows.push(self.row(id).await?);
        let bar = context.progress(2);
        bar.set(1);
        context.log().info("a line");
        self.log_is_stored(id).await?;
        rows.push(self.row(id).await?);
        context.run_step_once("step", async { Ok(()) }).await?;
        rows.push(self.row(id).await?);
        Ok(rows)
    }
}

#[tokio::test]
async fn after_its_first_note_a_run_leaves_the_row_of_its_job_as_it_is_whatever_it_writes_down() {
    let Some(url) = url() else { return };
    let schema = Schema::create(url, Place::SearchPath).await.unwrap();
    let storage = Arc::new(schema.open_postgres(None).await.unwrap());
    storage.set_up(SetUp::Migrate).await.unwrap();
    let options = PgConnectOptions::from_str(&schema.url()).unwrap();
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let writer = Writer { pool: pool.clone() };
    let provider: Arc<dyn StorageProvider> = Arc::<PostgresStorage>::clone(&storage);
    let server = BackgroundJobServer::builder(Arc::clone(&provider)).handle::<Work, _>(writer);
    let server = server.start().await.unwrap();
    let scheduler = JobScheduler::new(provider);

    let id = scheduler.enqueue(Work {}).await.unwrap();
    let rows: Vec<JobRow> = scheduler.await_result(id, PATIENCE).await.unwrap();
    server.stop().await;

    let [claimed, noted, after @ ..] = &rows[..] else { panic!("{rows:?}") };
    assert_ne!((&claimed.0, &claimed.1), (&noted.0, &noted.1), "a row that is written again is seen");
    for row in after {
        assert_eq!(row, noted, "{rows:?}");
    }
    assert_eq!(noted.2, claimed.2, "no note is a change of the job");
    let job = storage.find_job(id).await.unwrap().unwrap();
    assert_eq!((&job.metadata()["cursor"], JobLog::of(&job).lines.len()), (&2.into(), 1));
    storage.close().await;
    pool.close().await;
    schema.drop_schema().await;
}
