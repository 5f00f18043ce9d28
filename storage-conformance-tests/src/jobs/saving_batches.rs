//! Saving many jobs at once: winners, losers, and who is named in what order.

use jobrunr_core::storage::{JobSelection, StorageExt};
use jobrunr_core::{Job, StateName, Version};

use crate::builders::{an_enqueued_job, at, enqueued_jobs, failure, insert_all, server, stored};
use crate::content::{everything, find, list};
use crate::{Fixture, ScenarioResult};
use jobrunr_core::storage::JobQuery;

/// One lost race must not cost the others their outcome.
pub async fn winners_of_a_batch_are_stored_and_losers_named_in_order(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = enqueued_jobs(6);
    insert_all(storage, &mut jobs).await?;
    let (stale, gone) = ([jobs[4].id(), jobs[1].id()], jobs[2].id());
    let mut by_others: Vec<Job> = jobs.iter().filter(|job| stale.contains(&job.id())).cloned().collect();
    for job in &mut by_others {
        job.delete(Some("by somebody else".to_owned()), at(1))?;
    }
    assert_eq!(storage.save_all(&mut by_others).await?, []);
    storage.delete_jobs(&JobSelection::Ids(vec![gone])).await?;

    for job in &mut jobs {
        job.start_processing(&server("a"), at(2))?;
    }
    let loaded_versions: Vec<Version> = jobs.iter().map(Job::version).collect();
    jobs.reverse();
    let conflicts = storage.save_all(&mut jobs).await?;
    jobs.reverse();

    assert_eq!(conflicts, [stale[0], gone, stale[1]], "losers are named in the order given");
    for (job, loaded) in jobs.iter().zip(loaded_versions) {
        if conflicts.contains(&job.id()) {
            assert_eq!(job.version(), loaded, "the version of a loser stays");
        } else {
            assert_eq!(job.version(), loaded.next(), "the version of a winner follows");
            assert_eq!(find(storage, job.id()).await?, *job);
        }
    }
    for job in &by_others {
        assert_eq!(find(storage, job.id()).await?, *job, "losers change nothing");
    }
    assert_eq!(storage.find_job(gone).await?, None);
    Ok(())
}

/// Conflicts are found also at the seams of a batch that is split.
pub async fn a_large_batch_names_its_conflicts_at_first_middle_and_last(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = enqueued_jobs(6_001);
    insert_all(storage, &mut jobs).await?;
    let places = [0, 999, 1_000, 3_000, 5_999, 6_000];
    let mut by_others: Vec<Job> = places.iter().map(|place| jobs[*place].clone()).collect();
    for job in &mut by_others {
        job.delete(None, at(1))?;
    }
    assert_eq!(storage.save_all(&mut by_others).await?, []);

    for job in &mut jobs {
        job.start_processing(&server("a"), at(2))?;
    }
    let conflicts = storage.save_all(&mut jobs).await?;

    assert_eq!(conflicts, by_others.iter().map(Job::id).collect::<Vec<_>>());
    let mut expected: Vec<Job> = jobs.into_iter().filter(|job| !conflicts.contains(&job.id())).collect();
    expected.extend(by_others);
    expected.sort_by_key(Job::id);
    assert!(everything(storage).await? == expected, "winners are stored, losers left alone");
    Ok(())
}

/// A large batch is stored whole, with entries of different kinds.
pub async fn a_large_batch_of_different_outcomes_is_stored(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = enqueued_jobs(3_000);
    insert_all(storage, &mut jobs).await?;
    for (number, job) in jobs.iter_mut().enumerate() {
        job.start_processing(&server("a"), at(1))?;
        match number % 4 {
            0 => job.succeed(None, at(2))?,
            1 => job.fail(failure("no luck"), at(2))?,
            2 => {
                job.fail(failure("not yet"), at(2))?;
                job.schedule(at(9), None, at(2))?;
            }
            _ => job.give_back("the server stopped", at(2))?,
        }
    }

    assert_eq!(storage.save_all(&mut jobs).await?, []);

    jobs.sort_by_key(Job::id);
    assert!(everything(storage).await? == jobs, "what is stored is not what was saved");
    for state in [StateName::Succeeded, StateName::Failed, StateName::Scheduled, StateName::Enqueued] {
        assert_eq!(list(storage, JobQuery::in_state(state)).await?.len(), 750, "{state}");
    }
    Ok(())
}

/// Of two changes to one job in one batch, the second was made without knowing the first.
pub async fn the_second_mention_of_a_job_in_one_save_is_a_conflict(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut first = stored(storage, an_enqueued_job()).await?;
    let mut second = first.clone();
    let mut bystander = stored(storage, an_enqueued_job()).await?;
    first.start_processing(&server("a"), at(1))?;
    second.delete(None, at(2))?;
    bystander.delete(None, at(3))?;

    let mut batch = [first.clone(), second.clone(), bystander.clone(), second];
    let conflicts = storage.save_all(&mut batch).await?;

    assert_eq!(conflicts, [first.id(), first.id()]);
    first.mark_saved();
    bystander.mark_saved();
    assert_eq!(find(storage, first.id()).await?, first, "no update is lost: the first mention is stored");
    assert_eq!(find(storage, bystander.id()).await?, bystander);
    assert_eq!([batch[0].version(), batch[1].version()], [Version::new(2), Version::FIRST]);
    Ok(())
}

/// Only the first mention can win; if it is stale, no other does.
pub async fn a_stale_first_mention_does_not_let_the_second_win(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut current = stored(storage, an_enqueued_job()).await?;
    let mut stale = current.clone();
    current.start_processing(&server("a"), at(1))?;
    storage.save_job(&mut current).await?;
    stale.delete(None, at(2))?;
    let mut second = current.clone();
    second.succeed(None, at(3))?;

    let mut batch = [stale, second];
    let conflicts = storage.save_all(&mut batch).await?;

    assert_eq!(conflicts, [current.id(), current.id()]);
    assert_eq!(find(storage, current.id()).await?, current);
    assert_eq!([batch[0].version(), batch[1].version()], [Version::FIRST, Version::new(2)]);
    Ok(())
}

/// Two mentions are not a way to follow up one's own save.
pub async fn a_second_mention_at_the_next_version_is_a_conflict_too(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut first = stored(storage, an_enqueued_job()).await?;
    first.start_processing(&server("a"), at(1))?;
    let mut follow_up = first.clone();
    follow_up.mark_saved();
    follow_up.succeed(None, at(2))?;

    let report = storage.save_jobs(&[first.clone(), follow_up]).await?;

    assert_eq!(report.conflicts, [first.id()]);
    first.mark_saved();
    assert_eq!(find(storage, first.id()).await?, first);
    Ok(())
}
