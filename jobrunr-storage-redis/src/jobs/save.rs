//! Saving jobs: what was added to their histories, each guarded by version, creation, and who holds it since when.
//!
//! The version alone is not enough: a failover may lose a claim that was answered, and the next claim makes the same version
//! for another server.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use jobrunr_core::storage::{SaveReport, StorageError};
use jobrunr_core::{
    Failure, FailureKind, HistoryEntry, Job, JobId, JobMetadata, JobState, ServerId, StateName, Version,
};
use redis::Cmd;

use super::rows::{Row, bytes_of_entries, encode_entry};
use super::uncertain::{PendingWrites, Write};
use super::{CHUNKS_AT_ONCE, chunks_of};
use crate::RedisStorage;
use crate::calls::{Call, Keeps};
use crate::changes::Hints;
use crate::encoding::encode_id;
use crate::error::Failed;
use crate::head::{Head, Present, encode_standing, last_server};
use crate::scripts::SAVE;

const OPERATION: &str = "save jobs";

impl RedisStorage {
    pub(super) async fn save(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        let call = self.begin(OPERATION)?;
        let mut mentioned = HashSet::with_capacity(jobs.len());
        let bytes_of = |job: &Job| bytes_of_entries(job.new_entries());
        let chunks: Vec<(&[Job], Vec<&Job>)> = chunks_of(jobs, bytes_of)
            .map(|chunk| (chunk, chunk.iter().filter(|job| mentioned.insert(job.id())).collect()))
            .collect();
        let saves: Vec<_> =
            chunks.iter().map(|(_, first_mentions)| call.save_chunk(first_mentions)).collect();
        let mut saves = stream::iter(saves).buffered(CHUNKS_AT_ONCE);
        let (mut report, mut hints) = (SaveReport::default(), Hints::default());
        let saved = async {
            for (chunk, first_mentions) in &chunks {
                let conflicts = saves.next().await.expect("each chunk is saved")?;
                let mut first_mentions = first_mentions.iter().peekable();
                for job in *chunk {
                    let is_first = first_mentions.next_if(|first| std::ptr::eq(**first, job)).is_some();
                    if is_first && !conflicts.contains(&job.id()) {
                        hints.note_saved(job);
                    } else {
                        report.conflicts.push(job.id());
                    }
                }
            }
            Ok(())
        };
        let saved: Result<(), StorageError> = saved.await;
        // Also of those that were saved before something failed.
        self.hint(hints);
        saved.map(|()| report)
    }
}

/// One save as the script takes it.
struct Save<'j> {
    id: JobId,
    version: Version,
    created_at: DateTime<Utc>,
    loaded: Loaded,
    updated_at: DateTime<Utc>,
    present: Present,
    entries: &'j [HistoryEntry],
}

/// What of a job was stored when it was loaded.
#[derive(Clone, Copy)]
struct Loaded {
    /// How many entries.
    entries: usize,
    /// Of the last of them: its instant and its state.
    since: DateTime<Utc>,
    state: StateName,
    /// Who holds the job, or held it last.
    server: Option<ServerId>,
}

impl Loaded {
    fn of(job: &Job) -> Self {
        let entries = job.history().len() - job.new_entries().len();
        let loaded = &job.history()[..entries];
        // Of a job that was never stored there is nothing that could be found.
        let last = loaded.last().unwrap_or(&job.history()[0]);
        Self { entries, since: last.at, state: last.state.name(), server: last_server(loaded) }
    }
}

impl Save<'_> {
    fn add_to(&self, arguments: &mut Cmd) {
        let version = self.version.number();
        let Loaded { entries, since, state, server } = self.loaded;
        let standing = encode_standing(self.created_at, state, server, entries, version, since);
        let succeeded = |entry: &&HistoryEntry| entry.state.name() == StateName::Succeeded;
        arguments
            .arg(encode_id(self.id))
            .arg(standing)
            .arg(self.present.encode_beginning())
            // A version that has no next is none that anything stored has.
            .arg(self.present.encode_end(self.created_at, version.saturating_add(1), self.updated_at))
            .arg(self.entries.iter().filter(succeeded).count())
            .arg(self.entries.len());
        for (number, entry) in (entries..).zip(self.entries) {
            arguments.arg(number).arg(encode_entry(entry));
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
                loaded: Loaded::of(job),
                updated_at: job.updated_at(),
                present: Present::of(job),
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
            loaded: Loaded {
                entries: head.entries,
                since: head.updated_at,
                state: head.state,
                server: head.server_id,
            },
            updated_at: head.updated_at,
            present: head.parked(),
            entries: &[entry],
        };
        let mut arguments = self.arguments(&SAVE);
        arguments.arg(1);
        save.add_to(&mut arguments);
        self.run::<Vec<usize>>(&SAVE, &arguments, Keeps::Write).await.map(drop)
    }
}
