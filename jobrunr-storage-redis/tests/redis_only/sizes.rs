//! Jobs that a claim reads at once, and jobs that it reads afterwards, side by side.

use std::collections::HashMap;

use jobrunr_core::storage::{ClaimRequest, JobStore, StorageProvider};
use jobrunr_core::{Failure, FailureKind, Job, JobDefinition, JobId, JobState, JsonText, Labels};

use crate::{a_server, a_server_with_a_storage, an_enqueued_job, at};

/// More than a script reads of one job.
const LARGE: usize = 3_000;

fn with_payload_of(bytes: usize) -> Job {
    let payload = JsonText::of(&"x".repeat(bytes)).unwrap();
    let definition = JobDefinition { payload, ..an_enqueued_job().definition().clone() };
    Job::new(JobId::new(), definition, JobState::enqueued(), at(0)).unwrap()
}

fn with_labels() -> Job {
    let labels = Labels::new(["a:1", "b:2"].map(|label| label.parse().unwrap())).unwrap();
    let definition = JobDefinition { labels, ..an_enqueued_job().definition().clone() };
    Job::new(JobId::new(), definition, JobState::enqueued(), at(0)).unwrap()
}

fn with_metadata(job: Job) -> Job {
    job.with_metadata([("note".to_owned(), "written".into())].into())
}

fn after_a_retry() -> Job {
    let mut job = an_enqueued_job();
    job.start_processing(&a_server(), at(1)).unwrap();
    job.fail(Failure::new(FailureKind::Corrupt, "once"), at(2)).unwrap();
    job.enqueue(at(3)).unwrap();
    job
}

/// One job of each kind there is for scripts.
fn of_every_kind() -> Vec<Job> {
    vec![
        an_enqueued_job(),
        with_payload_of(LARGE),
        with_labels(),
        with_metadata(an_enqueued_job()),
        with_metadata(with_labels()),
        with_metadata(with_payload_of(LARGE)),
        after_a_retry(),
        an_enqueued_job(),
    ]
}

#[tokio::test]
async fn jobs_of_every_size_and_past_are_claimed_as_they_were_stored() {
    let Some((_server, storage)) = a_server_with_a_storage(&[]).await else { return };
    let jobs = of_every_kind();
    storage.insert_jobs(&jobs).await.unwrap();

    let claimed = storage.claim_jobs(&ClaimRequest::new(a_server(), 100, at(9))).await.unwrap();

    let claimed: HashMap<JobId, Job> = claimed.into_iter().map(|job| (job.id(), job)).collect();
    assert_eq!(claimed.len(), jobs.len());
    for job in &jobs {
        let claimed = &claimed[&job.id()];
        assert_eq!(claimed.definition(), job.definition());
        assert_eq!(claimed.metadata(), job.metadata());
        assert_eq!(claimed.history()[..job.history().len()], *job.history());
        assert_eq!(Some(claimed), storage.find_job(job.id()).await.unwrap().as_ref());
    }
    storage.close().await;
}

#[tokio::test]
async fn jobs_that_are_there_already_are_passed_over_whatever_belongs_to_them() {
    let Some((_server, storage)) = a_server_with_a_storage(&[]).await else { return };
    for job in of_every_kind() {
        storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap();
        let others = of_every_kind();
        let with_a_known_one: Vec<Job> = std::iter::once(job.clone()).chain(others.iter().cloned()).collect();

        let report = storage.insert_jobs(&with_a_known_one).await.unwrap();

        assert_eq!(report.already_present, [job.id()]);
        for other in &others {
            assert_eq!(storage.find_job(other.id()).await.unwrap().as_ref(), Some(other));
        }
    }
    storage.close().await;
}
