//! Deleting jobs while they run.

use std::time::Duration;

use jobrunr_core::storage::{JobStore, StorageExt};
use jobrunr_core::{JobBuilder, JobState};
use jobrunr_core::{JobContext, JobResult, StateName};
use tokio::sync::mpsc;

use crate::faulty::Faulty;
use crate::world::{Doing, Work, World, next, seconds, states, work};

/// What a handler tells the test.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Started,
    Cancelled,
    Dropped,
}

/// Tells when it is dropped.
struct Tells(mpsc::UnboundedSender<Event>);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Dropped);
    }
}

/// A handler that ends when it is cancelled (`polite`), or never.
fn waiting(
    events: mpsc::UnboundedSender<Event>,
    is_polite: bool,
) -> Doing<impl Fn(Work, JobContext) -> futures_util::future::BoxFuture<'static, JobResult>> {
    Doing(move |_: Work, context: JobContext| {
        let tells = Tells(events.clone());
        Box::pin(async move {
            tells.0.send(Event::Started)?;
            context.cancellation_token().cancelled().await;
            tells.0.send(Event::Cancelled)?;
            if is_polite { Err("cancelled".into()) } else { std::future::pending().await }
        }) as futures_util::future::BoxFuture<'static, JobResult>
    })
}

#[tokio::test(start_paused = true)]
async fn deleting_a_running_job_cancels_it_at_once() {
    let world = World::new();
    let (sender, mut events) = mpsc::unbounded_channel();
    let server = world.server().handle::<Work, _>(waiting(sender, true)).start().await.unwrap();
    let id = world.enqueue(1).await;
    assert_eq!(next(&mut events).await, Some(Event::Started));
    let deleted_at = world.now();

    world.scheduler.delete(id, "not needed").await.unwrap();

    assert_eq!(next(&mut events).await, Some(Event::Cancelled));
    assert!((world.now() - deleted_at).num_milliseconds() <= 5);
    assert_eq!(next(&mut events).await, Some(Event::Dropped));
    server.stop().await;
    assert_eq!(states(&world.job(id).await), ["ENQUEUED", "PROCESSING", "DELETED"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_that_does_not_end_is_aborted_after_the_grace() {
    let world = World::new();
    let (sender, mut events) = mpsc::unbounded_channel();
    let server = world
        .server()
        .workers(1)
        .cancellation_grace(Duration::from_secs(7))
        .handle::<Work, _>(waiting(sender, false))
        .start()
        .await
        .unwrap();
    let id = world.enqueue(1).await;
    assert_eq!(next(&mut events).await, Some(Event::Started));
    world.scheduler.delete(id, "not needed").await.unwrap();
    assert_eq!(next(&mut events).await, Some(Event::Cancelled));
    let cancelled_at = world.now();

    assert_eq!(next(&mut events).await, Some(Event::Dropped));

    let grace = world.now() - cancelled_at;
    assert!(grace >= seconds(7) && grace < seconds(8), "{grace}");
    world.enqueue(2).await;
    assert_eq!(next(&mut events).await, Some(Event::Started), "the worker is free again");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_hints_a_deleted_run_is_cancelled_at_the_next_heartbeat() {
    let world = World::new();
    let (sender, mut events) = mpsc::unbounded_channel();
    let storage = Faulty::new(&world.memory).without_hints();
    let server =
        world.server_over(storage.shared()).handle::<Work, _>(waiting(sender, true)).start().await.unwrap();
    let id = world.enqueue(1).await;
    let other = world.enqueue(2).await;
    assert_eq!(next(&mut events).await, Some(Event::Started));
    assert_eq!(next(&mut events).await, Some(Event::Started));
    let deleted_at = world.now();

    world.scheduler.delete(id, "not needed").await.unwrap();

    assert_eq!(next(&mut events).await, Some(Event::Cancelled));
    assert!(world.now() - deleted_at <= seconds(15));
    assert_eq!(next(&mut events).await, Some(Event::Dropped));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(events.is_empty(), "the other run was not touched");
    assert_eq!(world.job(other).await.state_name(), StateName::Processing);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_external_job_that_is_completed_while_its_trigger_runs_keeps_that_outcome() {
    let world = World::new();
    let (sender, mut events) = mpsc::unbounded_channel();
    let (end, mut ended) = tokio::sync::watch::channel(false);
    let server = world
        .server()
        .handle::<Work, _>(Doing(move |_: Work, context: JobContext| {
            let (sender, mut ended) = (sender.clone(), end.subscribe());
            async move {
                sender.send(Event::Started)?;
                tokio::select! {
                    () = context.cancellation_token().cancelled() => sender.send(Event::Cancelled)?,
                    _ = ended.wait_for(|ended| *ended) => {}
                }
                Ok(())
            }
        }))
        .start()
        .await
        .unwrap();
    let _ = ended.borrow_and_update();
    let id = world.create(JobBuilder::external(work(1))).await;
    assert_eq!(next(&mut events).await, Some(Event::Started));

    let mut job = world.memory.find_job(id).await.unwrap().unwrap();
    job.succeed(None, world.now()).unwrap();
    world.memory.save_job(&mut job).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;

    assert!(events.is_empty(), "the trigger may end in peace");
    server.stop().await;
    let job = world.job(id).await;
    assert!(matches!(job.state(), JobState::Succeeded { .. }));
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "SUCCEEDED"]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_cancels_its_own_token_ends_nothing_but_that() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| {
            context.cancellation_token().cancel();
            tokio::time::sleep(Duration::from_secs(100)).await;
            Ok(())
        }))
        .start()
        .await
        .unwrap();

    let id = world.enqueue(1).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(job.history().len(), 3);
    server.stop().await;
}
