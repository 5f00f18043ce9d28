//! What is checked before a server starts.

use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::handler::{Dependency, Provided};
use jobrunr_core::storage::ServerStore;
use jobrunr_core::{JobContext, JobFunction, JobResult, JobState, StateName};
use jobrunr_server::{BackgroundJobServerBuilder, ServerError};

use crate::world::{Doing, Other, Work, World};

fn idle(builder: BackgroundJobServerBuilder) -> BackgroundJobServerBuilder {
    builder.handle::<Work, _>(Doing(async |_: Work, _| Ok(())))
}

/// What `#[job]` makes of a function with an `Inject<String>`.
struct Greets;

impl JobFunction for Greets {
    type Request = Other;
    type Output = String;

    fn dependencies(&self) -> Vec<Dependency> {
        vec![Dependency::of::<String>()]
    }

    async fn run(&self, _: Other, _: JobContext, provided: Arc<Provided>) -> JobResult<String> {
        let greeting = provided.inject::<String>()?;
        Ok(format!("{}!", *greeting))
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_function_gets_what_was_provided() {
    let world = World::new();
    let server = world.server().job(Greets).provide("hello".to_owned()).start().await.unwrap();

    let id = world.scheduler.enqueue(Other {}).await.unwrap();

    let job = world.job_in(id, StateName::Succeeded).await;
    let JobState::Succeeded { result, .. } = job.state() else { unreachable!() };
    assert_eq!(result.as_ref().unwrap().as_str(), r#""hello!""#);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_told_and_nothing_is_announced() {
    let world = World::new();
    let server = || world.server();
    let millis = Duration::from_millis;
    for (builder, expected) in [
        (
            server(),
            "the server has no handler and would never run a job; give it one with \
             `.handle::<Request, _>(handler)` or `.job(function)` before `.start()`",
        ),
        (
            idle(idle(server())),
            "there are two handlers for the job type \"work\"; each type, aliases included, can have only one",
        ),
        (
            server().job(Greets),
            "the job type \"other\" needs a value of type `alloc::string::String`; give it with `.provide(value)`",
        ),
        (
            idle(server().poll_interval(millis(100))),
            "the option `poll_interval` is 100ms, but it must be at least 200ms",
        ),
        (
            idle(server().claim_interval(millis(1))),
            "the option `claim_interval` is 1ms, but it must be at least 10ms",
        ),
        (
            idle(server().timeout_multiplicand(1)),
            "the option `timeout_multiplicand` is 1, but it must be at least 4",
        ),
        (idle(server().workers(0)), "the option `workers` is 0, but it must be at least 1"),
        (idle(server().name("")), "the option `name` is empty, but it must be 1 to 128 bytes"),
        (idle(server().queues(["A"])), "the option `queues` holds a name that is not valid"),
    ] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(world.memory.list_servers().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn an_alias_that_another_handler_has_is_refused_too() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Labour {}
    impl jobrunr_core::JobRequest for Labour {
        const JOB_TYPE: &'static str = "labour";
    }
    let world = World::new();
    let builder = idle(world.server()).handle::<Labour, _>(Doing(async |_: Labour, _| Ok(())));

    let refused = builder.start().await;

    assert!(matches!(refused, Err(ServerError::DuplicateHandler { job_type }) if job_type == "labour"));
}

#[tokio::test(start_paused = true)]
async fn debug_shows_a_server_without_its_jobs() {
    let world = World::new();
    let server = idle(world.server()).start().await.unwrap();

    let text = format!("{server:?}");

    assert!(text.starts_with("BackgroundJobServer { id: ServerId(") && text.contains("health: Up"), "{text}");
    server.stop().await;
}
