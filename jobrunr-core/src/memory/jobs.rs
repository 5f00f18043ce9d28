//! [`JobStore`]: storing, claiming and releasing jobs.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::changes::Hints;
use super::lanes::Wanted;
use super::table::Row;
use super::{MemoryStorage, PROVIDER};
use crate::ids::JobId;
use crate::job::{Job, JobMetadata};
use crate::storage::{
    ClaimRequest, DueReport, InsertReport, JobSelection, JobStore, QueueSelection, SaveReport, StorageError,
    check_payload_sizes,
};

/// How many jobs of a batch are written or removed before others get their turn.
const CHUNK: usize = 1_000;

#[async_trait]
impl JobStore for MemoryStorage {
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        const OPERATION: &str = "insert jobs";
        self.with(OPERATION, |_| ())?;
        check_payload_sizes(PROVIDER, jobs, self.database.options.max_payload_bytes)?;
        let mut report = InsertReport::default();
        let mut hints = Hints::default();
        for chunk in jobs.chunks(CHUNK) {
            let rows: Vec<_> = chunk.iter().map(|job| Box::new(Row::of(job))).collect();
            self.with(OPERATION, |content| {
                for (job, row) in chunk.iter().zip(rows) {
                    if content.jobs.insert(job.id(), row) {
                        hints.note(job);
                    } else {
                        report.already_present.push(job.id());
                    }
                }
            })?;
        }
        self.database.feeds.send(&hints);
        Ok(report)
    }

    async fn save_jobs(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        const OPERATION: &str = "save jobs";
        self.with(OPERATION, |_| ())?;
        let mut report = SaveReport::default();
        let mut hints = Hints::default();
        let mut mentioned = HashSet::new();
        for chunk in jobs.chunks(CHUNK) {
            self.with(OPERATION, |content| {
                for job in chunk {
                    if mentioned.insert(job.id()) && content.jobs.save(job) {
                        hints.note(job);
                    } else {
                        report.conflicts.push(job.id());
                    }
                }
            })?;
        }
        self.database.feeds.send(&hints);
        Ok(report)
    }

    async fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        let ClaimRequest { server, queues, signatures, limit, now } = request;
        let wanted = Wanted::from(signatures);
        self.with("claim jobs", |content| {
            let mut claimed = Vec::new();
            let mut claim_from = |queue| {
                for id in content.jobs.first_in_line(queue, &wanted, limit - claimed.len()) {
                    claimed.push(content.jobs.start_processing(id, server, *now));
                }
            };
            match queues {
                QueueSelection::All => claim_from(None),
                QueueSelection::InOrder(queues) => queues.iter().for_each(|queue| claim_from(Some(queue))),
            }
            claimed
        })
    }

    async fn enqueue_due_jobs(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError> {
        let mut hints = Hints::default();
        let report = self.with("enqueue due jobs", |content| {
            let released = content.jobs.first_due(now, limit);
            for id in &released {
                hints.note(&content.jobs.enqueue(*id, now));
            }
            let next_due_at = content.jobs.indexes.due.first().map(|(due_at, _)| *due_at);
            DueReport { released, next_due_at }
        })?;
        self.database.feeds.send(&hints);
        Ok(report)
    }

    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError> {
        self.with("find a job", |content| content.jobs.rows.get(&id).map(|row| row.whole_job(id)))
    }

    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        const OPERATION: &str = "delete jobs";
        self.with(OPERATION, |_| ())?;
        let mut removed = 0;
        match selection {
            JobSelection::Ids(ids) => {
                for chunk in ids.chunks(CHUNK) {
                    removed += self.remove(OPERATION, |_| chunk.to_vec())?;
                }
            }
            JobSelection::Aged { state, updated_before, signatures, limit } => {
                let wanted = Wanted::from(signatures);
                let mut left = *limit;
                while left > 0 {
                    let count = left.min(CHUNK);
                    let gone = self.remove(OPERATION, |jobs| {
                        jobs.first_updated(*state, &wanted, *updated_before, count)
                    })?;
                    removed += gone;
                    left -= gone;
                    if gone < count {
                        break;
                    }
                }
            }
        }
        Ok(u64::try_from(removed).unwrap_or(u64::MAX))
    }

    async fn save_job_metadata(&self, id: JobId, entries: &JobMetadata) -> Result<bool, StorageError> {
        self.with("save metadata of a job", |content| {
            let row = content.jobs.rows.get_mut(&id);
            row.map(|row| row.metadata.extend(entries.clone())).is_some()
        })
    }
}

impl MemoryStorage {
    /// Removes the jobs that `select` names; returns how many there were.
    fn remove(
        &self,
        operation: &'static str,
        select: impl FnOnce(&super::table::JobTable) -> Vec<JobId>,
    ) -> Result<usize, StorageError> {
        let removed: Vec<_> = self.with(operation, |content| {
            let ids = select(&content.jobs);
            ids.into_iter().filter_map(|id| content.jobs.remove(id)).collect()
        })?;
        // Their memory is freed here, where nobody waits for the lock.
        Ok(removed.len())
    }
}
