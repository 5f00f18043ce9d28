//! What can be felt of a server that has little to do, and what a process of its own takes.

use std::time::{Duration, Instant};

use super::Suite;
use crate::enqueue;
use crate::latency;
use crate::process::Worker;
use crate::report::percentile_ms;

/// The counters of an idle server are read when it has begun, and well before it stops.
const MARGIN: Duration = Duration::from_secs(2);

impl Suite<'_> {
    pub(super) async fn latency(&mut self) -> anyhow::Result<()> {
        let samples = self.options.share(self.options.samples);
        let fresh = self.database.fresh().await?;
        let latencies = latency::in_process(&fresh.storage, samples).await?;
        self.report.add("idle_latency_p50_ms", percentile_ms(&latencies, 50));
        self.report.add("idle_latency_p99_ms", percentile_ms(&latencies, 99));

        let latencies = latency::across_processes(&fresh.storage, &fresh.url, samples).await?;
        self.report.add("idle_latency_cross_process_p50_ms", percentile_ms(&latencies, 50));
        self.report.add("idle_latency_cross_process_p99_ms", percentile_ms(&latencies, 99));
        self.database.discard(fresh).await
    }

    pub(super) async fn due(&mut self) -> anyhow::Result<()> {
        let fresh = self.database.fresh().await?;
        let seconds = if self.options.quick { 3 } else { 20 };
        let samples = self.options.share(self.options.samples);
        let lateness = latency::of_due_jobs(&fresh.storage, samples, seconds).await?;
        self.database.discard(fresh).await?;
        self.report.add("due_lateness_p50_ms", percentile_ms(&lateness, 50));
        self.report.add("due_lateness_p99_ms", percentile_ms(&lateness, 99));
        let early = lateness.iter().filter(|micros| **micros < 0).count();
        self.report.add("due_started_early", f64::from(u32::try_from(early)?));
        Ok(())
    }

    pub(super) async fn idle(&mut self) -> anyhow::Result<()> {
        let fresh = self.database.fresh().await?;
        let seconds = if self.options.quick { 5 } else { self.options.idle_seconds };
        let worker = Worker::start(&["--url", &fresh.url, "--idle-seconds", &seconds.to_string()]).await?;
        tokio::time::sleep(MARGIN).await;
        let watched_since = Instant::now();
        let before = self.database.counters(&fresh).await?;
        tokio::time::sleep(Duration::from_secs(seconds).saturating_sub(2 * MARGIN)).await;
        let counted = self.database.counters(&fresh).await?.since(before);
        let watched = watched_since.elapsed();
        let idle = worker.finish().await?;
        self.database.discard(fresh).await?;
        self.report.add("idle_cpu_percent", 100.0 * idle.cpu_seconds / idle.wall_seconds);
        if let Some(statements) = counted.statements {
            let statements = f64::from(u32::try_from(statements)?);
            self.report.add("idle_statements_per_s", statements / watched.as_secs_f64());
        }
        Ok(())
    }

    pub(super) async fn memory(&mut self) -> anyhow::Result<()> {
        let jobs = self.many();
        let fresh = self.database.fresh().await?;
        enqueue::bulk(&fresh.storage, jobs, jobs).await?;
        let mut arguments =
            vec!["--url".to_owned(), fresh.url.clone(), "--until-drained".to_owned(), jobs.to_string()];
        arguments.extend(self.options.worker_size());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let worker = Worker::start(&arguments).await?;
        let drained = worker.finish().await?;
        self.database.discard(fresh).await?;
        self.report.add("rss_mib", drained.peak_memory_mib);
        self.report.add("client_cpu_us_per_job", 1e6 * drained.cpu_seconds / f64::from(u32::try_from(jobs)?));
        Ok(())
    }
}
