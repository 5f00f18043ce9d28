//! Saving jobs: what was added to their histories, each guarded by version and creation.

use std::collections::HashSet;

use jobrunr_core::storage::{SaveReport, StorageError};
use jobrunr_core::{
    Failure, FailureKind, HistoryEntry, Job, JobId, JobMetadata, JobState, StateName, Version,
};
use redis::Cmd;

use super::CHUNK;
use super::rows::{Row, encode_entry};
use super::uncertain::{PendingWrites, Write};
use crate::RedisStorage;
use crate::calls::{Call, Keeps};
use crate::changes::Hints;
use crate::encoding::{encode_id, encode_time};
use crate::error::Failed;
use crate::head::{Change, Head, last_failure};
use crate::scripts::SAVE;

const OPERATION: &str = "save jobs";

impl RedisStorage {
    pub(super) async fn save(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        let call = self.begin(OPERATION)?;
        let mut mentioned = HashSet::with_capacity(jobs.len());
        let (mut report, mut hints) = (SaveReport::default(), Hints::default());
        for chunk in jobs.chunks(CHUNK) {
            let first_mentions: Vec<&Job> = chunk.iter().filter(|job| mentioned.insert(job.id())).collect();
            let conflicts = call.save_chunk(&first_mentions).await?;
            let mut first_mentions = first_mentions.iter().peekable();
            for job in chunk {
                let is_first = first_mentions.next_if(|first| std::ptr::eq(**first, job)).is_some();
                if is_first && !conflicts.contains(&job.id()) {
                    hints.note_saved(job);
                } else {
                    report.conflicts.push(job.id());
                }
            }
        }
        self.hint(hints);
        Ok(report)
    }
}

/// One save as the script takes it.
struct Save<'j> {
    id: JobId,
    version: Version,
    created_at: chrono::DateTime<chrono::Utc>,
    change: Change,
    entries: &'j [HistoryEntry],
}

impl Save<'_> {
    fn add_to(&self, arguments: &mut Cmd) {
        let Change { state_and_update, schedule_and_server, enqueued, awaited } = &self.change;
        arguments
            .arg(encode_id(self.id))
            .arg(self.version.number())
            // A version that has no next is none that anything stored has.
            .arg(self.version.number().saturating_add(1))
            .arg(encode_time(self.created_at))
            .arg(state_and_update)
            .arg(schedule_and_server)
            .arg(enqueued)
            .arg(awaited);
        match last_failure(self.entries) {
            Some(index) => arguments.arg(index),
            None => arguments.arg(-1),
        };
        let succeeded = |entry: &&HistoryEntry| entry.state.name() == StateName::Succeeded;
        arguments.arg(self.entries.iter().filter(succeeded).count()).arg(self.entries.len());
        for entry in self.entries {
            arguments.arg(encode_entry(entry));
        }
    }
}

impl Call<'_> {
    /// Saves jobs of different ids in one step; returns those that lost.
    async fn save_chunk(&self, jobs: &[&Job]) -> Result<HashSet<JobId>, Failed> {
        if jobs.is_empty() {
            return Ok(HashSet::new());
        }
        let uncertain = &self.storage.inner.uncertain;
        let mut arguments = self.arguments(&SAVE);
        arguments.arg(jobs.len());
        for job in jobs {
            let save = Save {
                id: job.id(),
                version: job.version(),
                created_at: job.created_at(),
                change: Change::of(job),
                entries: job.new_entries(),
            };
            save.add_to(&mut arguments);
        }
        let writes = jobs.iter().map(|job| (job.id(), Write::Save(job.version())));
        let pending = PendingWrites::new(uncertain, writes);
        let lost: Vec<usize> = match self.run(&SAVE, &arguments, Keeps::Write).await {
            Ok(lost) => lost,
            Err(failed) => {
                pending.failed(&failed);
                return Err(failed);
            }
        };
        let lost = lost.into_iter().filter_map(|number| jobs.get(number.checked_sub(1)?));
        let mut conflicts = HashSet::new();
        for job in lost {
            let may_be_own = uncertain.may_be_written(job.id(), Write::Save(job.version()));
            if !(may_be_own && self.is_saved(job).await?) {
                conflicts.insert(job.id());
            }
        }
        pending.end();
        Ok(conflicts)
    }

    /// Whether what is stored is exactly what a save of this job would have made.
    async fn is_saved(&self, job: &Job) -> Result<bool, Failed> {
        let id = encode_id(job.id());
        let fields = self.load_rows(&[&id]).await?.pop().unwrap_or_default();
        let stored = Row::read(fields).and_then(|row| row.into_job(job.id(), JobMetadata::new()));
        Ok(stored.is_ok_and(|stored| {
            stored.version() == job.version().next() && stored.history() == job.history()
        }))
    }

    /// Parks a job that cannot be read, unless somebody else got hold of it meanwhile.
    pub(super) async fn park(&self, id: JobId, head: &Head, what: &str) -> Result<(), Failed> {
        tracing::error!("job {id} cannot be read and is parked as FAILED: {what}");
        let failure =
            Failure::new(FailureKind::Corrupt, format!("what is stored of the job cannot be read: {what}"));
        let entry = HistoryEntry { at: head.updated_at, state: JobState::failed(failure.do_not_retry()) };
        let save = Save {
            id,
            version: head.version,
            created_at: head.created_at,
            change: head.moved_to(StateName::Failed, head.updated_at),
            entries: &[entry],
        };
        let mut arguments = self.arguments(&SAVE);
        arguments.arg(1);
        save.add_to(&mut arguments);
        self.run::<Vec<usize>>(&SAVE, &arguments, Keeps::Write).await.map(drop)
    }
}
