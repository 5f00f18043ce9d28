//! Claims at the same time as other claims, saves and deletions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join_all;
use jobrunr_core::storage::{JobQuery, JobSelection, StorageError, StorageExt, StorageProvider};
use jobrunr_core::{Job, JobId, StateName, Version};
use tokio::sync::Barrier;

use crate::builders::{a_claim, a_job, at, enqueued_jobs, failure, ids, insert_all, queue};
use crate::content::{UNBOUNDED, assert_one_version_an_entry, assert_sound, everything};
use crate::{Fixture, ScenarioResult};

async fn claim_until_empty(
    storage: Arc<dyn StorageProvider>,
    limit: usize,
) -> Result<Vec<Job>, StorageError> {
    let mut claimed = Vec::new();
    // A claim may pass over what another looks at just then, so one empty answer is not yet the end.
    while storage.count_jobs(&JobQuery::in_state(StateName::Enqueued)).await? > 0 {
        claimed.extend(storage.claim_jobs(&a_claim(limit, at(1))).await?);
    }
    Ok(claimed)
}

/// Eight servers, of two processes, empty one queue.
pub async fn claimers_at_once_take_each_job_once(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    let mut jobs = enqueued_jobs(2_000);
    insert_all(storage, &mut jobs).await?;
    let claimers = (0..8).map(|number| {
        let storage = if number % 2 == 0 { fixture.shared_storage() } else { Arc::clone(&other) };
        tokio::spawn(claim_until_empty(storage, 1 + 10 * number))
    });

    let mut claimed: Vec<Job> = Vec::new();
    for of_one in try_join_all(claimers).await? {
        claimed.extend(of_one?);
    }

    claimed.sort_by_key(Job::id);
    assert_eq!(ids(&claimed), ids(&jobs), "the union is all, no job twice");
    assert!(everything(storage).await? == claimed, "what is stored is what the claimers were given");
    assert_eq!(storage.claim_jobs(&a_claim(UNBOUNDED, at(2))).await?, [], "none is left");
    Ok(())
}

/// Who works on one queue does not wait for, or starve, who works on another.
pub async fn claimers_of_different_queues_do_not_disturb_each_other(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs: Vec<Job> =
        (0..800).map(|number| a_job().in_queue(&format!("queue-{}", number % 4)).enqueued(at(0))).collect();
    insert_all(storage, &mut jobs).await?;
    let start = Arc::new(Barrier::new(4));
    let claimers = (0..4).map(|number| {
        let (storage, start) = (fixture.shared_storage(), Arc::clone(&start));
        tokio::spawn(async move {
            let claim = a_claim(100, at(1)).from_queues([queue(&format!("queue-{number}"))]);
            start.wait().await;
            let first = storage.claim_jobs(&claim).await?;
            let second = storage.claim_jobs(&claim).await?;
            Ok::<_, StorageError>([first, second])
        })
    });

    for (number, claimed) in try_join_all(claimers).await?.into_iter().enumerate() {
        let own: Vec<JobId> = ids(&jobs).into_iter().skip(number).step_by(4).collect();
        let [first, second] = claimed?;
        assert_eq!(ids(&first), own[..100], "each claim gets as many as there are, in order");
        assert_eq!(ids(&second), own[100..]);
    }
    Ok(())
}

/// What one racer of [`claims_race_with_saves_and_deletions`] saw.
#[derive(Default)]
struct Seen {
    claimed: Vec<(JobId, Version)>,
    won: Vec<(JobId, Version)>,
    removed: HashSet<JobId>,
}

/// Servers claim and complete while people delete, requeue and purge the same jobs.
pub async fn claims_race_with_saves_and_deletions(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = enqueued_jobs(400);
    insert_all(storage, &mut jobs).await?;
    let all = Arc::new(ids(&jobs));
    let other = fixture.another_storage().await?;
    let (here, there) = (fixture.shared_storage(), other);

    let racers = [
        tokio::spawn(claim_and_complete(Arc::clone(&here))),
        tokio::spawn(claim_and_complete(Arc::clone(&there))),
        tokio::spawn(delete_and_requeue(Arc::clone(&there), Arc::clone(&all))),
        tokio::spawn(delete_and_requeue(Arc::clone(&here), Arc::clone(&all))),
        tokio::spawn(purge_some(here, all)),
    ];
    let mut seen = Seen::default();
    for one in try_join_all(racers).await? {
        let one = one?;
        seen.claimed.extend(one.claimed);
        seen.won.extend(one.won);
        seen.removed.extend(one.removed);
    }

    let left = everything(storage).await?;
    assert_sound(&left);
    left.iter().for_each(assert_one_version_an_entry);
    let mut versions: HashMap<JobId, HashSet<Version>> = HashMap::new();
    for (id, version) in seen.claimed.iter().chain(&seen.won) {
        let is_new = versions.entry(*id).or_default().insert(*version);
        assert!(is_new, "version {version} of job {id} was given to two");
    }
    for job in &left {
        assert!(!seen.removed.contains(&job.id()), "a purged job is back");
        let written: u64 = versions.get(&job.id()).map_or(0, HashSet::len).try_into()?;
        assert_eq!(
            job.version().number(),
            1 + written,
            "each version that job {} has was reported to somebody",
            job.id()
        );
    }
    assert_eq!(left.len() + seen.removed.len(), 400, "no job is lost");
    Ok(())
}

async fn claim_and_complete(storage: Arc<dyn StorageProvider>) -> Result<Seen, StorageError> {
    let mut seen = Seen::default();
    for round in 0..40_i32 {
        let mut claimed = storage.claim_jobs(&a_claim(10, at(i64::from(round)))).await?;
        seen.claimed.extend(claimed.iter().map(|job| (job.id(), job.version())));
        for (number, job) in claimed.iter_mut().enumerate() {
            let now = at(i64::from(round));
            let moved = match number % 3 {
                0 => job.succeed(None, now),
                1 => job.fail(failure("no luck"), now),
                _ => job.give_back("not now", now),
            };
            moved.expect("a claimed job is PROCESSING");
        }
        let lost = storage.save_all(&mut claimed).await?;
        seen.won.extend(
            claimed.iter().filter(|job| !lost.contains(&job.id())).map(|job| (job.id(), job.version())),
        );
    }
    Ok(seen)
}

async fn delete_and_requeue(
    storage: Arc<dyn StorageProvider>,
    ids: Arc<Vec<JobId>>,
) -> Result<Seen, StorageError> {
    let mut seen = Seen::default();
    for (round, chunk) in (0_i64..).zip(ids.chunks(20)) {
        let mut loaded = Vec::new();
        for id in chunk {
            loaded.extend(storage.find_job(*id).await?);
        }
        for job in &mut loaded {
            let now = at(round);
            let moved =
                if job.state_name().is_final() { job.requeue(None, now) } else { job.delete(None, now) };
            moved.expect("every state can be left like this");
        }
        let lost = storage.save_all(&mut loaded).await?;
        seen.won.extend(
            loaded.iter().filter(|job| !lost.contains(&job.id())).map(|job| (job.id(), job.version())),
        );
    }
    Ok(seen)
}

async fn purge_some(storage: Arc<dyn StorageProvider>, ids: Arc<Vec<JobId>>) -> Result<Seen, StorageError> {
    let mut seen = Seen::default();
    for id in ids.iter().step_by(7) {
        if storage.delete_jobs(&JobSelection::Ids(vec![*id])).await? == 1 {
            seen.removed.insert(*id);
        }
    }
    Ok(seen)
}
