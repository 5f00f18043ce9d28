//! What can be chosen about the in-memory storage.

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::limits::DEFAULT_MAX_PAYLOAD_BYTES;

/// Options of a [`MemoryStorage`](super::MemoryStorage).
///
/// ```
/// # use std::sync::Arc;
/// # use jobrunr_core::clock::SystemClock;
/// use jobrunr_core::memory::{MemoryStorage, MemoryStorageOptions};
///
/// let options = MemoryStorageOptions::default().clock(Arc::new(SystemClock)).max_payload_bytes(4_096);
/// let storage = MemoryStorage::with_options(options);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemoryStorageOptions {
    /// The storage's own clock, by which heartbeats are noted. Default: this machine's.
    pub clock: Arc<dyn Clock>,
    /// Longest payload accepted, in bytes. Default 1 MiB.
    pub max_payload_bytes: usize,
}

impl MemoryStorageOptions {
    /// The same options with this clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The same options with this limit of payloads.
    #[must_use]
    pub const fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes;
        self
    }
}

impl Default for MemoryStorageOptions {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES }
    }
}
