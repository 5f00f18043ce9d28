//! Jobs in a transaction of the caller's: they are there once it commits, and never were if it does not.

use std::collections::HashSet;

use async_trait::async_trait;
use jobrunr_core::storage::{InsertReport, StorageError, StorageProvider, check_payload_sizes};
use jobrunr_core::{Job, JobBuilder, JobId, JobRequest, JobScheduler, SchedulerError};
use mongodb::ClientSession;

use crate::call::Commands;
use crate::changes::Hints;
use crate::jobs::{Shards, insert_in_session};
use crate::{MongoStorage, PROVIDER};

const OPERATION: &str = "insert jobs in a transaction";

impl MongoStorage {
    /// Inserts jobs in a transaction of the caller's: they are there once it commits, and never were if it does not.
    ///
    /// The session must be one of a client of the same servers: of the one that the storage was made
    /// [with](Self::with_client), or of another. Other processes hear of the jobs when the transaction commits.
    ///
    /// # Errors
    /// As [`insert_jobs`](jobrunr_core::storage::JobStore::insert_jobs), and [`StorageError::Unsupported`] on a server
    /// that has no transactions. MongoDB refuses everything else in a transaction after an error: abort it, and begin
    /// again if the error [is retryable](StorageError::is_retryable).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use jobrunr_core::Job;
    /// use jobrunr_storage_mongo::mongodb::{Client, bson::doc};
    ///
    /// # async fn order(
    /// #     storage: &jobrunr_storage_mongo::MongoStorage, client: Client, job: Job,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut session = client.start_session().await?;
    /// session.start_transaction().await?;
    /// let orders = client.database("app").collection("orders");
    /// orders.insert_one(doc! { "item": "book" }).session(&mut session).await?;
    /// storage.insert_in(&mut session, &[job]).await?;
    /// session.commit_transaction().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn insert_in(
        &self,
        session: &mut ClientSession,
        jobs: &[Job],
    ) -> Result<InsertReport, StorageError> {
        let _open = self.begin(OPERATION)?;
        if !self.inner.has_transactions {
            let what = "transactions need a replica set; this server is none".to_owned();
            return Err(StorageError::Unsupported { provider: PROVIDER, what });
        }
        check_payload_sizes(PROVIDER, jobs, self.inner.options.max_payload_bytes)?;
        let mut seen = HashSet::with_capacity(jobs.len());
        let is_first: Vec<bool> = jobs.iter().map(|job| seen.insert(job.id())).collect();
        let firsts: Vec<Job> = jobs
            .iter()
            .zip(&is_first)
            .filter(|(_, is_first)| **is_first)
            .map(|(job, _)| job.clone())
            .collect();
        let mut commands = Commands { storage: self, session: Some(session), shard: Shards::any() };
        let work = async {
            let present = insert_in_session(&mut commands, &firsts).await?;
            let mut hints = Hints::default();
            firsts.iter().filter(|job| !present.contains(&job.id())).for_each(|job| hints.note(job));
            self.hint_in(&mut commands, &hints).await?;
            Ok(present)
        };
        let present: HashSet<JobId> =
            work.await.map_err(|broken: crate::call::Broken| broken.failed(OPERATION))?;
        let not_new =
            jobs.iter().zip(is_first).filter(|(job, is_first)| !is_first || present.contains(&job.id()));
        Ok(InsertReport { already_present: not_new.map(|(job, _)| job.id()).collect() })
    }
}

/// Creating jobs in a transaction of the caller's, for a [`JobScheduler`] whose storage is a [`MongoStorage`].
///
/// # Examples
///
/// ```no_run
/// use jobrunr_core::{JobRequest, JobScheduler};
/// use jobrunr_storage_mongo::{EnqueueIn, mongodb::{Client, bson::doc}};
///
/// # async fn order<R: JobRequest>(
/// #     scheduler: &JobScheduler, client: Client, request: R,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let mut session = client.start_session().await?;
/// session.start_transaction().await?;
/// let orders = client.database("app").collection("orders");
/// orders.insert_one(doc! { "item": "book" }).session(&mut session).await?;
/// let id = scheduler.enqueue_in(&mut session, request).await?;
/// session.commit_transaction().await?;
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
        session: &mut ClientSession,
        request: R,
    ) -> Result<JobId, SchedulerError>;

    /// Creates the job that a builder describes, as [`enqueue_in`](Self::enqueue_in) does.
    ///
    /// # Errors
    /// As [`enqueue_in`](Self::enqueue_in).
    async fn create_in<R: JobRequest>(
        &self,
        session: &mut ClientSession,
        builder: JobBuilder<R>,
    ) -> Result<JobId, SchedulerError>;
}

#[async_trait]
impl EnqueueIn for JobScheduler {
    async fn enqueue_in<R: JobRequest>(
        &self,
        session: &mut ClientSession,
        request: R,
    ) -> Result<JobId, SchedulerError> {
        self.create_in(session, JobBuilder::new(request)).await
    }

    async fn create_in<R: JobRequest>(
        &self,
        session: &mut ClientSession,
        builder: JobBuilder<R>,
    ) -> Result<JobId, SchedulerError> {
        let storage: &dyn StorageProvider = self.storage().as_ref();
        let Some(mongo) = (storage as &dyn std::any::Any).downcast_ref::<MongoStorage>() else {
            let what = format!(
                "the scheduler's storage is {}; only one on a MongoStorage can use its transactions",
                storage.name()
            );
            return Err(StorageError::Unsupported { provider: PROVIDER, what }.into());
        };
        let job = self.prepare(builder).await?;
        mongo.insert_in(session, std::slice::from_ref(&job)).await?;
        Ok(job.id())
    }
}
