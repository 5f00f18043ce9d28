//! Stored rows that cannot be read any more: they must trouble nobody but themselves.

use jobrunr_core::storage::{BoxError, JobQuery, JobSelection, StorageError};
use jobrunr_core::{FailureKind, Job, JobId, StateName};

use crate::builders::{a_claim, a_job, at, ids, insert_all, stored};
use crate::content::{UNBOUNDED, list};
use crate::{Fixture, ScenarioResult};

fn is_shown_as_corrupt(job: &Job) -> bool {
    job.state_name() == StateName::Failed
        && job.last_failure().is_some_and(|failure| failure.kind == FailureKind::Corrupt)
}

/// Three jobs in line, the middle one (or whichever is told) unreadable.
async fn a_line_of_three(fixture: &Fixture<'_>, unreadable: usize) -> Result<Vec<JobId>, BoxError> {
    let mut jobs: Vec<Job> = (0..3).map(|second| a_job().named("in line").enqueued(at(second))).collect();
    insert_all(fixture.storage(), &mut jobs).await?;
    fixture.row_faults()?.corrupt_job(None, jobs[unreadable].id()).await?;
    Ok(ids(&jobs))
}

/// A dashboard shows the others, and counts go on.
pub async fn an_unreadable_job_fails_no_list_and_no_count(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let line = a_line_of_three(fixture, 1).await?;

    let listed = list(storage, JobQuery::all()).await?;

    let readable: Vec<JobId> = listed.iter().filter(|job| !is_shown_as_corrupt(job)).map(Job::id).collect();
    assert_eq!(readable, [line[0], line[2]]);
    assert!(listed.iter().all(|job| line.contains(&job.id())));
    assert_eq!(storage.job_counts().await?.total(), 3);
    storage.count_jobs(&JobQuery::all()).await?;
    storage.list_signatures(&StateName::ALL).await?;
    match storage.find_job(line[1]).await {
        Err(StorageError::Corrupt { what, .. }) => assert!(!what.is_empty()),
        Ok(Some(job)) if is_shown_as_corrupt(&job) => {}
        other => panic!("an unreadable job was found as {other:?}"),
    }
    Ok(())
}

/// Work goes on behind it, at whatever place in line it is.
pub async fn an_unreadable_job_is_parked_and_the_others_are_claimed(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for unreadable in 0..3 {
        let line = a_line_of_three(fixture, unreadable).await?;

        let mut claimed = storage.claim_jobs(&a_claim(2, at(10))).await?;
        claimed.extend(storage.claim_jobs(&a_claim(2, at(11))).await?);
        claimed.extend(storage.claim_jobs(&a_claim(2, at(12))).await?);

        let readable: Vec<JobId> = line.iter().copied().filter(|id| *id != line[unreadable]).collect();
        assert_eq!(ids(&claimed), readable, "the unreadable one is at place {unreadable}");
        let counts = storage.job_counts().await?;
        assert_eq!(counts.in_state(StateName::Enqueued), 0, "the unreadable job is not in line any more");
        assert_eq!(counts.in_state(StateName::Failed), 1, "it is parked as FAILED");
        assert_eq!(storage.count_jobs(&JobQuery::in_state(StateName::Failed)).await?, 1);
        for job in list(storage, JobQuery::in_state(StateName::Failed)).await? {
            assert!(is_shown_as_corrupt(&job), "{job:?}");
        }
        assert_eq!(storage.delete_jobs(&JobSelection::Ids(line)).await?, 3, "it can be deleted");
    }
    Ok(())
}

/// The master's page is not blocked by it either.
pub async fn an_unreadable_scheduled_job_does_not_hold_up_others(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let unreadable = stored(storage, a_job().scheduled(at(0), at(1))).await?;
    let readable = stored(storage, a_job().scheduled(at(0), at(2))).await?;
    fixture.row_faults()?.corrupt_job(None, unreadable.id()).await?;

    let mut released = Vec::new();
    for _ in 0..3 {
        released.extend(storage.enqueue_due_jobs(at(5), 1).await?.released);
    }

    assert!(released.contains(&readable.id()), "{released:?}");
    assert_eq!(ids(&storage.claim_jobs(&a_claim(UNBOUNDED, at(6))).await?), [readable.id()]);
    Ok(())
}
