//! Harnesses for wrapped in-memory storages.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::memory::MemoryStorage;
use jobrunr_core::storage::{StorageError, StorageProvider};
use storage_conformance_tests::{Ability, NoDatabase, StorageHarness, TestDatabase};

use crate::faults::Fault;
use crate::storage::{Faulty, Memories};

/// In-memory storages with one fault.
pub(crate) struct Wrapped {
    fault: Fault,
    abilities: &'static [Ability],
}

impl Wrapped {
    pub(crate) const fn with(fault: Fault) -> Self {
        Self { fault, abilities: &[Ability::ChangeFeed, Ability::Durability] }
    }

    /// The same, declaring an ability that it lacks.
    pub(crate) const fn boasting(self) -> Self {
        Self { abilities: &[Ability::ChangeFeed, Ability::Durability, Ability::UnreadableRows], ..self }
    }
}

#[async_trait]
impl StorageHarness for Wrapped {
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        let (storage, memories) = (MemoryStorage::new(), Arc::default());
        Ok(Box::new(Database { fault: self.fault, storage, memories }))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        Cow::Borrowed(self.abilities)
    }

    fn time_limit(&self) -> Duration {
        if self.fault == Fault::Hangs { Duration::from_millis(300) } else { Duration::from_secs(60) }
    }
}

struct Database {
    fault: Fault,
    storage: MemoryStorage,
    memories: Arc<Memories>,
}

#[async_trait]
impl TestDatabase for Database {
    async fn open(&self, _prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError> {
        Ok(Arc::new(Faulty::new(self.storage.open_again(), self.fault, Arc::clone(&self.memories))))
    }

    async fn destroy(&self) {}
}

/// A database whose server is not there.
pub(crate) struct Absent;

#[async_trait]
impl StorageHarness for Absent {
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        Err(NoDatabase::because("no server at this address"))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        Cow::Borrowed(&[])
    }
}
