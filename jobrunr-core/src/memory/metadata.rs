//! [`MetadataStore`]: small values by name and owner.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::MemoryStorage;
use crate::storage::{CompareAndSet, Metadata, MetadataStore, StorageError};

/// All values: by name, then by owner.
#[derive(Default)]
pub(super) struct MetadataTable {
    names: BTreeMap<String, BTreeMap<String, Metadata>>,
}

#[async_trait]
impl MetadataStore for MemoryStorage {
    async fn save_metadata(&self, metadata: &Metadata) -> Result<(), StorageError> {
        let metadata = metadata.clone();
        self.with("save metadata", |content| content.metadata.save(metadata))
    }

    async fn find_metadata(&self, name: &str, owner: &str) -> Result<Option<Metadata>, StorageError> {
        self.with("find metadata", |content| content.metadata.find(name, owner).cloned())
    }

    async fn list_metadata(&self, name: &str) -> Result<Vec<Metadata>, StorageError> {
        self.with("list metadata", |content| {
            let owners = content.metadata.names.get(name);
            owners.into_iter().flat_map(BTreeMap::values).cloned().collect()
        })
    }

    async fn delete_metadata(&self, name: &str, owner: Option<&str>) -> Result<u64, StorageError> {
        let deleted = self.with("delete metadata", |content| content.metadata.delete(name, owner))?;
        Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
    }

    async fn compare_and_set_metadata(&self, change: &CompareAndSet) -> Result<bool, StorageError> {
        let CompareAndSet { name, owner, expected, new, now } = change;
        self.with("compare and set metadata", |content| {
            let stored = content.metadata.find(name, owner).map(|stored| &stored.value);
            let is_as_expected = stored == expected.as_ref();
            if is_as_expected {
                content.metadata.save(Metadata::new(name, owner, new, *now));
            }
            is_as_expected
        })
    }
}

impl MetadataTable {
    fn find(&self, name: &str, owner: &str) -> Option<&Metadata> {
        self.names.get(name)?.get(owner)
    }

    /// Saves a value; when it was first saved stays as it was.
    fn save(&mut self, mut metadata: Metadata) {
        let owners = self.names.entry(metadata.name.clone()).or_default();
        if let Some(stored) = owners.get(&metadata.owner) {
            metadata.created_at = stored.created_at;
        }
        owners.insert(metadata.owner.clone(), metadata);
    }

    fn delete(&mut self, name: &str, owner: Option<&str>) -> usize {
        let Some(owner) = owner else { return self.names.remove(name).map_or(0, |owners| owners.len()) };
        let Some(owners) = self.names.get_mut(name) else { return 0 };
        let deleted = usize::from(owners.remove(owner).is_some());
        if owners.is_empty() {
            self.names.remove(name);
        }
        deleted
    }
}
