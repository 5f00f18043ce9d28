//! The in-memory storage: the whole contract without a database, for tests, demos and as the model of the others.
//!
//! Everything is kept under one lock that is held for microseconds and never across an await, so every call is atomic
//! and none can be cut in half by dropping its future. What is stored is gone with the last handle.
//!
//! The files are named as in every storage: [`options`](self::options) and one for each role trait. What a database
//! brings along is here too: `table` holds the rows, `indexes` what finds them without looking at all of them.

mod changes;
mod filter;
mod indexes;
mod jobs;
mod lanes;
mod merge;
mod metadata;
mod options;
mod recurring;
mod search;
mod servers;
mod sources;
mod table;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

pub use options::MemoryStorageOptions;

use crate::storage::{ChangeFeed, ChangeHub, SetUp, StorageError, StorageProvider};

const PROVIDER: &str = "memory";

/// Keeps everything in the memory of this process.
///
/// Cloning gives another handle on the same content; closing one closes all of them.
///
/// # Examples
///
/// ```
/// # use std::sync::Arc;
/// use jobrunr_core::storage::{JobSearch, StorageProvider};
/// use jobrunr_core::memory::MemoryStorage;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), jobrunr_core::storage::StorageError> {
/// let storage: Arc<dyn StorageProvider> = Arc::new(MemoryStorage::new());
///
/// assert_eq!(storage.job_counts().await?.total(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

struct Shared {
    options: MemoryStorageOptions,
    /// `None` once the storage was closed.
    content: Mutex<Option<Content>>,
    hub: ChangeHub,
}

/// All that is stored, by role.
#[derive(Default)]
struct Content {
    jobs: table::JobTable,
    recurring: recurring::RecurringJobTable,
    servers: servers::ServerTable,
    metadata: metadata::MetadataTable,
}

impl MemoryStorage {
    /// An empty storage with default options.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(MemoryStorageOptions::default())
    }

    /// An empty storage with these options.
    #[must_use]
    pub fn with_options(options: MemoryStorageOptions) -> Self {
        let content = Mutex::new(Some(Content::default()));
        Self { shared: Arc::new(Shared { options, content, hub: ChangeHub::new() }) }
    }

    /// Does one piece of work on the content, alone.
    fn with<R>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Content) -> R,
    ) -> Result<R, StorageError> {
        let mut content = self.shared.content.lock().unwrap_or_else(PoisonError::into_inner);
        let content = content.as_mut().ok_or(StorageError::Closed { provider: PROVIDER, operation })?;
        Ok(work(content))
    }

    fn hub(&self) -> &ChangeHub {
        &self.shared.hub
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageProvider for MemoryStorage {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    async fn set_up(&self, _set_up: SetUp) -> Result<(), StorageError> {
        self.with("set up", |_| ())
    }

    fn changes(&self) -> Option<&dyn ChangeFeed> {
        Some(self.hub())
    }

    async fn close(&self) {
        let content = self.shared.content.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.hub().close();
        // Freeing a large content takes a while; the lock is not held any more.
        drop(content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::JobSearch;

    #[tokio::test]
    async fn closing_one_handle_closes_all() {
        let storage = MemoryStorage::new();
        let other = storage.clone();

        storage.close().await;
        storage.close().await;

        assert!(matches!(other.job_counts().await, Err(StorageError::Closed { provider: "memory", .. })));
        assert!(matches!(other.set_up(SetUp::Nothing).await, Err(StorageError::Closed { .. })));
    }

    #[test]
    fn debug_does_not_show_the_content() {
        assert!(format!("{:?}", MemoryStorage::new()).starts_with("MemoryStorage { options: "));
    }
}
