//! What is wrong with the cluster as a whole.

use std::time::Duration;

use jobrunr_core::problems::{Problem, list_problems};
use jobrunr_server::BackgroundJobServerBuilder;

use crate::world::{Doing, Other, Work, World, pass, work};

fn idle(builder: BackgroundJobServerBuilder) -> BackgroundJobServerBuilder {
    builder.handle::<Work, _>(Doing(async |_: Work, _| Ok(())))
}

fn unhandled(signature: &str) -> Problem {
    Problem::UnhandledType { signature: signature.parse().unwrap() }
}

#[tokio::test(start_paused = true)]
async fn a_job_type_that_waits_and_that_no_live_server_handles_is_a_problem() {
    let world = World::new();
    let server = idle(world.server()).start().await.unwrap();

    assert_eq!(server.problems().await.unwrap(), []);
    world.scheduler.enqueue(Other {}).await.unwrap();
    assert_eq!(server.problems().await.unwrap(), [unhandled("other")]);

    let handler = Doing(async |_: Other, _| Ok(()));
    let second = world.server().handle::<Other, _>(handler).start().await.unwrap();
    assert_eq!(server.problems().await.unwrap(), []);
    second.stop().await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_dead_but_not_removed_yet_handles_nothing() {
    let world = World::new();
    let server = idle(world.server()).start().await.unwrap();
    drop(server);
    world.scheduler.enqueue(work(1)).await.unwrap();

    assert_eq!(list_problems(&world.memory).await.unwrap(), [], "it may only be slow");
    pass(Duration::from_secs(61)).await;

    assert_eq!(list_problems(&world.memory).await.unwrap(), [unhandled("work")]);
}

#[tokio::test(start_paused = true)]
async fn a_type_that_waits_for_its_time_is_no_problem_yet() {
    let world = World::new();
    world.scheduler.schedule_in(Duration::from_secs(60), Other {}).await.unwrap();

    assert_eq!(list_problems(&world.memory).await.unwrap(), []);
}
