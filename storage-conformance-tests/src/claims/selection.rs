//! Which queues and job types a claim looks at.

use jobrunr_core::storage::{ClaimRequest, JobQuery, SignatureSelection};
use jobrunr_core::{Job, StateName};

use crate::builders::{a_claim, a_job, at, ids, insert_all, queue, signature};
use crate::content::UNBOUNDED;
use crate::{Fixture, ScenarioResult};

/// A server serves the queues it was told to.
pub async fn queues_not_asked_for_are_not_touched(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs: Vec<Job> =
        ["a", "b", "a-b", "a", "b"].into_iter().map(|name| a_job().in_queue(name).enqueued(at(0))).collect();
    insert_all(storage, &mut jobs).await?;
    let from = |names: &[&str]| a_claim(10, at(1)).from_queues(names.iter().map(|name| queue(name)));

    assert_eq!(storage.claim_jobs(&from(&["unknown"])).await?, []);
    assert_eq!(storage.claim_jobs(&from(&[])).await?, [], "no queue is not all queues");
    assert_eq!(ids(&storage.claim_jobs(&from(&["a", "unknown", "a"])).await?), [jobs[0].id(), jobs[3].id()]);
    assert_eq!(storage.count_jobs(&JobQuery::in_state(StateName::Enqueued)).await?, 3);
    assert_eq!(storage.claim_jobs(&a_claim(10, at(2))).await?.len(), 3, "all queues takes all");
    Ok(())
}

/// The limit is one over all queues, not one each.
pub async fn the_limit_counts_over_all_queues(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs: Vec<Job> = ["a", "b", "c"]
        .into_iter()
        .flat_map(|name| (0..4).map(move |_| a_job().in_queue(name).enqueued(at(0))))
        .collect();
    insert_all(storage, &mut jobs).await?;

    let claim = a_claim(6, at(1)).from_queues(["c", "a", "b"].map(queue));
    let claimed = storage.claim_jobs(&claim).await?;

    let expected: Vec<_> = ids(&jobs[8..12]).into_iter().chain(ids(&jobs[0..2])).collect();
    assert_eq!(ids(&claimed), expected);
    Ok(())
}

/// A server claims only what it has handlers for.
pub async fn job_types_not_asked_for_are_not_touched(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let names = ["mail", "mail-2", "Mail", "rapport d'été", "mail"];
    let mut jobs: Vec<Job> = names.into_iter().map(|name| a_job().of_type(name).enqueued(at(0))).collect();
    insert_all(storage, &mut jobs).await?;
    let of = |signatures| ClaimRequest { signatures, ..a_claim(10, at(1)) };
    let only = |names: &[&str]| SignatureSelection::Only(names.iter().map(|name| signature(name)).collect());

    assert_eq!(storage.claim_jobs(&of(only(&["mai", "unknown"]))).await?, []);
    assert_eq!(storage.claim_jobs(&of(only(&[]))).await?, [], "no type is not all types");
    let claimed = storage.claim_jobs(&of(only(&["mail", "mail", "unknown"]))).await?;
    assert_eq!(ids(&claimed), [jobs[0].id(), jobs[4].id()]);
    let all_but = SignatureSelection::Except(vec![signature("Mail"), signature("unknown")]);
    assert_eq!(ids(&storage.claim_jobs(&of(all_but)).await?), [jobs[1].id(), jobs[3].id()]);
    let all = storage.claim_jobs(&of(SignatureSelection::Except(Vec::new()))).await?;
    assert_eq!(ids(&all), [jobs[2].id()]);
    Ok(())
}

/// Types that nobody handles pile up; those behind them are served all the same.
pub async fn a_backlog_of_unwanted_types_is_passed_over(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for kind in ["abandoned", "forgotten"] {
        let mut backlog: Vec<Job> =
            (0..10_000).map(|_| a_job().of_type(kind).priority(9).enqueued(at(0))).collect();
        insert_all(storage, &mut backlog).await?;
    }
    let mut wanted: Vec<Job> = (0..60)
        .map(|second| a_job().of_type(if second % 2 == 0 { "mail" } else { "print" }).enqueued(at(second)))
        .collect();
    insert_all(storage, &mut wanted).await?;
    let known = a_claim(1, at(100)).of_signatures(["mail", "print", "never used"].map(signature));
    let known_queue = known.clone().from_queues([queue("other"), queue("default")]);
    let not_abandoned = SignatureSelection::Except(["abandoned", "forgotten"].map(signature).to_vec());
    let not_abandoned = ClaimRequest { signatures: not_abandoned, ..a_claim(1, at(100)) };

    let mut claimed = Vec::new();
    for claim in [&known, &known_queue, &not_abandoned] {
        for _ in 0..20 {
            claimed.extend(storage.claim_jobs(claim).await?);
        }
    }

    assert_eq!(ids(&claimed), ids(&wanted));
    assert_eq!(storage.claim_jobs(&ClaimRequest { limit: UNBOUNDED, ..known }).await?, []);
    assert_eq!(storage.count_jobs(&JobQuery::in_state(StateName::Enqueued)).await?, 20_000);
    Ok(())
}

/// A server may know hundreds of types and serve many queues.
pub async fn a_claim_takes_long_lists_of_queues_and_types(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs: Vec<Job> = (0..300)
        .map(|number| {
            a_job().of_type(&format!("type-{number}")).in_queue(&format!("queue-{number}")).enqueued(at(0))
        })
        .collect();
    insert_all(storage, &mut jobs).await?;
    let queues = (100..300).rev().map(|number| queue(&format!("queue-{number}")));
    let types = (0..200).map(|number| signature(&format!("type-{number}")));

    let claimed = storage.claim_jobs(&a_claim(1_000, at(1)).from_queues(queues).of_signatures(types)).await?;

    jobs.truncate(200);
    jobs.drain(..100);
    jobs.reverse();
    assert_eq!(ids(&claimed), ids(&jobs));
    Ok(())
}
