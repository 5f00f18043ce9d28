//! What can be chosen about a Redis storage.

use std::fmt;
use std::time::Duration;

use jobrunr_core::limits::DEFAULT_MAX_PAYLOAD_BYTES;

/// Options of a [`RedisStorage`](crate::RedisStorage).
///
/// ```
/// use std::time::Duration;
/// use jobrunr_storage_redis::{Durability, RedisOptions};
///
/// let options = RedisOptions::default()
///     .key_prefix("app_")
///     .durability(Durability::Replicas { at_least: 1, within: Duration::from_secs(1) })
///     .call_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone)]
pub struct RedisOptions {
    pub(crate) key_prefix: String,
    pub(crate) more_nodes: Vec<String>,
    pub(crate) durability: Durability,
    pub(crate) allows_eviction: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) max_payload_bytes: usize,
}

/// What a write waits for before its call returns. Releases of due jobs and heartbeats never wait: what is lost of them is
/// done again.
///
/// Writes that wait for more than the server have a connection of their own, on which they wait together: a call may take as
/// long as the wait before its own and then its own, while reads and heartbeats go on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// For the server alone, which then keeps what its own settings say: with `appendfsync always` a write is on its disk
    /// when the call returns; with `everysec` a loss of power may take the last second, the end of the process nothing;
    /// without an append-only file whatever came after the last snapshot goes with the process.
    #[default]
    Server,
    /// For replicas as well, by `WAIT`: a failover to one of those that have it keeps the write.
    Replicas {
        /// How many replicas must have it.
        at_least: u32,
        /// How long one wait may take; then the call is [`Unavailable`](jobrunr_core::storage::StorageError::Unavailable).
        within: Duration,
    },
    /// For the disks of the server and of replicas, by `WAITAOF`, which Redis has since 7.2.
    Disk {
        /// On how many replicas' disks it must be besides the server's own.
        replicas: u32,
        /// How long one wait may take; then the call is [`Unavailable`](jobrunr_core::storage::StorageError::Unavailable).
        within: Duration,
    },
}

impl Durability {
    /// How long one wait may take.
    pub(crate) const fn within(self) -> Duration {
        match self {
            Self::Server => Duration::ZERO,
            Self::Replicas { within, .. } | Self::Disk { within, .. } => within,
        }
    }
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            key_prefix: String::new(),
            more_nodes: Vec::new(),
            durability: Durability::Server,
            allows_eviction: false,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
        }
    }
}

impl RedisOptions {
    /// What goes before `jobrunr` in the names of all keys: at most 64 of `A-Z`, `a-z`, `0-9`, `_` and `.`. Default: nothing.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Other nodes of the same cluster, as `host:port`, to ask when the one in the URL is away. The nodes that a cluster
    /// tells of are remembered anyway.
    #[must_use]
    pub fn more_nodes<N: Into<String>>(mut self, nodes: impl IntoIterator<Item = N>) -> Self {
        self.more_nodes = nodes.into_iter().map(Into::into).collect();
        self
    }

    /// What a write waits for. Default: the server alone.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Accepts a server that may throw keys away when its memory is full. Default: `set_up` refuses it.
    ///
    /// Such a server loses jobs; say so only where that is known never to happen, or where the jobs do not matter.
    #[must_use]
    pub const fn allow_eviction(mut self, allows: bool) -> Self {
        self.allows_eviction = allows;
        self
    }

    /// How long connecting may take. Default 5 s.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one answer may take before the call is `Unavailable`. Default 30 s.
    #[must_use]
    pub const fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Longest payload accepted, in bytes. Default 1 MiB.
    #[must_use]
    pub const fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes;
        self
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("key_prefix", &self.key_prefix)
            .field("more_nodes", &self.more_nodes)
            .field("durability", &self.durability)
            .field("allows_eviction", &self.allows_eviction)
            .field("connect_timeout", &self.connect_timeout)
            .field("call_timeout", &self.call_timeout)
            .field("max_payload_bytes", &self.max_payload_bytes)
            .finish()
    }
}
