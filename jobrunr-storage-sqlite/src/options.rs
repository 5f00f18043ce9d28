//! What can be chosen about a SQLite storage.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::clock::{Clock, SystemClock};
use jobrunr_core::limits::DEFAULT_MAX_PAYLOAD_BYTES;
use jobrunr_core::storage::StorageError;

use crate::PROVIDER;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    File(PathBuf),
    Memory,
}

/// How much is safe once a call has returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Everything, also if the machine loses power; but for claims, releases and heartbeats, which may be undone then,
    /// as whoever asked for them is gone too. An undone claim leaves its job in its queue.
    #[default]
    Full,
    /// Everything if the process ends, however it does; if the machine loses power, the last commits may be lost, but
    /// the file stays whole. A single call is about four times as fast.
    Normal,
}

/// Whether a storage may change its file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Access {
    #[default]
    ReadWrite,
    ReadOnly,
}

/// Options of a [`SqliteStorage`](crate::SqliteStorage).
///
/// ```
/// use std::time::Duration;
/// use jobrunr_storage_sqlite::{Durability, SqliteOptions};
///
/// let options = SqliteOptions::file("jobs.db")
///     .table_prefix("app_")
///     .durability(Durability::Normal)
///     .busy_timeout(Duration::from_secs(2));
/// ```
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    pub(crate) location: Location,
    pub(crate) access: Access,
    pub(crate) table_prefix: String,
    pub(crate) durability: Durability,
    pub(crate) readers: usize,
    pub(crate) busy_timeout: Duration,
    pub(crate) max_payload_bytes: usize,
    pub(crate) max_file_bytes: Option<u64>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl SqliteOptions {
    fn at(location: Location) -> Self {
        Self {
            location,
            access: Access::ReadWrite,
            table_prefix: String::new(),
            durability: Durability::Full,
            readers: 2,
            busy_timeout: Duration::from_secs(5),
            max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
            max_file_bytes: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// A database in this file, which is created if it is not there.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::at(Location::File(path.into()))
    }

    /// A database in the memory of this process, gone when the storage is closed.
    #[must_use]
    pub fn memory() -> Self {
        Self::at(Location::Memory)
    }

    /// Understands `sqlite:PATH` (also `sqlite://PATH`) and `sqlite::memory:`; after a path may come `?mode=ro` for a
    /// file that is only read, or `?mode=rw`.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if it is anything else.
    pub fn parse(url: &str) -> Result<Self, StorageError> {
        let unsupported = |what: &str| StorageError::Unsupported {
            provider: PROVIDER,
            what: format!("{what}; use `sqlite:PATH`, `sqlite:PATH?mode=ro` or `sqlite::memory:`"),
        };
        let rest = url.strip_prefix("sqlite:").ok_or_else(|| unsupported("its URLs begin with `sqlite:`"))?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        if rest == ":memory:" {
            return Ok(Self::memory());
        }
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() {
            return Err(unsupported("the URL names no file"));
        }
        let options = Self::file(path);
        match parameters {
            "" | "mode=rw" | "mode=rwc" => Ok(options),
            "mode=ro" => Ok(options.read_only()),
            _ => Err(unsupported("the URL has a parameter that is not known")),
        }
    }

    /// Never changes the file: for looking into one that others write. Every call that writes fails.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.access = Access::ReadOnly;
        self
    }

    /// What goes before the names of all tables: at most 32 of `a-z`, `0-9` and `_`. Default: nothing.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// How much is safe once a call has returned. Default [`Durability::Full`].
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How many connections only read, each on a thread of its own: 1 to 64, default 2.
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.clamp(1, 64);
        self
    }

    /// How long a call waits for the lock of another process before it is
    /// [`Unavailable`](StorageError::Unavailable). Default 5 s.
    #[must_use]
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Longest payload accepted, in bytes. Default 1 MiB.
    #[must_use]
    pub const fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes;
        self
    }

    /// The size beyond which the file does not grow; calls that need more room fail as on a full disk. Default: none.
    #[must_use]
    pub const fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = Some(bytes);
        self
    }

    /// The storage's own clock, by which heartbeats are noted. Default: this machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_file_or_the_memory() {
        let location = |url| SqliteOptions::parse(url).map(|options| (options.location, options.access));
        let file = |path: &str| Location::File(path.into());

        assert_eq!(location("sqlite:jobs.db").unwrap(), (file("jobs.db"), Access::ReadWrite));
        assert_eq!(location("sqlite:///var/jobs.db").unwrap(), (file("/var/jobs.db"), Access::ReadWrite));
        assert_eq!(location("sqlite:a b.db?mode=ro").unwrap(), (file("a b.db"), Access::ReadOnly));
        assert_eq!(location("sqlite::memory:").unwrap(), (Location::Memory, Access::ReadWrite));
    }

    #[test]
    fn other_urls_are_refused() {
        for url in ["postgres://x", "sqlite:", "sqlite:?mode=ro", "sqlite:x?cache=shared", "jobs.db"] {
            assert!(matches!(SqliteOptions::parse(url), Err(StorageError::Unsupported { .. })), "{url}");
        }
    }
}
