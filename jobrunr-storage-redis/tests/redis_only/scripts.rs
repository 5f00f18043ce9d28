//! Scripts that are forgotten in mid-flight.

use std::collections::HashSet;
use std::sync::Arc;

use jobrunr_core::Job;
use jobrunr_core::storage::{ClaimRequest, JobStore, StorageProvider};

use crate::{a_server, a_server_with_a_storage, an_enqueued_job, at};

/// Claims and completes a batch; returns how many it was.
async fn run_some(storage: &dyn StorageProvider) -> usize {
    let mut jobs = storage.claim_jobs(&ClaimRequest::new(a_server(), 500, at(1))).await.unwrap();
    jobs.iter_mut().for_each(|job| job.succeed(None, at(2)).unwrap());
    assert_eq!(storage.save_jobs(&jobs).await.unwrap().conflicts, []);
    jobs.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_all_scripts_in_mid_flight_disturbs_nobody() {
    let Some((server, storage)) = a_server_with_a_storage(&[]).await else { return };
    let storage = Arc::new(storage);
    let writers = (0..4).map(|_| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..50 {
                let jobs: Vec<Job> = (0..20).map(|_| an_enqueued_job()).collect();
                storage.insert_jobs(&jobs).await.unwrap();
                ids.extend(jobs.iter().map(Job::id));
            }
            ids
        })
    });
    let writers: Vec<_> = writers.collect();
    let of_drain = Arc::clone(&storage);
    let drain = tokio::spawn(async move {
        let mut done = 0;
        while done < 4_000 {
            done += run_some(&*of_drain).await;
        }
        done
    });

    let mut flushes = 0;
    while !drain.is_finished() {
        server.ask(&["SCRIPT", "FLUSH", "SYNC"]).await.unwrap();
        flushes += 1;
    }

    let mut written = HashSet::new();
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    assert!(flushes > 1);
    assert_eq!((written.len(), drain.await.unwrap()), (4_000, 4_000));
    assert_eq!(run_some(&*storage).await, 0);
    storage.close().await;
}
