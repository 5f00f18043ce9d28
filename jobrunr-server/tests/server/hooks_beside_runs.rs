//! The hooks of jobs whose run does not end well or badly: that run later, are given back, or are cleared away.

use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::StorageExt;
use jobrunr_core::{JobBuilder, JobContext, JobError, JobResult, StateName};

use crate::filters::{Log, Writes, writing, written};
use crate::filters_by_type::Signs;
use crate::world::{Doing, Other, Work, World, pass, work};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_run_that_is_to_run_later_elects_scheduled_and_has_no_hook_of_its_end() {
    let world = World::new();
    let log = Log::default();
    let snoozing = Doing(async |_: Work, _: JobContext| -> JobResult { Err(JobError::snooze(HOUR)) });
    let builder = world.server().filter(Writes(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(snoozing).start().await.unwrap();

    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Scheduled).await;
    server.stop().await;

    let expected =
        ["applied PROCESSING", "processing PROCESSING", "elect PROCESSING -> SCHEDULED", "applied SCHEDULED"];
    assert_eq!(written(&log), expected);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_given_back_is_told_as_enqueued_without_an_election() {
    let world = World::new();
    let log = Log::default();
    let hanging = Doing(async |_: Work, _| std::future::pending::<JobResult>().await);
    let builder = world.server().workers(1).prefetch(1).filter(Writes(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(hanging).start().await.unwrap();
    world.enqueue(1).await;
    world.enqueue(2).await;
    world.until_count(StateName::Processing, 2).await;
    pass(Duration::from_secs(1)).await;
    let started = ["applied PROCESSING", "processing PROCESSING"];
    assert_eq!(written(&log), started, "the other one was not started");

    server.stop().await;

    assert_eq!(world.count(StateName::Enqueued).await, 2);
    let given_back = ["applied PROCESSING", "applied ENQUEUED", "applied ENQUEUED"];
    assert_eq!(written(&log), given_back, "first the one that was not started");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_cleared_away_is_told_as_deleted_to_the_filters_of_the_master_and_its_purge_to_nobody()
{
    let world = World::new();
    let log = Log::default();
    let server = world.server().handle::<Work, _>(writing(&Log::default())).start().await.unwrap();
    let id = world.enqueue(0).await;
    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;
    let other = Doing(async |_: Other, _| Ok(()));
    let builder = world.server().poll_interval(MINUTE).filter(Writes(Arc::clone(&log)));
    let master = builder.handle::<Other, _>(other).start().await.unwrap();

    world.job_in(id, StateName::Deleted).await;
    pass(80 * HOUR).await;
    master.stop().await;

    assert_eq!(world.count(StateName::Deleted).await, 0, "it was purged");
    assert_eq!(written(&log), ["applied DELETED"]);
}

#[tokio::test(start_paused = true)]
async fn of_a_job_that_is_prepared_for_a_transaction_filters_hear_before_and_never_after() {
    let world = World::new();
    let log = Log::default();
    let scheduler = world.scheduler.clone().filter(Signs("scheduler", Arc::clone(&log)));

    let mut job = scheduler.prepare(JobBuilder::new(work(1))).await.unwrap();
    world.memory.insert_job(&mut job).await.unwrap();
    pass(MINUTE).await;

    assert_eq!(written(&log), ["scheduler: creating"]);
}
