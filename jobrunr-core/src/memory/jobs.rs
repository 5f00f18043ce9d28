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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ServerId, Version};
    use crate::job::{JobDefinition, ServerRef, StoredJob};
    use crate::json_text::JsonText;
    use crate::state::{HistoryEntry, JobState, StateName};
    use crate::storage::{JobSearch, SignatureSelection};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn enqueued_job() -> Job {
        let definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
        Job::new(JobId::new(), definition, JobState::enqueued(), at(0)).unwrap()
    }

    /// A job as somebody else may have loaded it.
    fn loaded(job: &Job, version: Version, history: Vec<HistoryEntry>) -> Job {
        Job::from_stored(StoredJob {
            id: job.id(),
            version,
            definition: job.shared_definition(),
            history,
            metadata: JobMetadata::new(),
        })
    }

    #[tokio::test]
    async fn a_version_later_than_the_stored_one_loses_as_an_earlier_one_does() {
        let storage = MemoryStorage::new();
        let job = enqueued_job();
        storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap();
        let later = loaded(&job, Version::new(2), job.history().to_vec());

        let report = storage.save_jobs(&[later]).await.unwrap();

        assert_eq!(report.conflicts, [job.id()]);
    }

    #[tokio::test]
    async fn a_save_adds_to_the_stored_history_whatever_else_the_saved_job_says() {
        let storage = MemoryStorage::new();
        let job = enqueued_job();
        storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap();
        let forged = HistoryEntry { at: at(0), state: JobState::scheduled(at(7)) };
        let mut liar = loaded(&job, Version::FIRST, vec![forged]);
        liar.delete(None, at(8)).unwrap();

        assert_eq!(storage.save_jobs(&[liar]).await.unwrap(), SaveReport::default());

        let stored = storage.find_job(job.id()).await.unwrap().unwrap();
        assert_eq!(stored.history()[0], job.history()[0]);
        assert_eq!(stored.history().len(), 2);
        assert_eq!(stored.state_name(), StateName::Deleted);
    }

    #[tokio::test]
    async fn a_success_that_a_new_job_brings_along_counts() {
        let storage = MemoryStorage::new();
        let mut job = enqueued_job();
        let server = ServerRef { id: ServerId::new(), name: "one".into() };
        job.start_processing(&server, at(1)).unwrap();
        job.succeed(None, at(2)).unwrap();

        storage.insert_jobs(&[job.clone(), job]).await.unwrap();

        assert_eq!(storage.job_counts().await.unwrap().succeeded_all_time, 1);
    }

    #[tokio::test]
    async fn batches_over_a_chunk_are_treated_as_one() {
        let storage = MemoryStorage::new();
        let jobs: Vec<_> = (0..=CHUNK).map(|_| enqueued_job()).collect();
        let [first, .., last] = jobs.as_slice() else { unreachable!("there are more than two") };
        storage.insert_jobs(&jobs).await.unwrap();
        let twice = [jobs.as_slice(), &[first.clone(), last.clone()]].concat();

        assert_eq!(storage.save_jobs(&twice).await.unwrap().conflicts, [first.id(), last.id()]);

        let aged = |limit| JobSelection::Aged {
            state: StateName::Enqueued,
            updated_before: at(1),
            signatures: SignatureSelection::All,
            limit,
        };
        assert_eq!(storage.delete_jobs(&aged(CHUNK)).await.unwrap(), 1_000);
        assert_eq!(storage.delete_jobs(&aged(usize::MAX)).await.unwrap(), 1);
    }
}
