//! The engine end to end on every storage there is: what needs a server, and so cannot be in the conformance suite.
//!
//! Servers on databases go by real time, so these tests take seconds. What depends on times of the day and on long times
//! is tested with a moved clock in `jobrunr-server`.
#![cfg(all(
    feature = "macros",
    feature = "mongo",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "server",
    feature = "sqlite"
))]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod database;
mod external;
#[expect(dead_code, reason = "these tests need some of its faults only")]
#[path = "../../../jobrunr-server/tests/server/faulty.rs"]
mod faulty;
mod recurring;

use std::time::Duration;

/// Longer than anything takes.
const LIMIT: Duration = Duration::from_secs(100);

macro_rules! on_every_storage {
    ($($storage:ident)+) => { $(
        mod $storage {
            use crate::database::Kind;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn two_masters_at_once_run_each_tick_once() {
                let Some(database) = Kind::$storage.create().await else { return };
                crate::recurring::two_masters_at_once(&database).await;
                database.remove().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_master_killed_between_creating_the_run_and_advancing_the_tick_loses_and_doubles_nothing() {
                let Some(database) = Kind::$storage.create().await else { return };
                crate::recurring::a_master_killed_in_between(&database).await;
                database.remove().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_queued_run_starts_when_the_one_before_has_ended() {
                let Some(database) = Kind::$storage.create().await else { return };
                crate::recurring::queue_one(&database).await;
                database.remove().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn an_external_job_that_waits_too_long_is_tried_again_and_completed_by_another_process() {
                let Some(database) = Kind::$storage.create().await else { return };
                crate::external::timeout_retry_and_signal(&database).await;
                database.remove().await;
            }
        }
    )+ };
}

on_every_storage! { memory sqlite postgres mysql mongo redis }
