//! The in-memory storage keeps the contract.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use jobrunr_core::memory::MemoryStorage;
use jobrunr_core::storage::{StorageError, StorageProvider};
use storage_conformance_tests::{Ability, NoDatabase, StorageHarness, TestDatabase, conformance_tests};

struct Memory;

#[async_trait]
impl StorageHarness for Memory {
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        Ok(Box::new(MemoryDatabase(MemoryStorage::new())))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        Cow::Borrowed(&[Ability::ChangeFeed, Ability::Durability])
    }
}

struct MemoryDatabase(MemoryStorage);

#[async_trait]
impl TestDatabase for MemoryDatabase {
    async fn open(&self, _prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError> {
        Ok(Arc::new(self.0.open_again()))
    }

    async fn destroy(&self) {}
}

conformance_tests!(Memory);
