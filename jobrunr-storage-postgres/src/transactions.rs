//! Jobs in a transaction of the caller's: they are there once it commits, and never were if it does not.

use async_trait::async_trait;
use jobrunr_core::storage::{InsertReport, StorageError, StorageProvider, check_payload_sizes};
use jobrunr_core::{Job, JobBuilder, JobId, JobRequest, JobScheduler, SchedulerError};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use crate::connection::{Failed, Statement};
use crate::jobs::check_texts;
use crate::names::Runs;
use crate::{PROVIDER, PostgresStorage};

const OPERATION: &str = "insert jobs in a transaction";

/// A connection of the caller's.
struct Caller<'c>(&'c mut PgConnection);

impl Runs for Caller<'_> {
    async fn run(&mut self, statement: Statement) -> Result<Vec<PgRow>, Failed> {
        let rows = statement.fetch_all(&mut *self.0).await;
        rows.map_err(|error| Failed::of(&error, OPERATION))
    }
}

impl PostgresStorage {
    /// Inserts jobs in a transaction of the caller's: they are there once it commits, and never were if it does not.
    ///
    /// The connection may be any one to the same database. This process and others hear of the jobs when the transaction
    /// commits. Transactions that insert jobs of the same queues and types do not wait for each other, with one exception:
    /// the first job of a queue and type there ever was makes others of that queue and type wait for the transaction's end.
    ///
    /// # Errors
    /// As [`insert_jobs`](jobrunr_core::storage::JobStore::insert_jobs). PostgreSQL refuses everything else in a
    /// transaction after an error: roll it back.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use jobrunr_core::Job;
    /// # async fn order(
    /// #     storage: &jobrunr_storage_postgres::PostgresStorage, pool: sqlx::PgPool, job: Job,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut transaction = pool.begin().await?;
    /// sqlx::query("INSERT INTO orders (item) VALUES ('book')").execute(&mut *transaction).await?;
    /// storage.insert_in(&mut transaction, &[job]).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn insert_in(
        &self,
        connection: &mut PgConnection,
        jobs: &[Job],
    ) -> Result<InsertReport, StorageError> {
        let _open = self.begin(OPERATION)?;
        check_payload_sizes(PROVIDER, jobs, self.inner.options.max_payload_bytes)?;
        check_texts(jobs)?;
        Ok(self.insert_with(&mut Caller(connection), jobs).await?)
    }
}

/// Creating jobs in a transaction of the caller's, for a [`JobScheduler`] whose storage is a [`PostgresStorage`].
///
/// # Examples
///
/// ```no_run
/// use jobrunr_core::{JobRequest, JobScheduler};
/// use jobrunr_storage_postgres::EnqueueIn;
///
/// # async fn order<R: JobRequest>(
/// #     scheduler: &JobScheduler, pool: sqlx::PgPool, request: R,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let mut transaction = pool.begin().await?;
/// sqlx::query("INSERT INTO orders (item) VALUES ('book')").execute(&mut *transaction).await?;
/// let id = scheduler.enqueue_in(&mut transaction, request).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait EnqueueIn {
    /// Creates a job to be run as soon as the transaction is committed and a worker is free.
    ///
    /// Filters may change it in `on_creating`, which runs while the transaction is open; neither `on_created` nor
    /// `on_state_applied` tells of its creation, since nobody knows whether the transaction will be committed.
    ///
    /// # Errors
    /// As [`JobScheduler::enqueue`], and [`StorageError::Unsupported`] if the scheduler's storage is another one.
    async fn enqueue_in<R: JobRequest>(
        &self,
        connection: &mut PgConnection,
        request: R,
    ) -> Result<JobId, SchedulerError>;

    /// Creates the job that a builder describes, as [`enqueue_in`](Self::enqueue_in) does.
    ///
    /// # Errors
    /// As [`enqueue_in`](Self::enqueue_in).
    async fn create_in<R: JobRequest>(
        &self,
        connection: &mut PgConnection,
        builder: JobBuilder<R>,
    ) -> Result<JobId, SchedulerError>;
}

#[async_trait]
impl EnqueueIn for JobScheduler {
    async fn enqueue_in<R: JobRequest>(
        &self,
        connection: &mut PgConnection,
        request: R,
    ) -> Result<JobId, SchedulerError> {
        self.create_in(connection, JobBuilder::new(request)).await
    }

    async fn create_in<R: JobRequest>(
        &self,
        connection: &mut PgConnection,
        builder: JobBuilder<R>,
    ) -> Result<JobId, SchedulerError> {
        let storage: &dyn StorageProvider = self.storage().as_ref();
        let Some(postgres) = (storage as &dyn std::any::Any).downcast_ref::<PostgresStorage>() else {
            let what = format!(
                "the scheduler's storage is {}; only one on a PostgresStorage can use its transactions",
                storage.name()
            );
            return Err(StorageError::Unsupported { provider: PROVIDER, what }.into());
        };
        let job = self.prepare(builder).await?;
        postgres.insert_in(connection, std::slice::from_ref(&job)).await?;
        Ok(job.id())
    }
}
