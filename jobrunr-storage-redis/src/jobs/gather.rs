//! Many small inserts at once become one: each caller is answered after the script that wrote its jobs.
//!
//! Two groups may be under way: while the server works on one, the other is written or its callers are answered.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use jobrunr_core::storage::StorageError;
use jobrunr_core::{Job, JobId};
use tokio::sync::oneshot;

use super::insert::{OPERATION, bytes_of};
use super::{CHUNK, CHUNK_BYTES};
use crate::RedisStorage;
use crate::error::{Failed, unavailable};

/// How many groups are under way at once.
const GROUPS_AT_ONCE: usize = 2;

/// How often others are let go on before a group is closed.
const MAX_YIELDS: usize = 8;

/// The calls that wait. While groups are being written the next one gathers.
#[derive(Default)]
pub(crate) struct Gatherer {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many tasks write them, each of which goes on until none are left.
    writers: usize,
}

struct Waiting {
    jobs: Vec<Job>,
    bytes: usize,
    answer: oneshot::Sender<Result<HashSet<JobId>, StorageError>>,
}

impl Gatherer {
    fn with<R>(&self, work: impl FnOnce(&mut Queue) -> R) -> R {
        work(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RedisStorage {
    /// Inserts jobs of different ids together with those of other callers; returns those that were there already.
    pub(super) async fn insert_gathered(&self, jobs: Vec<Job>) -> Result<HashSet<JobId>, StorageError> {
        let (answer, answered) = oneshot::channel();
        let bytes = jobs.iter().map(bytes_of).sum();
        let must_begin = self.inner.gatherer.with(|queue| {
            queue.waiting.push_back(Waiting { jobs, bytes, answer });
            let must_begin = queue.writers < GROUPS_AT_ONCE;
            queue.writers += usize::from(must_begin);
            must_begin
        });
        if must_begin {
            let turn = Turn { storage: self.clone(), has_ended: false };
            self.inner.under_way.spawn(async move { turn.write_all().await });
        }
        answered
            .await
            .unwrap_or_else(|_| Err(unavailable(OPERATION, "the runtime that wrote it was shut down")))
    }
}

/// The right and duty to write what waits; it ends with its task, however that ends.
struct Turn {
    storage: RedisStorage,
    has_ended: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.has_ended {
            self.storage.inner.gatherer.with(|queue| {
                queue.writers -= 1;
                if queue.writers == 0 {
                    // Nobody is left to write them; their callers are told by their going.
                    queue.waiting.clear();
                }
            });
        }
    }
}

impl Turn {
    async fn write_all(mut self) {
        loop {
            self.let_others_come().await;
            let group = self.storage.inner.gatherer.with(|queue| {
                let (mut jobs, mut bytes) = (0, 0);
                let fits = |waiting: &Waiting| {
                    jobs += waiting.jobs.len();
                    bytes += waiting.bytes;
                    jobs <= CHUNK && bytes <= CHUNK_BYTES
                };
                let count = queue.waiting.iter().map(fits).take_while(|fits| *fits).count();
                // One that fits nowhere goes alone.
                let count = count.max(1).min(queue.waiting.len());
                let group: Vec<Waiting> = queue.waiting.drain(..count).collect();
                // Race: whoever comes after this begins a turn of their own.
                queue.writers -= usize::from(group.is_empty());
                group
            });
            if group.is_empty() {
                self.has_ended = true;
                return;
            }
            self.write(group).await;
        }
    }

    /// Lets callers that were just answered come again, as long as more and more do.
    async fn let_others_come(&self) {
        let waiting = || self.storage.inner.gatherer.with(|queue| queue.waiting.len());
        let mut known = waiting();
        for _ in 0..MAX_YIELDS {
            tokio::task::yield_now().await;
            let now = waiting();
            if now == known {
                return;
            }
            known = now;
        }
    }

    async fn write(&self, group: Vec<Waiting>) {
        let jobs = group.iter().flat_map(|waiting| &waiting.jobs);
        let mut seen = HashSet::new();
        let first_mentions: Vec<&Job> = jobs.filter(|job| seen.insert(job.id())).collect();
        // The calls that wait are under way themselves, so a close that comes now waits for this one.
        let written = self.storage.begin_last(OPERATION).insert_chunk(&first_mentions).await;
        match written {
            Ok(present) => {
                let mut mentioned = HashSet::new();
                for Waiting { jobs, answer, .. } in group {
                    let ids = jobs.iter().map(Job::id);
                    let not_new = ids.filter(|id| !mentioned.insert(*id) || present.contains(id)).collect();
                    // A caller that has gone wants no answer.
                    let _ = answer.send(Ok(not_new));
                }
            }
            Err(failed) => {
                for Waiting { answer, .. } in group {
                    let _ = answer.send(Err(same_as(&failed)));
                }
            }
        }
    }
}

/// The same error for each caller of a group: nothing in it is about one job alone.
fn same_as(failed: &Failed) -> StorageError {
    let said = std::error::Error::source(&failed.error).map(ToString::to_string);
    let said = said.unwrap_or_else(|| failed.error.to_string());
    if failed.error.is_retryable() {
        unavailable(OPERATION, said)
    } else {
        StorageError::Backend { provider: crate::PROVIDER, operation: OPERATION, source: said.into() }
    }
}
