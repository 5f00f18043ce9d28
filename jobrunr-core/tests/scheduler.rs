//! The scheduler on the in-memory storage, as its users see it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream;
use jobrunr_core::clock::Clock;
use jobrunr_core::filters::JobFilter;
use jobrunr_core::memory::MemoryStorage;
use jobrunr_core::storage::{
    ClaimRequest, JobQuery, JobSearch, JobStore, ServerStore, StorageExt, StorageProvider,
};
use jobrunr_core::{
    HistoryEntry, Job, JobBuilder, JobDraft, JobId, JobRequest, JobScheduler, Label, Labels, SchedulerError,
    ServerId, ServerRef, StateName,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Print {
    page: u32,
}

impl JobRequest for Print {
    const JOB_TYPE: &'static str = "print";
}

#[derive(Debug)]
struct FixedClock(DateTime<Utc>);

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

fn storage_and_scheduler() -> (Arc<MemoryStorage>, JobScheduler) {
    let storage = Arc::new(MemoryStorage::new());
    let scheduler = JobScheduler::new(Arc::<MemoryStorage>::clone(&storage));
    (storage, scheduler)
}

async fn claim_one(storage: &dyn StorageProvider) -> Job {
    let server = ServerRef { id: ServerId::new(), name: "one".into() };
    let now = storage.storage_time().await.unwrap();
    storage.claim_jobs(&ClaimRequest::new(server, 1, now)).await.unwrap().remove(0)
}

#[tokio::test]
async fn an_enqueued_job_can_be_claimed_with_its_request() {
    let (storage, scheduler) = storage_and_scheduler();

    let id = scheduler.enqueue(Print { page: 7 }).await.unwrap();

    let claimed = claim_one(storage.as_ref()).await;
    assert_eq!(claimed.id(), id);
    assert_eq!(claimed.payload().decode::<Print>().unwrap(), Print { page: 7 });
}

#[tokio::test]
async fn enqueuing_twice_under_one_id_creates_one_job() {
    let (storage, scheduler) = storage_and_scheduler();
    let order = || JobBuilder::new(Print { page: 1 }).id(JobId::from_name("order-42"));

    let first = scheduler.create(order()).await.unwrap();
    let second = scheduler.create(order()).await.unwrap();

    assert_eq!(first, second);
    assert_eq!(storage.count_jobs(&JobQuery::all()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_bulk_of_any_size_keeps_its_order() {
    let (storage, scheduler) = storage_and_scheduler();

    let ids = scheduler.enqueue_all((0..2_500).map(|page| Print { page })).await.unwrap();
    let streamed = scheduler.enqueue_stream(stream::iter((0..10).map(|page| Print { page }))).await.unwrap();

    assert_eq!((ids.len(), streamed.len()), (2_500, 10));
    let last = storage.find_job(ids[2_499]).await.unwrap().unwrap();
    assert_eq!(last.payload().decode::<Print>().unwrap().page, 2_499);
}

#[tokio::test]
async fn a_delay_is_counted_by_the_clock_of_the_storage_not_by_a_wrong_local_one() {
    let storage = Arc::new(MemoryStorage::new());
    let wrong = FixedClock(DateTime::from_timestamp(1_000_000_000, 0).unwrap());
    let scheduler = JobScheduler::with_local_clock(Arc::<MemoryStorage>::clone(&storage), Arc::new(wrong));

    let id = scheduler.schedule_in(Duration::from_secs(60), Print { page: 1 }).await.unwrap();

    let due = storage.find_job(id).await.unwrap().unwrap().scheduled_at().unwrap();
    let wait = due - storage.storage_time().await.unwrap();
    assert!(wait > TimeDelta::seconds(50) && wait <= TimeDelta::seconds(60), "{wait}");
}

#[tokio::test]
async fn a_deleted_job_stays_deleted_however_often_it_is_deleted() {
    let (storage, scheduler) = storage_and_scheduler();
    let id = scheduler.enqueue(Print { page: 1 }).await.unwrap();

    scheduler.delete(id, "not needed").await.unwrap();
    scheduler.delete(id, "not needed").await.unwrap();

    let job = storage.find_job(id).await.unwrap().unwrap();
    let states: Vec<_> = job.history().iter().map(|entry| entry.state.name()).collect();
    assert_eq!(states, [StateName::Enqueued, StateName::Deleted]);
}

#[tokio::test]
async fn a_running_job_is_not_requeued() {
    let (storage, scheduler) = storage_and_scheduler();
    let id = scheduler.enqueue(Print { page: 1 }).await.unwrap();
    claim_one(storage.as_ref()).await;

    let refused = scheduler.requeue(id).await;

    assert!(matches!(refused, Err(SchedulerError::Illegal { .. })), "{refused:?}");
    assert_eq!(storage.find_job(id).await.unwrap().unwrap().state_name(), StateName::Processing);
}

#[tokio::test]
async fn a_succeeded_job_runs_once_more_when_it_is_requeued() {
    let (storage, scheduler) = storage_and_scheduler();
    scheduler.enqueue(Print { page: 1 }).await.unwrap();
    let mut job = claim_one(storage.as_ref()).await;
    job.succeed(None, job.updated_at()).unwrap();
    storage.save_job(&mut job).await.unwrap();

    scheduler.requeue(job.id()).await.unwrap();

    assert_eq!(claim_one(storage.as_ref()).await.id(), job.id());
}

#[tokio::test]
async fn a_waiting_job_is_moved_to_another_time() {
    let (storage, scheduler) = storage_and_scheduler();
    let day = TimeDelta::days(1);
    let tomorrow = DateTime::from_timestamp(4_000_000_000, 0).unwrap();
    let id = scheduler.schedule(tomorrow, Print { page: 1 }).await.unwrap();

    scheduler.reschedule(id, tomorrow + day).await.unwrap();

    let due = storage.enqueue_due_jobs(tomorrow, 10).await.unwrap();
    assert!(due.released.is_empty());
    assert_eq!(due.next_due_at, Some(tomorrow + day));
}

#[tokio::test]
async fn an_unknown_job_is_an_error_that_names_it() {
    let (_, scheduler) = storage_and_scheduler();
    let id = JobId::new();

    let refused = scheduler.delete(id, "gone").await.unwrap_err();

    assert!(refused.to_string().contains(&id.to_string()));
}

/// What a filter has seen.
#[derive(Default)]
struct Notes {
    created: AtomicUsize,
    applied: Mutex<Vec<StateName>>,
}

struct Audit(Arc<Notes>);

#[async_trait]
impl JobFilter for Audit {
    fn on_creating(&self, draft: &mut JobDraft) {
        draft.definition.labels = Labels::new([Label::new("audited").unwrap()]).unwrap();
    }

    async fn on_created(&self, _: &Job) {
        self.0.created.fetch_add(1, Ordering::Relaxed);
    }

    async fn on_state_applied(&self, _: &Job, entry: &HistoryEntry) {
        self.0.applied.lock().unwrap().push(entry.state.name());
    }
}

struct Panics;

#[async_trait]
impl JobFilter for Panics {
    fn on_creating(&self, draft: &mut JobDraft) {
        draft.definition.name = "half changed".into();
        panic!("a filter with a bug");
    }

    async fn on_created(&self, _: &Job) {
        panic!("a filter with a bug");
    }
}

#[tokio::test]
async fn filters_change_jobs_before_and_hear_of_them_after_their_creation() {
    let (storage, scheduler) = storage_and_scheduler();
    let notes = Arc::new(Notes::default());
    let scheduler = scheduler.filter(Audit(Arc::clone(&notes)));

    let id = scheduler.enqueue(Print { page: 1 }).await.unwrap();
    scheduler.create(JobBuilder::new(Print { page: 1 }).id(id)).await.unwrap();
    scheduler.delete(id, "no").await.unwrap();

    assert!(storage.find_job(id).await.unwrap().unwrap().labels().contains("audited"));
    assert_eq!(notes.created.load(Ordering::Relaxed), 1, "a job that existed was not created");
    assert_eq!(*notes.applied.lock().unwrap(), [StateName::Enqueued, StateName::Deleted]);
}

#[tokio::test]
async fn a_filter_that_panics_is_passed_over() {
    let (storage, scheduler) = storage_and_scheduler();
    let scheduler = scheduler.filter(Panics);

    let id = scheduler.enqueue(Print { page: 1 }).await.unwrap();

    assert_eq!(storage.find_job(id).await.unwrap().unwrap().name(), "print");
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_and_nothing_of_its_bulk_is_stored() {
    #[derive(Serialize, Deserialize)]
    struct Text(String);

    impl JobRequest for Text {
        const JOB_TYPE: &'static str = "text";
    }
    let (storage, scheduler) = storage_and_scheduler();

    let refused = scheduler.enqueue_all([Text("short".into()), Text("x".repeat(2_000_000))]).await;

    assert!(refused.is_err());
    assert_eq!(storage.count_jobs(&JobQuery::all()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_bulk_that_fails_midway_says_how_many_jobs_were_created() {
    let (storage, scheduler) = storage_and_scheduler();
    let good = (0..2_500).map(|page| JobBuilder::new(Print { page }));
    let bad = JobBuilder::new(Print { page: 1 }).queue("No Queue");

    let failed = scheduler.create_all(good.chain([bad])).await.unwrap_err();

    assert!(matches!(failed, SchedulerError::Partly { created: 2_000, .. }), "{failed:?}");
    assert_eq!(storage.count_jobs(&JobQuery::all()).await.unwrap(), 2_000);
}
