//! Jobs in a transaction of the caller's: they are there once it commits, and never were if it does not.

use std::any::Any;

use async_trait::async_trait;
use jobrunr_core::storage::{InsertReport, StorageError, StorageProvider};
use jobrunr_core::{Job, JobBuilder, JobId, JobRequest, JobScheduler, SchedulerError};
use sqlx::mysql::MySqlConnection;

use crate::{MySqlStorage, PROVIDER};

impl MySqlStorage {
    /// Inserts jobs in a transaction of the caller's: they are there once it commits, and never were if it does not.
    ///
    /// The connection may be any one to the same database, at any isolation level. The first job of a queue and type there
    /// ever was makes others of that queue and type wait for the transaction's end. Several jobs, or one with labels or
    /// the like, need a transaction: a savepoint named `jobrunr` is set in it, so that those that are there already undo
    /// nothing but their own insert. Statements have no time limit but the session's.
    ///
    /// # Errors
    /// As [`insert_jobs`](jobrunr_core::storage::JobStore::insert_jobs). Deadlocks and lock time-outs are the caller's:
    /// a deadlock has rolled the transaction back. After any error roll it back.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use jobrunr_core::Job;
    /// # async fn order(
    /// #     storage: &jobrunr_storage_mysql::MySqlStorage, pool: sqlx::MySqlPool, job: Job,
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
        connection: &mut MySqlConnection,
        jobs: &[Job],
    ) -> Result<InsertReport, StorageError> {
        self.insert_on(connection, jobs).await
    }
}

/// Creating jobs in a transaction of the caller's, for a [`JobScheduler`] whose storage is a [`MySqlStorage`].
///
/// # Examples
///
/// ```no_run
/// use jobrunr_core::{JobRequest, JobScheduler};
/// use jobrunr_storage_mysql::EnqueueIn;
///
/// # async fn order<R: JobRequest>(
/// #     scheduler: &JobScheduler, pool: sqlx::MySqlPool, request: R,
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
        connection: &mut MySqlConnection,
        request: R,
    ) -> Result<JobId, SchedulerError>;

    /// Creates the job that a builder describes, as [`enqueue_in`](Self::enqueue_in) does.
    ///
    /// # Errors
    /// As [`enqueue_in`](Self::enqueue_in).
    async fn create_in<R: JobRequest>(
        &self,
        connection: &mut MySqlConnection,
        builder: JobBuilder<R>,
    ) -> Result<JobId, SchedulerError>;
}

#[async_trait]
impl EnqueueIn for JobScheduler {
    async fn enqueue_in<R: JobRequest>(
        &self,
        connection: &mut MySqlConnection,
        request: R,
    ) -> Result<JobId, SchedulerError> {
        self.create_in(connection, JobBuilder::new(request)).await
    }

    async fn create_in<R: JobRequest>(
        &self,
        connection: &mut MySqlConnection,
        builder: JobBuilder<R>,
    ) -> Result<JobId, SchedulerError> {
        let storage: &dyn StorageProvider = self.storage().as_ref();
        let Some(mysql) = (storage as &dyn Any).downcast_ref::<MySqlStorage>() else {
            let what = format!(
                "the scheduler's storage is {}; only one on a MySqlStorage can use its transactions",
                storage.name()
            );
            return Err(StorageError::Unsupported { provider: PROVIDER, what }.into());
        };
        let job = self.prepare(builder).await?;
        mysql.insert_in(connection, std::slice::from_ref(&job)).await?;
        Ok(job.id())
    }
}
