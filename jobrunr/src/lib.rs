#![doc = include_str!("../README.md")]

#[doc(hidden)]
pub mod __private;
mod connect;
pub mod prelude;

pub use connect::{ConnectError, connect};

#[doc(inline)]
pub use jobrunr_core::*;

#[cfg(feature = "macros")]
pub use jobrunr_macros::{JobRequest, job, recurring};

#[cfg(feature = "server")]
pub use jobrunr_server as server;

#[cfg(feature = "mongo")]
pub use jobrunr_storage_mongo as mongo;

#[cfg(feature = "testing")]
#[doc(inline)]
pub use jobrunr_server::testing;

#[cfg(feature = "mysql")]
pub use jobrunr_storage_mysql as mysql;

#[cfg(feature = "postgres")]
pub use jobrunr_storage_postgres as postgres;

#[cfg(feature = "redis")]
pub use jobrunr_storage_redis as redis;

#[cfg(feature = "sqlite")]
pub use jobrunr_storage_sqlite as sqlite;

pub use {async_trait::async_trait, chrono, serde, serde_json};
