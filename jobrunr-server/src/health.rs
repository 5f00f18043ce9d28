//! How the server is doing: what its parts report, summed up.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use jobrunr_core::clock::StorageClock;
use jobrunr_core::storage::StorageError;

/// How a server is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// All is well.
    Up,
    /// Something fails at the moment; the server keeps trying and goes on by itself.
    Degraded {
        /// Since when, by the storage's clock.
        since: DateTime<Utc>,
        /// What fails, and what the storage said.
        why: String,
    },
    /// The server does not run and will not by itself.
    Down {
        /// Since when, by the storage's clock.
        since: DateTime<Utc>,
        /// What ended it.
        why: String,
    },
}

/// Collects what the parts of a server report.
#[derive(Debug)]
pub(crate) struct HealthMonitor {
    clock: StorageClock,
    reports: Mutex<Reports>,
}

#[derive(Debug, Default)]
struct Reports {
    /// What fails, by what was attempted.
    failing: BTreeMap<&'static str, (DateTime<Utc>, String)>,
    down: Option<(DateTime<Utc>, String)>,
}

impl HealthMonitor {
    pub(crate) fn new(clock: StorageClock) -> Self {
        Self { clock, reports: Mutex::default() }
    }

    /// Notes that an attempt failed, and logs the first failure of an outage.
    pub(crate) fn failed(&self, attempt: &'static str, error: &StorageError) {
        #[cfg(feature = "metrics")]
        crate::metrics::storage_failed(attempt);
        let mut reports = self.lock();
        let is_known = reports.failing.contains_key(attempt);
        let is_part_of_outage = error.is_retryable() && !reports.failing.is_empty();
        let why = format!("cannot {attempt}: {}", with_sources(error));
        if is_known || is_part_of_outage {
            tracing::debug!("{why}");
        } else {
            tracing::warn!("{why}; trying again until it answers");
        }
        let since = self.clock.now();
        if matches!(error, StorageError::Closed { .. }) {
            reports.down.get_or_insert((since, "the storage was closed while the server ran".to_owned()));
        }
        reports.failing.entry(attempt).or_insert((since, why));
    }

    /// Notes that an attempt that failed before has succeeded, and logs the end of an outage.
    pub(crate) fn recovered(&self, attempt: &'static str) {
        let mut reports = self.lock();
        let Some((since, _)) = reports.failing.remove(attempt) else { return };
        if reports.failing.is_empty() {
            let seconds = (self.clock.now() - since).num_seconds();
            tracing::info!(after_seconds = seconds, "the storage answers again");
        }
    }

    /// Notes that something that failed is not attempted any more.
    pub(crate) fn gave_up(&self, attempt: &'static str) {
        self.lock().failing.remove(attempt);
    }

    /// Notes that the server has ended. What ended it first counts.
    pub(crate) fn ended(&self, why: impl Into<String>) {
        let since = self.clock.now();
        self.lock().down.get_or_insert((since, why.into()));
    }

    pub(crate) fn health(&self) -> Health {
        let reports = self.lock();
        if let Some((since, why)) = reports.down.clone() {
            return Health::Down { since, why };
        }
        match reports.failing.values().min_by_key(|(since, _)| *since).cloned() {
            Some((since, why)) => Health::Degraded { since, why },
            None => Health::Up,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with what it came from, in one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> StorageError {
        StorageError::Unavailable { provider: "test", operation: "claim jobs", source: "cut off".into() }
    }

    #[test]
    fn health_follows_the_oldest_failure_until_all_have_recovered() {
        let monitor = HealthMonitor::new(StorageClock::default());
        monitor.failed("claim jobs", &unavailable());
        monitor.failed("send a heartbeat", &unavailable());

        assert!(matches!(monitor.health(), Health::Degraded { .. }));
        monitor.recovered("claim jobs");
        let Health::Degraded { why, .. } = monitor.health() else { panic!("one failure is left") };
        assert_eq!(why, "cannot send a heartbeat: test is not available while trying to claim jobs: cut off");
        monitor.recovered("send a heartbeat");
        assert_eq!(monitor.health(), Health::Up);
    }

    #[test]
    fn a_server_that_ended_stays_down_for_its_first_reason() {
        let monitor = HealthMonitor::new(StorageClock::default());

        monitor.ended("stopped");
        monitor.ended("again");

        assert!(matches!(monitor.health(), Health::Down { why, .. } if why == "stopped"));
    }
}
