//! What a server records.

use std::collections::BTreeMap;
use std::time::Duration;

use jobrunr_core::filters::{JobFilter, StateElection};
use jobrunr_core::{JobBuilder, JobContext, JobError, JobId, JobResult, JobState, StateName};
use jobrunr_server::Retention;
use metrics::Unit;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::faulty::{Fault, Faulty};
use crate::world::{Doing, Other, Work, World, pass, work};

/// Everything recorded since the last time, by name and labels: `name{label=value,…}`.
fn recorded(snapshotter: &Snapshotter) -> BTreeMap<String, DebugValue> {
    let metrics = snapshotter.snapshot().into_vec().into_iter();
    let named = metrics.map(|(key, _, _, value)| {
        let labels = key.key().labels().map(|label| format!("{}={}", label.key(), label.value()));
        (format!("{}{{{}}}", key.key().name(), labels.collect::<Vec<_>>().join(",")), value)
    });
    named.collect()
}

fn times(recorded: &BTreeMap<String, DebugValue>, histogram: &str) -> Vec<f64> {
    match &recorded[histogram] {
        DebugValue::Histogram(values) => values.iter().map(|value| value.into_inner()).collect(),
        other => panic!("{histogram} is {other:?}"),
    }
}

/// All outcomes that were counted, sorted.
fn outcomes(recorded: &BTreeMap<String, DebugValue>) -> Vec<(&str, u64)> {
    let named = recorded.iter().filter_map(|(name, value)| {
        let outcome = name.strip_prefix("jobrunr_outcomes_total{type=work,outcome=")?.strip_suffix('}')?;
        let DebugValue::Counter(count) = value else { panic!("{outcome} is {value:?}") };
        (*count > 0).then_some((outcome, *count))
    });
    named.collect()
}

/// Runs for two seconds and ends as its number says.
async fn end(work: Work, context: JobContext) -> JobResult {
    tokio::time::sleep(Duration::from_secs(2)).await;
    match (work.number, context.attempt()) {
        (1, 1) => Err(JobError::retry_in(Duration::from_secs(1))),
        (2, _) => Err(JobError::do_not_retry(std::io::Error::other("never"))),
        (3, _) if context.get::<bool>("snoozed")?.is_none() => {
            context.save("snoozed", &true).await?;
            Err(JobError::snooze(Duration::from_secs(1)))
        }
        _ => Ok(()),
    }
}

#[tokio::test(start_paused = true)]
async fn outcomes_latencies_and_workers_are_recorded() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    for number in 0..4 {
        world.create(JobBuilder::new(work(number)).queue("mail")).await;
    }
    world.create(JobBuilder::external(work(4)).queue("mail")).await;
    pass(Duration::from_secs(10)).await;

    let server = world.server().workers(8).prefetch(0).handle::<Work, _>(Doing(end)).start().await.unwrap();
    world.until_count(StateName::Processing, 5).await;
    pass(Duration::from_secs(1)).await;
    let while_they_run = recorded(&snapshotter);
    world.until_count(StateName::Succeeded, 3).await;
    server.stop().await;
    let at_the_end = recorded(&snapshotter);

    assert_eq!(while_they_run["jobrunr_occupied_workers{}"], DebugValue::Gauge(5.0.into()));
    assert_eq!(times(&while_they_run, "jobrunr_queue_latency_seconds{queue=mail}"), [10.0; 5]);
    let claims = times(&while_they_run, "jobrunr_claimed_jobs{}");
    assert!((claims.iter().sum::<f64>() - 5.0).abs() < f64::EPSILON, "{claims:?}");
    // A snapshot sets the gauge back to 0.
    assert_eq!(at_the_end["jobrunr_occupied_workers{}"], DebugValue::Gauge((-5.0).into()));
    assert_eq!(times(&at_the_end, "jobrunr_processing_seconds{type=work}").len(), 7);
    assert!(times(&at_the_end, "jobrunr_processing_seconds{type=work}").iter().all(|time| *time >= 2.0));
    let expected = [("failed", 1), ("processed", 1), ("retried", 1), ("snoozed", 1), ("succeeded", 3)];
    assert_eq!(outcomes(&at_the_end), expected);
    assert!(!at_the_end.keys().any(|key| key.starts_with("jobrunr_storage_errors_total")));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_lost_counts_as_lost() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let faulty = Faulty::new(&world.memory).without_hints();
    let handler = Doing(async |_: Work, _| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    });
    let id = world.enqueue(1).await;
    let server = world.server_over(faulty.shared()).handle::<Work, _>(handler).start().await.unwrap();

    world.job_in(id, StateName::Processing).await;
    world.scheduler.delete(id, "not wanted").await.unwrap();
    pass(Duration::from_secs(2)).await;

    assert_eq!(outcomes(&recorded(&snapshotter)), [("lost", 1)]);
    server.stop().await;
}

/// Ends never, so that its server has to give it back or leave it.
async fn hang(_: Work, _: JobContext) -> JobResult {
    std::future::pending().await
}

#[tokio::test(start_paused = true)]
async fn jobs_that_are_given_back_count_as_that_started_or_not() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let builder = world.server().workers(1).prefetch(1);
    let server = builder.handle::<Work, _>(Doing(hang)).start().await.unwrap();
    world.enqueue(1).await;
    world.enqueue(2).await;
    world.until_count(StateName::Processing, 2).await;

    server.stop().await;

    assert_eq!(outcomes(&recorded(&snapshotter)), [("given_back", 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_filter_ends_as_deleted_counts_as_that() {
    struct Deletes;
    impl JobFilter for Deletes {
        fn elect_state(&self, election: &mut StateElection<'_>) {
            election.replace([JobState::Deleted { reason: None }]);
        }
    }
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let handler = Doing(async |_: Work, _| Ok(()));
    let server = world.server().filter(Deletes).handle::<Work, _>(handler).start().await.unwrap();

    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Deleted).await;
    server.stop().await;

    assert_eq!(outcomes(&recorded(&snapshotter)), [("deleted", 1)]);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_the_storage_refuses_counts_as_the_failure_it_becomes() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let handler = Doing(async |_: Work, _| Ok(()));
    let server = world.server_over(storage.shared()).handle::<Work, _>(handler).start().await.unwrap();
    let id = JobId::new();
    storage.refuse_saves_of(id);

    world.create(JobBuilder::new(work(1)).id(id)).await;
    world.job_in(id, StateName::Failed).await;
    server.stop().await;

    let recorded = recorded(&snapshotter);
    assert_eq!(outcomes(&recorded), [("failed", 1)]);
    let refused = &recorded["jobrunr_storage_errors_total{operation=save the outcomes of jobs}"];
    assert_eq!(*refused, DebugValue::Counter(1));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_wait_for_a_signal_is_counted_by_who_saves_it() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let handler = Doing(async |_: Work, _| Ok(()));
    let server = world.server().handle::<Work, _>(handler).start().await.unwrap();
    let minute = Duration::from_secs(60);
    let external = |number| JobBuilder::external(work(number)).retries(0);
    let (good, bad) = (world.create(external(1)).await, world.create(external(2)).await);
    let late = world.create(external(3).timeout(minute)).await;
    world.until_count(StateName::Processed, 3).await;
    assert_eq!(outcomes(&recorded(&snapshotter)), [("processed", 3)]);

    world.scheduler.signal_succeeded(good, 1).await.unwrap();
    world.scheduler.signal_succeeded(good, 1).await.unwrap();
    world.scheduler.signal_failed(bad, "no").await.unwrap();
    assert_eq!(outcomes(&recorded(&snapshotter)), [("failed", 1), ("succeeded", 1)], "by the scheduler");
    world.job_in(late, StateName::Failed).await;
    server.stop().await;

    assert_eq!(outcomes(&recorded(&snapshotter)), [("failed", 1)], "by the master");
}

#[tokio::test(start_paused = true)]
async fn the_jobs_of_a_dead_server_are_counted_by_the_master_and_what_is_cleared_away_by_nobody() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let dying = world.server().name("dying").handle::<Work, _>(Doing(hang)).start().await.unwrap();
    let retried = world.enqueue(0).await;
    let last = world.create(JobBuilder::new(work(0)).retries(0)).await;
    world.until_count(StateName::Processing, 2).await;
    drop(dying);

    let hour = Duration::from_secs(3_600);
    let other = Doing(async |_: Other, _| Ok(()));
    let builder = world.server().retention(Retention::default().delete_failed_after(hour));
    let master = builder.handle::<Other, _>(other).start().await.unwrap();
    world.job_in(retried, StateName::Enqueued).await;
    world.job_in(last, StateName::Deleted).await;
    master.stop().await;

    assert_eq!(outcomes(&recorded(&snapshotter)), [("failed", 1), ("retried", 1)]);
}

#[tokio::test(start_paused = true)]
async fn storage_errors_are_counted_by_what_the_server_attempted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let faulty = Faulty::new(&world.memory);
    let handler = Doing(async |_: Work, _| Ok(()));
    let server = world.server_over(faulty.shared()).handle::<Work, _>(handler).start().await.unwrap();
    pass(Duration::from_secs(1)).await;

    faulty.fail(|operation| if operation == "claim_jobs" { Fault::BeforeEffect } else { Fault::None });
    let id = world.enqueue(1).await;
    pass(Duration::from_secs(1)).await;
    faulty.mend();
    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;

    let recorded = recorded(&snapshotter);
    let errors: Vec<&String> = recorded.keys().filter(|key| key.contains("errors")).collect();
    assert_eq!(errors, ["jobrunr_storage_errors_total{operation=claim jobs}"]);
    assert!(matches!(recorded[errors[0]], DebugValue::Counter(2..)), "each try counts");
}

#[tokio::test(start_paused = true)]
async fn a_server_tells_the_recorder_what_its_metrics_mean() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let handler = Doing(async |_: Work, _| Ok(()));
    let server = world.server().handle::<Work, _>(handler).start().await.unwrap();

    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;

    for (key, unit, help, _) in snapshotter.snapshot().into_vec() {
        let name = key.key().name();
        let expected = if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        assert_eq!(unit, Some(expected), "{name}");
        assert!(help.is_some(), "{name}");
    }
}
