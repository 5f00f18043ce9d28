//! Runs that do not end well: what the history says, and when the job is tried again.

use std::panic::panic_any;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jobrunr_core::retry::{ExponentialBackOff, FailedRun, NeverRetry, RetryDecision, RetryPolicy};
use jobrunr_core::storage::JobStore;
use jobrunr_core::{
    FailureKind, Job, JobBuilder, JobContext, JobDefinition, JobError, JobId, JobResult, JobState, JsonText,
    StateName,
};

use crate::world::{Doing, Work, World, seconds, states, work};

fn failing(
    error: impl Fn() -> JobError + Send + Sync + 'static,
) -> Doing<impl Fn(Work, JobContext) -> std::future::Ready<JobResult>> {
    Doing(move |_: Work, _: JobContext| std::future::ready(Err(error())))
}

/// The delays between the failures of a job and the times its retries were scheduled for.
fn delays(job: &Job) -> Vec<i64> {
    let pairs = job.history().windows(2);
    let retries = pairs.filter_map(|pair| match (&pair[0].state, &pair[1].state) {
        (JobState::Failed(_), JobState::Scheduled { scheduled_at, .. }) => {
            Some((*scheduled_at - pair[0].at).num_seconds())
        }
        _ => None,
    });
    retries.collect()
}

#[tokio::test(start_paused = true)]
async fn a_failing_job_is_retried_ten_times_after_growing_delays_and_then_stays_failed() {
    let world = World::new();
    let server = world
        .server()
        .poll_interval(Duration::from_secs(60))
        .retry_policy(ExponentialBackOff::default().jitter_percent(0))
        .handle::<Work, _>(failing(|| "no paper".into()))
        .start()
        .await
        .unwrap();

    let id = world.enqueue(1).await;
    let job = world.job_when(id, |job| job.failures() == 11).await;
    server.stop().await;

    assert_eq!(delays(&job), [3, 9, 27, 81, 243, 729, 2_187, 6_561, 19_683, 59_049]);
    assert_eq!(world.job(id).await.state_name(), StateName::Failed);
    let failure = job.last_failure().unwrap();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Error, "no paper"));
    let reasons: Vec<_> = job
        .history()
        .iter()
        .filter_map(|entry| match &entry.state {
            JobState::Scheduled { reason, .. } => reason.clone(),
            _ => None,
        })
        .collect();
    assert_eq!((reasons[0].as_str(), reasons[9].as_str()), ("retry 1 of 10", "retry 10 of 10"));
}

#[tokio::test(start_paused = true)]
async fn every_retry_starts_on_time_and_never_early() {
    let world = World::new();
    let server =
        world.server().default_retries(7).handle::<Work, _>(failing(|| "no".into())).start().await.unwrap();

    let id = world.enqueue(1).await;
    let job = world.job_when(id, |job| job.failures() == 8).await;
    server.stop().await;

    for triple in job.history().windows(3) {
        if let JobState::Scheduled { scheduled_at, .. } = triple[0].state {
            let late = triple[2].at - scheduled_at;
            assert_eq!(triple[2].state.name(), StateName::Processing);
            assert!(late >= seconds(0) && late.num_milliseconds() <= 50, "started {late} late");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_succeeds_at_its_third_attempt_has_succeeded() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| -> JobResult {
            if context.attempt() < 3 { Err("not yet".into()) } else { Ok(()) }
        }))
        .start()
        .await
        .unwrap();

    let id = world.enqueue(1).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    let attempt = ["ENQUEUED", "PROCESSING", "FAILED", "SCHEDULED"];
    assert_eq!(states(&job), [&attempt[..], &attempt[..], &["ENQUEUED", "PROCESSING", "SUCCEEDED"]].concat());
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_with_no_retries_stays_failed_at_once() {
    let world = World::new();
    let server = world.server().handle::<Work, _>(failing(|| "no".into())).start().await.unwrap();

    let id = world.create(JobBuilder::new(work(1)).retries(0)).await;

    let job = world.job_in(id, StateName::Failed).await;
    server.stop().await;
    assert_eq!(world.job(id).await, job);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_another_try_would_not_mend_is_not_retried() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(failing(|| JobError::do_not_retry("no such address")))
        .start()
        .await
        .unwrap();

    let id = world.enqueue(1).await;

    let job = world.job_in(id, StateName::Failed).await;
    server.stop().await;
    assert_eq!(states(&world.job(id).await), ["ENQUEUED", "PROCESSING", "FAILED"]);
    assert!(job.last_failure().unwrap().do_not_retry);
}

#[tokio::test(start_paused = true)]
async fn a_handler_says_itself_when_to_retry_but_not_how_often() {
    let world = World::new();
    let wish = || JobError::retry_in(Duration::from_secs(100)).caused_by("busy");
    let server = world.server().handle::<Work, _>(failing(wish)).start().await.unwrap();

    let id = world.create(JobBuilder::new(work(1)).retries(2)).await;

    let job = world.job_when(id, |job| job.failures() == 3).await;
    assert_eq!(delays(&job), [100, 100]);
    assert_eq!(job.last_failure().unwrap().message, "busy");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_says_when_to_retry_is_heard_before_the_policy_that_never_would() {
    let world = World::new();
    let wish = || JobError::retry_in(Duration::from_secs(60));
    let server =
        world.server().retry_policy(NeverRetry).handle::<Work, _>(failing(wish)).start().await.unwrap();

    let id = world.create(JobBuilder::new(work(1)).retries(1)).await;

    let job = world.job_when(id, |job| job.failures() == 2).await;
    assert_eq!(delays(&job), [60]);
    server.stop().await;
    assert_eq!(world.job(id).await.state_name(), StateName::Failed, "its retries are used up");
}

#[tokio::test(start_paused = true)]
async fn a_snooze_is_no_failure_and_uses_up_no_retry() {
    let world = World::new();
    let runs = AtomicU32::new(0);
    let server = world
        .server()
        .default_retries(0)
        .handle::<Work, _>(Doing(move |_: Work, context: JobContext| {
            assert_eq!(context.attempt(), 1);
            let is_asleep = runs.fetch_add(1, Ordering::Relaxed) < 20;
            async move { if is_asleep { Err(JobError::snooze(Duration::from_secs(60))) } else { Ok(()) } }
        }))
        .start()
        .await
        .unwrap();
    let begun_at = world.now();

    let id = world.enqueue(1).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(job.failures(), 0);
    assert!(job.updated_at() - begun_at >= seconds(20 * 60));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_with_its_message() {
    let world = World::new();
    let server = world
        .server()
        .workers(1)
        .handle::<Work, _>(Doing(async |Work { number }: Work, _| -> JobResult {
            match number {
                1 => panic!("boom"),
                2 => panic!("boom {number}"),
                3 => panic_any(7_u8),
                _ => Ok(()),
            }
        }))
        .start()
        .await
        .unwrap();

    for (number, message) in
        [(1, "boom"), (2, "boom 2"), (3, "the handler panicked with a value that is no text")]
    {
        let id = world.create(JobBuilder::new(work(number)).retries(0)).await;
        let job = world.job_in(id, StateName::Failed).await;
        let failure = job.last_failure().unwrap();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Panicked, message));
    }
    let id = world.enqueue(4).await;
    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_before_it_returns_a_future_is_a_failure_too() {
    let world = World::new();
    let handler = Doing(|work: Work, _: JobContext| {
        assert_eq!(work.number, 0, "boom at once");
        std::future::ready(JobResult::Ok(()))
    });
    let server = world.server().handle::<Work, _>(handler).start().await.unwrap();

    let id = world.create(JobBuilder::new(work(1)).retries(0)).await;

    let job = world.job_in(id, StateName::Failed).await;
    assert_eq!(job.last_failure().unwrap().kind, FailureKind::Panicked);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_over_its_timeout_is_cancelled_then_aborted_and_retried() {
    let world = World::new();
    let server = world
        .server()
        .cancellation_grace(Duration::from_secs(2))
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| -> JobResult {
            context.cancellation_token().cancelled().await;
            std::future::pending().await
        }))
        .start()
        .await
        .unwrap();

    let id = world.create(JobBuilder::new(work(1)).timeout(Duration::from_secs(5)).retries(1)).await;

    let job = world.job_when(id, |job| job.failures() == 2).await;
    let failure = job.last_failure().unwrap();
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert_eq!(failure.message, "the run took longer than its timeout of 5s");
    let ran_for = job.history()[2].at - job.history()[1].at;
    assert!((7_000..7_050).contains(&ran_for.num_milliseconds()), "{ran_for}");
    assert_eq!(states(&job).last(), Some(&"FAILED"));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_listens_to_its_token_ends_at_its_timeout() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| -> JobResult {
            context.cancellation_token().cancelled().await;
            Ok(())
        }))
        .start()
        .await
        .unwrap();

    let id = world.create(JobBuilder::new(work(1)).timeout(Duration::from_secs(5)).retries(0)).await;

    let job = world.job_in(id, StateName::Failed).await;
    let ran_for = job.history()[2].at - job.history()[1].at;
    assert!((5_000..5_050).contains(&ran_for.num_milliseconds()), "{ran_for}");
    assert_eq!(job.last_failure().unwrap().kind, FailureKind::TimedOut);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_within_its_timeout_succeeds() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |_: Work, _| {
            tokio::time::sleep(Duration::from_secs(4)).await;
            Ok(())
        }))
        .start()
        .await
        .unwrap();

    let id = world.create(JobBuilder::new(work(1)).timeout(Duration::from_secs(5))).await;

    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_does_not_fit_its_type_fails_for_good_and_runs_after_it_was_requeued() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Mended {
        number: String,
    }
    impl jobrunr_core::JobRequest for Mended {
        const JOB_TYPE: &'static str = "work";
    }
    let world = World::new();
    let payload = JsonText::parse(r#"{"number": "three"}"#).unwrap();
    let definition = JobDefinition::new("work".parse().unwrap(), payload.clone());
    let job = Job::new(JobId::new(), definition, JobState::enqueued(), world.now()).unwrap();
    let server = world.server().handle::<Work, _>(Doing(async |_: Work, _| Ok(()))).start().await.unwrap();

    world.memory.insert_jobs(std::slice::from_ref(&job)).await.unwrap();
    let failed = world.job_in(job.id(), StateName::Failed).await;
    server.stop().await;

    let failure = failed.last_failure().unwrap();
    assert_eq!((failure.kind, failure.do_not_retry), (FailureKind::Undecodable, true));
    assert!(failure.message.contains("does not fit the job type any more"), "{}", failure.message);
    assert!(
        failure.causes[0].contains("number") || failure.causes[0].contains("u32"),
        "{:?}",
        failure.causes
    );
    assert_eq!(*world.job(job.id()).await.payload(), payload, "the payload is kept");
    let server = world
        .server()
        .handle::<Mended, _>(Doing(async |work: Mended, _| Ok(work.number)))
        .start()
        .await
        .unwrap();
    world.scheduler.requeue(job.id()).await.unwrap();
    world.job_in(job.id(), StateName::Succeeded).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_large_fails_the_job_and_says_so() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |work: Work, _| Ok("x".repeat(work.number as usize))))
        .start()
        .await
        .unwrap();

    let largest = world.enqueue(1_024 * 1_024 - 2).await;
    let too_large = world.enqueue(1_024 * 1_024 - 1).await;

    world.job_in(largest, StateName::Succeeded).await;
    let job = world.job_in(too_large, StateName::Failed).await;
    assert!(job.last_failure().unwrap().message.contains("the result has 1048577 bytes"));
    server.stop().await;
    assert_eq!(world.job(too_large).await.state_name(), StateName::Failed, "running it again would not help");
}

#[tokio::test(start_paused = true)]
async fn a_retry_policy_that_panics_is_passed_over() {
    #[derive(Debug)]
    struct Panics;
    impl RetryPolicy for Panics {
        fn decide(&self, _: &FailedRun<'_>) -> Option<RetryDecision> {
            panic!("no idea")
        }
    }
    let world = World::new();
    let server =
        world.server().retry_policy(Panics).handle::<Work, _>(failing(|| "no".into())).start().await.unwrap();

    let id = world.enqueue(1).await;

    let job = world.job_in(id, StateName::Scheduled).await;
    assert!((2..=4).contains(&delays(&job)[0]), "it backs off as by default");
    server.stop().await;
}
