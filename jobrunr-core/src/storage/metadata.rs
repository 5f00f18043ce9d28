//! Small values that belong to the cluster as a whole or to an owner of their own.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::StorageError;

/// Keeps values by name and owner.
#[async_trait]
pub trait MetadataStore: Send + Sync {
    /// Saves a value over what was there; `created_at` of what was there stays.
    ///
    /// *Held by* scenarios 57, 58 and 60.
    async fn save_metadata(&self, metadata: &Metadata) -> Result<(), StorageError>;

    /// Finds one value.
    ///
    /// *Held by* scenario 57.
    async fn find_metadata(&self, name: &str, owner: &str) -> Result<Option<Metadata>, StorageError>;

    /// Lists the values of one name, by owner.
    ///
    /// *Held by* scenario 57.
    async fn list_metadata(&self, name: &str) -> Result<Vec<Metadata>, StorageError>;

    /// Removes one value, or all of a name if no owner is given; returns how many.
    ///
    /// *Held by* scenario 57.
    async fn delete_metadata(&self, name: &str, owner: Option<&str>) -> Result<u64, StorageError>;

    /// Replaces a value if it is what the caller thinks it is; tells whether it did.
    ///
    /// *Promises:* of any number of callers with the same expectation, one wins.
    ///
    /// *Held by* scenario 59.
    async fn compare_and_set_metadata(&self, change: &CompareAndSet) -> Result<bool, StorageError>;
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// The value.
    pub value: String,
    /// When it was saved first.
    pub created_at: DateTime<Utc>,
    /// When it was saved last.
    pub updated_at: DateTime<Utc>,
}

impl Metadata {
    /// A value saved at `now`.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        owner: impl Into<String>,
        value: impl Into<String>,
        now: DateTime<Utc>,
    ) -> Self {
        let now = crate::clock::to_micros(now);
        Self { name: name.into(), owner: owner.into(), value: value.into(), created_at: now, updated_at: now }
    }
}

/// What [`MetadataStore::compare_and_set_metadata`] is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareAndSet {
    /// What it is.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// The value that must be there; `None` = none may be there.
    pub expected: Option<String>,
    /// The value to be.
    pub new: String,
    /// The time of the change.
    pub now: DateTime<Utc>,
}
