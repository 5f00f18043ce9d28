//! Jobs that are enqueued in a transaction of the caller.

use jobrunr_core::storage::JobQuery;
use jobrunr_core::{Job, JobId, JobMetadata, StateName};
use serde_json::json;

use crate::builders::{a_claim, a_job, an_enqueued_job, at, recurring_id, stored};
use crate::content::{everything, find, recount};
use crate::harness::TransactionEnd;
use crate::{Fixture, ScenarioResult};

fn a_batch(size: i64) -> Vec<Job> {
    (0..size).map(|second| a_job().labelled(&["in a transaction"]).enqueued(at(second))).collect()
}

/// An order and its jobs are there together.
pub async fn jobs_of_a_committed_transaction_all_appear(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let transactions = fixture.caller_transactions()?;
    let mut expected = vec![stored(storage, an_enqueued_job()).await?];
    for size in [0, 1, 1_500] {
        let batch = a_batch(size);
        transactions.insert_in_transaction(None, &batch, TransactionEnd::Commit).await?;
        expected.extend(batch);
    }

    expected.sort_by_key(Job::id);
    assert!(everything(storage).await? == expected, "all jobs of the transactions are there, whole");
    assert_eq!(storage.count_jobs(&JobQuery::all().label("in a transaction")).await?, 1_501);
    assert_eq!(storage.job_counts().await?.total(), 1_502);
    assert_eq!(storage.claim_jobs(&a_claim(2_000, at(9_999))).await?.len(), 1_502, "and can be claimed");
    Ok(())
}

/// Nothing is left of what was never meant to be.
pub async fn jobs_of_a_rolled_back_transaction_never_were(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let transactions = fixture.caller_transactions()?;
    let there = stored(storage, an_enqueued_job()).await?;
    let batch = a_batch(1_500);

    transactions.insert_in_transaction(None, &batch, TransactionEnd::Rollback).await?;

    assert_eq!(everything(storage).await?, std::slice::from_ref(&there));
    assert_eq!(storage.job_counts().await?.total(), 1);
    assert_eq!(storage.count_jobs(&JobQuery::all().label("in a transaction")).await?, 0);
    assert_eq!(storage.list_signatures(&jobrunr_core::StateName::ALL).await?.len(), 1);
    assert_eq!(storage.insert_jobs(&batch).await?.already_present, [], "the ids are free");
    Ok(())
}

/// A job that has as much beside its row as one can have.
fn a_job_with_everything(number: usize) -> Job {
    let state = if number.is_multiple_of(2) { StateName::Failed } else { StateName::Enqueued };
    let metadata = JobMetadata::from([("number".to_owned(), json!(number))]);
    a_job().labelled(&["whole"]).tick_of("nightly").in_state(state, at(5)).with_metadata(metadata)
}

/// One of the jobs is there already, and one is named twice: that spoils nothing of the others.
pub async fn of_jobs_in_a_transaction_those_that_are_there_are_reported_and_the_others_whole(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    let transactions = fixture.caller_transactions()?;
    let there = stored(storage, an_enqueued_job()).await?;
    let mut expected = vec![there.clone()];
    // Behind, or among, so many new ones.
    for (place, count, end) in [
        (8, 8, TransactionEnd::Rollback),
        (8, 8, TransactionEnd::Commit),
        (40, 40, TransactionEnd::Commit),
        (3, 20, TransactionEnd::Commit),
    ] {
        let new: Vec<Job> = (0..count).map(a_job_with_everything).collect();
        let mut batch = new.clone();
        batch.insert(place, there.clone());
        batch.push(new[1].clone());

        let report = transactions.insert_and_report(None, &batch, end).await?;

        if let Some(report) = report {
            let present = [there.id(), new[1].id()];
            assert_eq!(report.already_present, present, "{count} new jobs, {end:?}");
        }
        if end == TransactionEnd::Commit {
            for job in &new {
                assert_eq!(find(storage, job.id()).await?, *job, "{count} new jobs");
            }
            expected.extend(new);
        }
        let mut ids: Vec<JobId> = expected.iter().map(Job::id).collect();
        ids.sort_unstable();
        let stored: Vec<JobId> = everything(storage).await?.iter().map(Job::id).collect();
        assert_eq!(stored, ids, "{count} new jobs, {end:?}");
        assert_eq!(storage.job_counts().await?, recount(&expected, 0), "{count} new jobs, {end:?}");
        let whole = u64::try_from(expected.len() - 1)?;
        assert_eq!(storage.count_jobs(&JobQuery::all().label("whole")).await?, whole);
        let runs = JobQuery::all().recurring_job_id(recurring_id("nightly"));
        assert_eq!(storage.count_jobs(&runs).await?, whole);
    }
    Ok(())
}
