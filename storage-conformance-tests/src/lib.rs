#![doc = include_str!("../README.md")]

mod builders;
pub mod claims;
mod content;
mod fixture;
mod harness;
pub mod jobs;
mod list;
mod prefixed;
mod run;
pub mod scheduled;

pub use fixture::{Fixture, ScenarioResult};
pub use harness::{
    Ability, CallerTransactions, ConnectionFaults, NoDatabase, RowFaults, SchemaFaults, StorageHarness,
    TestDatabase, TransactionEnd,
};
pub use list::SCENARIOS;
pub use prefixed::Prefixed;
pub use run::{REQUIRE_ALL, Scenario, Verdict, run, verdict};
