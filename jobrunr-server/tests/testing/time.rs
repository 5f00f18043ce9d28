//! The clock that is moved by hand: what becomes due, and when it runs.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use jobrunr_core::clock::Clock as _;
use jobrunr_core::recurring::RecurringJobBuilder;
use jobrunr_core::retry::FixedDelays;
use jobrunr_core::schedule::Cron;
use jobrunr_core::{FailureKind, JobBuilder, JobContext, JobError, JobState, StateName};
use jobrunr_server::testing::{Run, TestKit};

use crate::{Doing, Work, kit, kit_that_counts, work};

const HOUR: Duration = Duration::from_secs(3_600);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_retry_runs_once_the_clock_was_moved_to_it_and_not_before() {
    let kit = TestKit::new(|server| {
        let fails_once = async |_: Work, context: JobContext| match context.attempt() {
            1 => Err(JobError::from("not yet")),
            attempt => Ok(attempt),
        };
        server.handle::<Work, _>(Doing(fails_once)).retry_policy(FixedDelays::new([seconds(30)]))
    });
    kit.scheduler().enqueue(work(1)).await.unwrap();
    assert_eq!(kit.run_all_enqueued().await[0].state(), StateName::Scheduled);

    kit.advance(seconds(29));
    assert!(kit.run_all_enqueued().await.is_empty());
    kit.advance(seconds(1));
    let runs = kit.run_all_enqueued().await;

    assert_eq!((runs.len(), runs[0].attempt(), runs[0].result::<u32>()), (1, 2, 2));
}

#[tokio::test]
async fn as_time_passes_each_retry_runs_at_its_instant_until_none_is_left() {
    let kit = kit(async |_, _| Err::<(), _>("never".into()));
    let id = kit.scheduler().enqueue(work(1)).await.unwrap();
    let start = kit.now();

    let runs = kit.run_for(48 * HOUR).await;

    assert_eq!(runs.len(), 11);
    assert_eq!(runs[10].state(), StateName::Failed);
    for (failed, retry) in runs.iter().zip(runs.iter().skip(1)) {
        assert_eq!(failed.job().scheduled_at(), Some(retry.started_at()));
    }
    assert_eq!(kit.job(id).await.failures(), 11);
    assert_eq!(kit.now(), start + TimeDelta::hours(48));
}

#[tokio::test]
async fn a_scheduled_job_runs_at_its_time_and_a_snooze_is_no_failure() {
    let kit = kit(async |_, context: JobContext| {
        if context.save_if_absent("was_here", &true).await? {
            return Err(JobError::snooze(HOUR));
        }
        Ok(())
    });
    let start = kit.now();
    kit.scheduler().schedule_in(HOUR, work(1)).await.unwrap();
    assert!(kit.run_all_enqueued().await.is_empty());

    let runs = kit.run_for(2 * HOUR).await;

    let starts: Vec<_> = runs.iter().map(Run::started_at).collect();
    assert_eq!(starts, [start + TimeDelta::hours(1), start + TimeDelta::hours(2)]);
    assert_eq!((runs[0].failure(), runs[1].attempt()), (None, 1));
}

#[tokio::test]
async fn ticks_run_at_their_instants_and_those_that_were_passed_over_were_missed() {
    let start: DateTime<Utc> = "2030-03-01T07:00:00Z".parse().unwrap();
    let kit =
        TestKit::starting_at(start, |server| server.handle::<Work, _>(Doing(async |_: Work, _| Ok(()))));
    kit.scheduler().schedule_recurrently("daily", Cron::daily_at(8, 0), work(1)).await.unwrap();

    let ran = kit.run_for(72 * HOUR).await;
    kit.advance(72 * HOUR);
    let after_a_gap = kit.run_all_enqueued().await;
    let next = kit.run_for(24 * HOUR).await;

    let days: Vec<_> = ran.iter().map(|run| (run.started_at() - start).num_days()).collect();
    assert_eq!(days, [0, 1, 2]);
    assert!(ran.iter().all(|run| run.started_at().hour() == 8 && run.started_at().minute() == 0));
    assert!(after_a_gap.is_empty(), "{after_a_gap}");
    assert_eq!(next.len(), 1, "{next}");
}

#[tokio::test]
async fn a_run_that_waits_for_the_one_before_follows_it_at_once() {
    let kit = kit_that_counts();
    let every_minute = RecurringJobBuilder::new(Cron::every_minute(), work(1)).id("often");
    let policy = jobrunr_core::recurring::MisfirePolicy::RunAll { at_most: 3 };
    kit.scheduler().save_recurring_job(every_minute.misfire(policy)).await.unwrap();

    kit.advance(seconds(600));
    let runs = kit.run_all_enqueued().await;

    assert_eq!(runs.assert_all_succeeded().len(), 3);
}

#[tokio::test]
async fn an_external_job_waits_for_its_signal_and_fails_when_its_time_is_up() {
    let kit = kit_that_counts();
    let external = |number| JobBuilder::external(work(number)).timeout(HOUR).retries(0);
    let signalled = kit.scheduler().create(external(1)).await.unwrap();
    let forgotten = kit.scheduler().create(external(2)).await.unwrap();

    let runs = kit.run_all_enqueued().await;
    kit.scheduler().signal_succeeded(signalled, "approved").await.unwrap();
    let later = kit.run_for(2 * HOUR).await;

    assert!(runs.assert_all_succeeded().iter().all(|run| run.state() == StateName::Processed));
    assert_eq!(kit.job(signalled).await.result().unwrap().as_str(), r#""approved""#);
    let JobState::Failed(failure) = kit.job(forgotten).await.state().clone() else {
        panic!("it should fail")
    };
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert!(later.is_empty());
}

#[tokio::test]
async fn the_clock_stands_still_while_jobs_run_unless_a_job_moves_it() {
    let kit = kit_that_counts();
    let clock = kit.clock().clone();
    let moving = TestKit::new(|server| {
        let clock = clock.clone();
        let moves = move |_: Work, _| {
            clock.advance(seconds(5));
            async { Ok(()) }
        };
        server.handle::<Work, _>(Doing(moves))
    });
    moving.scheduler().enqueue(work(1)).await.unwrap();
    let before = (moving.now(), clock.now());

    let _ = moving.run_all_enqueued().await;

    assert_eq!(moving.now(), before.0);
    assert_eq!(clock.now(), before.1 + TimeDelta::seconds(5));
}
