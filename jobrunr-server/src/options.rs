//! The options of a server: what can be set, the defaults, and the bounds. Checked once, when the server starts.

use std::time::Duration;

use jobrunr_core::JobSignature;
use jobrunr_core::limits::MAX_SERVER_NAME_BYTES;

use crate::error::ServerError;
use crate::prefetch::Prefetch;
use crate::queues::{Queues, ServedQueue};
use crate::retention::Retention;

/// How long a run may go on after its token fired at a stop of the server, before it is aborted.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(1);
/// How many jobs a claim takes at most, and how many outcomes one save writes at most.
pub(crate) const MAX_BATCH: usize = 500;
/// How many jobs one step of housekeeping handles.
pub(crate) const HOUSEKEEPING_PAGE: usize = 1_000;

const MIN_POLL_INTERVAL: Duration = Duration::from_millis(200);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
const MIN_CLAIM_INTERVAL: Duration = Duration::from_millis(10);
const CLAIM_INTERVAL_WITHOUT_HINTS: Duration = Duration::from_millis(200);
const MIN_TIMEOUT_MULTIPLICAND: u32 = 4;
const MAX_TIMEOUT_MULTIPLICAND: u32 = 1_000;
const WORKERS_PER_CPU: usize = 16;
const MAX_LEAST_PREFETCH: usize = 256;

/// What was set; `None` = the default that depends on others or on the machine.
#[derive(Debug, Clone)]
pub(crate) struct ServerOptions {
    pub(crate) name: Option<String>,
    pub(crate) workers: Option<usize>,
    pub(crate) prefetch: Option<usize>,
    pub(crate) poll_interval: Duration,
    pub(crate) claim_interval: Option<Duration>,
    pub(crate) timeout_multiplicand: u32,
    pub(crate) queues: Vec<ServedQueue>,
    pub(crate) shutdown_grace: Duration,
    pub(crate) cancellation_grace: Duration,
    pub(crate) retention: Retention,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            name: None,
            workers: None,
            prefetch: None,
            poll_interval: Duration::from_secs(15),
            claim_interval: None,
            timeout_multiplicand: 4,
            queues: Vec::new(),
            shutdown_grace: Duration::from_secs(10),
            cancellation_grace: Duration::from_secs(10),
            retention: Retention::default(),
        }
    }
}

/// What a server runs by: every option, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) workers: usize,
    pub(crate) prefetch: Prefetch,
    pub(crate) poll_interval: Duration,
    pub(crate) claim_interval: Duration,
    pub(crate) server_timeout: Duration,
    pub(crate) queues: Queues,
    pub(crate) shutdown_grace: Duration,
    pub(crate) cancellation_grace: Duration,
    pub(crate) retention: Retention,
}

impl Settings {
    /// How many jobs the server takes on at most: those that run and those that wait for a free worker.
    pub(crate) fn capacity(&self) -> usize {
        self.workers.saturating_add(self.prefetch.most())
    }

    /// How often the master looks for what others have scheduled: of a storage that sends no hints it would learn of it too
    /// late at the poll. Claims look four times as often, since what they find is to start at once.
    pub(crate) fn look_interval(&self) -> Duration {
        self.poll_interval.min(self.claim_interval.saturating_mul(4))
    }
}

impl ServerOptions {
    /// Checks every option and fills in the defaults.
    pub(crate) fn check(self, storage_sends_hints: bool) -> Result<Settings, ServerError> {
        self.check_bounds()?;
        let workers = self.workers.unwrap_or_else(default_workers);
        let claim_interval_default =
            if storage_sends_hints { self.poll_interval } else { CLAIM_INTERVAL_WITHOUT_HINTS };
        Ok(Settings {
            name: server_name(self.name)?,
            workers,
            prefetch: self.prefetch.map_or_else(|| default_prefetch(workers), Prefetch::Fixed),
            poll_interval: self.poll_interval,
            claim_interval: self.claim_interval.unwrap_or(claim_interval_default),
            server_timeout: self.poll_interval * self.timeout_multiplicand,
            queues: Queues::new(&self.queues)?,
            shutdown_grace: self.shutdown_grace,
            cancellation_grace: self.cancellation_grace,
            retention: checked_retention(self.retention)?,
        })
    }

    fn check_bounds(&self) -> Result<(), ServerError> {
        within("poll_interval", self.poll_interval, MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)?;
        if let Some(interval) = self.claim_interval {
            within("claim_interval", interval, MIN_CLAIM_INTERVAL, MAX_POLL_INTERVAL)?;
        }
        let multiplicand = self.timeout_multiplicand;
        within("timeout_multiplicand", multiplicand, MIN_TIMEOUT_MULTIPLICAND, MAX_TIMEOUT_MULTIPLICAND)?;
        if let Some(workers) = self.workers {
            within("workers", workers, 1, usize::MAX / 2)?;
        }
        within("prefetch", self.prefetch.unwrap_or_default(), 0, usize::MAX / 2)
    }
}

fn within<T: PartialOrd + Copy + std::fmt::Debug>(
    option: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ServerError> {
    let bound = if value < least {
        format!("at least {least:?}")
    } else if value > most {
        format!("at most {most:?}")
    } else {
        return Ok(());
    };
    Err(ServerError::InvalidOption { option, value: format!("{value:?}"), bound })
}

fn default_workers() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cpus.saturating_mul(WORKERS_PER_CPU)
}

fn default_prefetch(workers: usize) -> Prefetch {
    Prefetch::Adaptive { least: workers.min(MAX_LEAST_PREFETCH) }
}

/// The name that was given, or the host's, cut to its limit.
fn server_name(given: Option<String>) -> Result<String, ServerError> {
    let mut name = given.unwrap_or_else(crate::load::host_name);
    if name.is_empty() {
        let bound = format!("1 to {MAX_SERVER_NAME_BYTES} bytes");
        return Err(ServerError::InvalidOption { option: "name", value: "empty".to_owned(), bound });
    }
    name.truncate(name.floor_char_boundary(MAX_SERVER_NAME_BYTES));
    Ok(name)
}

fn checked_retention(retention: Retention) -> Result<Retention, ServerError> {
    for job_type in retention.job_types() {
        JobSignature::new(job_type)
            .map_err(|source| ServerError::InvalidName { option: "retention", source })?;
    }
    Ok(retention)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut ServerOptions)) -> String {
        let mut options = ServerOptions::default();
        change(&mut options);
        options.check(true).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let settings = ServerOptions::default().check(false).unwrap();

        assert_eq!(settings.poll_interval, Duration::from_secs(15));
        assert_eq!(settings.claim_interval, Duration::from_millis(200));
        assert_eq!(settings.server_timeout, Duration::from_secs(60));
        assert_eq!(settings.workers % WORKERS_PER_CPU, 0);
        assert_eq!(settings.prefetch, Prefetch::Adaptive { least: settings.workers.min(256) });
        assert!(settings.queues.names().is_empty());
        assert_eq!(settings.shutdown_grace, Duration::from_secs(10));
        assert!(!settings.name.is_empty());
    }

    #[test]
    fn where_hints_come_the_server_looks_for_work_at_its_poll_only() {
        let settings = ServerOptions::default().check(true).unwrap();

        assert_eq!(settings.claim_interval, settings.poll_interval);
    }

    #[test]
    fn every_bound_is_told_with_the_option_and_its_value() {
        let millis = Duration::from_millis;
        for (refusal, expected) in [
            (
                refusal(|options| options.poll_interval = millis(199)),
                "the option `poll_interval` is 199ms, but it must be at least 200ms",
            ),
            (
                refusal(|options| options.poll_interval = millis(86_400_001)),
                "the option `poll_interval` is 86400.001s, but it must be at most 86400s",
            ),
            (
                refusal(|options| options.claim_interval = Some(millis(9))),
                "the option `claim_interval` is 9ms, but it must be at least 10ms",
            ),
            (
                refusal(|options| options.timeout_multiplicand = 3),
                "the option `timeout_multiplicand` is 3, but it must be at least 4",
            ),
            (
                refusal(|options| options.timeout_multiplicand = 1_001),
                "the option `timeout_multiplicand` is 1001, but it must be at most 1000",
            ),
            (
                refusal(|options| options.workers = Some(0)),
                "the option `workers` is 0, but it must be at least 1",
            ),
            (
                refusal(|options| options.name = Some(String::new())),
                "the option `name` is empty, but it must be 1 to 128 bytes",
            ),
            (
                refusal(|options| options.queues = vec!["Not A Queue".into()]),
                "the option `queues` holds a name that is not valid",
            ),
        ] {
            assert_eq!(refusal, expected);
        }
    }

    #[test]
    fn what_lies_on_a_bound_is_accepted() {
        let options = ServerOptions {
            poll_interval: MIN_POLL_INTERVAL,
            claim_interval: Some(MIN_CLAIM_INTERVAL),
            timeout_multiplicand: MIN_TIMEOUT_MULTIPLICAND,
            workers: Some(1),
            prefetch: Some(0),
            ..ServerOptions::default()
        };

        assert_eq!(options.check(true).unwrap().server_timeout, Duration::from_millis(800));
    }

    #[test]
    fn a_long_name_is_cut_at_a_character_boundary() {
        let options = ServerOptions { name: Some(format!("x{}", "é".repeat(100))), ..Default::default() };

        assert_eq!(options.check(true).unwrap().name.len(), 127);
    }
}
