//! The whole life of a job on one server, when all goes well.

use jobrunr_core::{JobBuilder, JobResult, JobState, JsonText, StateName};

use crate::world::{Doing, Work, World, states};

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
