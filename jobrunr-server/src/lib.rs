#![doc = include_str!("../README.md")]

#[cfg(feature = "register-all")]
#[doc(hidden)]
pub mod __private;
mod back_off;
mod builder;
mod cancellation;
mod claimer;
#[cfg(feature = "register-all")]
mod collection;
mod completer;
mod desk;
mod election;
mod engine;
mod error;
mod health;
mod heartbeat;
mod hints;
mod holdings;
mod housekeeping;
mod lease;
mod load;
mod membership;
#[cfg(feature = "metrics")]
mod metrics;
mod options;
mod outcome;
mod prefetch;
mod queues;
mod registry;
mod retention;
mod run;
mod server;
mod shutdown;
#[cfg(feature = "testing")]
pub mod testing;

pub use builder::BackgroundJobServerBuilder;
pub use error::ServerError;
pub use health::Health;
pub use queues::ServedQueue;
pub use retention::{Keep, Retention, TypeRetention};
pub use server::BackgroundJobServer;
