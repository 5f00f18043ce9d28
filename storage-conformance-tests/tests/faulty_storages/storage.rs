//! An in-memory storage behind a wrapper that does everything right but one thing.

mod jobs;
mod others;
mod search;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::stream;
use jobrunr_core::memory::MemoryStorage;
use jobrunr_core::storage::{
    AwaitedJobs, ChangeFeed, ChangeStream, JobCounts, ServerAnnouncement, SetUp, StorageError,
    StorageProvider,
};
use jobrunr_core::{Job, ServerId};

use crate::faults::Fault;

/// A handle on a faulty database.
#[derive(Debug)]
pub(crate) struct Faulty {
    storage: MemoryStorage,
    fault: Fault,
    memories: Arc<Memories>,
    mute: MuteFeed,
    waits: TurningLists,
}

/// What faults remember, one for all handles on a database.
#[derive(Debug, Default)]
pub(crate) struct Memories {
    content: Mutex<Remembered>,
}

#[derive(Debug, Default)]
pub(crate) struct Remembered {
    last_claim: Vec<Job>,
    most_counted: JobCounts,
    announced: HashMap<ServerId, ServerAnnouncement>,
    reported_silent: Vec<ServerId>,
}

impl Memories {
    fn content(&self) -> MutexGuard<'_, Remembered> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Faulty {
    pub(crate) fn new(storage: MemoryStorage, fault: Fault, memories: Arc<Memories>) -> Self {
        Self { storage, fault, memories, mute: MuteFeed, waits: TurningLists::default() }
    }
}

/// A feed that never says anything.
#[derive(Debug)]
struct MuteFeed;

impl ChangeFeed for MuteFeed {
    fn subscribe(&self) -> ChangeStream {
        Box::pin(stream::pending())
    }
}

/// Lists of waits that take turns, so that who tells of an end tells nobody, or somebody else.
#[derive(Debug, Default)]
struct TurningLists {
    lists: [AwaitedJobs; 3],
    asked: AtomicUsize,
}

impl TurningLists {
    fn next(&self) -> &AwaitedJobs {
        &self.lists[self.asked.fetch_add(1, Ordering::Relaxed) % self.lists.len()]
    }
}

#[async_trait]
impl StorageProvider for Faulty {
    fn name(&self) -> &'static str {
        self.storage.name()
    }

    async fn set_up(&self, set_up: SetUp) -> Result<(), StorageError> {
        self.storage.set_up(set_up).await
    }

    fn changes(&self) -> Option<&dyn ChangeFeed> {
        if self.fault == Fault::LosesHints { Some(&self.mute) } else { self.storage.changes() }
    }

    fn awaited_jobs(&self) -> &AwaitedJobs {
        if self.fault == Fault::ForgetsWaits { self.waits.next() } else { self.storage.awaited_jobs() }
    }

    async fn close(&self) {
        if self.fault != Fault::StaysOpen {
            self.storage.close().await;
        }
    }
}
