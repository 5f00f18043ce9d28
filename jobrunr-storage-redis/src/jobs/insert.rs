//! Inserting jobs: large batches by themselves, small ones together with those of other callers.

use std::collections::HashSet;

use futures_util::{StreamExt, stream};
use jobrunr_core::storage::{InsertReport, StorageError};
use jobrunr_core::{HistoryEntry, Job, JobId, StateName};
use redis::Cmd;

use super::rows::{Defined, bytes_of_entries, encode_entry};
use super::uncertain::{PendingWrites, Write};
use super::{CHUNKS_AT_ONCE, chunks_of};
use crate::RedisStorage;
use crate::calls::{Call, Keeps};
use crate::changes::Hints;
use crate::error::Failed;
use crate::head::new_head_before_lane;
use crate::lanes::lane_name;
use crate::scripts::INSERT;

/// What is attempted here.
pub(super) const OPERATION: &str = "insert jobs";

/// Calls with at most so many jobs are gathered with others.
const GATHERED: usize = 16;

impl RedisStorage {
    pub(super) async fn insert(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        let call = self.begin(OPERATION)?;
        let mut seen = HashSet::with_capacity(jobs.len());
        let chunks: Vec<(&[Job], Vec<&Job>)> = chunks_of(jobs, bytes_of)
            .map(|chunk| (chunk, chunk.iter().filter(|job| seen.insert(job.id())).collect()))
            .collect();
        let is_small = jobs.len() <= GATHERED;
        let inserts: Vec<_> =
            chunks.iter().map(|(_, first_mentions)| call.insert_some(first_mentions, is_small)).collect();
        let mut inserts = stream::iter(inserts).buffered(CHUNKS_AT_ONCE);
        let (mut report, mut hints) = (InsertReport::default(), Hints::default());
        let inserted = async {
            for (chunk, first_mentions) in &chunks {
                let present = inserts.next().await.expect("each chunk is inserted")?;
                let mut first_mentions = first_mentions.iter().peekable();
                for job in *chunk {
                    let is_first = first_mentions.next_if(|first| std::ptr::eq(**first, job)).is_some();
                    if is_first && !present.contains(&job.id()) {
                        hints.note(job);
                    } else {
                        report.already_present.push(job.id());
                    }
                }
            }
            Ok(())
        };
        let inserted: Result<(), StorageError> = inserted.await;
        // Also of those that were written before something failed.
        self.hint(hints);
        inserted.map(|()| report)
    }
}

/// How many bytes of a new job a script has to pass on: of what is large about jobs, all.
pub(super) fn bytes_of(job: &Job) -> usize {
    let metadata = job.metadata().iter().map(|(name, value)| name.len() + value.to_string().len());
    job.payload().len() + bytes_of_entries(job.history()) + metadata.sum::<usize>()
}

impl Call<'_> {
    /// Inserts jobs of different ids, a few together with those of other callers.
    async fn insert_some(&self, jobs: &[&Job], is_small: bool) -> Result<HashSet<JobId>, StorageError> {
        if is_small {
            self.storage.insert_gathered(jobs.iter().map(|job| (*job).clone()).collect()).await
        } else {
            Ok(self.insert_chunk(jobs).await?)
        }
    }

    /// Inserts jobs of different ids in one step; returns those that were there already.
    pub(super) async fn insert_chunk(&self, jobs: &[&Job]) -> Result<HashSet<JobId>, Failed> {
        let uncertain = &self.storage.inner.uncertain;
        let arguments = insert_arguments(self.arguments(&INSERT), jobs);
        let pending = PendingWrites::new(uncertain, jobs.iter().map(|job| (job.id(), Write::Insert)));
        let present: Vec<String> = match self.run(&INSERT, &arguments, Keeps::Write).await {
            Ok(present) => present,
            Err(failed) => {
                pending.failed(&failed);
                return Err(failed);
            }
        };
        let present = present.iter().filter_map(|id| crate::encoding::decode_id(id));
        // What an earlier try of this call wrote is no surprise.
        let present = present.filter(|id| !uncertain.may_be_written(*id, Write::Insert)).collect();
        pending.end();
        Ok(present)
    }
}

fn insert_arguments(mut arguments: Cmd, jobs: &[&Job]) -> Cmd {
    arguments.arg(format!("{:016x}", fastrand::u64(..)));
    let mut lanes: Vec<(&str, &str)> = Vec::new();
    let mut lane_of_job = Vec::with_capacity(jobs.len());
    for job in jobs {
        let lane = (job.queue().as_str(), job.signature().as_str());
        let known = lanes.iter().rposition(|known| *known == lane);
        lane_of_job.push(known.unwrap_or_else(|| {
            lanes.push(lane);
            lanes.len() - 1
        }));
    }
    arguments.arg(lanes.len());
    let mut named = HashSet::new();
    for (job, lane) in jobs.iter().zip(&lane_of_job) {
        if named.insert(*lane) {
            arguments.arg(lane_name(job.queue(), job.signature()));
        }
    }
    arguments.arg(jobs.len());
    let defined: Vec<Defined<'_>> = jobs.iter().map(|job| Defined::of(job)).collect();
    for ((job, lane), defined) in jobs.iter().zip(lane_of_job).zip(&defined) {
        // Lua counts from one.
        arguments.arg(new_head_before_lane(job, defined.is_small())).arg(lane + 1);
    }
    for (job, defined) in jobs.iter().zip(&defined) {
        add_fields(&mut arguments, job, defined);
        let labels = job.labels().as_slice();
        let succeeded = |entry: &&HistoryEntry| entry.state.name() == StateName::Succeeded;
        let successes = job.history().iter().filter(succeeded).count();
        if labels.is_empty() && job.metadata().is_empty() && successes == 0 {
            arguments.arg(0);
            continue;
        }
        arguments.arg(1).arg(labels.len());
        labels.iter().for_each(|label| {
            arguments.arg(label.as_str());
        });
        arguments.arg(job.metadata().len());
        for (name, value) in job.metadata() {
            arguments.arg(name).arg(value.to_string());
        }
        arguments.arg(successes);
    }
    arguments
}

/// The fields of a job but its head, as pairs after their number.
fn add_fields(arguments: &mut Cmd, job: &Job, defined: &Defined<'_>) {
    let labels: Vec<&str> = job.labels().iter().map(jobrunr_core::Label::as_str).collect();
    let labels = (!labels.is_empty()).then(|| labels.join("\n"));
    let recurring = job.recurring_job_id();
    let has_metadata = !job.metadata().is_empty();
    let optional = [!defined.is_small(), labels.is_some(), recurring.is_some(), has_metadata];
    // The first entry is in `d`.
    arguments.arg(job.history().len() + optional.iter().filter(|there| **there).count());
    arguments.arg("d").arg(&defined.text);
    if let Some(payload) = defined.large_payload {
        arguments.arg("p").arg(payload);
    }
    if let Some(labels) = labels {
        arguments.arg("b").arg(labels);
    }
    if let Some(recurring) = recurring {
        arguments.arg("r").arg(recurring.as_str());
    }
    if has_metadata {
        arguments.arg("m").arg("1");
    }
    for (number, entry) in job.history().iter().enumerate().skip(1) {
        arguments.arg(number).arg(encode_entry(entry));
    }
}
