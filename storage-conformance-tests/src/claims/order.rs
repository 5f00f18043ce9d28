//! Who is first in line.

use jobrunr_core::storage::{ClaimRequest, StorageExt, StorageProvider};
use jobrunr_core::{IllegalTransition, Job, StateName};

use crate::builders::{
    a_claim, a_job, at, failure, ids, insert_all, move_to, numbered_id, queue, server, signature,
};
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

/// One way to be in line: whatever has happened, [`Job::enqueued_at`] is the place.
type Life = fn(&mut Job) -> Result<(), IllegalTransition>;

const LIVES: [Life; 8] = [
    |_| Ok(()),
    // Given back once, and twice.
    |job| {
        job.start_processing(&server("a"), at(10))?;
        job.give_back("stopped", at(70))
    },
    |job| {
        job.start_processing(&server("a"), at(11))?;
        job.give_back("stopped", at(12))?;
        job.start_processing(&server("b"), at(13))?;
        job.give_back("stopped", at(80))
    },
    // Retried, and then given back: the retry's place.
    |job| {
        job.start_processing(&server("a"), at(14))?;
        job.fail(failure("once"), at(15))?;
        job.enqueue(at(40))?;
        job.start_processing(&server("a"), at(41))?;
        job.give_back("stopped", at(75))
    },
    // Given back, and then put off.
    |job| {
        job.start_processing(&server("a"), at(16))?;
        job.give_back("stopped", at(17))?;
        job.schedule(at(50), None, at(18))?;
        job.enqueue(at(51))
    },
    // Started afresh by a person while it ran.
    |job| {
        job.start_processing(&server("a"), at(19))?;
        job.requeue(Some("again".to_owned()), at(60))
    },
    // The same, and then given back.
    |job| {
        job.start_processing(&server("a"), at(20))?;
        job.requeue(None, at(30))?;
        job.start_processing(&server("a"), at(31))?;
        job.give_back("stopped", at(85))
    },
    |job| {
        move_to(job, StateName::Awaiting, at(21));
        job.enqueue(at(33))
    },
];

/// Lived before it was inserted, or in one save, or in many: the place in line is the same.
pub async fn a_job_takes_the_place_that_its_history_gives_it(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut line = Vec::new();
    for (second, live) in (0..).zip(LIVES) {
        let mut inserted_whole = a_job().enqueued(at(second));
        live(&mut inserted_whole)?;
        insert_all(storage, std::slice::from_mut(&mut inserted_whole)).await?;

        let mut saved_at_once = a_job().enqueued(at(second));
        insert_all(storage, std::slice::from_mut(&mut saved_at_once)).await?;
        live(&mut saved_at_once)?;
        storage.save_job(&mut saved_at_once).await?;

        let mut saved_step_by_step = a_job().enqueued(at(second));
        insert_all(storage, std::slice::from_mut(&mut saved_step_by_step)).await?;
        let mut lived = saved_step_by_step.clone();
        live(&mut lived)?;
        for entry in &lived.history()[1..] {
            saved_step_by_step.transition(entry.state.clone(), entry.at)?;
            storage.save_job(&mut saved_step_by_step).await?;
        }
        line.extend([inserted_whole, saved_at_once, saved_step_by_step]);
    }

    let claimed = claim_piecewise(storage, &a_claim(5, at(100))).await?;

    sort_within_a_queue(&mut line);
    assert_eq!(ids(&claimed), ids(&line));
    Ok(())
}
