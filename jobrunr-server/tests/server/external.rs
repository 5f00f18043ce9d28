//! External jobs: triggers, parking, signals that meet them on the way, timeouts, servers that die in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jobrunr_core::storage::{JobQuery, JobSearch};
use jobrunr_core::{FailureKind, Job, JobBuilder, JobContext, JobResult, SignalError, StateName};
use tokio::sync::{Notify, mpsc};

use crate::faulty::{Fault, Faulty};
use crate::world::{Doing, Work, World, next, pass, seconds, soon, states, work};

/// A trigger that tells its attempt, takes `time`, and tells when it was cancelled.
fn trigger(
    told: mpsc::UnboundedSender<String>,
    time: Duration,
) -> Doing<impl Fn(Work, JobContext) -> BoxFuture<'static, JobResult<&'static str>>> {
    Doing(move |_: Work, context: JobContext| {
        let told = told.clone();
        Box::pin(async move {
            told.send(format!("attempt {}", context.attempt()))?;
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = context.cancellation_token().cancelled() => {
                    told.send(format!("attempt {} was cancelled", context.attempt()))?;
                }
            }
            Ok("what a trigger returns is not the result")
        }) as BoxFuture<'static, JobResult<&'static str>>
    })
}

fn result(job: &Job) -> &str {
    job.result().expect("it has a result").as_str()
}

#[tokio::test(start_paused = true)]
async fn a_parked_job_occupies_no_worker_and_waits_for_its_signal_as_long_as_it_takes() {
    let world = World::new();
    let (told, mut telling) = mpsc::unbounded_channel();
    let server =
        world.server().workers(1).handle::<Work, _>(trigger(told, Duration::ZERO)).start().await.unwrap();
    let id = world.create(JobBuilder::external(work(1))).await;
    world.job_in(id, StateName::Processed).await;

    let other = world.enqueue(2).await;
    world.job_in(other, StateName::Succeeded).await;
    pass(Duration::from_secs(24 * 60 * 60)).await;
    world.scheduler.signal_succeeded(id, "film").await.unwrap();
    server.stop().await;

    let job = world.job(id).await;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "PROCESSED", "SUCCEEDED"]);
    assert_eq!(result(&job), r#""film""#);
    assert_eq!(next(&mut telling).await.as_deref(), Some("attempt 1"));
    assert_eq!(next(&mut telling).await.as_deref(), Some("attempt 1"), "that of the other job");
    assert!(telling.is_empty(), "no trigger ran twice");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_signal_is_found_by_its_label_whoever_runs_it() {
    let world = World::new();
    let (told, _telling) = mpsc::unbounded_channel();
    let server = world.server().handle::<Work, _>(trigger(told, Duration::ZERO)).start().await.unwrap();
    let id = world.create(JobBuilder::external(work(1)).labels(["ai-review"])).await;
    world.create(JobBuilder::external(work(2)).labels(["other"])).await;
    world.until_count(StateName::Processed, 2).await;

    let waiting = JobQuery::in_state(StateName::Processed).label("ai-review").newest_first().limit(50);
    let found = world.memory.list_jobs(&waiting).await.unwrap();

    assert_eq!(found.iter().map(Job::id).collect::<Vec<_>>(), [id]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_comes_before_the_trigger_ends_wins_and_the_trigger_ends_in_peace() {
    let world = World::new();
    let (told, mut telling) = mpsc::unbounded_channel();
    let minute = Duration::from_secs(60);
    let server = world.server().handle::<Work, _>(trigger(told, minute)).start().await.unwrap();
    let id = world.create(JobBuilder::external(work(1))).await;
    assert_eq!(next(&mut telling).await.as_deref(), Some("attempt 1"));

    world.scheduler.signal_succeeded(id, 7).await.unwrap();
    pass(minute * 2).await;
    server.stop().await;

    let job = world.job(id).await;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    assert_eq!(result(&job), "7");
    assert!(telling.is_empty(), "it was neither cancelled nor run again");
}

#[tokio::test(start_paused = true)]
async fn a_failure_signalled_while_the_trigger_runs_ends_that_trigger_and_runs_the_next() {
    let world = World::new();
    let (told, mut telling) = mpsc::unbounded_channel();
    let hour = Duration::from_secs(3_600);
    let server = world.server().handle::<Work, _>(trigger(told, hour)).start().await.unwrap();
    let id = world.create(JobBuilder::external(work(1))).await;
    assert_eq!(next(&mut telling).await.as_deref(), Some("attempt 1"));

    world.scheduler.signal_failed(id, "no card is free").await.unwrap();

    let mut events = [next(&mut telling).await.unwrap(), next(&mut telling).await.unwrap()];
    events.sort_unstable();
    assert_eq!(events, ["attempt 1 was cancelled", "attempt 2"]);
    world.scheduler.signal_succeeded(id, "film").await.unwrap();
    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(
        states(&job),
        ["ENQUEUED", "PROCESSING", "FAILED", "SCHEDULED", "ENQUEUED", "PROCESSING", "SUCCEEDED"]
    );
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_signalled_failure_runs_the_trigger_again_until_no_retries_are_left() {
    let world = World::new();
    let (told, mut telling) = mpsc::unbounded_channel();
    let server = world.server().handle::<Work, _>(trigger(told, Duration::ZERO)).start().await.unwrap();
    let id = world.create(JobBuilder::external(work(1)).retries(1)).await;

    for attempt in 1..=2 {
        world.job_in(id, StateName::Processed).await;
        assert_eq!(next(&mut telling).await.unwrap(), format!("attempt {attempt}"));
        world.scheduler.signal_failed(id, format!("no {attempt}")).await.unwrap();
    }

    let job = world.job(id).await;
    assert_eq!(job.state_name(), StateName::Failed);
    assert_eq!((job.failures(), job.last_failure().unwrap().kind), (2, FailureKind::Signalled));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_longer_than_its_timeout_counting_from_its_claim_fails_and_is_retried() {
    let world = World::new();
    let (told, _telling) = mpsc::unbounded_channel();
    let twenty = Duration::from_secs(20);
    let server = world.server().handle::<Work, _>(trigger(told, twenty)).start().await.unwrap();
    let id = world.create(JobBuilder::external(work(1)).timeout(Duration::from_secs(60)).retries(1)).await;
    let patient = world.create(JobBuilder::external(work(2)).timeout(Duration::from_secs(86_400))).await;
    let started_at = world.job_in(id, StateName::Processing).await.updated_at();

    let job = world.job_when(id, |job| job.failures() == 1).await;

    let failure = job.last_failure().unwrap();
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert_eq!(failure.message, "no signal came within its timeout of 60s");
    let failed_at = job.history().iter().find(|entry| entry.state.name() == StateName::Failed).unwrap().at;
    let waited = failed_at - started_at;
    assert!(waited >= seconds(60) && waited <= seconds(61), "{waited}");
    let job = world.job_in(id, StateName::Failed).await;
    assert_eq!(states(&job)[3..], ["FAILED", "SCHEDULED", "ENQUEUED", "PROCESSING", "PROCESSED", "FAILED"]);
    assert_eq!(world.job(patient).await.state_name(), StateName::Processed);
    let refused = world.scheduler.signal_succeeded(id, "too late").await;
    assert!(matches!(refused, Err(SignalError::AlreadyEnded { .. })), "{refused:?}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn thousands_that_wait_without_a_timeout_hide_none_that_has_one() {
    let world = World::new();
    let (told, _telling) = mpsc::unbounded_channel();
    let server = world.server().handle::<Work, _>(trigger(told, Duration::ZERO)).start().await.unwrap();
    let many = (0..2_500).map(|number| JobBuilder::external(work(number)));
    world.scheduler.create_all(many).await.unwrap();
    world.until_count(StateName::Processed, 2_500).await;

    let limit = Duration::from_secs(100);
    let id = world.create(JobBuilder::external(work(1)).timeout(limit).retries(0)).await;

    let job = world.job_in(id, StateName::Failed).await;
    assert_eq!(job.last_failure().unwrap().kind, FailureKind::TimedOut);
    assert_eq!(world.count(StateName::Processed).await, 2_500);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_between_the_trigger_and_the_parking_leaves_the_job_to_be_triggered_again() {
    let world = World::new();
    let (told, mut telling) = mpsc::unbounded_channel();
    let cut_off = Faulty::new(&world.memory);
    cut_off.fail(|operation| if operation == "save_jobs" { Fault::Hang } else { Fault::None });
    let handler = trigger(told.clone(), Duration::ZERO);
    let dying = world.server_over(cut_off.shared()).handle::<Work, _>(handler).start().await.unwrap();
    let id = world.create(JobBuilder::external(work(1))).await;
    assert_eq!(next(&mut telling).await.as_deref(), Some("attempt 1"));
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.job(id).await.state_name(), StateName::Processing, "its trigger has ended");

    drop(dying);
    let rescuer = world.server().handle::<Work, _>(trigger(told, Duration::ZERO)).start().await.unwrap();

    assert_eq!(next(&mut telling).await.as_deref(), Some("attempt 2"));
    world.job_in(id, StateName::Processed).await;
    world.scheduler.signal_succeeded(id, "film").await.unwrap();
    let job = world.job(id).await;
    let failure = job.last_failure().unwrap();
    assert_eq!(failure.kind, FailureKind::Orphaned);
    assert_eq!(
        states(&job),
        ["ENQUEUED", "PROCESSING", "FAILED", "ENQUEUED", "PROCESSING", "PROCESSED", "SUCCEEDED"]
    );
    rescuer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_completes_a_job_whose_server_died_before_it_could_park_it() {
    let world = World::new();
    let (told, mut telling) = mpsc::unbounded_channel();
    let cut_off = Faulty::new(&world.memory);
    cut_off.fail(|operation| if operation == "save_jobs" { Fault::Hang } else { Fault::None });
    let handler = trigger(told.clone(), Duration::ZERO);
    let dying = world.server_over(cut_off.shared()).handle::<Work, _>(handler).start().await.unwrap();
    let id = world.create(JobBuilder::external(work(1))).await;
    assert_eq!(next(&mut telling).await.as_deref(), Some("attempt 1"));
    drop(dying);

    world.scheduler.signal_succeeded(id, "film").await.unwrap();
    let rescuer = world.server().handle::<Work, _>(trigger(told, Duration::ZERO)).start().await.unwrap();
    pass(Duration::from_secs(600)).await;
    rescuer.stop().await;

    assert_eq!(states(&world.job(id).await), ["ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    assert!(telling.is_empty(), "it was not triggered again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_that_race_with_the_ends_of_triggers_complete_every_job_once() {
    let world = World::with_real_time();
    let runs = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&runs);
    let server = world
        .server()
        .handle::<Work, _>(Doing(move |_: Work, _| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(()))
        }))
        .start()
        .await
        .unwrap();

    for number in 0..200 {
        let id = world.create(JobBuilder::external(work(number))).await;
        loop {
            match world.scheduler.signal_succeeded(id, number).await {
                Ok(()) => break,
                Err(SignalError::NotStarted { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
        let job = world.job(id).await;
        assert_eq!(result(&job), number.to_string());
    }
    server.stop().await;

    assert_eq!(world.count(StateName::Succeeded).await, 200);
    assert_eq!(runs.load(Ordering::Relaxed), 200);
}

#[tokio::test(start_paused = true)]
async fn the_server_s_own_retries_decide_about_signals_given_by_its_handlers() {
    let world = World::new();
    let asked = Arc::new(Notify::new());
    let ask = Arc::clone(&asked);
    let server = world
        .server()
        .default_retries(0)
        .handle::<Work, _>(Doing(move |_: Work, context: JobContext| {
            let ask = Arc::clone(&ask);
            async move {
                context.scheduler().signal_failed(context.job_id(), "nobody answers").await?;
                ask.notify_one();
                Ok(())
            }
        }))
        .start()
        .await
        .unwrap();

    let id = world.create(JobBuilder::external(work(1))).await;
    soon(asked.notified()).await;

    assert_eq!(states(&world.job(id).await), ["ENQUEUED", "PROCESSING", "FAILED"]);
    server.stop().await;
}
