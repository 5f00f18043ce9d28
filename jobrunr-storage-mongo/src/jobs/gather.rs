//! Many small inserts at once become one: each caller is answered after the commit that holds its jobs.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use jobrunr_core::storage::StorageError;
use jobrunr_core::{Job, JobId};
use tokio::sync::oneshot;

use super::CHUNK;
use super::insert::OPERATION;
use crate::error::Failed;
use crate::{MongoStorage, PROVIDER};

/// The calls that wait. While one group is being written the next one gathers.
#[derive(Default)]
pub(crate) struct Gatherer {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Whether a task writes them, and goes on until none are left.
    is_written: bool,
}

struct Waiting {
    jobs: Vec<Job>,
    answer: oneshot::Sender<Result<HashSet<JobId>, StorageError>>,
}

impl Gatherer {
    fn with<R>(&self, work: impl FnOnce(&mut Queue) -> R) -> R {
        work(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl MongoStorage {
    /// Inserts jobs of different ids together with those of other callers; returns those that were there already.
    pub(super) async fn insert_gathered(&self, jobs: Vec<Job>) -> Result<HashSet<JobId>, StorageError> {
        let (answer, answered) = oneshot::channel();
        let must_begin = self.inner.gatherer.with(|queue| {
            queue.waiting.push_back(Waiting { jobs, answer });
            !std::mem::replace(&mut queue.is_written, true)
        });
        if must_begin {
            let turn = Turn { storage: self.clone(), has_ended: false };
            self.inner.under_way.spawn(async move { turn.write_all().await });
        }
        answered.await.unwrap_or_else(|_| {
            let source = "the runtime that wrote it was shut down".into();
            Err(StorageError::Unavailable { provider: PROVIDER, operation: OPERATION, source })
        })
    }
}

/// The right and duty to write what waits; it ends with its task, however that ends.
struct Turn {
    storage: MongoStorage,
    has_ended: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.has_ended {
            self.storage.inner.gatherer.with(|queue| *queue = Queue::default());
        }
    }
}

impl Turn {
    async fn write_all(mut self) {
        loop {
            let group = self.storage.inner.gatherer.with(|queue| {
                let mut jobs = 0;
                let fits = |waiting: &Waiting| {
                    jobs += waiting.jobs.len();
                    jobs <= CHUNK
                };
                let count = queue.waiting.iter().map(fits).take_while(|fits| *fits).count();
                let group: Vec<Waiting> = queue.waiting.drain(..count).collect();
                // Race: whoever comes after this begins a turn of their own.
                queue.is_written = !group.is_empty();
                group
            });
            if group.is_empty() {
                self.has_ended = true;
                return;
            }
            self.write(group).await;
        }
    }

    async fn write(&self, group: Vec<Waiting>) {
        let jobs = group.iter().flat_map(|waiting| &waiting.jobs);
        let mut seen = HashSet::new();
        let first_mentions: Vec<Job> = jobs.filter(|job| seen.insert(job.id())).cloned().collect();
        match self.storage.insert_chunk(&first_mentions).await {
            Ok(present) => {
                let mut mentioned = HashSet::new();
                for Waiting { jobs, answer } in group {
                    let ids = jobs.iter().map(Job::id);
                    let not_new = ids.filter(|id| !mentioned.insert(*id) || present.contains(id)).collect();
                    // A caller that has gone wants no answer.
                    let _ = answer.send(Ok(not_new));
                }
            }
            Err(failed) if group.len() == 1 || failed.is_uncertain || failed.error.is_retryable() => {
                let mut group = group.into_iter();
                let first = group.next();
                for Waiting { answer, .. } in group {
                    let _ = answer.send(Err(same_as(&failed)));
                }
                if let Some(Waiting { answer, .. }) = first {
                    let _ = answer.send(Err(failed.error));
                }
            }
            // One of them is to blame, and the others shall not suffer for it.
            Err(_) => {
                for Waiting { jobs, answer } in group {
                    let _ = answer.send(self.storage.insert_chunk(&jobs).await.map_err(StorageError::from));
                }
            }
        }
    }
}

/// The same error for another caller of the same group; it can only be one that may pass.
fn same_as(failed: &Failed) -> StorageError {
    let said = std::error::Error::source(&failed.error).map(ToString::to_string).unwrap_or_default();
    StorageError::Unavailable { provider: PROVIDER, operation: OPERATION, source: said.into() }
}
