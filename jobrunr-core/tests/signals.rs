//! Signals on the in-memory storage, with the part of the server played by hand.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::filters::{JobFilter, StateElection};
use jobrunr_core::limits::MAX_RESULT_BYTES;
use jobrunr_core::retry::{FixedDelays, NeverRetry, Retries};
use jobrunr_core::storage::{ClaimRequest, JobQuery, JobSearch, JobStore, ServerStore, StorageExt};
use jobrunr_core::{
    Failure, FailureKind, HistoryEntry, Job, JobBuilder, JobId, JobRequest, JobScheduler, JobState,
    MemoryStorage, ServerId, ServerRef, Signal, SignalError, StateName,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Render {
    film: u32,
}

impl JobRequest for Render {
    const JOB_TYPE: &'static str = "render";
}

/// A storage, a scheduler over it, and what a server would do with its jobs.
struct House {
    storage: Arc<MemoryStorage>,
    scheduler: JobScheduler,
}

impl House {
    fn new() -> Self {
        let storage = Arc::new(MemoryStorage::new());
        Self { scheduler: JobScheduler::new(Arc::<MemoryStorage>::clone(&storage)), storage }
    }

    async fn create(&self, builder: JobBuilder<Render>) -> JobId {
        self.scheduler.create(builder).await.unwrap()
    }

    /// Claims the job at the head of the line; one that waits for its time counts as due.
    async fn claim(&self) -> Job {
        let server = ServerRef { id: ServerId::new(), name: "one".into() };
        let now = self.storage.storage_time().await.unwrap();
        self.storage.enqueue_due_jobs(now + chrono::TimeDelta::days(2), 10).await.unwrap();
        self.storage.claim_jobs(&ClaimRequest::new(server, 1, now)).await.unwrap().remove(0)
    }

    /// A job whose trigger runs.
    async fn running(&self) -> JobId {
        self.create(JobBuilder::external(Render { film: 1 })).await;
        self.claim().await.id()
    }

    async fn park(&self, id: JobId) {
        let mut job = self.job(id).await;
        job.park(self.storage.storage_time().await.unwrap()).unwrap();
        self.storage.save_job(&mut job).await.unwrap();
    }

    /// A job that waits for its signal.
    async fn parked(&self) -> JobId {
        let id = self.running().await;
        self.park(id).await;
        id
    }

    async fn job(&self, id: JobId) -> Job {
        self.storage.find_job(id).await.unwrap().unwrap()
    }

    async fn states(&self, id: JobId) -> Vec<&'static str> {
        self.job(id).await.history().iter().map(|entry| entry.state.name().as_str()).collect()
    }
}

fn result(job: &Job) -> &str {
    job.result().unwrap().as_str()
}

#[tokio::test]
async fn a_signal_completes_a_parked_job_with_its_result() {
    let house = House::new();
    let id = house.parked().await;

    house.scheduler.signal_succeeded(id, "approved").await.unwrap();

    assert_eq!(house.states(id).await, ["ENQUEUED", "PROCESSING", "PROCESSED", "SUCCEEDED"]);
    assert_eq!(result(&house.job(id).await), r#""approved""#);
}

#[tokio::test]
async fn a_signal_wins_over_a_trigger_that_still_runs() {
    let house = House::new();
    let id = house.running().await;
    let mut trigger = house.job(id).await;

    house.scheduler.signal_succeeded(id, 7).await.unwrap();
    trigger.park(trigger.updated_at()).unwrap();
    let save = house.storage.save_job(&mut trigger).await;

    assert!(save.is_err(), "the trigger is too late");
    assert_eq!(house.states(id).await, ["ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    assert_eq!(result(&house.job(id).await), "7");
}

#[tokio::test]
async fn a_failure_is_retried_as_the_job_says() {
    let house = House::new();
    let once = house.create(JobBuilder::external(Render { film: 1 }).retries(1)).await;
    house.claim().await;
    house.park(once).await;

    house.scheduler.signal_failed(once, "no card is free").await.unwrap();
    assert_eq!(house.states(once).await[3..], ["FAILED", "SCHEDULED"]);
    house.claim().await;
    house.park(once).await;
    house.scheduler.signal_failed(once, "no card is free").await.unwrap();

    let job = house.job(once).await;
    let expected =
        ["FAILED", "SCHEDULED", "ENQUEUED", "PROCESSING", "PROCESSED", "FAILED"].map(ToString::to_string);
    assert_eq!(house.states(once).await[3..], expected);
    let failure = job.last_failure().unwrap();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Signalled, "no card is free"));
}

#[tokio::test]
async fn a_failure_that_says_so_is_not_retried() {
    let house = House::new();
    let id = house.parked().await;

    house.scheduler.signal(Signal::failed(id, "declined").do_not_retry()).await.unwrap();

    assert_eq!(house.states(id).await, ["ENQUEUED", "PROCESSING", "PROCESSED", "FAILED"]);
}

#[tokio::test]
async fn the_retries_of_the_scheduler_decide_where_the_job_says_nothing() {
    let house = House::new();
    let never = house.scheduler.clone().with_retries(Retries::default().policy(NeverRetry));
    let minute = FixedDelays::new([Duration::from_secs(60)]);
    let once = house.scheduler.clone().with_retries(Retries::default().default_retries(1).policy(minute));
    let (first, second) = (house.parked().await, house.parked().await);

    never.signal_failed(first, "no").await.unwrap();
    once.signal_failed(second, "no").await.unwrap();

    assert_eq!(house.job(first).await.state_name(), StateName::Failed);
    let job = house.job(second).await;
    let JobState::Scheduled { scheduled_at, reason, .. } = job.state() else { panic!("{job:?}") };
    assert_eq!(reason.as_deref(), Some("retry 1 of 1"));
    assert_eq!((*scheduled_at - job.updated_at()).num_seconds(), 60);
}

#[tokio::test]
async fn the_same_signal_twice_is_fine() {
    let house = House::new();
    let result = HashMap::from([("a", 1), ("b", 2), ("c", 3)]);
    let again: HashMap<_, _> = [("c", 3), ("b", 2), ("a", 1)].into_iter().collect();
    let (good, bad) = (house.parked().await, house.parked().await);

    house.scheduler.signal_succeeded(good, &result).await.unwrap();
    house.scheduler.signal_failed(bad, "no").await.unwrap();
    let (good_before, bad_before) = (house.job(good).await, house.job(bad).await);
    house.scheduler.signal_succeeded(good, &again).await.unwrap();
    house.scheduler.signal_failed(bad, "no").await.unwrap();

    assert_eq!(house.job(good).await, good_before);
    assert_eq!(house.job(bad).await, bad_before, "it waits for its retry and does not fail twice");
}

#[tokio::test]
async fn the_same_signal_is_fine_even_when_the_job_was_cleared_away() {
    let house = House::new();
    let id = house.parked().await;
    house.scheduler.signal_succeeded(id, 1).await.unwrap();
    house.scheduler.delete(id, "it was SUCCEEDED for 36 h").await.unwrap();

    house.scheduler.signal_succeeded(id, 1).await.unwrap();

    assert_eq!(house.job(id).await.state_name(), StateName::Deleted);
}

#[tokio::test]
async fn a_failure_reported_twice_fails_no_other_attempt_if_it_names_its_own() {
    let house = House::new();
    let id = house.parked().await;
    let first = || Signal::failed(id, "no").of_attempt(1);
    house.scheduler.signal(first()).await.unwrap();
    house.claim().await;
    house.park(id).await;
    let before = house.job(id).await;

    house.scheduler.signal(first()).await.unwrap();

    assert_eq!(house.job(id).await, before, "attempt 2 still waits");
    house.scheduler.signal(Signal::succeeded(id, "film").unwrap().of_attempt(2)).await.unwrap();
    assert_eq!(house.job(id).await.state_name(), StateName::Succeeded);
}

#[tokio::test]
async fn a_signal_about_another_attempt_is_refused() {
    let house = House::new();
    let id = house.parked().await;
    house.scheduler.signal_failed(id, "no").await.unwrap();
    house.claim().await;

    let refused = house.scheduler.signal(Signal::succeeded(id, "late film").unwrap().of_attempt(1)).await;

    assert!(matches!(refused, Err(SignalError::OtherAttempt { attempt: 1, current: 2, .. })), "{refused:?}");
    assert_eq!(house.job(id).await.state_name(), StateName::Processing);
}

#[tokio::test]
async fn a_job_that_cannot_be_signalled_says_why_and_stays_as_it_is() {
    use StateName::{Deleted, Enqueued, Failed, Scheduled, Succeeded};
    let house = House::new();
    let scheduler = &house.scheduler;

    let unknown = JobId::new();
    let refused = scheduler.signal_succeeded(unknown, ()).await;
    assert!(matches!(refused, Err(SignalError::NotFound(id)) if id == unknown), "{refused:?}");

    let plain = house.create(JobBuilder::new(Render { film: 2 })).await;
    house.claim().await;
    let refused = scheduler.signal_succeeded(plain, ()).await;
    assert!(matches!(refused, Err(SignalError::NotExternal(id)) if id == plain), "{refused:?}");

    let waiting = house.create(JobBuilder::external(Render { film: 3 })).await;
    let later = JobBuilder::external(Render { film: 4 }).scheduled_in(Duration::from_secs(60));
    let later = house.create(later).await;
    for (id, expected) in [(waiting, Enqueued), (later, Scheduled)] {
        let refused = scheduler.signal_failed(id, "no").await;
        assert!(
            matches!(refused, Err(SignalError::NotStarted { state, .. }) if state == expected),
            "{refused:?}"
        );
    }
    scheduler.delete(waiting, "not needed").await.unwrap();
    scheduler.delete(later, "not needed").await.unwrap();

    let succeeded = house.parked().await;
    scheduler.signal_succeeded(succeeded, "approved").await.unwrap();
    let failed = house.parked().await;
    scheduler.signal(Signal::failed(failed, "declined").do_not_retry()).await.unwrap();
    let deleted = house.parked().await;
    scheduler.delete(deleted, "not needed").await.unwrap();
    for (id, expected) in [(succeeded, Succeeded), (failed, Failed), (deleted, Deleted)] {
        let before = house.job(id).await;
        let refused =
            [scheduler.signal_succeeded(id, "other").await, scheduler.signal_failed(id, "other").await];
        for refused in refused {
            assert!(
                matches!(refused, Err(SignalError::AlreadyEnded { state, .. }) if state == expected),
                "{refused:?}"
            );
        }
        assert_eq!(house.job(id).await, before);
    }
}

#[tokio::test]
async fn a_requeued_job_has_not_started_whatever_it_was_signalled_before() {
    let house = House::new();
    let id = house.parked().await;
    house.scheduler.signal_succeeded(id, "approved").await.unwrap();
    house.scheduler.requeue(id).await.unwrap();

    let refused = house.scheduler.signal_succeeded(id, "approved").await;

    assert!(matches!(refused, Err(SignalError::NotStarted { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_result_that_is_too_large_is_refused_and_the_job_waits_on() {
    let house = House::new();
    let id = house.parked().await;

    let refused = house.scheduler.signal_succeeded(id, "x".repeat(MAX_RESULT_BYTES)).await;

    assert!(matches!(refused, Err(SignalError::Unfit(_))), "{refused:?}");
    assert_eq!(house.job(id).await.state_name(), StateName::Processed);
}

#[tokio::test]
async fn what_waits_for_a_signal_is_found_by_its_label() {
    let house = House::new();
    let review = house.create(JobBuilder::external(Render { film: 1 }).labels(["ai-review"])).await;
    house.claim().await;
    house.park(review).await;
    house.parked().await;

    let query = JobQuery::in_state(StateName::Processed).label("ai-review");
    let found = house.storage.list_jobs(&query).await.unwrap();

    assert_eq!(found.iter().map(Job::id).collect::<Vec<_>>(), [review]);
    house.scheduler.signal_succeeded(review, ()).await.unwrap();
    assert_eq!(house.storage.count_jobs(&query).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_signals_at_once_one_is_accepted_and_the_other_told_so() {
    let house = House::new();
    for _ in 0..200 {
        let id = house.parked().await;
        let (approver, decliner) = (house.scheduler.clone(), house.scheduler.clone());

        let approved = tokio::spawn(async move { approver.signal_succeeded(id, "approved").await });
        let declined =
            tokio::spawn(async move { decliner.signal(Signal::failed(id, "declined").do_not_retry()).await });
        let (approved, declined) = (approved.await.unwrap(), declined.await.unwrap());

        assert!(approved.is_ok() != declined.is_ok(), "{approved:?} {declined:?}");
        let end = if approved.is_ok() { "SUCCEEDED" } else { "FAILED" };
        assert_eq!(house.states(id).await, ["ENQUEUED", "PROCESSING", "PROCESSED", end]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_signal_and_the_end_of_the_trigger_at_once_leave_the_job_completed() {
    let house = House::new();
    for _ in 0..200 {
        let id = house.running().await;
        let mut trigger = house.job(id).await;
        let (scheduler, storage) = (house.scheduler.clone(), Arc::clone(&house.storage));

        let signal = tokio::spawn(async move { scheduler.signal_succeeded(id, "film").await });
        let end = tokio::spawn(async move {
            trigger.park(trigger.updated_at()).unwrap();
            storage.save_job(&mut trigger).await.is_ok()
        });
        signal.await.unwrap().expect("the job had started");
        let has_parked = end.await.unwrap();

        let states = house.states(id).await;
        assert_eq!(states.contains(&"PROCESSED"), has_parked, "{states:?}");
        assert_eq!(*states.last().unwrap(), "SUCCEEDED");
    }
}

/// Writes down what it is told; makes deletions of failures whose reason is `drop it`.
struct Writes(Arc<Mutex<Vec<String>>>);

impl Writes {
    fn write(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

#[async_trait]
impl JobFilter for Writes {
    fn elect_state(&self, election: &mut StateElection<'_>) {
        let states: Vec<_> = election.states().iter().map(|state| state.name().as_str()).collect();
        self.write(format!("elect {} -> {}", election.job().state_name(), states.join("+")));
        if matches!(&election.states()[0], JobState::Failed(failure) if failure.message == "drop it") {
            election.replace([JobState::Deleted { reason: None }]);
        }
    }

    async fn on_state_applied(&self, _: &Job, entry: &HistoryEntry) {
        self.write(format!("applied {}", entry.state.name()));
    }

    async fn on_succeeded(&self, _: &Job) {
        self.write("succeeded".into());
    }

    async fn on_failed(&self, _: &Job, failure: &Failure) {
        self.write(format!("failed: {}", failure.message));
    }

    async fn on_failed_after_retries(&self, _: &Job, failure: &Failure) {
        self.write(format!("failed after retries: {}", failure.message));
    }
}

#[tokio::test]
async fn the_filters_of_the_scheduler_elect_and_hear_of_what_a_signal_does() {
    let house = House::new();
    let log = Arc::<Mutex<Vec<String>>>::default();
    let scheduler = house.scheduler.clone().filter(Writes(Arc::clone(&log)));
    let expect = |expected: &[&str]| {
        assert_eq!(std::mem::take(&mut *log.lock().unwrap()), expected);
    };

    scheduler.signal_succeeded(house.running().await, ()).await.unwrap();
    expect(&["elect PROCESSING -> SUCCEEDED", "applied SUCCEEDED", "succeeded"]);

    scheduler.signal_failed(house.parked().await, "no").await.unwrap();
    expect(&["elect PROCESSED -> FAILED+SCHEDULED", "applied FAILED", "applied SCHEDULED", "failed: no"]);

    scheduler.signal(Signal::failed(house.parked().await, "no").do_not_retry()).await.unwrap();
    expect(&["elect PROCESSED -> FAILED", "applied FAILED", "failed after retries: no"]);

    let dropped = house.parked().await;
    scheduler.signal_failed(dropped, "drop it").await.unwrap();
    expect(&["elect PROCESSED -> FAILED+SCHEDULED", "applied DELETED"]);
    assert_eq!(house.job(dropped).await.state_name(), StateName::Deleted);
}
