//! Faults in finding and counting jobs.

use async_trait::async_trait;
use jobrunr_core::storage::{JobCounts, JobCursor, JobQuery, JobSearch, SignatureSelection, StorageError};
use jobrunr_core::{Job, JobId, JobSignature, StateName};
use uuid::Uuid;

use super::Faulty;
use crate::faults::Fault;

/// The id right before, or after, another.
fn neighbour(id: JobId, is_before: bool) -> JobId {
    let number = id.as_uuid().as_u128();
    JobId::from(Uuid::from_u128(if is_before { number - 1 } else { number + 1 }))
}

#[async_trait]
impl JobSearch for Faulty {
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StorageError> {
        let mut query = query.clone();
        match self.fault {
            Fault::ListIgnoresTheQueue => query.queue = None,
            Fault::ListIgnoresTheTypeBesideAnError if query.error_contains.is_some() => {
                query.signatures = SignatureSelection::All;
            }
            Fault::CursorIsOffByOne => {
                let is_ascending = !query.order.descending;
                query.after =
                    query.after.map(|cursor| JobCursor { id: neighbour(cursor.id, is_ascending), ..cursor });
            }
            Fault::LabelsMatchByPrefix => {
                let wanted = std::mem::take(&mut query.labels);
                let mut jobs = self.storage.list_jobs(&query).await?;
                let fits =
                    |job: &Job, text: &str| job.labels().iter().any(|label| label.as_str().starts_with(text));
                jobs.retain(|job| wanted.iter().all(|text| fits(job, text)));
                return Ok(jobs);
            }
            Fault::TiesIgnoreTheDirection if query.order.descending => {
                let mut jobs = self.storage.list_jobs(&query).await?;
                jobs.sort_by_key(|job| (std::cmp::Reverse(query.order.field.of(job)), job.id()));
                return Ok(jobs);
            }
            _ => {}
        }
        self.storage.list_jobs(&query).await
    }

    async fn count_jobs(&self, query: &JobQuery) -> Result<u64, StorageError> {
        self.storage.count_jobs(query).await
    }

    async fn job_counts(&self) -> Result<JobCounts, StorageError> {
        let mut counts = self.storage.job_counts().await?;
        match self.fault {
            Fault::CountsForgetDeletions => {
                let mut memory = self.memories.content();
                let state = StateName::Succeeded;
                counts.set(state, counts.in_state(state).max(memory.most_counted.in_state(state)));
                memory.most_counted = counts;
            }
            Fault::SuccessesGoWithTheirJobs => {
                counts.succeeded_all_time = counts.in_state(StateName::Succeeded)
            }
            _ => {}
        }
        Ok(counts)
    }

    async fn list_signatures(&self, states: &[StateName]) -> Result<Vec<JobSignature>, StorageError> {
        self.storage.list_signatures(states).await
    }
}
