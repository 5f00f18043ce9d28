//! [`JobStore`]: storing, claiming and releasing jobs. One file each for what is done; here is what they share.

mod claim;
mod delete;
mod due;
mod gather;
mod insert;
mod line;
mod rows;
mod save;
mod uncertain;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::storage::{
    ClaimRequest, DueReport, InsertReport, JobSelection, JobStore, SaveReport, StorageError,
    check_payload_sizes,
};
use jobrunr_core::{Job, JobId, JobMetadata};
use redis::cmd;

use crate::calls::Keeps;
use crate::encoding::encode_id;
use crate::error::corrupt;
use crate::scripts::JOB_DATA;
use crate::{PROVIDER, RedisStorage};
pub(crate) use gather::Gatherer;
pub(crate) use rows::{Fields, Row, lines_of};
pub(crate) use uncertain::Uncertain;

/// How many jobs one script inserts, claims, saves or removes at most, so that nobody waits long for it.
const CHUNK: usize = 50;

/// How many bytes one script writes at most, if it writes more than one job.
const CHUNK_BYTES: usize = 512 * 1024;

/// How many scripts of one call are under way at once: while one runs, the next is written and the answer to the last read.
const CHUNKS_AT_ONCE: usize = 2;

/// The parts of a batch of which one script each writes: not many jobs, and not many bytes.
fn chunks_of(jobs: &[Job], bytes_of: impl Fn(&Job) -> usize) -> impl Iterator<Item = &[Job]> {
    let mut rest = jobs;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |job: &&Job| {
            bytes += bytes_of(job);
            bytes <= CHUNK_BYTES
        };
        let count = rest.iter().take(CHUNK).take_while(fits).count();
        // One that fits nowhere goes alone.
        let (chunk, next) = rest.split_at(count.max(1).min(rest.len()));
        rest = next;
        (!chunk.is_empty()).then_some(chunk)
    })
}

#[async_trait]
impl JobStore for RedisStorage {
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        check_payload_sizes(PROVIDER, jobs, self.inner.options.max_payload_bytes)?;
        self.insert(jobs).await
    }

    async fn save_jobs(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        self.save(jobs).await
    }

    async fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        self.claim(request).await
    }

    async fn enqueue_due_jobs(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError> {
        self.enqueue_due(now, limit).await
    }

    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError> {
        const OPERATION: &str = "find a job";
        let call = self.begin(OPERATION)?;
        let key = encode_id(id);
        let mut read = cmd("HGETALL");
        read.arg(self.inner.keys.job(&key));
        let fields: Fields = call.read_one(&read).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        let unreadable = |what: String| corrupt(OPERATION, format!("job {id}: {what}"));
        let row = Row::read(fields).map_err(unreadable)?;
        let metadata = if row.has_metadata {
            call.load_metadata(&[&key])
                .await?
                .pop()
                .unwrap_or_else(|| Ok(JobMetadata::new()))
                .map_err(unreadable)?
        } else {
            JobMetadata::new()
        };
        row.into_job(id, metadata).map(Some).map_err(unreadable)
    }

    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        match selection {
            JobSelection::Ids(ids) => self.delete_by_id(ids).await,
            JobSelection::Aged { state, updated_before, signatures, limit } => {
                self.purge(*state, *updated_before, signatures, *limit).await
            }
        }
    }

    async fn save_job_metadata(&self, id: JobId, entries: &JobMetadata) -> Result<bool, StorageError> {
        let call = self.begin("save metadata of a job")?;
        let mut arguments = call.arguments(&JOB_DATA);
        arguments.arg(encode_id(id));
        for (name, value) in entries {
            arguments.arg(name).arg(value.to_string());
        }
        Ok(call.run::<bool>(&JOB_DATA, &arguments, Keeps::Write).await?)
    }
}

#[cfg(test)]
mod tests {
    use jobrunr_core::{Failure, FailureKind, JobDefinition, JobState, JsonText};

    use super::*;

    fn a_job() -> Job {
        let definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
        Job::new(JobId::new(), definition, JobState::enqueued(), DateTime::UNIX_EPOCH).unwrap()
    }

    fn sizes(jobs: &[Job], bytes_of: impl Fn(&Job) -> usize) -> Vec<usize> {
        chunks_of(jobs, bytes_of).map(<[Job]>::len).collect()
    }

    #[test]
    fn one_script_writes_no_more_than_so_many_jobs_and_bytes_and_at_least_one_job() {
        let jobs: Vec<Job> = (0..2 * CHUNK + 1).map(|_| a_job()).collect();

        assert_eq!(sizes(&[], |_| 1), [0; 0]);
        assert_eq!(sizes(&jobs, |_| 1), [CHUNK, CHUNK, 1]);
        assert_eq!(sizes(&jobs[..5], |_| CHUNK_BYTES / 2), [2, 2, 1]);
        assert_eq!(sizes(&jobs[..2], |_| 2 * CHUNK_BYTES), [1, 1]);
    }

    #[test]
    fn metadata_and_histories_count_as_well_as_payloads() {
        let large = "x".repeat(CHUNK_BYTES / 2);
        let with_metadata = a_job().with_metadata([("note".to_owned(), large.as_str().into())].into());
        let payload = JsonText::of(&large).unwrap();
        let definition = JobDefinition { payload, ..a_job().definition().clone() };
        let with_payload =
            Job::new(JobId::new(), definition, JobState::enqueued(), DateTime::UNIX_EPOCH).unwrap();
        let mut with_history = a_job();
        let server = jobrunr_core::ServerRef { id: jobrunr_core::ServerId::new(), name: "one".to_owned() };
        for _ in 0..20 {
            let failure = Failure::new(FailureKind::Corrupt, "x".repeat(15_000));
            with_history.start_processing(&server, DateTime::UNIX_EPOCH).unwrap();
            with_history.fail(failure, DateTime::UNIX_EPOCH).unwrap();
            with_history.enqueue(DateTime::UNIX_EPOCH).unwrap();
        }

        for job in [with_metadata, with_payload, with_history] {
            assert_eq!(sizes(&[a_job(), job.clone(), job], insert::bytes_of), [2, 1]);
        }
    }
}
