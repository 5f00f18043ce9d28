//! External jobs and results, as core makes them of the contract: any process that reaches the database may signal and
//! await.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::{FutureExt, try_join_all};
use jobrunr_core::limits::MAX_RESULT_BYTES;
use jobrunr_core::retry::{FixedDelays, Retries};
use jobrunr_core::storage::{JobQuery, SaveConflict, StorageExt};
use jobrunr_core::{AwaitError, JobBuilder, JobId, Signal, SignalError, StateName};
use serde_json::json;

use crate::builders::{ids, insert_all};
use crate::content::list;
use crate::house::{Film, House, a_film, states};
use crate::{Fixture, ScenarioResult};

/// Longer than anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The handler is long gone when somebody approves what it has set off.
pub async fn a_signal_of_another_process_completes_a_parked_job(fixture: &Fixture<'_>) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let id = house.parked(a_film(1)).await?;
    let result = json!({ "by": "Zoë", "stars": [5, u64::MAX] });

    house.there.signal_succeeded(id, &result).await?;

    let job = house.near.find_job(id).await?.ok_or("it is gone")?;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "PROCESSED", "SUCCEEDED"]);
    let kept: serde_json::Value = job.result().ok_or("there is no result")?.decode()?;
    assert_eq!(kept, result);

    house.here.signal_succeeded(id, &result).await?;
    assert_eq!(house.seen(id).await?, job, "the same signal twice is fine and changes nothing");
    let other = house.here.signal_failed(id, "no").await;
    assert!(matches!(other, Err(SignalError::AlreadyEnded { state: StateName::Succeeded, .. })), "{other:?}");
    assert_eq!(house.seen(id).await?, job);
    Ok(())
}

/// A provider may call back before the handler that placed the order has returned.
pub async fn a_signal_wins_over_a_trigger_that_has_not_ended(fixture: &Fixture<'_>) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let mut running = house.running(a_film(1)).await?;

    house.there.signal_succeeded(running.id(), "early").await?;

    running.park(house.near.storage_time().await?)?;
    let parked = house.near.save_job(&mut running).await;
    assert!(matches!(parked, Err(SaveConflict::Lost(_))), "the trigger is too late: {parked:?}");
    let job = house.seen(running.id()).await?;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    Ok(())
}

/// Whatever comes together, one signal counts and no entry is lost.
pub async fn signals_and_ends_of_triggers_at_once_complete_each_job_once(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let house = House::of(fixture).await?;
    for number in 0..20 {
        let mut running = house.running(a_film(number)).await?;
        let id = running.id();
        let (near, now) = (fixture.shared_storage(), house.near.storage_time().await?);
        let parking = tokio::spawn(async move {
            running.park(now)?;
            match near.save_job(&mut running).await {
                Ok(()) | Err(SaveConflict::Lost(_)) => Ok::<_, jobrunr_core::storage::BoxError>(()),
                Err(error) => Err(error.into()),
            }
        });
        let good = Signal::succeeded(id, "done")?;
        let bad = Signal::failed(id, "no").do_not_retry();
        let signals = [(house.here.clone(), bad), (house.there.clone(), good)];
        let signals =
            signals.map(|(scheduler, signal)| tokio::spawn(async move { scheduler.signal(signal).await }));
        let answers = try_join_all(signals).await?;
        parking.await??;

        let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(accepted, 1, "{answers:?}");
        for answer in answers {
            assert!(matches!(answer, Ok(()) | Err(SignalError::AlreadyEnded { .. })), "{answer:?}");
        }
        let job = house.seen(id).await?;
        let ends = states(&job).into_iter().filter(|state| ["SUCCEEDED", "FAILED"].contains(state)).count();
        assert_eq!(ends, 1, "{:?}", states(&job));
        assert_eq!(job.version().number(), u64::try_from(job.history().len())?, "each save had its entry");
    }
    Ok(())
}

/// The retry rules hold for what others report, and a report that comes twice fails no later attempt.
pub async fn a_signalled_failure_is_retried_until_no_retries_are_left(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let at_once = Retries::default().policy(FixedDelays::new([]));
    let provider = house.there.clone().with_retries(at_once);
    let id = house.parked(a_film(1).retries(1)).await?;
    let first = || Signal::failed(id, "no card is free").of_attempt(1);

    provider.signal(first()).await?;
    // A little later: a process only estimates what the clock of its storage says.
    let later = house.near.storage_time().await? + TimeDelta::seconds(1);
    let released = house.near.enqueue_due_jobs(later, 10).await?.released;
    assert_eq!(released, [id]);
    let mut again = house.claim().await?;
    provider.signal(first()).await?;
    house.park(&mut again).await?;
    assert_eq!(house.seen(id).await?, again, "it was said before");
    provider.signal_failed(id, "no card is free").await?;

    let job = house.seen(id).await?;
    let attempt = ["PROCESSING", "PROCESSED", "FAILED"];
    let expected = [&["ENQUEUED"], &attempt[..], &["SCHEDULED", "ENQUEUED"], &attempt[..]].concat();
    assert_eq!(states(&job), expected);
    assert_eq!(job.last_failure().map(|failure| failure.message.as_str()), Some("no card is free"));
    Ok(())
}

/// Whoever mixes up ids is told, and nothing happens.
pub async fn a_signal_for_the_wrong_job_changes_nothing(fixture: &Fixture<'_>) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let unknown = JobId::new();
    let answer = house.there.signal_succeeded(unknown, ()).await;
    assert!(matches!(answer, Err(SignalError::NotFound(id)) if id == unknown), "{answer:?}");

    let ordinary = house.running(JobBuilder::new(Film { number: 1 })).await?;
    let answer = house.there.signal_succeeded(ordinary.id(), ()).await;
    assert!(matches!(answer, Err(SignalError::NotExternal(_))), "{answer:?}");
    assert_eq!(house.seen(ordinary.id()).await?, ordinary);

    let deleted = house.parked(a_film(2)).await?;
    house.here.delete(deleted, "not needed").await?;
    let answer = house.there.signal_succeeded(deleted, ()).await;
    assert!(matches!(answer, Err(SignalError::AlreadyEnded { state: StateName::Deleted, .. })), "{answer:?}");

    let waiting = house.here.create(a_film(3)).await?;
    let before = house.seen(waiting).await?;
    let answer = house.there.signal_failed(waiting, "no").await;
    assert!(matches!(answer, Err(SignalError::NotStarted { state: StateName::Enqueued, .. })), "{answer:?}");
    assert_eq!(house.seen(waiting).await?, before);
    Ok(())
}

/// A page of what waits for a person lists it by label, the newest first.
pub async fn what_waits_for_a_signal_is_found_by_its_label(fixture: &Fixture<'_>) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let mut waiting = Vec::new();
    for number in 0..5 {
        waiting.push(house.parked(a_film(number)).await?);
        // None of these is one of those: another label, and other states.
        house.parked(a_film(number).labels(["gpu"])).await?;
        house.running(a_film(number)).await?;
    }
    let ended = house.parked(a_film(9)).await?;
    house.here.signal_succeeded(ended, ()).await?;
    insert_all(fixture.storage(), &mut [house.here.prepare(a_film(10)).await?]).await?;
    waiting.reverse();
    let query = || JobQuery::in_state(StateName::Processed).label("ai-review").newest_first();

    assert_eq!(ids(&house.far.list_jobs(&query().limit(3)).await?), waiting[..3]);
    assert_eq!(ids(&list(&*house.far, query()).await?), waiting);
    assert_eq!(house.far.count_jobs(&query()).await?, 5);
    Ok(())
}

/// Who enqueued a job can await what comes of it, wherever it is run.
pub async fn a_result_is_awaited_by_another_process(fixture: &Fixture<'_>) -> ScenarioResult {
    let house = House::of(fixture).await?;
    for (state, number) in [(StateName::Processed, 1_u64), (StateName::Processing, 2)] {
        let mut running = house.running(a_film(7)).await?;
        let id = running.id();
        if state == StateName::Processed {
            house.park(&mut running).await?;
        }
        let there = house.there.clone();
        let awaited = tokio::spawn(async move { there.await_result::<u64>(id, PATIENCE).await });
        tokio::task::yield_now().await;

        house.here.signal_succeeded(id, number).await?;

        assert_eq!(awaited.await??, number);
    }
    let failed = house.parked(a_film(8).retries(0)).await?;
    house.here.signal_failed(failed, "no card is free").await?;
    let answer = house.there.await_result::<u64>(failed, PATIENCE).await;
    assert!(matches!(answer, Err(AwaitError::Failed { .. })), "{answer:?}");
    let waiting = house.parked(a_film(9)).await?;
    let answer = house.there.await_result::<u64>(waiting, Duration::from_millis(20)).await;
    assert!(matches!(answer, Err(AwaitError::TimedOut { state: StateName::Processed, .. })), "{answer:?}");
    Ok(())
}

/// Who waits in the process that ends a job has the news of it when it is saved, and need not look.
pub async fn who_waits_beside_the_one_that_ends_a_job_is_told(fixture: &Fixture<'_>) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let signalled = house.parked(a_film(1)).await?;
    let deleted = house.parked(a_film(2)).await?;
    let waits = [signalled, deleted].map(|id| house.near.awaited_jobs().begin_wait(id));
    assert!(waits.iter().all(|wait| wait.news().now_or_never().is_none()), "they have not ended");

    house.here.signal_succeeded(signalled, ()).await?;
    house.here.delete(deleted, "not needed").await?;

    let told = waits.iter().map(|wait| wait.news().now_or_never().is_some()).collect::<Vec<_>>();
    assert_eq!(told, [true, true]);
    Ok(())
}

/// What may be kept is kept whole; what is larger is refused before anything is written.
pub async fn a_result_of_the_largest_size_is_kept_and_a_larger_one_refused(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let id = house.parked(a_film(1)).await?;
    let before = house.seen(id).await?;
    let text = |bytes: usize| "x".repeat(bytes - 2);

    let larger = house.there.signal_succeeded(id, text(MAX_RESULT_BYTES + 1)).await;
    let Err(SignalError::Unfit(error)) = larger else { panic!("{larger:?}") };
    let message = error.to_string();
    assert!(message.contains("1048577") && message.contains("1048576"), "{message}");
    assert_eq!(house.seen(id).await?, before);

    house.there.signal_succeeded(id, text(MAX_RESULT_BYTES)).await?;
    let result: String = house.here.await_result(id, PATIENCE).await?;
    assert!(result == text(MAX_RESULT_BYTES), "every byte of it");
    Ok(())
}
