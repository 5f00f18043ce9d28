//! The scheduler that a process shares. One test, because there is one of it in a process.

use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::{JobSearch as _, JobStore as _};
use jobrunr_core::{
    AlreadyInitialised, BackgroundJob, JobBuilder, JobRequest, JobScheduler, MemoryStorage, SchedulerError,
    StateName,
};

#[derive(serde::Serialize, serde::Deserialize)]
struct Work {}

impl JobRequest for Work {
    const JOB_TYPE: &'static str = "work";
}

fn scheduler(storage: &MemoryStorage) -> JobScheduler {
    JobScheduler::new(Arc::new(storage.clone()))
}

#[tokio::test]
async fn the_first_scheduler_counts_and_before_it_there_is_an_error_that_says_what_to_do() {
    let early = BackgroundJob::enqueue(Work {}).await.unwrap_err();
    assert!(matches!(early, SchedulerError::NotInitialised));
    assert!(early.to_string().contains("call `BackgroundJob::init(scheduler)` once"), "{early}");

    let (storage, other) = (MemoryStorage::new(), MemoryStorage::new());
    BackgroundJob::init(scheduler(&storage)).unwrap();
    assert_eq!(BackgroundJob::init(scheduler(&other)), Err(AlreadyInitialised));

    let id = BackgroundJob::enqueue(Work {}).await.unwrap();
    let due_at = storage.find_job(id).await.unwrap().unwrap().created_at() + chrono::TimeDelta::hours(1);
    BackgroundJob::schedule(due_at, Work {}).await.unwrap();
    BackgroundJob::schedule_in(Duration::from_secs(60), Work {}).await.unwrap();
    let created = BackgroundJob::create(JobBuilder::new(Work {}).retries(0)).await.unwrap();
    BackgroundJob::delete(created, "not needed").await.unwrap();
    BackgroundJob::requeue(created).await.unwrap();
    BackgroundJob::reschedule(created, due_at).await.unwrap();
    BackgroundJob::enqueue_all([Work {}, Work {}]).await.unwrap();
    BackgroundJob::schedule_recurrently("often", "* * * * *", Work {}).await.unwrap();
    let recurring = BackgroundJob::scheduler().unwrap().list_recurring_jobs().await.unwrap();

    let counts = storage.job_counts().await.unwrap();
    assert_eq!((counts.in_state(StateName::Enqueued), counts.in_state(StateName::Scheduled)), (3, 3));
    assert_eq!((counts.total(), recurring.len()), (6, 1));
    assert_eq!(other.job_counts().await.unwrap().total(), 0);
}
