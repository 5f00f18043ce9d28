//! The storage fails: nothing is lost, nothing is done twice that need not be, and the server goes on by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jobrunr_core::storage::{StorageError, StorageProvider};
use jobrunr_core::{AwaitError, Job, JobBuilder, JobContext, JobId, JobResult, JobScheduler, StateName};
use jobrunr_server::{Health, ServerError};
use tokio::sync::Semaphore;

use crate::faulty::{Fault, Faulty};
use crate::filters::{Log, Writes, written};
use crate::world::{Doing, Work, World, pass, seconds, states, work};

/// Fails the first `count` calls of one operation.
pub(crate) fn first(
    count: usize,
    failing: &'static str,
    fault: Fault,
) -> impl Fn(&'static str) -> Fault + Send + Sync {
    let left = AtomicUsize::new(count);
    move |operation| {
        let is_hit = operation == failing
            && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if is_hit { fault } else { Fault::None }
    }
}

fn counting(
    runs: &Arc<AtomicUsize>,
) -> Doing<impl Fn(Work, JobContext) -> std::future::Ready<JobResult> + use<>> {
    let runs = Arc::clone(runs);
    Doing(move |_: Work, _: JobContext| {
        runs.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(()))
    })
}

const PLAIN: [&str; 3] = ["ENQUEUED", "PROCESSING", "SUCCEEDED"];

#[tokio::test(start_paused = true)]
async fn jobs_wait_out_an_outage_and_health_tells_of_it() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    let server =
        world.server_over(storage.shared()).handle::<Work, _>(counting(&runs)).start().await.unwrap();
    assert_eq!(server.health(), Health::Up);

    storage.fail(|_| Fault::BeforeEffect);
    let outage_began_at = world.now();
    let ids = world.scheduler.enqueue_all((0..100).map(work)).await.unwrap();
    pass(Duration::from_secs(20)).await;
    let Health::Degraded { since, why } = server.health() else { panic!("{:?}", server.health()) };
    assert!(since >= outage_began_at && why.contains("faulty is not available"), "{why}");

    storage.mend();
    world.until_count(StateName::Succeeded, 100).await;
    pass(Duration::from_secs(60)).await;

    assert_eq!(server.health(), Health::Up);
    assert_eq!(runs.load(Ordering::Relaxed), 100);
    for id in ids {
        assert_eq!(states(&world.job(id).await), PLAIN);
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_outcomes_of_jobs_that_end_in_a_long_outage_are_kept() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let server = world
        .server_over(storage.shared())
        .handle::<Work, _>(Doing(move |_: Work, _: JobContext| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await?.forget();
                Ok(())
            }
        }))
        .start()
        .await
        .unwrap();
    let ids = world.scheduler.enqueue_all((0..3).map(work)).await.unwrap();
    world.until_count(StateName::Enqueued, 0).await;

    // Longer than the time-out: nobody else is there to declare it dead.
    storage.fail(|_| Fault::BeforeEffect);
    open.add_permits(3);
    pass(Duration::from_secs(600)).await;
    storage.mend();

    world.until_count(StateName::Succeeded, 3).await;
    for id in ids {
        assert_eq!(states(&world.job(id).await), PLAIN);
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_save_whose_answer_got_lost_is_not_done_twice_and_counts_as_won() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    let told = Arc::new(AtomicUsize::new(0));
    struct Counts(Arc<AtomicUsize>);
    #[async_trait::async_trait]
    impl jobrunr_core::filters::JobFilter for Counts {
        async fn on_succeeded(&self, _: &Job) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let server = world
        .server_over(storage.shared())
        .filter(Counts(Arc::clone(&told)))
        .handle::<Work, _>(counting(&runs))
        .start()
        .await
        .unwrap();

    storage.fail(first(1, "save_jobs", Fault::AfterEffect));
    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Succeeded).await;
    pass(Duration::from_secs(60)).await;

    assert_eq!(states(&world.job(id).await), PLAIN);
    assert_eq!((runs.load(Ordering::Relaxed), told.load(Ordering::Relaxed)), (1, 1));
    assert_eq!(server.health(), Health::Up);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_whose_claim_was_not_answered_are_given_back_and_run() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    let ids = world.scheduler.enqueue_all((0..10).map(work)).await.unwrap();

    storage.fail(first(1, "claim_jobs", Fault::AfterEffect));
    let server =
        world.server_over(storage.shared()).handle::<Work, _>(counting(&runs)).start().await.unwrap();
    world.until_count(StateName::Succeeded, 10).await;

    assert_eq!(runs.load(Ordering::Relaxed), 10);
    let lost = world.job(ids[0]).await;
    assert_eq!(states(&lost), ["ENQUEUED", "PROCESSING", "ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    assert_eq!(lost.failures(), 0);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_hiccup_loses_no_job_and_runs_none_twice() {
    for fault in [Fault::BeforeEffect, Fault::AfterEffect] {
        for operation in
            ["claim_jobs", "save_jobs", "enqueue_due_jobs", "heartbeat", "list_servers", "list_jobs"]
        {
            let world = World::new();
            let storage = Faulty::new(&world.memory);
            let runs = Arc::new(AtomicUsize::new(0));
            let server =
                world.server_over(storage.shared()).handle::<Work, _>(counting(&runs)).start().await.unwrap();

            storage.fail(first(5, operation, fault));
            world.scheduler.enqueue_all((0..50).map(work)).await.unwrap();
            world.scheduler.schedule_in(Duration::from_secs(5), work(50)).await.unwrap();
            world.until_count(StateName::Succeeded, 51).await;

            assert_eq!(runs.load(Ordering::Relaxed), 51, "{fault:?} of {operation}");
            server.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_the_storage_refuses_fails_its_job_alone() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    let ids = world.scheduler.enqueue_all((0..20).map(work)).await.unwrap();
    storage.refuse_saves_of(ids[7]);

    let server = world
        .server_over(storage.shared())
        .workers(20)
        .handle::<Work, _>(counting(&runs))
        .start()
        .await
        .unwrap();

    world.until_count(StateName::Succeeded, 19).await;
    let job = world.job_in(ids[7], StateName::Failed).await;
    let message = &job.last_failure().unwrap().message;
    assert!(message.starts_with("the outcome of the run cannot be saved: "), "{message}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_failure_in_place_of_a_refused_outcome_is_told_to_filters_and_to_who_waits_for_the_result() {
    let world = World::new();
    let storage = Faulty::new(&world.memory).without_hints();
    let (runs, log) = (Arc::new(AtomicUsize::new(0)), Log::default());
    let builder = world.server_over(storage.shared()).filter(Writes(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(counting(&runs)).start().await.unwrap();
    let scheduler = JobScheduler::with_local_clock(storage.shared(), Arc::clone(&world.clock));
    let due_at = world.now() + seconds(30);
    let id = world.create(JobBuilder::new(work(1)).scheduled_at(due_at)).await;
    storage.refuse_saves_of(id);

    let awaited = scheduler.await_result::<()>(id, Duration::from_secs(60)).await;

    assert!(matches!(awaited, Err(AwaitError::Failed { .. })), "{awaited:?}");
    let late = world.now() - world.job(id).await.updated_at();
    assert!(late.num_milliseconds() <= 1, "{late} late, so it was found by looking");
    server.stop().await;
    let hooks = [
        "applied ENQUEUED",
        "applied PROCESSING",
        "processing PROCESSING",
        "elect PROCESSING -> SUCCEEDED",
        "applied FAILED",
    ];
    let written = written(&log);
    assert_eq!(written[..5], hooks);
    let [last] = &written[5..] else { panic!("{written:?}") };
    assert!(last.starts_with("failed after retries: the outcome of the run cannot be saved"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_outcome_is_saved_as_a_failure_also_if_the_storage_is_away_then() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    let server =
        world.server_over(storage.shared()).handle::<Work, _>(counting(&runs)).start().await.unwrap();
    storage.fail(first(3, "find_job", Fault::BeforeEffect));
    let id = JobId::new();
    storage.refuse_saves_of(id);

    world.create(JobBuilder::new(work(1)).id(id)).await;

    world.job_in(id, StateName::Failed).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_chore_that_fails_stops_no_other() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    storage.fail(|operation| match operation {
        "delete_jobs" | "list_jobs" => Fault::Refused,
        _ => Fault::None,
    });
    let server =
        world.server_over(storage.shared()).handle::<Work, _>(counting(&runs)).start().await.unwrap();

    let id = world.scheduler.schedule_in(Duration::from_secs(100), work(1)).await.unwrap();

    world.job_in(id, StateName::Succeeded).await;
    assert!(matches!(server.health(), Health::Degraded { .. }) && server.is_master());
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_is_closed_takes_the_server_down_and_stopping_still_ends() {
    let world = World::new();
    let runs = Arc::new(AtomicUsize::new(0));
    let server = world.server().handle::<Work, _>(counting(&runs)).start().await.unwrap();

    world.memory.close().await;
    pass(Duration::from_secs(60)).await;

    assert!(matches!(server.health(), Health::Down { why, .. } if why.contains("was closed")));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_does_not_start_where_it_cannot_announce_itself() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    storage.fail(|_| Fault::BeforeEffect);
    let runs = Arc::new(AtomicUsize::new(0));

    let refused = world.server_over(storage.shared()).handle::<Work, _>(counting(&runs)).start().await;

    assert!(matches!(refused, Err(ServerError::Storage(StorageError::Unavailable { .. }))));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_until_the_last_outcomes_are_saved() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    let server =
        world.server_over(storage.shared()).handle::<Work, _>(counting(&runs)).start().await.unwrap();
    storage.fail(first(4, "save_jobs", Fault::BeforeEffect));
    let id = world.enqueue(1).await;
    pass(Duration::from_millis(1)).await;
    assert_eq!((runs.load(Ordering::Relaxed), world.count(StateName::Processing).await), (1, 1));

    server.stop().await;

    assert_eq!(states(&world.job(id).await), PLAIN);
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_an_outage_ends_all_the_same_and_others_finish_the_work() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    let server =
        world.server_over(storage.shared()).handle::<Work, _>(counting(&runs)).start().await.unwrap();
    storage.fail(|operation| if operation == "claim_jobs" { Fault::None } else { Fault::BeforeEffect });
    let id = world.enqueue(1).await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(runs.load(Ordering::Relaxed), 1);

    tokio::time::timeout(Duration::from_secs(60), server.stop()).await.unwrap();

    let other = world.server().handle::<Work, _>(counting(&runs)).start().await.unwrap();
    world.job_in(id, StateName::Succeeded).await;
    assert_eq!(runs.load(Ordering::Relaxed), 2, "at least once");
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn while_outcomes_cannot_be_saved_no_more_jobs_start_than_the_server_takes_on() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    storage.fail(|operation| if operation == "save_jobs" { Fault::BeforeEffect } else { Fault::None });
    let server = world
        .server_over(storage.shared())
        .workers(4)
        .prefetch(4)
        .handle::<Work, _>(counting(&runs))
        .start()
        .await
        .unwrap();

    world.scheduler.enqueue_all((0..100).map(work)).await.unwrap();
    pass(Duration::from_secs(300)).await;
    let started = runs.load(Ordering::Relaxed);
    assert!((8..=12).contains(&started), "{started} jobs have run");

    storage.mend();
    world.until_count(StateName::Succeeded, 100).await;
    assert_eq!(runs.load(Ordering::Relaxed), 100);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_never_answers_costs_the_lease_until_it_does() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    let server =
        world.server_over(storage.shared()).handle::<Work, _>(counting(&runs)).start().await.unwrap();

    storage.fail(|operation| if operation == "heartbeat" { Fault::Hang } else { Fault::None });
    pass(Duration::from_secs(120)).await;
    assert!(matches!(server.health(), Health::Degraded { .. }) && !server.is_master());
    storage.mend();
    pass(Duration::from_secs(60)).await;

    assert!(server.health() == Health::Up && server.is_master());
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_panics_ends_the_server_as_a_whole_and_it_says_so() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Arc::new(AtomicUsize::new(0));
    let server =
        world.server_over(storage.shared()).handle::<Work, _>(counting(&runs)).start().await.unwrap();

    storage.fail(|operation| if operation == "save_jobs" { Fault::Panic } else { Fault::None });
    let id = world.enqueue(1).await;
    let ended = server.run_until_shutdown().await;

    assert!(matches!(ended, Err(ServerError::BrokeDown { part: "completer", .. })), "{ended:?}");
    assert!(matches!(server.health(), Health::Down { why, .. } if why.contains("completer broke down")));
    let other = world.server().handle::<Work, _>(counting(&runs)).start().await.unwrap();
    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;
    other.stop().await;
}
