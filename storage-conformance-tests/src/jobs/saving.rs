//! Saving one job: versions, conflicts, and what a save must leave alone.

use std::sync::Arc;

use chrono::TimeDelta;
use jobrunr_core::storage::{JobQuery, JobSelection, SaveConflict, StorageExt};
use jobrunr_core::{
    HistoryEntry, Job, JobDefinition, JobMetadata, JobState, JsonText, StateName, StoredJob, Version,
};
use serde_json::json;

use crate::builders::{
    a_claim, a_job, an_enqueued_job, at, failure, labels, move_to, queue, recurring_id, server, signature,
    stored,
};
use crate::content::{assert_listed_in_its_state_only, everything, find};
use crate::{Fixture, ScenarioResult};

/// From its schedule to its purge, through a failure and a retry.
pub async fn a_job_lives_its_whole_life_as_saved(fixture: &Fixture<'_>) -> ScenarioResult {
    use StateName::{Awaiting, Deleted, Enqueued, Failed, Processed, Processing, Scheduled, Succeeded};
    let storage = fixture.storage();
    let mut job = stored(storage, a_job().labelled(&["life"]).scheduled(at(0), at(10))).await?;
    assert_listed_in_its_state_only(storage, &job).await?;
    let steps: [&[StateName]; 11] = [
        &[Enqueued],
        &[Awaiting],
        &[Enqueued],
        &[Processing],
        &[Failed, Scheduled],
        &[Enqueued],
        &[Processing],
        &[Processed],
        &[Succeeded],
        &[Enqueued, Processing, Succeeded],
        &[Deleted],
    ];

    for (second, step) in (1_i64..).zip(steps) {
        for state in step {
            move_to(&mut job, *state, at(second));
        }
        storage.save_job(&mut job).await?;

        assert_eq!(find(storage, job.id()).await?, job, "after {step:?}");
        assert_listed_in_its_state_only(storage, &job).await?;
    }

    assert_eq!(storage.delete_jobs(&JobSelection::Ids(vec![job.id()])).await?, 1);
    assert_eq!(storage.find_job(job.id()).await?, None);
    assert_eq!(everything(storage).await?, []);
    assert_eq!(storage.job_counts().await?.total(), 0);
    Ok(())
}

/// Saves are counted, not entries.
pub async fn a_save_makes_the_version_one_greater(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut job = stored(storage, an_enqueued_job()).await?;

    job.start_processing(&server("a"), at(1))?;
    storage.save_job(&mut job).await?;
    assert_eq!(find(storage, job.id()).await?.version(), Version::new(2));

    job.fail(failure("once"), at(2))?;
    job.schedule(at(5), Some("retry 1 of 10".to_owned()), at(2))?;
    storage.save_job(&mut job).await?;
    let found = find(storage, job.id()).await?;
    assert_eq!(found.version(), Version::new(3), "two entries in one save make it one greater");
    assert_eq!(found, job);
    Ok(())
}

/// A save is a claim to have seen the latest version, also if it adds nothing.
pub async fn a_save_without_new_entries_takes_a_version_too(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut job = stored(storage, an_enqueued_job()).await?;
    let mut stale = job.clone();

    storage.save_job(&mut job).await?;

    assert_eq!(job.version(), Version::new(2));
    assert_eq!(find(storage, job.id()).await?, job);
    assert!(matches!(storage.save_job(&mut stale).await, Err(SaveConflict::Lost(id)) if id == job.id()));
    Ok(())
}

/// Two people load a job; the slower one must lose, loudly, and change nothing.
pub async fn a_stale_save_is_reported_and_changes_nothing(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut first = stored(storage, an_enqueued_job()).await?;
    let mut second = find(storage, first.id()).await?;

    first.start_processing(&server("winner"), at(1))?;
    storage.save_job(&mut first).await?;
    second.delete(Some("too late".to_owned()), at(2))?;
    let report = storage.save_jobs(std::slice::from_ref(&second)).await?;

    assert_eq!(report.conflicts, [first.id()], "the stale job must be named");
    assert_eq!(find(storage, first.id()).await?, first, "the winner must survive");
    assert_listed_in_its_state_only(storage, &first).await?;
    Ok(())
}

/// A version that was never stored is no better than an old one.
pub async fn a_save_from_the_future_is_a_conflict_too(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let job = stored(storage, an_enqueued_job()).await?;
    let mut ahead = job.clone();
    ahead.mark_saved();
    ahead.delete(None, at(1))?;

    let report = storage.save_jobs(&[ahead]).await?;

    assert_eq!(report.conflicts, [job.id()]);
    assert_eq!(find(storage, job.id()).await?, job);
    Ok(())
}

/// A claim is a change by somebody else like any other.
pub async fn a_save_that_lost_to_a_claim_changes_nothing(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut loaded = stored(storage, an_enqueued_job()).await?;
    let claimed = storage.claim_jobs(&a_claim(1, at(1))).await?;

    loaded.delete(None, at(2))?;
    let report = storage.save_jobs(std::slice::from_ref(&loaded)).await?;

    assert_eq!(report.conflicts, [loaded.id()]);
    assert_eq!([find(storage, loaded.id()).await?], *claimed);
    Ok(())
}

/// Whoever saves a job that is gone must not bring it back.
pub async fn saving_a_purged_job_is_a_conflict_and_leaves_it_gone(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut job = stored(storage, an_enqueued_job()).await?;
    storage.delete_jobs(&JobSelection::Ids(vec![job.id()])).await?;

    job.start_processing(&server("a"), at(1))?;
    let report = storage.save_jobs(std::slice::from_ref(&job)).await?;

    assert_eq!(report.conflicts, [job.id()]);
    assert_eq!(storage.find_job(job.id()).await?, None);
    assert_eq!(storage.count_jobs(&JobQuery::all()).await?, 0);
    Ok(())
}

/// An id that a job gets from its name may be given again; the version alone does not tell the two jobs apart.
pub async fn a_save_of_a_purged_job_never_hits_a_later_one_with_its_id(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    let draft = a_job();
    let mut purged = stored(storage, draft.clone().enqueued(at(0))).await?;
    move_to(&mut purged, StateName::Processing, at(1));
    storage.save_job(&mut purged).await?;
    storage.delete_jobs(&JobSelection::Ids(vec![purged.id()])).await?;
    let mut later = stored(storage, draft.enqueued(at(10))).await?;
    move_to(&mut later, StateName::Processing, at(11));
    storage.save_job(&mut later).await?;
    assert_eq!((purged.id(), purged.version()), (later.id(), later.version()));

    purged.succeed(None, at(12))?;
    let report = storage.save_jobs(std::slice::from_ref(&purged)).await?;

    assert_eq!(report.conflicts, [purged.id()]);
    assert_eq!(find(storage, later.id()).await?, later);
    Ok(())
}

/// What two servers wrote one after the other is all there.
pub async fn history_written_by_others_is_kept(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    let job = stored(storage, an_enqueued_job()).await?;
    let mut expected = job.history().to_vec();

    for round in 0..5_i64 {
        let claimed =
            if round % 2 == 0 { storage } else { &*other }.claim_jobs(&a_claim(1, at(10 * round))).await?;
        let [mut claimed] = <[Job; 1]>::try_from(claimed).map_err(|jobs| format!("claimed {jobs:?}"))?;
        claimed.fail(failure(&format!("failure {round}")), at(10 * round + 1))?;
        claimed.enqueue(at(10 * round + 2))?;
        if round % 2 == 0 { &*other } else { storage }.save_job(&mut claimed).await?;
        expected.extend_from_slice(&claimed.history()[expected.len()..]);
    }

    assert_eq!(find(storage, job.id()).await?.history(), expected);
    assert_eq!(expected.len(), 16);
    Ok(())
}

/// What was written once is never written again, whatever the caller made of it.
pub async fn a_save_never_rewrites_older_entries(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut job = stored(storage, an_enqueued_job()).await?;
    job.start_processing(&server("a"), at(1))?;
    job.fail(failure("the truth"), at(2))?;
    job.schedule(at(3), None, at(2))?;
    storage.save_job(&mut job).await?;

    let tell_otherwise = |entry: &HistoryEntry| match &entry.state {
        JobState::Failed(_) => HistoryEntry { at: entry.at, state: JobState::failed(failure("a lie")) },
        _ => entry.clone(),
    };
    let mut forged = Job::from_stored(StoredJob {
        id: job.id(),
        version: job.version(),
        definition: job.shared_definition(),
        history: job.history().iter().map(tell_otherwise).collect(),
        metadata: JobMetadata::new(),
    });
    forged.enqueue(at(4))?;
    storage.save_job(&mut forged).await?;

    job.enqueue(at(4))?;
    assert_eq!(find(storage, job.id()).await?.history(), job.history());
    Ok(())
}

/// A definition is written when a job is inserted, and never again.
pub async fn a_save_never_changes_the_definition(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut job = stored(storage, a_job().labelled(&["mine"]).tick_of("nightly").enqueued(at(0))).await?;

    let mut settings = job.definition().settings.clone();
    settings.recurring_job_id = Some(recurring_id("hourly"));
    settings.retries = Some(3);
    let definition = JobDefinition {
        signature: signature("other-type"),
        payload: JsonText::of(&json!("other payload"))?,
        name: "other name".to_owned(),
        labels: labels(&["other"]),
        queue: queue("other"),
        priority: 9,
        settings,
    };
    let mut forged = Job::from_stored(StoredJob {
        id: job.id(),
        version: job.version(),
        definition: Arc::new(definition),
        history: job.history().to_vec(),
        metadata: JobMetadata::new(),
    });
    forged.delete(None, at(1))?;
    storage.save_job(&mut forged).await?;

    job.delete(None, at(1))?;
    job.mark_saved();
    assert_eq!(find(storage, job.id()).await?, job);
    assert_eq!(storage.count_jobs(&JobQuery::all().label("other")).await?, 0);
    assert_eq!(storage.count_jobs(&JobQuery::all().label("mine")).await?, 1);
    Ok(())
}

/// A job that comes back again and again keeps every entry of it.
pub async fn a_long_history_is_kept_whole(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut job = stored(storage, an_enqueued_job()).await?;
    for round in 0..100 {
        let now = at(0) + TimeDelta::milliseconds(round);
        job.start_processing(&server("a"), now)?;
        job.fail(failure(&format!("failure {round}")), now)?;
        job.enqueue(now)?;
        storage.save_job(&mut job).await?;
    }

    let found = find(storage, job.id()).await?;

    assert_eq!(found, job);
    assert_eq!((found.history().len(), found.version()), (301, Version::new(101)));
    Ok(())
}
