//! Counts: of queries, by state, of all time; and which types there are.

use jobrunr_core::storage::{JobCounts, JobQuery, JobSelection, SignatureSelection, StorageExt};
use jobrunr_core::{Job, StateName};

use super::population::{CRITERIA, insert_population};
use crate::builders::{
    a_claim, a_job, at, enqueued_jobs, failure, ids, insert_all, move_to, signature, stored,
};
use crate::content::{UNBOUNDED, everything, list, recount};
use crate::{Fixture, ScenarioResult};

/// What a page shows does not change how many there are.
pub async fn a_count_is_the_length_of_the_unbounded_list(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    insert_population(storage).await?;
    for criterion in CRITERIA {
        let query = (criterion.add)(JobQuery::all());
        let length = list(storage, query.clone()).await?.len();

        for query in [query.clone(), query.clone().limit(3).offset(2), query.newest_first().limit(0)] {
            assert_eq!(storage.count_jobs(&query).await?, u64::try_from(length)?, "{}", criterion.name);
        }
    }
    Ok(())
}

/// Nothing is there, and all say so.
pub async fn an_empty_storage_counts_zero(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();

    assert_eq!(storage.job_counts().await?, JobCounts::default());
    assert_eq!(storage.count_jobs(&JobQuery::all()).await?, 0);
    assert_eq!(list(storage, JobQuery::all()).await?, []);
    assert!(storage.list_signatures(&StateName::ALL).await?.is_empty());
    Ok(())
}

/// After every sort of call, counted again one by one.
pub async fn counts_by_state_equal_a_recount_at_any_time(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut succeeded = 0;
    let check = async |succeeded: u64, after: &str| -> ScenarioResult {
        let expected = recount(&everything(storage).await?, succeeded);
        assert_eq!(storage.job_counts().await?, expected, "after {after}");
        Ok(())
    };

    for round in 0..6_i64 {
        let now = at(100 * round);
        let mut batch = enqueued_jobs(40);
        batch.extend((0..20).map(|number| a_job().scheduled(at(0), at(90 * number))));
        batch.extend(
            [StateName::Awaiting, StateName::Processing, StateName::Failed]
                .map(|state| a_job().in_state(state, now)),
        );
        insert_all(storage, &mut batch).await?;
        assert_eq!(storage.insert_jobs(&batch[..5]).await?.already_present.len(), 5);
        check(succeeded, "inserts").await?;

        storage.enqueue_due_jobs(now, 13).await?;
        check(succeeded, "a release").await?;

        let mut claimed = storage.claim_jobs(&a_claim(30, now)).await?;
        check(succeeded, "a claim").await?;

        for (number, job) in claimed.iter_mut().enumerate() {
            match number % 5 {
                0 | 1 => {
                    job.succeed(None, now)?;
                    succeeded += 1;
                }
                2 => job.park(now)?,
                3 => {
                    job.fail(failure("not yet"), now)?;
                    job.schedule(now, None, now)?;
                }
                _ => job.give_back("stopped", now)?,
            }
        }
        let stale = claimed.clone();
        assert_eq!(storage.save_all(&mut claimed).await?, []);
        check(succeeded, "saves").await?;
        assert_eq!(storage.save_jobs(&stale).await?.conflicts.len(), stale.len());
        check(succeeded, "stale saves").await?;

        storage.delete_jobs(&JobSelection::Ids(ids(&claimed[..7]))).await?;
        storage
            .delete_jobs(&JobSelection::Aged {
                state: StateName::Succeeded,
                updated_before: now,
                signatures: SignatureSelection::All,
                limit: 3,
            })
            .await?;
        check(succeeded, "deletions").await?;
    }
    Ok(())
}

/// The dashboard's proudest number never goes down.
pub async fn all_time_successes_grow_with_each_and_survive_the_purge(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    insert_all(storage, &mut enqueued_jobs(10)).await?;
    let mut claimed = storage.claim_jobs(&a_claim(10, at(1))).await?;
    let all_time = async || storage.job_counts().await.map(|counts| counts.succeeded_all_time);
    assert_eq!(all_time().await?, 0);

    for job in &mut claimed[..7] {
        job.succeed(None, at(2))?;
    }
    assert_eq!(storage.save_all(&mut claimed[..7]).await?, []);
    assert_eq!(all_time().await?, 7, "it grows when a job succeeds");

    claimed[7].fail(failure("no"), at(2))?;
    claimed[0].delete(None, at(3))?;
    assert_eq!(storage.save_all(&mut claimed).await?, []);
    assert_eq!(all_time().await?, 7, "a deletion does not lower it");

    storage.delete_jobs(&JobSelection::Ids(ids(&claimed))).await?;
    assert_eq!(all_time().await?, 7, "nor does the purge");
    assert_eq!(storage.job_counts().await?.total(), 0);

    let mut again = stored(storage, a_job().enqueued(at(4))).await?;
    for state in [StateName::Processing, StateName::Succeeded] {
        move_to(&mut again, state, at(5));
    }
    let mut stale = again.clone();
    storage.save_job(&mut again).await?;
    assert!(storage.save_job(&mut stale).await.is_err());
    for state in [StateName::Enqueued, StateName::Processing, StateName::Succeeded] {
        move_to(&mut again, state, at(6));
    }
    storage.save_job(&mut again).await?;
    assert_eq!(all_time().await?, 9, "each success counts, a lost save does not");
    Ok(())
}

/// Which types a dashboard offers to filter by, and which nobody handles.
pub async fn job_types_are_listed_once_and_sorted(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let given = [
        ("b", StateName::Enqueued),
        ("a", StateName::Enqueued),
        ("b", StateName::Enqueued),
        ("Z", StateName::Enqueued),
        ("a", StateName::Failed),
        ("c", StateName::Failed),
        ("ü", StateName::Succeeded),
        ("d", StateName::Succeeded),
    ];
    let mut jobs = given.map(|(name, state)| a_job().of_type(name).in_state(state, at(0)));
    insert_all(storage, &mut jobs).await?;
    let of = async |states: &[StateName]| storage.list_signatures(states).await;
    let types = |names: &[&str]| names.iter().map(|name| signature(name)).collect::<Vec<_>>();

    assert_eq!(of(&[StateName::Enqueued]).await?, types(&["Z", "a", "b"]), "sorted by bytes");
    assert_eq!(of(&[StateName::Failed, StateName::Enqueued]).await?, types(&["Z", "a", "b", "c"]));
    assert_eq!(of(&StateName::ALL).await?, types(&["Z", "a", "b", "c", "d", "ü"]));
    assert!(of(&[StateName::Deleted]).await?.is_empty());
    assert!(of(&[]).await?.is_empty());

    storage.delete_jobs(&JobSelection::Ids(vec![jobs[5].id()])).await?;
    storage.claim_jobs(&a_claim(UNBOUNDED, at(1))).await?;
    assert_eq!(of(&[StateName::Failed]).await?, types(&["a"]), "what is gone is not listed");
    assert!(of(&[StateName::Enqueued]).await?.is_empty());
    Ok(())
}

/// Counts are kept, not guessed, also by tasks that work at once.
pub async fn counts_are_right_after_concurrent_work(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    insert_all(storage, &mut enqueued_jobs(600)).await?;
    let workers = (0..6).map(|number| {
        let storage = if number % 2 == 0 { fixture.shared_storage() } else { std::sync::Arc::clone(&other) };
        tokio::spawn(async move {
            for _ in 0..10 {
                let mut claimed = storage.claim_jobs(&a_claim(10, at(1))).await?;
                claimed.iter_mut().for_each(|job| move_to(job, StateName::Succeeded, at(2)));
                storage.save_all(&mut claimed).await?;
                storage.delete_jobs(&JobSelection::Ids(ids(&claimed[..claimed.len().min(3)]))).await?;
            }
            Ok::<_, jobrunr_core::storage::StorageError>(())
        })
    });
    for worked in futures_util::future::try_join_all(workers).await? {
        worked?;
    }

    let left: Vec<Job> = everything(storage).await?;

    let still_waiting: usize = left.iter().filter(|job| job.state_name() == StateName::Enqueued).count();
    let succeeded = u64::try_from(600 - still_waiting)?;
    assert_eq!(storage.job_counts().await?, recount(&left, succeeded));
    assert_eq!(other.job_counts().await?, recount(&left, succeeded));
    Ok(())
}
