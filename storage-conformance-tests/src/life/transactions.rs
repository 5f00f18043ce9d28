//! Jobs that are enqueued in a transaction of the caller.

use jobrunr_core::Job;
use jobrunr_core::storage::JobQuery;

use crate::builders::{a_claim, a_job, an_enqueued_job, at, stored};
use crate::content::everything;
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
