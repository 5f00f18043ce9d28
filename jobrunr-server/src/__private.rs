//! What the code that `jobrunr-macros` writes refers to. Not part of the public interface: it may change in any release.

pub use inventory;

pub use crate::__collect_job as collect_job;
pub use crate::collection::{Collected, CollectedFunction};
