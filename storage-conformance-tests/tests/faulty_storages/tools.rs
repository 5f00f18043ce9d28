//! What faults are made with: writing past the contract.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use jobrunr_core::memory::MemoryStorage;
use jobrunr_core::storage::{JobSelection, JobStore, StorageError};
use jobrunr_core::{HistoryEntry, Job, JobDefinition, StoredJob, Version};

/// A job with everything as given but its definition.
pub(crate) fn redefined(job: &Job, change: impl FnOnce(&mut JobDefinition)) -> Job {
    let mut definition = job.definition().clone();
    change(&mut definition);
    Job::from_stored(StoredJob { definition: Arc::new(definition), ..parts(job) })
}

/// What a job is made of.
pub(crate) fn parts(job: &Job) -> StoredJob {
    StoredJob {
        id: job.id(),
        version: job.version(),
        definition: job.shared_definition(),
        history: job.history().to_vec(),
        metadata: job.metadata().clone(),
    }
}

/// A job at another version and with another history.
pub(crate) fn at_version(job: &Job, version: Version, history: &[HistoryEntry]) -> Job {
    Job::from_stored(StoredJob { version, history: history.to_vec(), ..parts(job) })
}

/// A job whose times were cut to milliseconds.
pub(crate) fn with_rounded_times(job: &Job) -> Job {
    let cut = |at: DateTime<Utc>| at.trunc_subsecs(3);
    let entries = job.history().iter();
    let history =
        entries.map(|entry| HistoryEntry { at: cut(entry.at), state: entry.state.clone() }).collect();
    Job::from_stored(StoredJob { history, ..parts(job) })
}

/// Puts a job in the place of what is stored under its id, whatever that is.
pub(crate) async fn overwrite(storage: &MemoryStorage, job: &Job) -> Result<(), StorageError> {
    storage.delete_jobs(&JobSelection::Ids(vec![job.id()])).await?;
    storage.insert_jobs(std::slice::from_ref(job)).await.map(drop)
}

/// A job as it was before its last entry.
pub(crate) fn one_step_back(job: &Job) -> Job {
    let before = job.history().len() - 1;
    at_version(job, Version::new(job.version().number() - 1), &job.history()[..before])
}
