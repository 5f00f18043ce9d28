//! What a claim does to the jobs it takes, and to none else.

use chrono::TimeDelta;
use jobrunr_core::storage::{ClaimRequest, StorageExt};
use jobrunr_core::{Job, JobId, JobState, ServerId, StateName, Version};

use crate::builders::{
    a_claim, a_job, an_enqueued_job, at, at_micros, enqueued_jobs, ids, insert_all, move_to, server, stored,
};
use crate::content::{UNBOUNDED, everything, find};
use crate::{Fixture, ScenarioResult};

/// Jobs that are not ready, or ready no more, are not handed out.
pub async fn only_enqueued_jobs_are_claimed(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = StateName::ALL.map(|state| a_job().in_state(state, at(0)));
    insert_all(storage, &mut jobs).await?;
    let before = everything(storage).await?;

    let claimed = storage.claim_jobs(&a_claim(100, at(1_000_000))).await?;

    let ready = &jobs[usize::from(StateName::Enqueued.index())];
    assert_eq!(ids(&claimed), [ready.id()]);
    let others = |jobs: Vec<Job>| jobs.into_iter().filter(|job| job.id() != ready.id()).collect::<Vec<_>>();
    assert_eq!(others(everything(storage).await?), others(before), "the others are left alone");
    Ok(())
}

/// However much there is to do, a server takes what it has room for.
pub async fn a_claim_keeps_its_limit(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    insert_all(storage, &mut enqueued_jobs(1_200)).await?;

    for (limit, expected) in [(0, 0), (1, 1), (7, 7), (0, 0), (1_000, 1_000), (1_000, 192), (1_000, 0)] {
        let claimed = storage.claim_jobs(&a_claim(limit, at(1))).await?;
        assert_eq!(claimed.len(), expected, "with a limit of {limit}");
    }
    Ok(())
}

/// "As many as there are" is a limit too.
pub async fn a_claim_of_everything_takes_everything(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    insert_all(storage, &mut enqueued_jobs(3_000)).await?;

    let claimed = storage.claim_jobs(&a_claim(usize::MAX, at(1))).await?;

    assert_eq!(claimed.len(), 3_000);
    Ok(())
}

/// The claimer can go by what it was given, without reading again.
pub async fn a_claimed_job_says_who_holds_it(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs: Vec<Job> =
        (0..3).map(|second| a_job().labelled(&["a"]).priority(3).enqueued(at(second))).collect();
    jobs.push(stored_retry());
    insert_all(storage, &mut jobs).await?;
    let claimer = server("Zoë's server #1");

    let claimed = storage.claim_jobs(&ClaimRequest::new(claimer.clone(), 10, at_micros(50_000_007))).await?;

    assert_eq!(claimed.len(), 4);
    for job in &claimed {
        let before = jobs.iter().find(|one| one.id() == job.id()).ok_or("a job nobody inserted")?;
        let mut expected = before.clone();
        expected.start_processing(&claimer, at_micros(50_000_007))?;
        expected.mark_saved();
        assert_eq!(*job, expected, "one entry more, and the version that goes with it");
        assert_eq!(job.server().as_ref(), Some(&claimer));
        assert_eq!(job.new_entries(), [], "the claim is stored");
        assert_eq!(find(storage, job.id()).await?, *job, "the stored job equals the returned one");
    }
    Ok(())
}

/// A job that failed twice and is in line again.
fn stored_retry() -> Job {
    let mut job = a_job().in_state(StateName::Failed, at(1));
    job.enqueue(at(2)).expect("FAILED jobs can be retried");
    job
}

/// What is taken is taken, also for other processes.
pub async fn a_claimed_job_is_not_offered_again(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    let mut jobs = enqueued_jobs(30);
    insert_all(storage, &mut jobs).await?;

    let mut seen: Vec<JobId> = Vec::new();
    for _ in 0..3 {
        seen.extend(ids(&storage.claim_jobs(&a_claim(5, at(1))).await?));
        seen.extend(ids(&other.claim_jobs(&a_claim(5, at(1))).await?));
    }

    seen.sort();
    assert_eq!(seen, ids(&jobs));
    assert_eq!(storage.claim_jobs(&a_claim(5, at(2))).await?, []);
    assert_eq!(other.claim_jobs(&a_claim(5, at(2))).await?, []);
    Ok(())
}

/// The clocks of servers differ; a history goes forward all the same.
pub async fn a_claim_never_dates_back(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let job = stored(storage, a_job().enqueued(at_micros(1_000_001))).await?;

    let claimed = storage.claim_jobs(&a_claim(1, at(0))).await?;

    assert_eq!(claimed[0].updated_at(), job.updated_at(), "the time of the entry before, as that is later");
    assert_eq!([find(storage, job.id()).await?], *claimed);
    Ok(())
}

/// A claim is a lease on a version; what was claimed can be saved by the claimer, at once and as it came.
pub async fn the_claimer_can_save_what_it_was_given(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    insert_all(storage, &mut enqueued_jobs(20)).await?;
    let mut claimed = storage.claim_jobs(&a_claim(20, at(1))).await?;
    for job in &mut claimed {
        job.succeed(None, at(2))?;
    }

    assert_eq!(storage.save_all(&mut claimed).await?, []);

    claimed.sort_by_key(Job::id);
    assert_eq!(everything(storage).await?, claimed);
    Ok(())
}

/// A late worker lost its job when it was given to another.
pub async fn a_claim_makes_older_claims_of_the_job_stale(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    stored(storage, an_enqueued_job()).await?;
    let mut late = storage.claim_jobs(&a_claim(1, at(1))).await?.remove(0);
    let mut rescuer = find(storage, late.id()).await?;
    rescuer.fail(crate::builders::failure("the server is gone"), at(60))?;
    rescuer.enqueue(at(60))?;
    storage.save_job(&mut rescuer).await?;
    let second = storage.claim_jobs(&a_claim(1, at(61))).await?.remove(0);

    late.succeed(None, at(62))?;
    let report = storage.save_jobs(std::slice::from_ref(&late)).await?;

    assert_eq!(report.conflicts, [late.id()]);
    assert_eq!(second.version(), Version::new(4));
    assert_eq!(find(storage, late.id()).await?, second);
    Ok(())
}

/// At shutdown a server gives back what it did not start; that must not cost the job its turn.
pub async fn a_job_given_back_returns_to_its_old_place_in_line(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut line: Vec<Job> = (0..5).map(|second| a_job().enqueued(at(10 * second))).collect();
    insert_all(storage, &mut line).await?;

    for round in 0..3 {
        let now = at(100 + 10 * round);
        let mut claimed = storage.claim_jobs(&a_claim(2, now)).await?;
        assert_eq!(ids(&claimed), [line[0].id(), line[1].id()], "in round {round}");
        for job in &mut claimed {
            job.give_back("the server stopped", now + TimeDelta::seconds(1))?;
        }
        assert_eq!(storage.save_all(&mut claimed).await?, []);
    }

    let claimed = storage.claim_jobs(&a_claim(10, at(900))).await?;
    assert_eq!(ids(&claimed), ids(&line));
    assert_eq!(
        claimed[0].version(),
        Version::new(8),
        "three times claimed and given back, and claimed again"
    );
    assert_eq!(claimed[0].enqueued_at(), Some(at(0)), "its first ENQUEUED time");
    Ok(())
}

/// What comes again queues anew, behind those who waited all the time.
pub async fn a_retried_or_requeued_job_queues_behind_older_ones(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut early: Vec<Job> = (0..5).map(|_| a_job().enqueued(at(0))).collect();
    insert_all(storage, &mut early).await?;
    let mut early = storage.claim_jobs(&a_claim(5, at(1))).await?;
    let waiting = stored(storage, a_job().enqueued(at(50))).await?;
    let urgent = stored(storage, a_job().priority(1).enqueued(at(500))).await?;

    early[0].fail(crate::builders::failure("once"), at(100))?;
    early[0].enqueue(at(100))?;
    early[1].succeed(None, at(90))?;
    early[1].requeue(Some("once more".to_owned()), at(101))?;
    early[2].fail(crate::builders::failure("once"), at(2))?;
    early[2].schedule(at(102), None, at(2))?;
    early[3].delete(None, at(90))?;
    early[3].requeue(None, at(103))?;
    early[4].requeue(Some("from the running state".to_owned()), at(104))?;
    assert_eq!(storage.save_all(&mut early).await?, []);
    assert_eq!(storage.enqueue_due_jobs(at(102), 10).await?.released, [early[2].id()]);
    let late = stored(storage, a_job().enqueued(at(110))).await?;

    let claimed = storage.claim_jobs(&a_claim(10, at(600))).await?;

    let mut expected = vec![urgent.id(), waiting.id()];
    expected.extend(ids(&early));
    expected.push(late.id());
    assert_eq!(ids(&claimed), expected, "each at its last ENQUEUED time");
    Ok(())
}

/// History grows; what is ready does not hide in it.
pub async fn a_claim_is_right_after_100_000_finished_jobs(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let server_id = ServerId::new();
    for batch in 0..10 {
        let mut finished: Vec<Job> =
            (0..10_000).map(|number| finished_job(batch * 10_000 + number, server_id)).collect();
        insert_all(storage, &mut finished).await?;
    }
    let mut ready: Vec<Job> = (0..30).map(|second| a_job().priority(1).enqueued(at(second))).collect();
    ready.extend((0..30).map(|second| a_job().enqueued(at(second))));
    insert_all(storage, &mut ready).await?;

    let mut claimed = Vec::new();
    for _ in 0..7 {
        claimed.extend(storage.claim_jobs(&a_claim(10, at(1_000))).await?);
    }

    assert_eq!(ids(&claimed), ids(&ready));
    assert!(claimed.iter().all(|job| matches!(job.state(), JobState::Processing { .. })));
    assert_eq!(storage.claim_jobs(&a_claim(UNBOUNDED, at(1_000))).await?, []);
    Ok(())
}

/// A job that ended, after a run on this server if it was not deleted before.
fn finished_job(number: i64, server_id: ServerId) -> Job {
    let mut job = a_job().priority(i32::from(number % 3 == 0)).enqueued(at(-number - 2));
    if number % 10 == 0 {
        move_to(&mut job, StateName::Deleted, at(-number));
        return job;
    }
    let processing = JobState::Processing { server_id, server_name: "worker".to_owned() };
    job.transition(processing, at(-number - 1)).expect("an enqueued job may be processed");
    move_to(&mut job, StateName::Succeeded, at(-number));
    job
}
