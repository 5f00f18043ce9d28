//! Two processes over one database, and the part of a server played by hand: for what core makes of the contract.

use std::sync::Arc;

use jobrunr_core::storage::{BoxError, ClaimRequest, StorageExt, StorageProvider};
use jobrunr_core::{
    Job, JobBuilder, JobContext, JobId, JobOptions, JobRequest, JobRun, JobScheduler, UnlimitedLease,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::Fixture;
use crate::builders::server;
use crate::content::find;

/// The job of these scenarios.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Film {
    pub(crate) number: u32,
}

impl JobRequest for Film {
    const JOB_TYPE: &'static str = "film";

    fn options(&self) -> JobOptions {
        JobOptions::default().labels(["ai-review", "gpu"])
    }
}

/// Two processes: one that has a server, and one that has not.
pub(crate) struct House {
    pub(crate) near: Arc<dyn StorageProvider>,
    pub(crate) far: Arc<dyn StorageProvider>,
    /// Of the process that has a server.
    pub(crate) here: JobScheduler,
    /// Of the other process.
    pub(crate) there: JobScheduler,
}

impl House {
    pub(crate) async fn of(fixture: &Fixture<'_>) -> Result<Self, BoxError> {
        let (near, far) = (fixture.shared_storage(), fixture.another_storage().await?);
        let scheduler = |storage| JobScheduler::new(Arc::clone(storage));
        Ok(Self { here: scheduler(&near), there: scheduler(&far), near, far })
    }

    /// Claims the job at the head of the line.
    pub(crate) async fn claim(&self) -> Result<Job, BoxError> {
        let request = ClaimRequest::new(server("worker"), 1, self.near.storage_time().await?);
        self.near.claim_jobs(&request).await?.pop().ok_or_else(|| "there is nothing to claim".into())
    }

    /// An external job whose trigger runs.
    pub(crate) async fn running(&self, builder: JobBuilder<Film>) -> Result<Job, BoxError> {
        let id = self.there.create(builder).await?;
        let job = self.claim().await?;
        assert_eq!(job.id(), id);
        Ok(job)
    }

    /// Ends the trigger of an external job, so that it waits for its signal.
    pub(crate) async fn park(&self, job: &mut Job) -> Result<(), BoxError> {
        job.park(self.near.storage_time().await?)?;
        Ok(self.near.save_job(job).await?)
    }

    /// An external job that waits for its signal.
    pub(crate) async fn parked(&self, builder: JobBuilder<Film>) -> Result<JobId, BoxError> {
        let mut job = self.running(builder).await?;
        self.park(&mut job).await?;
        Ok(job.id())
    }

    /// The job as the process sees it that has no server.
    pub(crate) async fn seen(&self, id: JobId) -> Result<Job, BoxError> {
        find(&*self.far, id).await
    }

    /// What a handler is given that runs this claimed job.
    pub(crate) fn run(&self, job: &Job) -> JobContext {
        JobContext::from(JobRun {
            job: job.clone(),
            retries: 10,
            server: job.server().expect("it was claimed"),
            cancellation: CancellationToken::new(),
            scheduler: self.here.clone(),
            lease: Arc::new(UnlimitedLease),
        })
    }
}

/// An external job.
pub(crate) fn a_film(number: u32) -> JobBuilder<Film> {
    JobBuilder::external(Film { number })
}

/// The names of the states a job was in.
pub(crate) fn states(job: &Job) -> Vec<&'static str> {
    job.history().iter().map(|entry| entry.state.name().as_str()).collect()
}
