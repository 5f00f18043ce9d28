//! Removing jobs for good: by id, and the oldest of a state.

use chrono::{DateTime, Utc};
use jobrunr_core::storage::{JobQuery, JobSelection, SignatureSelection, StorageExt};
use jobrunr_core::{Job, JobId, JobMetadata, StateName};
use serde_json::json;

use crate::builders::{
    MICROSECOND, a_claim, a_job, an_enqueued_job, at, enqueued_jobs, ids, insert_all, numbered_id, signature,
    stored,
};
use crate::content::{UNBOUNDED, everything, find, list};
use crate::{Fixture, ScenarioResult};

fn aged(state: StateName, updated_before: DateTime<Utc>, limit: usize) -> JobSelection {
    JobSelection::Aged { state, updated_before, signatures: SignatureSelection::All, limit }
}

/// The second time there is nothing left to remove.
pub async fn a_job_is_deleted_by_id_once(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = enqueued_jobs(3);
    insert_all(storage, &mut jobs).await?;
    let selection = JobSelection::Ids(vec![jobs[1].id()]);

    assert_eq!(storage.delete_jobs(&selection).await?, 1);
    assert_eq!(storage.delete_jobs(&selection).await?, 0);

    assert_eq!(storage.find_job(jobs[1].id()).await?, None);
    assert_eq!(ids(&everything(storage).await?), [jobs[0].id(), jobs[2].id()]);
    Ok(())
}

/// Ids are removed in any number and whatever the state; unknown and repeated ones count for nothing.
pub async fn many_jobs_are_deleted_by_id_at_once(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = enqueued_jobs(6_000);
    jobs.extend(StateName::ALL.map(|state| a_job().in_state(state, at(9))));
    insert_all(storage, &mut jobs).await?;
    let keeper = stored(storage, an_enqueued_job()).await?;
    let mut doomed = ids(&jobs);
    doomed.push(JobId::new());
    doomed.push(jobs[0].id());

    assert_eq!(storage.delete_jobs(&JobSelection::Ids(doomed)).await?, 6_008);

    assert_eq!(everything(storage).await?, [keeper]);
    assert_eq!(storage.job_counts().await?.total(), 1);
    Ok(())
}

/// Nothing of a deleted job is left that a new one under its id could inherit.
pub async fn an_id_can_be_used_again_after_its_job_is_gone(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let metadata = JobMetadata::from([("old".to_owned(), json!(1))]);
    let old = a_job().labelled(&["old"]).in_state(StateName::Failed, at(0)).with_metadata(metadata);
    let id = stored(storage, old).await?.id();
    storage.delete_jobs(&JobSelection::Ids(vec![id])).await?;

    let new = stored(storage, a_job().id(id).labelled(&["new"]).enqueued(at(5))).await?;

    assert_eq!(find(storage, id).await?, new);
    assert_eq!(storage.count_jobs(&JobQuery::all().label("old")).await?, 0);
    assert_eq!(storage.count_jobs(&JobQuery::all().error_contains("fire")).await?, 0);
    assert_eq!(storage.claim_jobs(&a_claim(5, at(6))).await?.len(), 1);
    Ok(())
}

/// A purge is bounded, so it must begin with what has waited longest.
pub async fn a_purge_takes_the_oldest_within_its_limit(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    // Ages against the order of the ids, with ties.
    let aged_job =
        |number: u64, second| a_job().id(numbered_id(number)).in_state(StateName::Deleted, at(second));
    let mut jobs = [
        aged_job(1, 30),
        aged_job(2, 20),
        aged_job(3, 20),
        aged_job(4, 20),
        aged_job(5, 10),
        aged_job(6, 40),
    ];
    insert_all(storage, &mut jobs).await?;
    let left = |numbers: &[u64]| numbers.iter().copied().map(numbered_id).collect::<Vec<_>>();

    assert_eq!(storage.delete_jobs(&aged(StateName::Deleted, at(60), 0)).await?, 0);
    assert_eq!(everything(storage).await?.len(), 6);
    assert_eq!(storage.delete_jobs(&aged(StateName::Deleted, at(60), 3)).await?, 3);
    assert_eq!(ids(&everything(storage).await?), left(&[1, 4, 6]), "ties go by id");
    assert_eq!(storage.delete_jobs(&aged(StateName::Deleted, at(60), 2)).await?, 2);
    assert_eq!(ids(&everything(storage).await?), left(&[6]));
    assert_eq!(storage.delete_jobs(&aged(StateName::Deleted, at(60), UNBOUNDED)).await?, 1);
    assert_eq!(storage.delete_jobs(&aged(StateName::Deleted, at(60), UNBOUNDED)).await?, 0);
    Ok(())
}

/// Exactly old enough is not yet old enough.
pub async fn the_instant_of_a_purge_is_exclusive(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let deleted = |now| a_job().in_state(StateName::Deleted, now);
    let just_old_enough = stored(storage, deleted(at(10) - MICROSECOND)).await?;
    let exactly = stored(storage, deleted(at(10))).await?;
    let younger = stored(storage, deleted(at(10) + MICROSECOND)).await?;

    assert_eq!(storage.delete_jobs(&aged(StateName::Deleted, at(10), 10)).await?, 1);

    assert_eq!(storage.find_job(just_old_enough.id()).await?, None);
    assert_eq!(everything(storage).await?, [exactly, younger]);
    Ok(())
}

/// Age is that of the state, not that of the job.
pub async fn a_purge_goes_by_the_last_update(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut old_job = stored(storage, a_job().in_state(StateName::Succeeded, at(-1_000))).await?;
    old_job.delete(None, at(50))?;
    storage.save_job(&mut old_job).await?;

    assert_eq!(storage.delete_jobs(&aged(StateName::Deleted, at(50), 10)).await?, 0);
    assert_eq!(storage.delete_jobs(&aged(StateName::Deleted, at(51), 10)).await?, 1);
    Ok(())
}

/// Whatever is not of the state stays, however old.
pub async fn a_purge_touches_no_other_state(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for purged in StateName::ALL {
        let mut jobs = StateName::ALL.map(|state| a_job().in_state(state, at(0)));
        insert_all(storage, &mut jobs).await?;

        assert_eq!(storage.delete_jobs(&aged(purged, at(1), 100)).await?, 1, "of {purged}");

        let mut left: Vec<StateName> = everything(storage).await?.iter().map(Job::state_name).collect();
        left.sort();
        assert_eq!(left, StateName::ALL.into_iter().filter(|state| *state != purged).collect::<Vec<_>>());
        storage.delete_jobs(&JobSelection::Ids(ids(&jobs))).await?;
    }
    Ok(())
}

/// Each job type may have a retention of its own.
pub async fn a_purge_can_be_for_some_types_only(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for name in ["a", "b", "c", "a", "b", "c"] {
        stored(storage, a_job().of_type(name).in_state(StateName::Succeeded, at(0))).await?;
    }
    let of = |signatures, limit| JobSelection::Aged {
        state: StateName::Succeeded,
        updated_before: at(1),
        signatures,
        limit,
    };

    assert_eq!(storage.delete_jobs(&of(SignatureSelection::Only(Vec::new()), 10)).await?, 0);
    assert_eq!(storage.delete_jobs(&of(SignatureSelection::Only(vec![signature("a")]), 10)).await?, 2);
    assert_eq!(storage.delete_jobs(&of(SignatureSelection::Except(vec![signature("b")]), 1)).await?, 1);
    assert_eq!(storage.delete_jobs(&of(SignatureSelection::Except(vec![signature("b")]), 10)).await?, 1);
    let left = list(storage, JobQuery::all()).await?;
    assert_eq!(left.iter().map(|job| job.signature().as_str()).collect::<Vec<_>>(), ["b", "b"]);
    Ok(())
}

/// A large purge counts right and takes the counts of the dashboard along.
pub async fn a_large_purge_tells_how_many_it_removed(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs: Vec<Job> = (0..8_000).map(|_| a_job().in_state(StateName::Succeeded, at(0))).collect();
    insert_all(storage, &mut jobs).await?;

    assert_eq!(storage.delete_jobs(&aged(StateName::Succeeded, at(1), 7_500)).await?, 7_500);

    assert_eq!(storage.job_counts().await?.in_state(StateName::Succeeded), 500);
    assert_eq!(everything(storage).await?.len(), 500);
    Ok(())
}
