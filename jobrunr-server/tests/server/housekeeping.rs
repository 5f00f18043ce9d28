//! Due jobs on time, ended jobs cleared away, and no needless calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use jobrunr_core::storage::{JobSearch, JobStore};
use jobrunr_core::{JobBuilder, JobError, JobResult, JobState, StateName};
use jobrunr_server::{BackgroundJobServerBuilder, Keep, Retention, TypeRetention};

use crate::faulty::Faulty;
use crate::world::{Doing, Other, Work, World, pass, seconds, states, work};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn idle(builder: BackgroundJobServerBuilder) -> BackgroundJobServerBuilder {
    builder.handle::<Work, _>(Doing(async |_: Work, _| Ok(())))
}

#[tokio::test(start_paused = true)]
async fn scheduled_jobs_start_on_time_and_never_early_whenever_they_were_created() {
    let world = World::new();
    let server = idle(world.server()).start().await.unwrap();
    pass(Duration::from_millis(3_217)).await;
    let begun_at = world.now();

    let mut ids = Vec::new();
    for micros in [60_000_001_i64, 45_000_000, 1, 500_123, 500_124, 20_000_999, 3_600_000_000, 999] {
        let due_at = begun_at + TimeDelta::microseconds(micros);
        ids.push((due_at, world.create(JobBuilder::new(work(1)).scheduled_at(due_at)).await));
    }

    for (due_at, id) in ids {
        let job = world.job_in(id, StateName::Succeeded).await;
        let started_at = job.history()[2].at;
        let late = started_at - due_at;
        assert_eq!(states(&job), ["SCHEDULED", "ENQUEUED", "PROCESSING", "SUCCEEDED"]);
        assert!(late >= TimeDelta::zero() && late.num_milliseconds() <= 50, "{late} late");
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_that_were_due_before_the_server_started_run_at_once() {
    let world = World::new();
    for number in 0..2_500 {
        world
            .create(JobBuilder::new(work(number)).scheduled_at(world.now() - seconds(i64::from(number))))
            .await;
    }
    let begun_at = world.now();

    let server = idle(world.server()).start().await.unwrap();

    world.until_count(StateName::Succeeded, 2_500).await;
    assert!(world.now() - begun_at < seconds(1));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_the_storage_counts_not_that_of_the_machine() {
    use jobrunr_core::clock::{Clock, TokioClock};
    let world = World::new();
    let wrong: std::sync::Arc<dyn Clock> =
        std::sync::Arc::new(TokioClock::starting_at(world.now() + seconds(7_200)));
    let server = idle(world.server().clock(wrong)).start().await.unwrap();
    let due_at = world.now() + seconds(600);

    let id = world.create(JobBuilder::new(work(1)).scheduled_at(due_at)).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    let late = world.now() - due_at;
    assert!(late >= TimeDelta::zero() && late.num_milliseconds() <= 50, "{late} late");
    assert!((job.updated_at() - world.now()).abs() < seconds(1));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_success_is_deleted_after_36_hours_and_purged_after_another_72() {
    let world = World::new();
    let server = idle(world.server().poll_interval(MINUTE)).start().await.unwrap();
    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Succeeded).await;

    pass(36 * HOUR - Duration::from_secs(1)).await;
    assert_eq!(world.job(id).await.state_name(), StateName::Succeeded);
    pass(Duration::from_secs(90)).await;
    let job = world.job(id).await;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "SUCCEEDED", "DELETED"]);

    pass(72 * HOUR - Duration::from_secs(120)).await;
    assert!(world.memory.find_job(id).await.unwrap().is_some());
    pass(Duration::from_secs(240)).await;
    assert!(world.memory.find_job(id).await.unwrap().is_none());
    assert_eq!(world.memory.job_counts().await.unwrap().succeeded_all_time, 1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_stays_until_somebody_acts_unless_said_otherwise() {
    for (retention, expected) in [
        (Retention::default(), StateName::Failed),
        (Retention::default().delete_failed_after(24 * HOUR), StateName::Deleted),
    ] {
        let world = World::new();
        let handler = Doing(async |_: Work, _| -> JobResult { Err(JobError::do_not_retry("no")) });
        let server = world
            .server()
            .poll_interval(MINUTE)
            .retention(retention)
            .handle::<Work, _>(handler)
            .start()
            .await
            .unwrap();
        let id = world.enqueue(1).await;
        world.job_in(id, StateName::Failed).await;

        pass(25 * HOUR).await;

        assert_eq!(world.job(id).await.state_name(), expected);
        server.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_type_may_have_a_retention_of_its_own() {
    let world = World::new();
    let retention = Retention::default()
        .delete_succeeded_after(2 * HOUR)
        .purge_deleted_after(Keep::Forever)
        .for_job_type(
            "other",
            TypeRetention::default().delete_succeeded_after(HOUR).purge_deleted_after(HOUR),
        );
    let server = idle(world.server().poll_interval(MINUTE).retention(retention))
        .handle::<Other, _>(Doing(async |_: Other, _| Ok(())))
        .start()
        .await
        .unwrap();
    let usual = world.enqueue(1).await;
    let own = world.scheduler.enqueue(Other {}).await.unwrap();
    world.until_count(StateName::Succeeded, 2).await;

    pass(HOUR + 2 * MINUTE).await;
    assert_eq!(world.job(own).await.state_name(), StateName::Deleted);
    assert_eq!(world.job(usual).await.state_name(), StateName::Succeeded);
    pass(20 * HOUR).await;

    assert!(world.memory.find_job(own).await.unwrap().is_none());
    assert_eq!(world.job(usual).await.state_name(), StateName::Deleted);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_ended_jobs_is_cleared_in_one_go_but_in_batches() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    world.scheduler.enqueue_all((0..3_500).map(work)).await.unwrap();
    let server = idle(world.server()).start().await.unwrap();
    world.until_count(StateName::Succeeded, 3_500).await;
    server.stop().await;
    pass(37 * HOUR).await;

    let server = idle(world.server_over(storage.shared()).poll_interval(MINUTE)).start().await.unwrap();
    world.until_count(StateName::Deleted, 3_500).await;

    assert_eq!(storage.calls()["save_jobs"], 4);
    pass(73 * HOUR).await;
    assert_eq!(world.count(StateName::Deleted).await, 0);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_makes_no_needless_calls() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let server = idle(world.server_over(storage.shared())).start().await.unwrap();
    pass(Duration::from_secs(60)).await;
    let before = storage.calls();

    pass(HOUR).await;

    let after = storage.calls();
    let polls = 3_600 / 15;
    for (operation, calls) in &after {
        let calls = calls - before.get(operation).copied().unwrap_or_default();
        let most = match *operation {
            // The claim's fallback, and the due jobs'.
            "claim_jobs" | "enqueue_due_jobs" | "heartbeat" | "delete_jobs" => polls + 1,
            // The election's, and the search for orphans'.
            "list_servers" => 2 * polls + 2,
            // Orphans, successes that are old enough, external jobs that wait too long, runs that wait for the run before.
            "list_jobs" => 4 * polls + 4,
            "list_recurring_jobs" => polls + 1,
            // Types that nobody handles.
            "list_signatures" => polls + 1,
            _ => 0,
        };
        assert!(calls <= most, "{operation} was called {calls} times, not {most}");
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_busy_server_are_claimed_in_good_batches() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    static RUNS: AtomicU64 = AtomicU64::new(0);
    world.scheduler.enqueue_all((0..3_000).map(work)).await.unwrap();

    let handler = Doing(async |_: Work, _| {
        RUNS.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(())
    });
    let server = world
        .server_over(storage.shared())
        .workers(50)
        .prefetch(50)
        .handle::<Work, _>(handler)
        .start()
        .await
        .unwrap();
    world.until_count(StateName::Succeeded, 3_000).await;
    server.stop().await;

    assert_eq!(RUNS.load(Ordering::Relaxed), 3_000);
    let calls = storage.calls();
    assert!(calls["claim_jobs"] <= 3_000 / 25 + 10, "{} claims", calls["claim_jobs"]);
    assert!(calls["save_jobs"] <= 3_000 / 25 + 10, "{} saves", calls["save_jobs"]);
    let job = &world.memory.list_jobs(&jobrunr_core::storage::JobQuery::all().limit(1)).await.unwrap()[0];
    assert!(matches!(job.state(), JobState::Succeeded { .. }));
}
