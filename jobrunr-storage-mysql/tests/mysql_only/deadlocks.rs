//! Transactions of others that lock jobs in another order: deadlocks are met, and nobody is told of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jobrunr_core::storage::{JobSearch, JobStore, SetUp, StorageExt, StorageProvider};
use jobrunr_core::{JobId, StateName};
use sqlx::{Connection, Executor};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::jobs::{a_claim, at, enqueued_jobs};
use crate::support::{Database, url};

/// Locks jobs from the last to the first, while the storage locks them from the first to the last.
async fn storm(database: Database, mut ids: Vec<JobId>, is_over: Arc<AtomicBool>) {
    let mut connection = database.connection().await.unwrap();
    ids.sort_unstable_by(|one, other| other.cmp(one));
    while !is_over.load(Ordering::Relaxed) {
        let mut transaction = connection.begin().await.unwrap();
        for id in &ids {
            let lock = sqlx::query("SELECT id FROM jobrunr_job WHERE id = ? FOR UPDATE")
                .bind(id.as_bytes().as_slice());
            // It may be the one that has to give way.
            if transaction.execute(lock).await.is_err() {
                break;
            }
        }
        let _ = transaction.rollback().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_deadlocks_loses_nothing() {
    const JOBS: usize = 30;
    const WANTED_CONFLICTS: u64 = 5;
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let storage = database.open_mysql(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.insert_jobs(&enqueued_jobs(JOBS)).await.unwrap();
    let mut jobs = storage.claim_jobs(&a_claim(JOBS)).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut storms = JoinSet::new();
    for _ in 0..3 {
        let ids = jobs.iter().map(jobrunr_core::Job::id).collect();
        storms.spawn(storm(database.clone(), ids, Arc::clone(&is_over)));
    }

    let work = async {
        let mut successes = 0;
        while storage.write_statistics().conflicts < WANTED_CONFLICTS {
            for job in &mut jobs {
                match job.state_name() {
                    StateName::Processing => job.succeed(None, at(20)).unwrap(),
                    StateName::Succeeded => job.requeue(None, at(20)).unwrap(),
                    _ => job.start_processing(&crate::jobs::a_server(), at(20)).unwrap(),
                }
            }
            successes += jobs.iter().filter(|job| job.state_name() == StateName::Succeeded).count();
            let conflicts = storage.save_all(&mut jobs).await.unwrap();
            assert_eq!(conflicts, [], "nobody else saves these jobs");
        }
        successes
    };
    let successes = timeout(Duration::from_secs(60), work).await.expect("deadlocks are met within a minute");
    is_over.store(true, Ordering::Relaxed);
    storms.join_all().await;

    for job in &jobs {
        assert_eq!(storage.find_job(job.id()).await.unwrap().as_ref(), Some(job));
    }
    let counts = storage.job_counts().await.unwrap();
    assert_eq!((counts.total(), counts.succeeded_all_time), (30, u64::try_from(successes).unwrap()));
    storage.close().await;
    database.drop().await;
}
