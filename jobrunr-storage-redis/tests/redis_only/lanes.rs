//! Claims from many lanes: each type of job, and each queue, has one of its own.

use std::collections::HashSet;
use std::sync::Arc;

use jobrunr_core::storage::{ClaimRequest, JobSearch, JobStore, QueueSelection, StorageProvider};
use jobrunr_core::{Job, JobId, StateName};

use crate::{a_server, a_server_with_a_storage, an_enqueued_job_of, at};

/// Jobs of so many types, each of which comes again and again, as others would enqueue them.
fn jobs_of_types(types: i64, jobs: i64) -> Vec<Job> {
    let signature = |number| format!("type-{}", number * 7919 % types);
    (0..jobs).map(|number| an_enqueued_job_of(&signature(number), number)).collect()
}

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(Job::id).collect()
}

#[tokio::test]
async fn jobs_of_thousands_of_types_are_claimed_as_one_line() {
    let Some((_server, storage)) = a_server_with_a_storage(&[]).await else { return };
    let jobs = jobs_of_types(2_000, 3_000);
    storage.insert_jobs(&jobs).await.unwrap();

    let mut claimed = Vec::new();
    for limit in [1, 7, 120, 500] {
        let claim = ClaimRequest::new(a_server(), limit, at(5_000));
        let taken = storage.claim_jobs(&claim).await.unwrap();
        assert_eq!(taken.len(), limit);
        claimed.extend(ids(&taken));
    }

    assert_eq!(claimed, ids(&jobs[..claimed.len()]));
    let rest = storage.claim_jobs(&ClaimRequest::new(a_server(), 5_000, at(5_000))).await.unwrap();
    assert_eq!(ids(&rest), ids(&jobs[claimed.len()..]), "a claim goes on until nothing is left");
    storage.close().await;
}

#[tokio::test]
async fn queues_with_hundreds_of_types_each_are_claimed_in_the_order_given() {
    let Some((_server, storage)) = a_server_with_a_storage(&[]).await else { return };
    let queues = ["urgent", "usual", "whenever"].map(|name| name.parse().unwrap());
    let jobs = jobs_of_types(900, 900);
    let in_queues = jobs.iter().zip(queues.iter().cycle()).map(|(job, queue)| {
        let mut definition = job.definition().clone();
        definition.queue = Clone::clone(queue);
        Job::new(job.id(), definition, job.state().clone(), job.created_at()).unwrap()
    });
    let jobs: Vec<Job> = in_queues.collect();
    storage.insert_jobs(&jobs).await.unwrap();

    let mut claim = ClaimRequest::new(a_server(), 450, at(5_000));
    claim.queues = QueueSelection::InOrder(queues.to_vec());
    let claimed = storage.claim_jobs(&claim).await.unwrap();

    let of_queue = |queue| jobs.iter().filter(move |job| job.queue() == queue).map(Job::id);
    let expected: Vec<JobId> = of_queue(&queues[0]).chain(of_queue(&queues[1])).take(450).collect();
    assert_eq!(ids(&claimed), expected);
    storage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claimers_at_once_from_a_thousand_lanes_take_each_job_once_and_leave_none() {
    let Some((_server, storage)) = a_server_with_a_storage(&[]).await else { return };
    let storage = Arc::new(storage);
    storage.insert_jobs(&jobs_of_types(1_000, 2_000)).await.unwrap();
    let claimers = (0..4).map(|_| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move {
            let (server, mut taken) = (a_server(), Vec::new());
            loop {
                let claim = ClaimRequest::new(server.clone(), 80, at(5_000));
                let claimed = storage.claim_jobs(&claim).await.unwrap();
                if claimed.is_empty() {
                    return taken;
                }
                taken.extend(ids(&claimed));
            }
        })
    });

    let mut claimed = Vec::new();
    for claimer in claimers.collect::<Vec<_>>() {
        claimed.extend(claimer.await.unwrap());
    }

    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), 2_000);
    assert_eq!(claimed.len(), 2_000);
    assert_eq!(storage.job_counts().await.unwrap().in_state(StateName::Enqueued), 0);
    storage.close().await;
}
