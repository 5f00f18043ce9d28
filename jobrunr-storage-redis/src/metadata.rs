//! [`MetadataStore`]: small values by name and owner, a hash a name.

use async_trait::async_trait;
use jobrunr_core::storage::{CompareAndSet, Metadata, MetadataStore, StorageError};
use redis::cmd;

use crate::RedisStorage;
use crate::calls::Keeps;
use crate::encoding::{TIME, decode_time, encode_time};
use crate::error::corrupt;
use crate::scripts::{VALUE_SAVE, VALUES_DELETE};

/// Reads what is stored: creation, update, value.
fn decode(name: &str, owner: &str, stored: &str) -> Option<Metadata> {
    let (created, rest) = stored.split_at_checked(TIME)?;
    let (updated, value) = rest.split_at_checked(TIME)?;
    Some(Metadata {
        name: name.to_owned(),
        owner: owner.to_owned(),
        value: value.to_owned(),
        created_at: decode_time(created)?,
        updated_at: decode_time(updated)?,
    })
}

impl RedisStorage {
    async fn save_value(
        &self,
        operation: &'static str,
        metadata: &Metadata,
        expectation: (&str, &str),
    ) -> Result<bool, StorageError> {
        let call = self.begin(operation)?;
        let Metadata { name, owner, value, created_at, updated_at } = metadata;
        let mut arguments = call.arguments(&VALUE_SAVE);
        arguments.arg(name).arg(owner).arg(encode_time(*created_at)).arg(encode_time(*updated_at)).arg(value);
        arguments.arg(expectation.0).arg(expectation.1);
        Ok(call.run(&VALUE_SAVE, &arguments, Keeps::Write).await?)
    }
}

#[async_trait]
impl MetadataStore for RedisStorage {
    async fn save_metadata(&self, metadata: &Metadata) -> Result<(), StorageError> {
        self.save_value("save metadata", metadata, ("any", "")).await.map(drop)
    }

    async fn find_metadata(&self, name: &str, owner: &str) -> Result<Option<Metadata>, StorageError> {
        const OPERATION: &str = "find metadata";
        let call = self.begin(OPERATION)?;
        let mut read = cmd("HGET");
        read.arg(self.inner.keys.values(name)).arg(owner);
        let stored: Option<String> = call.read_one(&read).await?;
        let unreadable = || corrupt(OPERATION, format!("metadata {name:?} of {owner:?}"));
        stored.map(|stored| decode(name, owner, &stored).ok_or_else(unreadable)).transpose()
    }

    async fn list_metadata(&self, name: &str) -> Result<Vec<Metadata>, StorageError> {
        const OPERATION: &str = "list metadata";
        let call = self.begin(OPERATION)?;
        let mut read = cmd("HGETALL");
        read.arg(self.inner.keys.values(name));
        let mut stored: Vec<(String, String)> = call.read_one(&read).await?;
        stored.sort_unstable();
        let read = |(owner, stored): &(String, String)| {
            let unreadable = || corrupt(OPERATION, format!("metadata {name:?} of {owner:?}"));
            decode(name, owner, stored).ok_or_else(unreadable)
        };
        stored.iter().map(read).collect()
    }

    async fn delete_metadata(&self, name: &str, owner: Option<&str>) -> Result<u64, StorageError> {
        let call = self.begin("delete metadata")?;
        if let Some(owner) = owner {
            let mut remove = cmd("HDEL");
            remove.arg(self.inner.keys.values(name)).arg(owner);
            return Ok(call.write(&remove).await?);
        }
        let mut arguments = call.arguments(&VALUES_DELETE);
        arguments.arg(name);
        Ok(call.run(&VALUES_DELETE, &arguments, Keeps::Write).await?)
    }

    async fn compare_and_set_metadata(&self, change: &CompareAndSet) -> Result<bool, StorageError> {
        let CompareAndSet { name, owner, expected, new, now } = change;
        let expectation = match expected {
            Some(expected) => ("equal", expected.as_str()),
            None => ("absent", ""),
        };
        let metadata = Metadata::new(name, owner, new, *now);
        self.save_value("compare and set metadata", &metadata, expectation).await
    }
}
