//! Running one scenario: runtime, fresh storage, time limit, clean-up, verdict.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jobrunr_core::storage::BoxError;

use crate::fixture::{Fixture, ScenarioResult};
use crate::harness::{Ability, StorageHarness, TestDatabase};

/// The environment variable that makes a missing database a failure, if it is `1`.
pub const REQUIRE_ALL: &str = "JOBRUNR_TEST_REQUIRE_ALL";

/// How much longer than its limit a scenario that blocks its threads may hold up the test.
const CLEAN_UP_TIME: Duration = Duration::from_secs(30);

/// One scenario of the suite.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What is true when it passes, as the name of its function.
    pub name: &'static str,
    /// Which numbers of the table of scenarios it covers.
    pub numbers: &'static [u8],
    /// What it needs beyond the least.
    pub needs: &'static [Ability],
    /// What it does.
    pub body: for<'a> fn(&'a Fixture<'a>) -> BoxFuture<'a, ScenarioResult>,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Scenario").field(&self.name).finish()
    }
}

/// What came of a scenario.
#[derive(Debug)]
pub enum Verdict {
    /// It is true of this storage.
    Passed,
    /// It needs an ability that the harness does not declare.
    DoesNotApply(Ability),
    /// There is no database to try it on, and that was allowed.
    Skipped(String),
    /// It is not true of this storage, or took too long.
    Failed(String),
}

/// Runs a scenario as a test: panics if it fails, says so if it could not run.
///
/// # Panics
/// If the scenario fails.
pub fn run(harness: impl StorageHarness + 'static, scenario: &Scenario) {
    let name = scenario.name;
    match verdict(harness, scenario) {
        Verdict::Passed => {}
        Verdict::DoesNotApply(ability) => {
            eprintln!("DOES NOT APPLY: {name}: this storage declares no {ability:?}");
        }
        Verdict::Skipped(reason) => eprintln!("SKIPPED: {name}: {reason}"),
        Verdict::Failed(why) => panic!("{name} {:?}: {why}", scenario.numbers),
    }
}

/// Runs a scenario in a runtime of its own and tells what came of it.
pub fn verdict(harness: impl StorageHarness + 'static, scenario: &Scenario) -> Verdict {
    let declared = harness.abilities();
    if let Some(missing) = scenario.needs.iter().find(|needed| !declared.contains(needed)) {
        return Verdict::DoesNotApply(*missing);
    }
    let limit = harness.time_limit();
    let scenario = *scenario;
    let (sender, receiver) = mpsc::channel();
    // On a thread of its own, so that a scenario that blocks instead of waiting cannot hold up the verdict.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let verdict = match runtime {
            Ok(runtime) => runtime.block_on(run_on_fresh_database(&harness, &scenario, limit)),
            Err(error) => Verdict::Failed(format!("no runtime: {error}")),
        };
        // The receiver is gone only if the verdict was given without this thread.
        let _ = sender.send(verdict);
    });
    receiver.recv_timeout(limit + CLEAN_UP_TIME).unwrap_or_else(|error| {
        Verdict::Failed(match error {
            mpsc::RecvTimeoutError::Timeout => format!("blocked its threads for more than {limit:?}"),
            mpsc::RecvTimeoutError::Disconnected => "panicked outside of the scenario".to_owned(),
        })
    })
}

async fn run_on_fresh_database(
    harness: &dyn StorageHarness,
    scenario: &Scenario,
    limit: Duration,
) -> Verdict {
    let database: Arc<dyn TestDatabase> = match harness.create().await {
        Ok(database) => database.into(),
        Err(missing) if std::env::var(REQUIRE_ALL).is_ok_and(|value| value == "1") => {
            return Verdict::Failed(format!("the database is not there ({REQUIRE_ALL}=1): {missing}"));
        }
        Err(missing) => return Verdict::Skipped(missing.to_string()),
    };
    let verdict = match Fixture::on(harness, Arc::clone(&database)).await {
        Ok(fixture) => {
            let end = AssertUnwindSafe((scenario.body)(&fixture)).catch_unwind();
            let verdict = judge(tokio::time::timeout(limit, end).await, limit);
            fixture.dispose().await;
            verdict
        }
        Err(error) => Verdict::Failed(format!("no storage to test: {}", with_sources(&error))),
    };
    database.destroy().await;
    verdict
}

type End = Result<Result<ScenarioResult, Box<dyn Any + Send>>, tokio::time::error::Elapsed>;

fn judge(end: End, limit: Duration) -> Verdict {
    match end {
        Ok(Ok(Ok(()))) => Verdict::Passed,
        Ok(Ok(Err(error))) => Verdict::Failed(with_sources(&error)),
        Ok(Err(panic)) => Verdict::Failed(panic_message(&*panic)),
        Err(_elapsed) => Verdict::Failed(format!("still running after {limit:?}")),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

fn with_sources(error: &BoxError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
