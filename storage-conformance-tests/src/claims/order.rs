//! Who is first in line.

use jobrunr_core::Job;
use jobrunr_core::storage::{ClaimRequest, StorageProvider};

use crate::builders::{a_claim, a_job, at, ids, insert_all, numbered_id, queue, signature};
use crate::{Fixture, ScenarioResult};

/// Claims in small pieces until there is nothing left, so that the order holds across claims too.
async fn claim_piecewise(
    storage: &dyn StorageProvider,
    claim: &ClaimRequest,
) -> Result<Vec<Job>, jobrunr_core::storage::StorageError> {
    let mut claimed = Vec::new();
    loop {
        let next = storage.claim_jobs(claim).await?;
        if next.is_empty() {
            return Ok(claimed);
        }
        claimed.extend(next);
        assert!(claimed.len() <= 1_000, "jobs are claimed again and again");
    }
}

/// A population in which every rule of the order decides somewhere, in an order that no rule would give.
fn a_mixed_line() -> Vec<Job> {
    let mut jobs = Vec::new();
    for number in 0..240_u64 {
        // 240 = 3 queues x 4 priorities x 5 ages x 4 ids, stepped through by a number without common factors.
        let place = number * 77 % 240;
        let name = ["low", "high", "default"][usize::try_from(place % 3).expect("small")];
        let priority = [0, i32::MAX, -1, 5][usize::try_from(place / 3 % 4).expect("small")];
        let second = i64::try_from(place / 12 % 5).expect("small");
        let kind = ["a", "b", "c"][usize::try_from(number % 3).expect("small")];
        let job = a_job().id(numbered_id(1_000 - place)).in_queue(name).priority(priority).of_type(kind);
        jobs.push(job.enqueued(at(second)));
    }
    jobs
}

fn sort_within_a_queue(jobs: &mut [Job]) {
    jobs.sort_by_key(|job| (std::cmp::Reverse(job.priority()), job.enqueued_at(), job.id()));
}

/// In all queues together the order is that of one queue.
pub async fn all_queues_are_claimed_as_one_line(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = a_mixed_line();
    insert_all(storage, &mut jobs).await?;

    let claimed = claim_piecewise(storage, &a_claim(7, at(100))).await?;

    sort_within_a_queue(&mut jobs);
    assert_eq!(ids(&claimed), ids(&jobs), "priority descending, then enqueued first, then id");
    Ok(())
}

/// Queues in the order given; priorities count within a queue only.
pub async fn queues_are_claimed_in_the_order_given(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = a_mixed_line();
    insert_all(storage, &mut jobs).await?;
    let queues = ["high", "default", "low"].map(queue);

    let claimed = claim_piecewise(storage, &a_claim(7, at(100)).from_queues(queues.clone())).await?;

    sort_within_a_queue(&mut jobs);
    jobs.sort_by_key(|job| queues.iter().position(|queue| queue == job.queue()));
    assert_eq!(ids(&claimed), ids(&jobs), "queue as given, then priority, then enqueued first, then id");
    Ok(())
}

/// Servers name the types they know; that must not make a line out of each type.
pub async fn job_types_do_not_disturb_the_order(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = a_mixed_line();
    insert_all(storage, &mut jobs).await?;
    let claim = a_claim(7, at(100)).of_signatures(["c", "a"].map(signature));

    let claimed = claim_piecewise(storage, &claim).await?;

    jobs.retain(|job| job.signature() != "b");
    sort_within_a_queue(&mut jobs);
    assert_eq!(ids(&claimed), ids(&jobs));
    Ok(())
}

/// Both at once: some queues, some types.
pub async fn queues_and_job_types_together_keep_the_order(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = a_mixed_line();
    insert_all(storage, &mut jobs).await?;
    let queues = ["low", "high"].map(queue);
    let claim = a_claim(7, at(100)).from_queues(queues.clone()).of_signatures(["b", "c"].map(signature));

    let claimed = claim_piecewise(storage, &claim).await?;

    jobs.retain(|job| job.signature() != "a" && job.queue() != "default");
    sort_within_a_queue(&mut jobs);
    jobs.sort_by_key(|job| queues.iter().position(|queue| queue == job.queue()));
    assert_eq!(ids(&claimed), ids(&jobs));
    Ok(())
}

/// Jobs that came in between two claims take their rightful place.
pub async fn a_job_that_comes_later_is_sorted_in(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut line = [a_job().enqueued(at(10)), a_job().enqueued(at(20)), a_job().enqueued(at(30))];
    insert_all(storage, &mut line).await?;
    assert_eq!(ids(&storage.claim_jobs(&a_claim(1, at(40))).await?), [line[0].id()]);

    let mut latecomers = [
        a_job().enqueued(at(25)),
        a_job().priority(1).enqueued(at(39)),
        a_job().priority(-1).enqueued(at(0)),
    ];
    insert_all(storage, &mut latecomers).await?;

    let expected = [&latecomers[1], &line[1], &latecomers[0], &line[2], &latecomers[2]].map(Job::id);
    assert_eq!(ids(&claim_piecewise(storage, &a_claim(2, at(40))).await?), expected);
    Ok(())
}
