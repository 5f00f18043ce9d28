//! What a server records.

use std::collections::BTreeMap;
use std::time::Duration;

use jobrunr_core::{JobBuilder, JobContext, JobError, JobResult, StateName};
use metrics::Unit;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::faulty::{Fault, Faulty};
use crate::world::{Doing, Work, World, pass, work};

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

fn outcome(recorded: &BTreeMap<String, DebugValue>, outcome: &str) -> u64 {
    match recorded.get(&format!("jobrunr_outcomes_total{{type=work,outcome={outcome}}}")) {
        Some(DebugValue::Counter(count)) => *count,
        None => 0,
        other => panic!("{outcome} is {other:?}"),
    }
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
    for (what, count) in [("succeeded", 3), ("retried", 1), ("failed", 1), ("snoozed", 1), ("processed", 1)] {
        assert_eq!(outcome(&at_the_end, what), count, "{what}");
    }
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

    assert_eq!(outcome(&recorded(&snapshotter), "lost"), 1);
    server.stop().await;
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
