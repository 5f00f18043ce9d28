//! Releasing jobs whose time has come: scenarios 31 to 36.

use std::sync::Arc;

use futures_util::future::try_join_all;
use jobrunr_core::storage::{DueReport, JobQuery, JobSelection, StorageError, StorageExt};
use jobrunr_core::{Job, JobId, JobState, StateName};

use crate::builders::{
    MICROSECOND, a_claim, a_job, at, at_micros, failure, ids, insert_all, numbered_id, stored,
};
use crate::content::{UNBOUNDED, everything, find};
use crate::{Fixture, ScenarioResult};

/// Those whose time has come, in the order of their times, and no other.
pub async fn due_jobs_are_released_earliest_first(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    // Due times against the order of the ids and of creation, with ties.
    let due_at = |number: u64, due| a_job().id(numbered_id(number)).priority(1).scheduled(at(0), at(due));
    let mut jobs = [
        due_at(1, 30),
        due_at(2, 20),
        due_at(3, 10),
        due_at(4, 20),
        due_at(5, 61),
        due_at(6, 60),
        due_at(7, 99),
    ];
    insert_all(storage, &mut jobs).await?;
    let mut others = StateName::ALL.map(|state| a_job().in_state(state, at(-9_000)));
    others[1] = a_job().scheduled(at(0), at(70));
    insert_all(storage, &mut others).await?;

    let report = storage.enqueue_due_jobs(at(60), 100).await?;

    let released: Vec<JobId> = [3, 2, 4, 1, 6].into_iter().map(numbered_id).collect();
    assert_eq!(report, DueReport { released: released.clone(), next_due_at: Some(at(61)) });
    for id in released {
        let mut expected = jobs.iter().find(|job| job.id() == id).ok_or("not one of them")?.clone();
        expected.enqueue(at(60))?;
        expected.mark_saved();
        assert_eq!(find(storage, id).await?, expected, "one entry more, without a reason");
    }
    for job in others.iter().chain([&jobs[4], &jobs[6]]) {
        assert_eq!(find(storage, job.id()).await?, *job, "the others are left alone");
    }
    Ok(())
}

/// A page at a time, and after each the time to look again.
pub async fn a_release_keeps_its_limit_and_tells_the_next_due_time(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs: Vec<Job> = (0..5).map(|second| a_job().scheduled(at(0), at(10 + second))).collect();
    insert_all(storage, &mut jobs).await?;
    let expect =
        |range: std::ops::Range<usize>, next| DueReport { released: ids(&jobs[range]), next_due_at: next };

    assert_eq!(storage.enqueue_due_jobs(at(100), 0).await?, expect(0..0, Some(at(10))));
    assert_eq!(storage.enqueue_due_jobs(at(100), 2).await?, expect(0..2, Some(at(12))));
    assert_eq!(storage.enqueue_due_jobs(at(13), 1).await?, expect(2..3, Some(at(13))));
    assert_eq!(storage.enqueue_due_jobs(at(13), 9).await?, expect(3..4, Some(at(14))));
    assert_eq!(storage.enqueue_due_jobs(at(13), 9).await?, expect(0..0, Some(at(14))), "none is due");
    assert_eq!(storage.enqueue_due_jobs(at(14), UNBOUNDED).await?, expect(4..5, None));
    assert_eq!(storage.enqueue_due_jobs(at(14), UNBOUNDED).await?, DueReport::default(), "none at all");
    Ok(())
}

/// Nobody starts early.
pub async fn a_job_due_in_a_microsecond_is_not_released(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let due_at = at_micros(1_234_567);
    let job = stored(storage, a_job().scheduled(at(0), due_at)).await?;

    let early = storage.enqueue_due_jobs(due_at - MICROSECOND, 10).await?;
    assert_eq!(early, DueReport { released: vec![], next_due_at: Some(due_at) });
    assert_eq!(find(storage, job.id()).await?, job);
    assert_eq!(storage.claim_jobs(&a_claim(1, at(100))).await?, []);

    assert_eq!(storage.enqueue_due_jobs(due_at, 10).await?.released, [job.id()], "exactly due is due");
    assert_eq!(ids(&storage.claim_jobs(&a_claim(1, at(100))).await?), [job.id()]);
    Ok(())
}

/// Every server releases due jobs at its poll.
pub async fn callers_at_once_release_each_job_once(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    let mut jobs: Vec<Job> = (0..1_000).map(|number| a_job().scheduled(at(0), at(number))).collect();
    insert_all(storage, &mut jobs).await?;
    let callers = (0..4).map(|number| {
        let storage = if number % 2 == 0 { fixture.shared_storage() } else { Arc::clone(&other) };
        tokio::spawn(async move {
            let mut released = Vec::new();
            while storage.count_jobs(&JobQuery::in_state(StateName::Scheduled)).await? > 0 {
                released.extend(storage.enqueue_due_jobs(at(1_000), 30).await?.released);
            }
            Ok::<_, StorageError>(released)
        })
    });

    let mut released: Vec<JobId> = Vec::new();
    for of_one in try_join_all(callers).await? {
        released.extend(of_one?);
    }

    released.sort();
    assert_eq!(released, ids(&jobs), "each job is reported by one caller");
    for job in everything(storage).await? {
        assert_eq!((job.version().number(), job.history().len()), (2, 2), "each was released once");
    }
    Ok(())
}

/// When a job was due is of interest also later.
pub async fn the_due_time_stays_readable_after_release(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let id = stored(storage, a_job().scheduled(at(0), at_micros(7))).await?.id();

    storage.enqueue_due_jobs(at(1), 1).await?;
    assert_eq!(find(storage, id).await?.scheduled_at(), Some(at_micros(7)));
    let mut job = storage.claim_jobs(&a_claim(1, at(2))).await?.remove(0);
    assert_eq!(job.scheduled_at(), Some(at_micros(7)));
    job.succeed(None, at(3))?;
    storage.save_job(&mut job).await?;
    assert_eq!(find(storage, id).await?.scheduled_at(), Some(at_micros(7)));
    Ok(())
}

/// A job that is rescheduled follows its new time, be it later or earlier.
pub async fn the_latest_due_time_wins(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut put_off = stored(storage, a_job().scheduled(at(0), at(10))).await?;
    let mut advanced = stored(storage, a_job().scheduled(at(0), at(900))).await?;
    let mut retried = stored(storage, a_job().scheduled(at(0), at(1))).await?;
    put_off.schedule(at(500), Some("put off".to_owned()), at(2))?;
    storage.save_job(&mut put_off).await?;
    advanced.schedule(at(20), None, at(3))?;
    storage.save_job(&mut advanced).await?;
    retried.enqueue(at(4))?;
    retried.start_processing(&crate::builders::server("a"), at(4))?;
    retried.fail(failure("once"), at(5))?;
    retried.schedule(at(30), Some("retry 1 of 10".to_owned()), at(5))?;
    storage.save_job(&mut retried).await?;

    let report = storage.enqueue_due_jobs(at(100), 10).await?;

    let released = vec![advanced.id(), retried.id()];
    assert_eq!(report, DueReport { released, next_due_at: Some(at(500)) });
    Ok(())
}

/// Jobs that were enqueued, deleted or removed before their time are not waited for.
pub async fn jobs_that_left_scheduled_are_not_due_any_more(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs: Vec<Job> = (0..3).map(|second| a_job().scheduled(at(0), at(10 + second))).collect();
    insert_all(storage, &mut jobs).await?;
    jobs[0].enqueue(at(1))?;
    jobs[1].delete(None, at(1))?;
    assert_eq!(storage.save_all(&mut jobs[..2]).await?, []);
    storage.delete_jobs(&JobSelection::Ids(vec![jobs[2].id()])).await?;

    assert_eq!(storage.enqueue_due_jobs(at(100), 10).await?, DueReport::default());
    assert_eq!(everything(storage).await?, jobs[..2]);
    Ok(())
}

/// The clocks of servers differ; a history goes forward all the same.
pub async fn a_release_never_dates_back(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let job = stored(storage, a_job().scheduled(at(50), at(10))).await?;

    storage.enqueue_due_jobs(at(20), 1).await?;

    let found = find(storage, job.id()).await?;
    assert_eq!(found.updated_at(), at(50), "the time of the entry before, as that is later");
    assert!(matches!(found.state(), JobState::Enqueued { reason: None, starts_afresh: false }));
    assert_eq!(found.enqueued_at(), Some(at(50)));
    Ok(())
}

/// After an outage much is due at once.
pub async fn many_due_jobs_are_released_in_one_call(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs: Vec<Job> = (0..6_000).map(|number| a_job().scheduled(at(0), at(number / 2))).collect();
    insert_all(storage, &mut jobs).await?;

    let report = storage.enqueue_due_jobs(at(2_499), usize::MAX).await?;

    assert_eq!(report.next_due_at, Some(at(2_500)));
    assert_eq!(report.released, ids(&jobs[..5_000]));
    assert_eq!(storage.job_counts().await?.in_state(StateName::Enqueued), 5_000);
    assert_eq!(storage.claim_jobs(&a_claim(UNBOUNDED, at(9_000))).await?.len(), 5_000);
    Ok(())
}
