//! Waiting for results: woken by hints, looking anyway, and every other end told apart.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use jobrunr_core::storage::StorageError;
use jobrunr_core::{AwaitError, JobBuilder, JobContext, JobId, JobResult, JobScheduler, StateName};

use crate::faulty::{Fault, Faulty};
use crate::world::{Doing, Work, World, work};

const MINUTE: Duration = Duration::from_secs(60);
const AT_ONCE: TimeDelta = TimeDelta::milliseconds(1);

/// A handler that takes as many seconds as the number says and returns it; it fails if that is 13.
fn taking_its_time()
-> Doing<impl Fn(Work, JobContext) -> futures_util::future::BoxFuture<'static, JobResult<u32>>> {
    Doing(|Work { number }: Work, _| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(number.into())).await;
            if number == 13 { Err("bad luck".into()) } else { Ok(number) }
        }) as futures_util::future::BoxFuture<'static, JobResult<u32>>
    })
}

/// How long after its end, at the latest look, a job was known to have ended.
async fn late(world: &World, id: JobId) -> TimeDelta {
    world.now() - world.job(id).await.updated_at()
}

#[tokio::test(start_paused = true)]
async fn a_result_is_there_as_soon_as_the_hint_of_the_success_comes() {
    let world = World::new();
    let server = world.server().handle::<Work, _>(taking_its_time()).start().await.unwrap();
    // Another handle, so that it is the hint that tells, not the server itself.
    let elsewhere = Arc::new(world.memory.open_again());
    let scheduler = JobScheduler::with_local_clock(elsewhere, Arc::clone(&world.clock));
    let id = world.enqueue(30).await;

    let result = scheduler.await_result::<u32>(id, MINUTE).await.unwrap();

    assert_eq!(result, 30);
    assert!(late(&world, id).await <= TimeDelta::milliseconds(5), "{}", late(&world, id).await);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_this_process_ends_is_known_at_once_though_the_storage_has_no_hints() {
    let world = World::new();
    let storage = Faulty::new(&world.memory).without_hints();
    let server = world.server_over(storage.shared()).claim_interval(Duration::from_millis(10));
    let server = server.handle::<Work, _>(taking_its_time()).start().await.unwrap();
    let scheduler = JobScheduler::with_local_clock(storage.shared(), Arc::clone(&world.clock));

    let run = world.enqueue(30).await;
    assert_eq!(scheduler.await_result::<u32>(run, MINUTE).await.unwrap(), 30);
    assert!(late(&world, run).await <= AT_ONCE, "by a run: {}", late(&world, run).await);

    let signalled = world.create(JobBuilder::external(work(1))).await;
    let signalling = async {
        tokio::time::sleep(Duration::from_millis(29_999)).await;
        scheduler.signal_succeeded(signalled, 7).await.unwrap();
    };
    let (result, ()) = tokio::join!(scheduler.await_result::<u32>(signalled, MINUTE), signalling);
    assert_eq!(result.unwrap(), 7);
    assert!(late(&world, signalled).await <= AT_ONCE, "by a signal: {}", late(&world, signalled).await);

    let deleted = world.create(JobBuilder::new(work(1)).scheduled_in(MINUTE)).await;
    let deleting = async {
        tokio::time::sleep(Duration::from_millis(29_999)).await;
        scheduler.delete(deleted, "not needed").await.unwrap();
    };
    let (result, ()) = tokio::join!(scheduler.await_result::<u32>(deleted, MINUTE), deleting);
    assert!(matches!(result, Err(AwaitError::Deleted { .. })), "{result:?}");
    assert!(late(&world, deleted).await <= AT_ONCE, "by a deletion: {}", late(&world, deleted).await);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_that_goes_with_its_recurring_job_is_known_at_once() {
    let world = World::new();
    let storage = Faulty::new(&world.memory).without_hints();
    let scheduler = JobScheduler::with_local_clock(storage.shared(), Arc::clone(&world.clock));
    let recurring = scheduler.schedule_recurrently("beat", "* * * * *", work(1)).await.unwrap();
    let run = scheduler.trigger_recurring_job(&recurring).await.unwrap();

    let deleting = async {
        tokio::time::sleep(Duration::from_millis(29_999)).await;
        scheduler.delete_recurring_job(&recurring).await.unwrap();
    };
    let (result, ()) = tokio::join!(scheduler.await_result::<u32>(run, MINUTE), deleting);

    assert!(matches!(result, Err(AwaitError::Deleted { .. })), "{result:?}");
    assert!(late(&world, run).await <= AT_ONCE, "{}", late(&world, run).await);
}

#[tokio::test(start_paused = true)]
async fn without_hints_a_result_is_found_by_looking_but_not_often() {
    let world = World::new();
    let server = world.server().handle::<Work, _>(taking_its_time()).start().await.unwrap();
    let storage = Faulty::new(&world.memory).without_hints();
    let scheduler = JobScheduler::with_local_clock(storage.shared(), Arc::clone(&world.clock));
    let id = world.enqueue(30).await;

    let result = scheduler.await_result::<u32>(id, MINUTE).await.unwrap();

    assert_eq!(result, 30);
    assert!(late(&world, id).await <= TimeDelta::seconds(1), "{}", late(&world, id).await);
    let looks = storage.calls()["find_job"];
    assert!(looks <= 60, "{looks} looks in 30 seconds");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_retried_is_waited_for_and_one_that_failed_for_good_is_not() {
    let world = World::new();
    let server = world.server().handle::<Work, _>(taking_its_time()).start().await.unwrap();
    let id = world.create(JobBuilder::new(work(13)).retries(1)).await;

    let failed = world.scheduler.await_result::<u32>(id, MINUTE).await.unwrap_err();

    let AwaitError::Failed { failure, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(failure.message, "bad luck");
    assert_eq!(world.job(id).await.failures(), 2);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_other_end_is_an_error_that_says_so() {
    let world = World::new();
    let server = world.server().handle::<Work, _>(taking_its_time()).start().await.unwrap();
    let scheduler = &world.scheduler;

    let unknown = JobId::new();
    let error = scheduler.await_result::<u32>(unknown, MINUTE).await.unwrap_err();
    assert!(matches!(error, AwaitError::NotFound(id) if id == unknown), "{error:?}");

    let deleted = scheduler.schedule_in(MINUTE * 60, work(1)).await.unwrap();
    let (error, _) = tokio::join!(scheduler.await_result::<u32>(deleted, MINUTE), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        scheduler.delete(deleted, "not needed").await.unwrap();
    });
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), format!("job {deleted} was deleted before it succeeded: not needed"));

    let slow = world.enqueue(120).await;
    let error = scheduler.await_result::<u32>(slow, MINUTE).await.unwrap_err();
    assert!(matches!(error, AwaitError::TimedOut { state: StateName::Processing, .. }), "{error:?}");
    assert_eq!(
        scheduler.await_result::<u32>(slow, MINUTE * 2).await.unwrap(),
        120,
        "waiting once more is fine"
    );

    let error = scheduler.await_result::<String>(slow, MINUTE).await.unwrap_err();
    assert!(matches!(error, AwaitError::Unfit { .. }), "{error:?}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_stays_when_the_job_is_cleared_away_and_nothing_is_a_result_too() {
    let world = World::new();
    let nothing = Doing(async |_: Work, _| Ok(()));
    let server = world.server().handle::<Work, _>(nothing).start().await.unwrap();
    let id = world.create(JobBuilder::external(work(1))).await;
    world.job_in(id, StateName::Processed).await;
    world.scheduler.signal_succeeded(id, vec![1, 2]).await.unwrap();
    world.scheduler.delete(id, "cleared away").await.unwrap();
    let plain = world.enqueue(1).await;

    assert_eq!(world.scheduler.await_result::<Vec<u8>>(id, Duration::ZERO).await.unwrap(), [1, 2]);
    world.scheduler.await_result::<()>(plain, MINUTE).await.unwrap();
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_is_away_for_a_while_is_asked_again() {
    let world = World::new();
    let server = world.server().handle::<Work, _>(taking_its_time()).start().await.unwrap();
    let storage = Faulty::new(&world.memory).without_hints();
    let scheduler = JobScheduler::with_local_clock(storage.shared(), Arc::clone(&world.clock));
    let id = world.enqueue(1).await;
    storage.fail(|_| Fault::BeforeEffect);

    let error = scheduler.await_result::<u32>(id, MINUTE).await.unwrap_err();
    assert!(matches!(error, AwaitError::Storage(_)), "{error:?}");
    let (result, ()) = tokio::join!(scheduler.await_result::<u32>(id, MINUTE), async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        storage.mend();
    });

    assert_eq!(result.unwrap(), 1);
    storage.fail(|_| Fault::Refused);
    assert!(scheduler.await_result::<u32>(id, MINUTE).await.is_err());
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_never_answers_holds_up_nobody_beyond_the_timeout() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let scheduler = JobScheduler::with_local_clock(storage.shared(), Arc::clone(&world.clock));
    let id = world.enqueue(1).await;
    storage.fail(|operation| if operation == "find_job" { Fault::Hang } else { Fault::None });
    let begun_at = world.now();

    let error = scheduler.await_result::<u32>(id, MINUTE).await.unwrap_err();

    assert!(matches!(error, AwaitError::Storage(StorageError::Unavailable { .. })), "{error:?}");
    assert_eq!(world.now() - begun_at, TimeDelta::minutes(1));
    let error = scheduler.await_result::<u32>(id, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, AwaitError::Storage(_)), "{error:?}");
    assert_eq!(world.now() - begun_at, TimeDelta::seconds(61), "one look is waited for");
}
