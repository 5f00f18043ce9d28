//! The whole life of a job on one server, when all goes well.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobrunr_core::{JobBuilder, JobContext, JobResult, JobState, JsonText, StateName};

use crate::faulty::Faulty;
use crate::world::{Doing, Other, Work, World, states, work};

#[tokio::test(start_paused = true)]
async fn an_enqueued_job_runs_and_succeeds_with_its_result() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |work: Work, _| -> JobResult<u32> { Ok(work.number * 2) }))
        .start()
        .await
        .unwrap();

    let id = world.enqueue(21).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    assert_eq!(job.server().unwrap().id, server.id());
    let JobState::Succeeded { result, .. } = job.state() else { unreachable!() };
    assert_eq!(*result, Some(JsonText::of(&42).unwrap()));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_returns_nothing_leaves_no_result() {
    let world = World::new();
    let server = world.server().handle::<Work, _>(Doing(async |_: Work, _| Ok(()))).start().await.unwrap();

    let id = world.enqueue(1).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    assert!(matches!(job.state(), JobState::Succeeded { result: None, .. }));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_context_tells_the_handler_about_its_run() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| -> JobResult<String> {
            assert!(!context.is_cancelled());
            let server = &context.server().name;
            Ok(format!("{} {} {} {server}", context.name(), context.attempt(), context.is_last_attempt()))
        }))
        .start()
        .await
        .unwrap();

    let id = world.create(JobBuilder::new(work(1)).name("the first").retries(0)).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    let JobState::Succeeded { result, .. } = job.state() else { unreachable!() };
    assert_eq!(result.as_ref().unwrap().as_str(), r#""the first 1 true one""#);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_creates_jobs_that_run_too() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |Work { number }: Work, context: JobContext| {
            if number > 0 {
                context.scheduler().enqueue(work(number - 1)).await?;
            }
            Ok(())
        }))
        .start()
        .await
        .unwrap();

    world.enqueue(10).await;

    world.until_count(StateName::Succeeded, 11).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_under_a_former_name_of_its_type_runs() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Labour {
        number: u32,
    }
    impl jobrunr_core::JobRequest for Labour {
        const JOB_TYPE: &'static str = "labour";
    }
    let world = World::new();
    let id = world.scheduler.enqueue(Labour { number: 3 }).await.unwrap();

    let server = world.server().handle::<Work, _>(Doing(async |_: Work, _| Ok(()))).start().await.unwrap();

    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_no_server_handles_stays_enqueued_and_holds_up_nobody() {
    let world = World::new();
    let mut unknown = Vec::new();
    for _ in 0..50 {
        unknown.push(world.scheduler.enqueue(Other {}).await.unwrap());
    }
    let server = world.server().handle::<Work, _>(Doing(async |_: Work, _| Ok(()))).start().await.unwrap();

    let known = world.enqueue(1).await;

    world.job_in(known, StateName::Succeeded).await;
    server.stop().await;
    for id in unknown {
        assert_eq!(states(&world.job(id).await), ["ENQUEUED"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_external_job_parks_after_its_trigger_ran() {
    let world = World::new();
    let server = world.server().handle::<Work, _>(Doing(async |_: Work, _| Ok(()))).start().await.unwrap();

    let id = world.create(JobBuilder::external(work(1))).await;

    let job = world.job_in(id, StateName::Processed).await;
    server.stop().await;
    assert_eq!(world.job(id).await, job, "stopping leaves a parked job alone");
}

#[tokio::test(start_paused = true)]
async fn queues_are_served_in_order_and_priorities_within_them() {
    let world = World::new();
    let ran = Arc::new(Mutex::new(Vec::new()));
    for (number, queue, priority) in
        [(1, "low", 9), (2, "high", 0), (3, "high", 5), (4, "unserved", 99), (5, "high", 0), (6, "low", 10)]
    {
        world.create(JobBuilder::new(work(number)).queue(queue).priority(priority)).await;
    }

    let seen = Arc::clone(&ran);
    let server = world
        .server()
        .workers(1)
        .prefetch(1)
        .queues(["high", "low"])
        .handle::<Work, _>(Doing(move |work: Work, _| {
            seen.lock().unwrap().push(work.number);
            async { Ok(()) }
        }))
        .start()
        .await
        .unwrap();

    world.until_count(StateName::Succeeded, 5).await;
    server.stop().await;
    assert_eq!(*ran.lock().unwrap(), [3, 2, 5, 6, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_jobs_are_each_run_once_by_three_servers() {
    let world = World::with_real_time();
    let ids = world.scheduler.enqueue_all((0..10_000).map(work)).await.unwrap();
    let runs = Arc::new(Mutex::new(Vec::new()));

    let mut servers = Vec::new();
    for _ in 0..3 {
        let runs = Arc::clone(&runs);
        let handler = Doing(move |work: Work, _| {
            runs.lock().unwrap().push(work.number);
            async { Ok(()) }
        });
        servers.push(world.server().workers(32).handle::<Work, _>(handler).start().await.unwrap());
    }
    world.until_count(StateName::Succeeded, 10_000).await;
    for server in &servers {
        server.stop().await;
    }

    assert_eq!(world.job(ids[9_999]).await.history().len(), 3);
    let runs = runs.lock().unwrap();
    assert_eq!(runs.len(), 10_000);
    assert_eq!(runs.iter().collect::<HashSet<_>>().len(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn many_short_jobs_are_claimed_ahead_and_go_back_if_long_ones_come_before_them() {
    const SHORT: u32 = 1_000;
    let world = World::new();
    world.scheduler.enqueue_all((0..SHORT + 1_000).map(work)).await.unwrap();

    let server = world
        .server()
        .handle::<Work, _>(Doing(async |work: Work, context: JobContext| {
            if work.number < SHORT {
                tokio::time::sleep(Duration::from_millis(1)).await;
            } else {
                context.cancellation_token().cancelled().await;
            }
            Ok(())
        }))
        .start()
        .await
        .unwrap();

    world.until_count(StateName::Succeeded, u64::from(SHORT)).await;
    let ahead = world.count(StateName::Processing).await;
    assert!((190..=404).contains(&ahead), "4 jobs a millisecond are 400 in 100: {ahead}");
    world.until_count(StateName::Processing, 8).await;
    assert_eq!(
        world.count(StateName::Enqueued).await,
        992,
        "4 run and 4 wait for them, the others may run elsewhere"
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.count(StateName::Processing).await, 8, "they are not claimed again");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_without_hints_is_asked_often_enough() {
    let world = World::new();
    let storage = Faulty::new(&world.memory).without_hints();
    let server = world
        .server_over(storage.shared())
        .handle::<Work, _>(Doing(async |_: Work, _| Ok(())))
        .start()
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let enqueued_at = world.now();

    let enqueued = world.enqueue(1).await;
    let scheduled = world.create(JobBuilder::new(work(2)).scheduled_at(enqueued_at)).await;

    // By default it asks for work every 200 ms, and the master every fourth time for what others scheduled.
    for (id, most) in [(enqueued, 250), (scheduled, 1_050)] {
        let job = world.job_in(id, StateName::Succeeded).await;
        assert!((job.updated_at() - enqueued_at).num_milliseconds() <= most, "{job:?}");
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_starts_a_job_when_its_hint_comes_and_only_at_its_poll_if_none_does() {
    for (hints_come, waits_millis) in [(true, 0..=5), (false, 13_000..=15_000)] {
        let world = World::new();
        let storage = Faulty::new(&world.memory);
        let storage = if hints_come { storage } else { storage.with_silent_hints() };
        let server = world
            .server_over(storage.shared())
            .poll_interval(Duration::from_secs(15))
            .handle::<Work, _>(Doing(async |_: Work, _| Ok(())))
            .start()
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;

        let id = world.enqueue(1).await;

        let job = world.job_in(id, StateName::Succeeded).await;
        let waited = (job.updated_at() - job.created_at()).num_milliseconds();
        assert!(waits_millis.contains(&waited), "hints come: {hints_come}, waited {waited} ms");
        server.stop().await;
    }
}
