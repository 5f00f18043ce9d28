//! What the code that `jobrunr-macros` writes refers to. Not part of the public interface: it may change in any release.

pub use jobrunr_core::__private::*;

#[cfg(feature = "register-all")]
pub use jobrunr_server::__private::collect_job;
