//! What every storage can do because it keeps the contract: conveniences over the role traits.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::{JobStore, StorageError};
use crate::ids::JobId;
use crate::job::Job;

/// A save that lost: what was loaded is not what is stored any more. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SaveConflict {
    /// Somebody else saved, claimed or removed the job since it was loaded.
    #[error("job {0} was changed by somebody else since it was loaded; load it again")]
    Lost(JobId),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Conveniences that every [`JobStore`] has.
#[async_trait]
pub trait StorageExt: JobStore {
    /// Inserts one job; tells whether it is new. The job counts as stored afterwards.
    async fn insert_job(&self, job: &mut Job) -> Result<bool, StorageError> {
        let report = self.insert_jobs(std::slice::from_ref(job)).await?;
        job.mark_inserted();
        Ok(report.already_present.is_empty())
    }

    /// Saves one job; its version follows the stored one.
    ///
    /// # Errors
    /// [`SaveConflict::Lost`] if it was changed meanwhile.
    async fn save_job(&self, job: &mut Job) -> Result<(), SaveConflict> {
        let report = self.save_jobs(std::slice::from_ref(job)).await?;
        if report.conflicts.is_empty() {
            job.mark_saved();
            Ok(())
        } else {
            Err(SaveConflict::Lost(job.id()))
        }
    }

    /// Saves jobs; the versions of those that won follow the stored ones. Returns the ids of those that lost.
    async fn save_all(&self, jobs: &mut [Job]) -> Result<Vec<JobId>, StorageError> {
        let conflicts = self.save_jobs(jobs).await?.conflicts;
        mark_winners(jobs, &conflicts);
        Ok(conflicts)
    }
}

impl<S: JobStore + ?Sized> StorageExt for S {}

/// Marks the jobs that won a save. Of several mentions of a job only the first can have won.
fn mark_winners(jobs: &mut [Job], conflicts: &[JobId]) {
    let mut lost: HashMap<JobId, usize> = HashMap::new();
    for id in conflicts {
        *lost.entry(*id).or_default() += 1;
    }
    if lost.is_empty() {
        jobs.iter_mut().for_each(Job::mark_saved);
        return;
    }
    let mut mentions: HashMap<JobId, usize> = HashMap::new();
    for job in jobs.iter() {
        *mentions.entry(job.id()).or_default() += 1;
    }
    let mut seen = HashSet::new();
    for job in jobs {
        let is_first = seen.insert(job.id());
        let all_lost = lost.get(&job.id()) == mentions.get(&job.id());
        if is_first && !all_lost {
            job.mark_saved();
        }
    }
}
