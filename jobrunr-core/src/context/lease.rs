//! Whether a run may still write: what keeps one of a former life from writing over its successor's notes.

use async_trait::async_trait;

/// Says whether a run still has its job; a server answers for its own runs.
#[async_trait]
pub trait RunLease: std::fmt::Debug + Send + Sync {
    /// Waits until it is certain; `false` = the job was taken away, or may have been, and the run will never have it again.
    async fn is_held(&self) -> bool;
}

/// The lease of a run that nobody else can take over: for handlers that are called without a server.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnlimitedLease;

#[async_trait]
impl RunLease for UnlimitedLease {
    async fn is_held(&self) -> bool {
        true
    }
}
