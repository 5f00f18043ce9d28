//! What the server tells the `metrics` facade: the names, units and labels, and the calls that record.
//!
//! The table is held against `docs/observability.md`. Where the values come from is in the calls of this module, which
//! are all behind the feature `metrics`; outcomes are counted by core, because schedulers save some of them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use jobrunr_core::Job;
use jobrunr_core::metrics::OUTCOMES;
use metrics::{Unit, counter, gauge, histogram};
use tokio::time::Instant;

/// What sort of metric one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric.
struct Metric {
    name: &'static str,
    kind: Kind,
    unit: Unit,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the calls write them out; the page is held against them")
    )]
    labels: &'static [&'static str],
    help: &'static str,
}

const QUEUE_LATENCY: &str = "jobrunr_queue_latency_seconds";
const PROCESSING: &str = "jobrunr_processing_seconds";
const OCCUPIED_WORKERS: &str = "jobrunr_occupied_workers";
const CLAIMED_JOBS: &str = "jobrunr_claimed_jobs";
const STORAGE_ERRORS: &str = "jobrunr_storage_errors_total";

const METRICS: [Metric; 6] = [
    Metric {
        name: OUTCOMES,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["type", "outcome"],
        help: "Runs and waits for a signal that ended, when that was saved",
    },
    Metric {
        name: QUEUE_LATENCY,
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["queue"],
        help: "From the time a job took its place in its queue to the start of its run",
    },
    Metric {
        name: PROCESSING,
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["type"],
        help: "From the start of a run to its end, however it ended",
    },
    Metric {
        name: OCCUPIED_WORKERS,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &[],
        help: "Jobs that run now, on all servers of the process",
    },
    Metric {
        name: CLAIMED_JOBS,
        kind: Kind::Histogram,
        unit: Unit::Count,
        labels: &[],
        help: "Jobs that one claim took, 0 included",
    },
    Metric {
        name: STORAGE_ERRORS,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["operation"],
        help: "Calls of the server that the storage failed, each try counted",
    },
];

/// Tells the recorder of the program what the metrics mean.
pub(crate) fn describe() {
    for Metric { name, kind, unit, labels: _, help } in METRICS {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, unit, help),
            Kind::Gauge => metrics::describe_gauge!(name, unit, help),
            Kind::Histogram => metrics::describe_histogram!(name, unit, help),
        }
    }
}

/// Records a claim that took so many jobs.
pub(crate) fn claimed(jobs: usize) {
    // No claim takes more than fits.
    histogram!(CLAIMED_JOBS).record(u32::try_from(jobs).unwrap_or(u32::MAX));
}

/// Records that a call of the storage failed.
pub(crate) fn storage_failed(operation: &'static str) {
    counter!(STORAGE_ERRORS, "operation" => operation).increment(1);
}

/// A run that goes on; it is measured until this is dropped.
pub(crate) struct Running {
    job_type: Arc<str>,
    started_at: Instant,
}

impl Running {
    /// Records that the run of a claimed job starts.
    pub(crate) fn start(job: &Job, now: DateTime<Utc>) -> Self {
        if let Some(enqueued_at) = job.enqueued_at() {
            let latency = (now - enqueued_at).to_std().unwrap_or_default();
            histogram!(QUEUE_LATENCY, "queue" => Arc::<str>::from(job.queue().as_str())).record(latency);
        }
        gauge!(OCCUPIED_WORKERS).increment(1);
        Self { job_type: job.signature().as_str().into(), started_at: Instant::now() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        gauge!(OCCUPIED_WORKERS).decrement(1);
        histogram!(PROCESSING, "type" => Arc::clone(&self.job_type)).record(self.started_at.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(metric: &Metric) -> String {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, unit) = (format!("{:?}", metric.kind).to_lowercase(), metric.unit.as_str());
        let Metric { name, help, .. } = metric;
        format!("| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(", "))
    }

    #[test]
    fn the_page_has_the_table_of_the_metrics() {
        let page = include_str!("../../docs/observability.md");
        let written: Vec<&str> = page.lines().filter(|line| line.starts_with("| `jobrunr_")).collect();

        assert_eq!(written, METRICS.map(|metric| row(&metric)));
    }
}
