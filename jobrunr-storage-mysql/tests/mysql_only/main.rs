//! What the conformance suite cannot know of MySQL and MariaDB: lost answers, a killed server, locks, set-up.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

#[path = "../support/mod.rs"]
mod support;

mod connecting;
mod deadlocks;
mod gathering;
mod isolation;
mod jobs;
mod lock_waits;
mod lost_answers;
mod mariadb;
mod outage;
mod proxy;
mod setting_up;
mod time_outs;
mod transactions;
