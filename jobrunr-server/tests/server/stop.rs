//! Ending a server: gracefully, by dropping it, and not quite by pausing it.

use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::ServerStore;
use jobrunr_core::{JobContext, JobError, JobId, JobResult, JobState, StateName};
use jobrunr_server::Health;
use tokio::sync::{Semaphore, mpsc};

use crate::world::{Doing, Work, World, next, pass, seconds, states};

/// A handler that tells when it starts and ends when it is let.
struct Gate {
    started: mpsc::UnboundedReceiver<u32>,
    open: Arc<Semaphore>,
}

fn gated() -> (Gate, Doing<impl Fn(Work, JobContext) -> futures_util::future::BoxFuture<'static, JobResult>>)
{
    let (sender, started) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(0));
    let gate = Gate { started, open: Arc::clone(&open) };
    let handler = Doing(move |work: Work, _: JobContext| {
        let (sender, open) = (sender.clone(), Arc::clone(&open));
        Box::pin(async move {
            sender.send(work.number)?;
            open.acquire().await?.forget();
            Ok(())
        }) as futures_util::future::BoxFuture<'static, JobResult>
    });
    (gate, handler)
}

fn last_reason(job: &jobrunr_core::Job) -> Option<&str> {
    match job.state() {
        JobState::Enqueued { reason, .. } => reason.as_deref(),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopping_server_gives_back_what_it_has_not_started_and_lets_the_rest_finish() {
    let world = World::new();
    let (mut gate, handler) = gated();
    let ids: Vec<JobId> = world.scheduler.enqueue_all((0..5).map(crate::world::work)).await.unwrap();
    let server = world.server().workers(1).prefetch(2).handle::<Work, _>(handler).start().await.unwrap();
    next(&mut gate.started).await.unwrap();
    assert_eq!(world.count(StateName::Processing).await, 3);

    let (stopped_at, ()) = tokio::join!(
        async {
            server.stop().await;
            world.now()
        },
        async {
            world.until_count(StateName::Enqueued, 4).await;
            assert_eq!(world.memory.list_servers().await.unwrap().len(), 1, "it is alive until the end");
            pass(Duration::from_secs(5)).await;
            gate.open.add_permits(1);
        },
    );

    let finished = world.job(ids[0]).await;
    assert_eq!(states(&finished), ["ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    assert!(stopped_at - finished.updated_at() < seconds(1), "it waits no longer than it must");
    for id in &ids[1..3] {
        let job = world.job(*id).await;
        assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "ENQUEUED"]);
        assert_eq!(last_reason(&job), Some("the server stopped"));
        assert_eq!(job.enqueued_at(), Some(job.created_at()), "it keeps its place in line");
    }
    assert_eq!(world.memory.list_servers().await.unwrap(), []);
    assert!(matches!(server.health(), Health::Down { why, .. } if why == "it was stopped"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_outlasts_the_shutdown_grace_is_aborted_and_given_back_without_a_failure() {
    let world = World::new();
    let (mut gate, handler) = gated();
    let server = world.server().handle::<Work, _>(handler).start().await.unwrap();
    let id = world.enqueue(1).await;
    next(&mut gate.started).await.unwrap();
    let begun_at = world.now();

    server.stop().await;

    let took = world.now() - begun_at;
    assert!(took >= seconds(11) && took < seconds(12), "10 s of grace, 1 s after the token: {took}");
    let job = world.job(id).await;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "ENQUEUED"]);
    assert_eq!((job.failures(), last_reason(&job)), (0, Some("the server stopped")));
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_token_fired_at_a_stop_is_no_failure() {
    for (error, expected) in [
        (JobError::from as fn(&'static str) -> JobError, "ENQUEUED"),
        (|cause| JobError::do_not_retry(cause), "FAILED"),
        (|_| JobError::snooze(Duration::from_secs(60)), "SCHEDULED"),
    ] {
        let world = World::new();
        let (sender, mut started) = mpsc::unbounded_channel();
        let server = world
            .server()
            .shutdown_grace(Duration::from_secs(1))
            .handle::<Work, _>(Doing(move |_: Work, context: JobContext| {
                let sender = sender.clone();
                async move {
                    sender.send(())?;
                    context.cancellation_token().cancelled().await;
                    JobResult::<()>::Err(error("cancelled"))
                }
            }))
            .start()
            .await
            .unwrap();
        let id = world.enqueue(1).await;
        next(&mut started).await.unwrap();

        server.stop().await;

        assert_eq!(states(&world.job(id).await)[2..], [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_twice_and_at_once_is_fine() {
    let world = World::new();
    let (_gate, handler) = gated();
    let server = world.server().handle::<Work, _>(handler).start().await.unwrap();

    tokio::join!(server.stop(), server.stop());
    server.stop().await;

    assert_eq!(world.memory.list_servers().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_nobody_waits_for_goes_on() {
    let world = World::new();
    let (mut gate, handler) = gated();
    let server = world.server().handle::<Work, _>(handler).start().await.unwrap();
    let id = world.enqueue(1).await;
    next(&mut gate.started).await.unwrap();

    let given_up = tokio::time::timeout(Duration::from_secs(1), server.stop()).await;

    assert!(given_up.is_err());
    world.job_in(id, StateName::Enqueued).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_dropped_leaves_no_task_behind() {
    let world = World::new();
    let (mut gate, handler) = gated();
    let server = world.server().handle::<Work, _>(handler).start().await.unwrap();
    let id = world.enqueue(1).await;
    next(&mut gate.started).await.unwrap();

    drop(server);

    assert_eq!(next(&mut gate.started).await, None, "handler and run are gone");
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(world.job(id).await.state_name(), StateName::Processing, "as if the process had died");
    assert_eq!(world.memory.list_servers().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_server_starts_nothing_but_stays_master_until_it_is_resumed() {
    let world = World::new();
    let (mut gate, handler) = gated();
    let server = world.server().workers(1).prefetch(1).handle::<Work, _>(handler).start().await.unwrap();
    let ids: Vec<JobId> = world.scheduler.enqueue_all((0..3).map(crate::world::work)).await.unwrap();
    next(&mut gate.started).await.unwrap();

    server.pause();
    gate.open.add_permits(3);
    world.job_in(ids[0], StateName::Succeeded).await;
    pass(Duration::from_secs(300)).await;

    assert!(gate.started.is_empty() && server.is_paused() && server.is_master());
    assert_eq!(world.count(StateName::Enqueued).await, 2, "what was claimed ahead was given back");
    let [record] = &world.memory.list_servers().await.unwrap()[..] else { panic!("one server") };
    assert!(record.load.is_paused && world.now() - record.last_heartbeat_at <= seconds(15));
    server.resume();
    world.until_count(StateName::Succeeded, 3).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn run_until_shutdown_returns_when_the_server_is_stopped_elsewhere() {
    let world = World::new();
    let (_gate, handler) = gated();
    let server = world.server().handle::<Work, _>(handler).start().await.unwrap();

    let (result, ()) = tokio::join!(server.run_until_shutdown(), server.stop());

    result.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_terminated_process_stops_its_server_gracefully() {
    let world = World::with_real_time();
    let (_gate, handler) = gated();
    let server = world.server().handle::<Work, _>(handler).start().await.unwrap();

    let terminate = async {
        // Polled second: by now the server listens to signals.
        let pid = std::process::id().to_string();
        std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap()
    };
    let (result, sent) = tokio::join!(server.run_until_shutdown(), terminate);

    result.unwrap();
    assert!(sent.success());
    assert_eq!(world.memory.list_servers().await.unwrap(), []);
}
