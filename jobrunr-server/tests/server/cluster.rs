//! Several servers, and servers that die.

use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::{JobSelection, JobStore, ServerStore};
use jobrunr_core::{FailureKind, JobBuilder, JobContext, JobResult, JobState, StateName};
use jobrunr_server::{BackgroundJobServer, BackgroundJobServerBuilder, Health};
use tokio::sync::{Semaphore, mpsc};

use crate::faulty::{Fault, Faulty};
use crate::world::{Doing, Work, World, next, pass, seconds, soon, states, work};

fn idle(builder: BackgroundJobServerBuilder) -> BackgroundJobServerBuilder {
    builder.handle::<Work, _>(Doing(async |_: Work, _| Ok(())))
}

/// A server whose jobs tell when they start and never end by themselves.
async fn hanging(
    builder: BackgroundJobServerBuilder,
) -> (BackgroundJobServer, mpsc::UnboundedReceiver<JobContext>) {
    let (sender, started) = mpsc::unbounded_channel();
    let handler = Doing(move |_: Work, context: JobContext| {
        let sender = sender.clone();
        async move {
            sender.send(context)?;
            std::future::pending::<JobResult>().await
        }
    });
    (builder.handle::<Work, _>(handler).start().await.unwrap(), started)
}

#[tokio::test(start_paused = true)]
async fn of_two_servers_the_older_is_the_master_and_the_other_follows_when_it_stops() {
    let world = World::new();
    let first = idle(world.server()).start().await.unwrap();
    pass(Duration::from_secs(1)).await;
    let second = idle(world.server()).start().await.unwrap();
    pass(Duration::from_secs(60)).await;
    assert!(first.is_master() && !second.is_master());

    first.stop().await;
    pass(Duration::from_secs(16)).await;

    assert!(second.is_master() && !first.is_master());
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_master_is_followed_after_its_time_out() {
    let world = World::new();
    let first = idle(world.server()).start().await.unwrap();
    pass(Duration::from_secs(1)).await;
    let second = idle(world.server()).start().await.unwrap();

    drop(first);
    pass(Duration::from_secs(59)).await;
    assert!(!second.is_master(), "nobody is declared dead too early");
    pass(Duration::from_secs(31)).await;

    assert!(second.is_master());
    assert_eq!(world.memory.list_servers().await.unwrap().len(), 1);
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn there_are_never_two_masters_even_if_the_first_cannot_reach_the_storage() {
    let world = World::new();
    let cut_off = Faulty::new(&world.memory);
    let first = idle(world.server_over(cut_off.shared())).start().await.unwrap();
    pass(Duration::from_secs(1)).await;
    let second = idle(world.server()).start().await.unwrap();

    cut_off.fail(|_| Fault::BeforeEffect);
    let mut was_taken_over = false;
    for _ in 0..120 {
        pass(Duration::from_secs(1)).await;
        assert!(!(first.is_master() && second.is_master()));
        was_taken_over |= second.is_master();
    }
    assert!(was_taken_over);

    cut_off.mend();
    pass(Duration::from_secs(30)).await;
    assert!(second.is_master() && !first.is_master(), "the first is back as the younger one");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_lease_starts_nothing_before_others_may_take_over() {
    let world = World::new();
    let cut_off = Faulty::new(&world.memory);
    let (server, mut started) = hanging(world.server_over(cut_off.shared())).await;

    cut_off.fail(|operation| if operation == "heartbeat" { Fault::BeforeEffect } else { Fault::None });
    pass(Duration::from_secs(46)).await;
    world.enqueue(1).await;
    pass(Duration::from_secs(100)).await;

    assert!(started.is_empty(), "its lease of 45 s is over");
    assert_eq!(world.count(StateName::Enqueued).await, 1);
    cut_off.mend();
    next(&mut started).await.unwrap();
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_lease_does_not_start_what_it_claimed_ahead_either() {
    let world = World::new();
    let cut_off = Faulty::new(&world.memory);
    let (sender, mut started) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let server = world
        .server_over(cut_off.shared())
        .workers(1)
        .prefetch(1)
        .handle::<Work, _>(Doing(move |work: Work, _: JobContext| {
            let (sender, gate) = (sender.clone(), Arc::clone(&gate));
            async move {
                sender.send(work.number)?;
                gate.acquire().await?.forget();
                Ok(())
            }
        }))
        .start()
        .await
        .unwrap();
    world.scheduler.enqueue_all([work(1), work(2)]).await.unwrap();
    assert_eq!(next(&mut started).await, Some(1));

    cut_off.fail(|operation| if operation == "heartbeat" { Fault::BeforeEffect } else { Fault::None });
    pass(Duration::from_secs(46)).await;
    open.add_permits(2);
    pass(Duration::from_secs(100)).await;

    assert!(started.is_empty());
    assert_eq!(world.count(StateName::Processing).await, 2, "nor does it save anything");
    cut_off.mend();
    world.until_count(StateName::Succeeded, 2).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_declared_dead_cancels_its_runs_and_comes_back_under_a_new_id() {
    let world = World::new();
    let (server, mut started) = hanging(world.server()).await;
    let id = world.enqueue(1).await;
    let run = next(&mut started).await.unwrap();
    let first_id = server.id();

    world.memory.remove_server(first_id).await.unwrap();
    soon(run.cancellation_token().cancelled()).await;

    // It is master too, so it finds the orphan of its former life and runs it in the new one.
    let again = next(&mut started).await.unwrap();
    assert_ne!(server.id(), first_id);
    assert_eq!(again.job_id(), id);
    assert_eq!(again.server().id, server.id());
    assert_eq!(world.memory.list_servers().await.unwrap()[0].announcement.id, server.id());
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_outcomes_of_a_former_life_are_dropped() {
    let world = World::new();
    let cut_off = Faulty::new(&world.memory);
    let (sender, mut started) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let slow = Doing(move |_: Work, context: JobContext| {
        let (sender, gate) = (sender.clone(), Arc::clone(&gate));
        async move {
            sender.send(context.server().name.clone())?;
            gate.acquire().await?.forget();
            Ok(context.server().name.clone())
        }
    });
    let first =
        world.server_over(cut_off.shared()).name("first").handle::<Work, _>(slow).start().await.unwrap();
    let id = world.enqueue(1).await;
    assert_eq!(next(&mut started).await.unwrap(), "first");
    let quick = Doing(async |_: Work, context: JobContext| Ok(context.server().name.clone()));
    let second = world.server().name("second").handle::<Work, _>(quick).start().await.unwrap();

    cut_off.fail(|_| Fault::BeforeEffect);
    pass(Duration::from_secs(50)).await;
    open.add_permits(1);
    let job = world.job_in(id, StateName::Succeeded).await;
    cut_off.mend();
    pass(Duration::from_secs(60)).await;

    assert_eq!(world.job(id).await, job, "the slow outcome has changed nothing");
    let JobState::Succeeded { result, .. } = job.state() else { unreachable!() };
    assert_eq!(result.as_ref().unwrap().as_str(), r#""second""#);
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "FAILED", "ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_is_up_again_once_the_outcomes_that_it_could_not_save_were_dropped() {
    let world = World::new();
    let cut_off = Faulty::new(&world.memory);
    let server = idle(world.server_over(cut_off.shared())).start().await.unwrap();
    let first_id = server.id();
    cut_off.fail(|operation| if operation == "save_jobs" { Fault::BeforeEffect } else { Fault::None });
    let id = world.enqueue(1).await;
    world.until_count(StateName::Processing, 1).await;
    pass(Duration::from_secs(1)).await;
    assert!(matches!(server.health(), Health::Degraded { .. }), "{:?}", server.health());

    // So that there is nothing for its next life to save either.
    world.memory.delete_jobs(&JobSelection::Ids(vec![id])).await.unwrap();
    world.memory.remove_server(first_id).await.unwrap();
    pass(Duration::from_secs(120)).await;

    assert_ne!(server.id(), first_id);
    assert_eq!(server.health(), Health::Up);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_jobs_of_a_dead_server_are_run_again_if_retries_are_left() {
    let world = World::new();
    let (dying, mut started) = hanging(world.server().name("dying")).await;
    let retried = world.enqueue(1).await;
    let last = world.create(JobBuilder::new(work(2)).retries(0)).await;
    next(&mut started).await.unwrap();
    next(&mut started).await.unwrap();
    let died_at = world.now();

    drop(dying);
    let rescuer = idle(world.server()).start().await.unwrap();

    let job = world.job_in(retried, StateName::Succeeded).await;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "FAILED", "ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    assert_eq!(job.failures(), 1);
    let failure = job.last_failure().unwrap();
    assert_eq!(failure.kind, FailureKind::Orphaned);
    assert!(failure.message.starts_with("the server dying ("), "{}", failure.message);
    assert!(job.updated_at() - died_at <= seconds(90));
    let job = world.job_in(last, StateName::Failed).await;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "FAILED"]);
    rescuer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn thousands_of_orphans_are_all_rescued() {
    let world = World::new();
    let (dying, mut started) = hanging(world.server().workers(1).prefetch(2_500)).await;
    world.scheduler.enqueue_all((0..1_400).map(work)).await.unwrap();
    next(&mut started).await.unwrap();
    world.until_count(StateName::Enqueued, 0).await;

    drop(dying);
    let rescuer = idle(world.server()).start().await.unwrap();

    world.until_count(StateName::Succeeded, 1_400).await;
    rescuer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_announces_what_it_is() {
    let world = World::new();
    let server =
        idle(world.server()).workers(7).queues(["a", "b"]).name("é".repeat(100)).start().await.unwrap();

    let [record] = &world.memory.list_servers().await.unwrap()[..] else { panic!("one server") };

    let announcement = &record.announcement;
    assert_eq!((announcement.id, announcement.name.as_str()), (server.id(), server.name()));
    assert_eq!((announcement.workers, announcement.name.len()), (7, 128));
    assert_eq!(announcement.queues, ["a", "b"]);
    assert_eq!(announcement.signatures, ["labour", "work"]);
    assert_eq!(announcement.server_timeout, Duration::from_secs(60));
    server.stop().await;
}
