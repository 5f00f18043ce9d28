//! What the tests share: a cluster with a storage and a moved clock, one job type, and handlers that are closures.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use jobrunr_core::clock::{Clock, SystemClock, TokioClock};
use jobrunr_core::storage::{JobSearch, JobStore, StorageProvider};
use jobrunr_core::{
    Job, JobBuilder, JobContext, JobHandler, JobId, JobRequest, JobResult, JobScheduler, MemoryStorage,
    MemoryStorageOptions, StateName,
};
use jobrunr_server::{BackgroundJobServer, BackgroundJobServerBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Longer than anything takes, in the time of the moved clock.
const LIMIT: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// Longer than anything takes in real time.
const REAL_LIMIT: Duration = Duration::from_secs(60);

/// The job of the tests; what it does is up to the handler of the test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) number: u32,
}

impl JobRequest for Work {
    const JOB_TYPE: &'static str = "work";
    const ALIASES: &'static [&'static str] = &["labour"];
}

/// A job that the servers of the tests have no handler for unless they say so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Other {}

impl JobRequest for Other {
    const JOB_TYPE: &'static str = "other";
}

/// The job number `number`.
pub(crate) fn work(number: u32) -> Work {
    Work { number }
}

/// A handler that is a closure.
pub(crate) struct Doing<F>(pub(crate) F);

impl<R, T, F, Run> JobHandler<R> for Doing<F>
where
    R: JobRequest,
    T: Serialize + Send,
    F: Fn(R, JobContext) -> Run + Send + Sync + 'static,
    Run: Future<Output = JobResult<T>> + Send,
{
    type Output = T;

    async fn run(&self, request: R, context: &JobContext) -> JobResult<T> {
        self.0(request, context.clone()).await
    }
}

/// A storage that servers and schedulers share, and its clock.
pub(crate) struct World {
    pub(crate) memory: MemoryStorage,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) scheduler: JobScheduler,
    limit: Duration,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::starting_at(DateTime::from_timestamp(1_800_000_000, 0).unwrap())
    }

    pub(crate) fn starting_at(start: DateTime<Utc>) -> Self {
        Self::with_clock(Arc::new(TokioClock::starting_at(start)), LIMIT)
    }

    /// For the few tests that want several threads, where no clock can be moved.
    pub(crate) fn with_real_time() -> Self {
        Self::with_clock(Arc::new(SystemClock), REAL_LIMIT)
    }

    fn with_clock(clock: Arc<dyn Clock>, limit: Duration) -> Self {
        let memory = MemoryStorage::with_options(MemoryStorageOptions::default().clock(Arc::clone(&clock)));
        let scheduler = JobScheduler::with_local_clock(Arc::new(memory.clone()), Arc::clone(&clock));
        Self { memory, clock, scheduler, limit }
    }

    /// A server over the storage of this world, or over a wrapper around it.
    pub(crate) fn server_over(&self, storage: Arc<dyn StorageProvider>) -> BackgroundJobServerBuilder {
        BackgroundJobServer::builder(storage).clock(Arc::clone(&self.clock)).workers(4).name("one")
    }

    pub(crate) fn server(&self) -> BackgroundJobServerBuilder {
        self.server_over(Arc::new(self.memory.clone()))
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) async fn enqueue(&self, number: u32) -> JobId {
        self.scheduler.enqueue(work(number)).await.unwrap()
    }

    pub(crate) async fn create(&self, builder: JobBuilder<Work>) -> JobId {
        self.scheduler.create(builder).await.unwrap()
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        self.memory.find_job(id).await.unwrap().expect("the job was not purged")
    }

    pub(crate) async fn count(&self, state: StateName) -> u64 {
        self.memory.job_counts().await.unwrap().in_state(state)
    }

    /// Waits until `look` finds something: looks after every change, and now and then because a claim gives no hint.
    async fn until<T>(&self, look: impl AsyncFn() -> Option<T>) -> Option<T> {
        let mut changes = self.memory.changes().unwrap().subscribe();
        let mut pause = Duration::from_millis(10);
        let found = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                if tokio::time::timeout(pause, changes.next()).await.is_err() {
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        };
        tokio::time::timeout(self.limit, found).await.ok()
    }

    /// Waits until the job is as `fits` says.
    pub(crate) async fn job_when(&self, id: JobId, fits: impl Fn(&Job) -> bool) -> Job {
        match self.until(async || Some(self.job(id).await).filter(&fits)).await {
            Some(job) => job,
            None => panic!("the job never came to that, it is {:?}", self.job(id).await),
        }
    }

    /// Waits until the job is in this state.
    pub(crate) async fn job_in(&self, id: JobId, state: StateName) -> Job {
        self.job_when(id, |job| job.state_name() == state).await
    }

    /// Waits until so many jobs are in this state.
    pub(crate) async fn until_count(&self, state: StateName, count: u64) {
        if self.until(async || (self.count(state).await == count).then_some(())).await.is_none() {
            panic!("{} jobs are {state}, not {count}", self.count(state).await);
        }
    }
}

/// The states a job was in.
pub(crate) fn states(job: &Job) -> Vec<&'static str> {
    job.history().iter().map(|entry| entry.state.name().as_str()).collect()
}

pub(crate) fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

/// Lets `duration` pass; whatever is due within it is done.
pub(crate) async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits for something that comes within an hour of the moved clock.
pub(crate) async fn soon<T>(something: impl Future<Output = T>) -> T {
    let hour = Duration::from_secs(3_600);
    tokio::time::timeout(hour, something).await.expect("what the test waits for has not come")
}

/// The next thing that a handler tells; `None` if nobody is left to tell.
pub(crate) async fn next<T>(told: &mut mpsc::UnboundedReceiver<T>) -> Option<T> {
    soon(told.recv()).await
}
