//! Hints about changes: scenarios 61 to 66.

use std::time::{Duration, Instant};

use futures_util::future::FutureExt;
use futures_util::stream::StreamExt;
use jobrunr_core::storage::{
    BoxError, Change, ChangeStream, JobQuery, StorageError, StorageExt, StorageProvider,
};
use jobrunr_core::{Job, JobId, QueueName, StateName};

use crate::builders::{a_claim, a_job, an_enqueued_job, at, failure, ids, queue, stored};
use crate::content::{UNBOUNDED, list};
use crate::{Fixture, ScenarioResult};

/// What hints promise.
const PROMISED: Duration = Duration::from_secs(1);
/// How long a machine that does much else may take; of several hints at least one must come as promised.
const PATIENCE: Duration = Duration::from_secs(15);

/// Waits for a hint that says this, or that says to look for oneself; tells how long it took.
async fn hint(changes: &mut ChangeStream, wanted: impl Fn(&Change) -> bool) -> Result<Duration, BoxError> {
    let begun = Instant::now();
    let seen = async {
        while let Some(change) = changes.next().await {
            if change == Change::Resync || wanted(&change) {
                return Ok(begun.elapsed());
            }
        }
        Err("the feed ended".into())
    };
    tokio::time::timeout(PATIENCE, seen).await.map_err(|_| format!("no hint in {PATIENCE:?}"))?
}

fn ready_in(wanted: QueueName) -> impl Fn(&Change) -> bool {
    move |change| matches!(change, Change::JobsReady { queue } if *queue == wanted)
}

/// Takes what came so far, so that nothing older is taken for the hint that is waited for.
fn drain(changes: &mut ChangeStream) {
    while let Some(Some(_)) = changes.next().now_or_never() {}
}

/// Hints come within a second, or some time later where the machine is busy, but not each time.
fn assert_prompt(delays: &[Duration]) {
    assert!(delays.iter().any(|delay| *delay <= PROMISED), "hints took {delays:?}");
}

/// Servers of any process hear of new work.
pub async fn inserting_ready_jobs_gives_a_hint(fixture: &Fixture<'_>) -> ScenarioResult {
    let other = fixture.another_storage().await?;
    let elsewhere = other.changes().ok_or("the other storage has no feed")?;
    let (mut near, mut far) = (fixture.changes()?.subscribe(), elsewhere.subscribe());
    let (mut near_delays, mut far_delays) = (Vec::new(), Vec::new());
    for name in ["high", "default", "high"] {
        drain(&mut near);
        drain(&mut far);

        stored(fixture.storage(), a_job().in_queue(name).enqueued(at(0))).await?;

        near_delays.push(hint(&mut near, ready_in(queue(name))).await?);
        far_delays.push(hint(&mut far, ready_in(queue(name))).await?);
    }
    assert_prompt(&near_delays);
    assert_prompt(&far_delays);
    Ok(())
}

/// All other ways into the queue give a hint too.
pub async fn jobs_that_come_back_to_their_queue_give_a_hint(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut changes = fixture.changes()?.subscribe();
    let mut delays = Vec::new();
    for round in 0..3 {
        let now = at(100 * round);
        stored(storage, a_job().in_queue("late").scheduled(at(0), now)).await?;
        drain(&mut changes);
        assert_eq!(storage.enqueue_due_jobs(now, 10).await?.released.len(), 1);
        delays.push(hint(&mut changes, ready_in(queue("late"))).await?);

        let mut job = storage.claim_jobs(&a_claim(1, now)).await?.remove(0);
        job.fail(failure("once"), now)?;
        job.enqueue(now)?;
        drain(&mut changes);
        storage.save_job(&mut job).await?;
        delays.push(hint(&mut changes, ready_in(queue("late"))).await?);

        storage.claim_jobs(&a_claim(1, now)).await?;
    }
    assert_prompt(&delays);
    Ok(())
}

/// The server that runs a job hears that it is not wanted any more.
pub async fn deleting_a_running_job_gives_a_hint(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    let mut changes = other.changes().ok_or("the other storage has no feed")?.subscribe();
    let mut delays = Vec::new();
    for _ in 0..3 {
        stored(storage, an_enqueued_job()).await?;
        let mut job = storage.claim_jobs(&a_claim(1, at(1))).await?.remove(0);
        drain(&mut changes);

        job.delete(Some("not wanted any more".to_owned()), at(2))?;
        storage.save_job(&mut job).await?;

        let told = |change: &Change| matches!(change, Change::JobChanged { id, state: StateName::Deleted } if *id == job.id());
        delays.push(hint(&mut changes, told).await?);
    }
    assert_prompt(&delays);
    Ok(())
}

/// Nobody waits for a dashboard that hangs.
pub async fn a_slow_or_dropped_subscriber_holds_up_nobody(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let feed = fixture.changes()?;
    let (mut slow, mut attentive) = (feed.subscribe(), feed.subscribe());
    drop(feed.subscribe());
    let mut gone = feed.subscribe();
    drain(&mut gone);
    drop(gone);

    // More hints than any reasonable buffer holds, each in a queue of its own so that they cannot be merged.
    for number in 0..1_500 {
        let job = a_job().in_queue(&format!("queue-{number}")).enqueued(at(0));
        storage.insert_jobs(&[job]).await?;
    }
    drain(&mut attentive);
    stored(storage, a_job().in_queue("last").enqueued(at(0))).await?;

    hint(&mut attentive, ready_in(queue("last"))).await?;
    hint(&mut slow, ready_in(queue("last"))).await?;
    Ok(())
}

/// Whoever claims whenever there is a hint gets all there is, however many hints are merged.
pub async fn of_a_thousand_inserts_no_last_hint_is_lost(fixture: &Fixture<'_>) -> ScenarioResult {
    let writer = fixture.another_storage().await?;
    let storage = fixture.storage();
    let mut changes = fixture.changes()?.subscribe();
    let inserting = tokio::spawn(async move {
        for number in 0..1_000_u32 {
            writer.insert_jobs(&[an_enqueued_job()]).await?;
            if number % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        writer.close().await;
        Ok::<_, StorageError>(())
    });

    let mut claimed: Vec<JobId> = Vec::new();
    while claimed.len() < 1_000 {
        hint(&mut changes, |change| matches!(change, Change::JobsReady { .. }))
            .await
            .map_err(|error| format!("{error} after {} of 1000 jobs", claimed.len()))?;
        claimed.extend(ids(&storage.claim_jobs(&a_claim(UNBOUNDED, at(1))).await?));
    }

    inserting.await??;
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 1_000);
    Ok(())
}

/// A feed that lost its connection says so, and goes on.
pub async fn a_feed_comes_back_after_its_connection_was_cut(fixture: &Fixture<'_>) -> ScenarioResult {
    let mut changes = fixture.changes()?.subscribe();
    stored(fixture.storage(), an_enqueued_job()).await?;
    hint(&mut changes, ready_in(QueueName::default_queue())).await?;
    drain(&mut changes);

    fixture.connection_faults()?.cut_connections().await?;

    hint(&mut changes, |_| false).await.map_err(|error| format!("{error}: no Resync after the cut"))?;
    insert_in_spite_of_the_cut(fixture.storage(), a_job().in_queue("after").enqueued(at(0))).await?;
    hint(&mut changes, ready_in(queue("after"))).await?;
    Ok(())
}

/// The first calls after a cut may fail, but only as "not available".
async fn insert_in_spite_of_the_cut(storage: &dyn StorageProvider, job: Job) -> ScenarioResult {
    let begun = Instant::now();
    loop {
        match storage.insert_jobs(std::slice::from_ref(&job)).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_retryable() && begun.elapsed() < PATIENCE => {
                tokio::task::yield_now().await
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The cut of a connection is a reason to try again, and trying again helps.
pub async fn calls_work_again_after_connections_were_cut(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let job = stored(storage, an_enqueued_job()).await?;
    for _ in 0..3 {
        fixture.connection_faults()?.cut_connections().await?;
        insert_in_spite_of_the_cut(storage, an_enqueued_job()).await?;
    }

    assert_eq!(storage.find_job(job.id()).await?, Some(job));
    assert_eq!(storage.count_jobs(&JobQuery::all()).await?, 4);
    Ok(())
}

/// Hints only save time: whoever asks, on whatever storage, sees what they would tell, at once.
pub async fn asking_sees_all_that_hints_tell(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;

    let ready = stored(storage, an_enqueued_job()).await?;
    let due = stored(storage, a_job().scheduled(at(0), at(5))).await?;
    assert_eq!(other.enqueue_due_jobs(at(5), 10).await?.released, [due.id()]);
    let mut claimed = storage.claim_jobs(&a_claim(10, at(6))).await?;
    assert_eq!(ids(&claimed), [ready.id(), due.id()]);

    claimed[0].delete(None, at(7))?;
    storage.save_job(&mut claimed[0]).await?;
    let seen = other.find_job(ready.id()).await?.ok_or("it is gone")?;
    assert_eq!(seen.state_name(), StateName::Deleted);
    assert_eq!(ids(&list(&*other, JobQuery::in_state(StateName::Processing)).await?), [due.id()]);
    Ok(())
}
