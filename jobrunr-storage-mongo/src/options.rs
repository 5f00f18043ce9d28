//! What can be chosen about a MongoDB storage.

use std::time::Duration;

use jobrunr_core::limits::DEFAULT_MAX_PAYLOAD_BYTES;
use jobrunr_core::storage::StorageError;

use crate::PROVIDER;

/// Longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 32;

/// The database used where neither the URL nor the options name one.
pub(crate) const DEFAULT_DATABASE: &str = "jobrunr";

/// Options of a [`MongoStorage`](crate::MongoStorage).
///
/// ```
/// use std::time::Duration;
/// use jobrunr_storage_mongo::MongoOptions;
///
/// let options = MongoOptions::default()
///     .database("app")
///     .collection_prefix("app_")
///     .max_connections(20)
///     .call_timeout(Duration::from_secs(10));
/// ```
#[derive(Debug, Clone)]
pub struct MongoOptions {
    pub(crate) database: Option<String>,
    pub(crate) collection_prefix: String,
    pub(crate) max_connections: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) max_payload_bytes: usize,
    pub(crate) listens: bool,
}

impl Default for MongoOptions {
    fn default() -> Self {
        Self {
            database: None,
            collection_prefix: String::new(),
            max_connections: 10,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
            listens: true,
        }
    }
}

impl MongoOptions {
    /// The database. Default: the one that the URL names, else `jobrunr`.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// What goes before the names of all collections: at most 32 characters of `a-z`, `0-9` and `_`. Default: nothing.
    #[must_use]
    pub fn collection_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.collection_prefix = prefix.into();
        self
    }

    /// Most connections in use at once; at least 4, default 10. A client of its own opens no more than that to a server.
    #[must_use]
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(4);
        self
    }

    /// How many connections single commands and transactions may have; one is left for the change stream.
    pub(crate) fn connections(&self) -> (usize, usize) {
        let all = usize::try_from(self.max_connections).unwrap_or(usize::MAX).clamp(4, 10_000);
        let for_transactions = (all - 1) / 3;
        (all - 1 - for_transactions, for_transactions)
    }

    /// How long finding a server that takes the call may take. Default 5 s.
    ///
    /// Of a client of the application's, its own server selection timeout counts.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one command may take before the call is [`Unavailable`](StorageError::Unavailable). Default 30 s.
    #[must_use]
    pub const fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Longest payload accepted, in bytes; at most 8 MiB, default 1 MiB.
    ///
    /// A job is one document, which MongoDB limits to 16 MiB with its history and metadata.
    #[must_use]
    pub fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes.min(8 << 20);
        self
    }

    /// Hears no hints: there is no change stream, and polling finds the work.
    #[must_use]
    pub const fn without_change_stream(mut self) -> Self {
        self.listens = false;
        self
    }

    /// The prefix, if it can be one.
    pub(crate) fn prefix(&self) -> Result<&str, StorageError> {
        let prefix = self.collection_prefix.as_str();
        let is_harmless = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if prefix.len() <= MAX_PREFIX_BYTES && prefix.bytes().all(is_harmless) {
            return Ok(prefix);
        }
        let what =
            format!("the prefix of collections is at most {MAX_PREFIX_BYTES} characters of a-z, 0-9 and '_'");
        Err(StorageError::Unsupported { provider: PROVIDER, what })
    }

    /// The name of the database, if it can be one.
    pub(crate) fn database_name(&self, from_url: Option<&str>) -> Result<String, StorageError> {
        let name = self.database.as_deref().or(from_url).unwrap_or(DEFAULT_DATABASE);
        let is_bad = |character: char| "/\\. \"$*<>:|?\0".contains(character);
        if name.is_empty() || name.len() > 63 || name.contains(is_bad) {
            let what = "the name of a database is 1 to 63 bytes without /\\. \"$*<>:|? in it".to_owned();
            return Err(StorageError::Unsupported { provider: PROVIDER, what });
        }
        Ok(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        for hostile in ["\"; drop", "A", "a b", "a.b", "a$b", "a\0b", "system.", &"x".repeat(33)] {
            assert!(MongoOptions::default().collection_prefix(hostile).prefix().is_err(), "{hostile}");
        }
        for hostile in ["", "a b", "a.b", "a$b", "a\0b", "a/b"] {
            assert!(MongoOptions::default().database(hostile).database_name(None).is_err(), "{hostile}");
        }
        assert_eq!(MongoOptions::default().max_connections(0).connections(), (2, 1));
        assert_eq!(MongoOptions::default().collection_prefix("app_1").prefix().unwrap(), "app_1");
        assert_eq!(MongoOptions::default().database_name(Some("app")).unwrap(), "app");
    }
}
