#![doc = include_str!("../README.md")]

mod builders;
pub mod changes;
pub mod claims;
pub mod concurrency;
mod content;
pub mod context;
mod dice;
pub mod external;
mod fixture;
mod harness;
mod house;
pub mod jobs;
pub mod life;
mod list;
pub mod metadata;
pub mod model;
mod prefixed;
pub mod recurring;
mod run;
pub mod scheduled;
pub mod search;
pub mod servers;
mod simple;
pub mod ticks;

pub use fixture::{Fixture, ScenarioResult};
pub use harness::{
    Ability, CallerTransactions, ConnectionFaults, NoDatabase, RowFaults, SchemaFaults, StorageHarness,
    TestDatabase, TransactionEnd,
};
pub use list::SCENARIOS;
pub use prefixed::Prefixed;
pub use run::{REQUIRE_ALL, Scenario, Verdict, run, verdict};
pub use simple::harness_from;
