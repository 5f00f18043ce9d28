//! The same measurements for every database, raw and ours by turns.

use std::time::Duration;

use jobrunr_core::clock::{Clock, SystemClock};

use crate::database::Database;
use crate::process::Worker;
use crate::report::{Report, median, percentile_ms};
use crate::{drain, enqueue, latency};

/// The rows that raw inserts write in one transaction.
const RAW_INSERT_BATCH: usize = 1_000;
/// How long single enqueues are counted for.
const SINGLE_ENQUEUE_TIME: Duration = Duration::from_secs(2);

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct SuiteOptions {
    /// Jobs of a drain and of a bulk.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// Finished jobs in the table of the large drain, and jobs of the drain that memory is measured at.
    #[arg(long, default_value_t = 1_000_000)]
    many: usize,
    /// Jobs that are claimed and completed at a time in a drain, by raw statements and by the server.
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// How often raw and ours take turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Jobs of a latency measurement.
    #[arg(long, default_value_t = 300)]
    samples: usize,
    /// How long an idle server is watched, in seconds.
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
    /// A tenth of everything, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Only the measurements with this word in their name: drain, enqueue, latency, due, idle, memory.
    #[arg(long)]
    only: Option<String>,
}

impl SuiteOptions {
    const fn share(&self, amount: usize) -> usize {
        if self.quick { amount / 10 } else { amount }
    }

    fn wants(&self, measurement: &str) -> bool {
        self.only.as_deref().is_none_or(|only| measurement.contains(only))
    }
}

/// Measures everything and writes the report.
pub(crate) async fn run(database: &dyn Database, options: &SuiteOptions) -> anyhow::Result<()> {
    let mut report = Report::new(database.name());
    if options.wants("drain") {
        measure_drain(database, options, &mut report).await?;
    }
    if options.wants("enqueue") {
        measure_enqueue(database, options, &mut report).await?;
    }
    if options.wants("latency") {
        measure_latency(database, options, &mut report).await?;
    }
    if options.wants("due") {
        measure_due(database, options, &mut report).await?;
    }
    if options.wants("idle") {
        measure_idle(database, options, &mut report).await?;
    }
    if options.wants("memory") {
        measure_memory(database, options, &mut report).await?;
    }
    println!("written to {}", report.write()?.display());
    Ok(())
}

async fn measure_drain(
    database: &dyn Database,
    options: &SuiteOptions,
    report: &mut Report,
) -> anyhow::Result<()> {
    let jobs = options.share(options.jobs);
    let large = database.fresh().await?;
    drain::fill_with_finished(&large.storage, options.share(options.many), SystemClock.now()).await?;
    // Opened anew, so that what was written to fill it is through with.
    let url = large.url.clone();
    large.close().await;
    let large = database.open(url).await?;

    let (mut raw, mut ours, mut ours_large, mut statements) = (vec![], vec![], vec![], vec![]);
    for round in 1..=options.rounds {
        raw.push(database.raw_drain(jobs, options.batch).await?);
        let fresh = database.fresh().await?;
        let enqueue_only = database.fresh().await?;
        enqueue::bulk(&enqueue_only.storage, jobs).await?;
        ours.push(drain::drain(&fresh.storage, jobs, options.batch).await?);
        if let (Some(all), Some(enqueue)) = (database.statements(&fresh), database.statements(&enqueue_only))
        {
            statements.push(ratio(all.saturating_sub(enqueue), jobs));
        }
        fresh.close().await;
        enqueue_only.close().await;
        ours_large.push(drain::drain(&large.storage, jobs, options.batch).await?);
        println!(
            "drain {round}: raw {:.0}/s, ours {:.0}/s, ours in a large table {:.0}/s",
            raw[round - 1],
            ours[round - 1],
            ours_large[round - 1]
        );
    }
    large.close().await;

    report.add("raw_jobs_per_s", median(&raw));
    report.add("drain_jobs_per_s", median(&ours));
    report.add("drain_ratio", median(&ours) / median(&raw));
    report.add("drain_ratio_with_1m_finished", median(&ours_large) / median(&ours));
    if !statements.is_empty() {
        report.add("statements_per_job", median(&statements));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of statements and jobs are far below 2^52")]
fn ratio(part: u64, whole: usize) -> f64 {
    part as f64 / whole as f64
}

async fn measure_enqueue(
    database: &dyn Database,
    options: &SuiteOptions,
    report: &mut Report,
) -> anyhow::Result<()> {
    let jobs = options.share(options.jobs);
    let (mut one, mut many, mut raw, mut bulk) = (vec![], vec![], vec![], vec![]);
    for round in 1..=options.rounds {
        let fresh = database.fresh().await?;
        one.push(enqueue::single(&fresh.storage, 1, SINGLE_ENQUEUE_TIME).await?);
        many.push(enqueue::single(&fresh.storage, 64, SINGLE_ENQUEUE_TIME).await?);
        fresh.close().await;
        raw.push(database.raw_bulk_insert(jobs, RAW_INSERT_BATCH).await?);
        let fresh = database.fresh().await?;
        bulk.push(enqueue::bulk(&fresh.storage, jobs).await?);
        fresh.close().await;
        println!(
            "enqueue {round}: one caller {:.0}/s, 64 callers {:.0}/s, raw bulk {:.0}/s, bulk {:.0}/s",
            one[round - 1],
            many[round - 1],
            raw[round - 1],
            bulk[round - 1]
        );
    }
    report.add("enqueue_single_per_s", median(&one));
    report.add("enqueue_concurrent_ratio_64", median(&many) / median(&one));
    report.add("raw_bulk_insert_per_s", median(&raw));
    report.add("enqueue_bulk_per_s", median(&bulk));
    report.add("enqueue_bulk_ratio", median(&bulk) / median(&raw));
    Ok(())
}

async fn measure_latency(
    database: &dyn Database,
    options: &SuiteOptions,
    report: &mut Report,
) -> anyhow::Result<()> {
    let samples = options.share(options.samples);
    let fresh = database.fresh().await?;
    let latencies = latency::in_process(&fresh.storage, samples).await?;
    report.add("idle_latency_p50_ms", percentile_ms(&latencies, 50));
    report.add("idle_latency_p99_ms", percentile_ms(&latencies, 99));

    let latencies = latency::across_processes(&fresh.storage, &fresh.url, samples).await?;
    report.add("idle_latency_cross_process_p50_ms", percentile_ms(&latencies, 50));
    report.add("idle_latency_cross_process_p99_ms", percentile_ms(&latencies, 99));
    fresh.close().await;
    Ok(())
}

async fn measure_due(
    database: &dyn Database,
    options: &SuiteOptions,
    report: &mut Report,
) -> anyhow::Result<()> {
    let fresh = database.fresh().await?;
    let seconds = if options.quick { 3 } else { 20 };
    let lateness = latency::of_due_jobs(&fresh.storage, options.share(options.samples), seconds).await?;
    fresh.close().await;
    report.add("due_lateness_p50_ms", percentile_ms(&lateness, 50));
    report.add("due_lateness_p99_ms", percentile_ms(&lateness, 99));
    let early = lateness.iter().filter(|micros| **micros < 0).count();
    report.add("due_started_early", f64::from(u32::try_from(early)?));
    Ok(())
}

async fn measure_idle(
    database: &dyn Database,
    options: &SuiteOptions,
    report: &mut Report,
) -> anyhow::Result<()> {
    let fresh = database.fresh().await?;
    let seconds = if options.quick { 5 } else { options.idle_seconds };
    let worker = Worker::start(&["--url", &fresh.url, "--idle-seconds", &seconds.to_string()]).await?;
    let idle = worker.finish().await?;
    fresh.close().await;
    report.add("idle_cpu_percent", 100.0 * idle.cpu_seconds / idle.wall_seconds);
    Ok(())
}

async fn measure_memory(
    database: &dyn Database,
    options: &SuiteOptions,
    report: &mut Report,
) -> anyhow::Result<()> {
    let jobs = options.share(options.many);
    let fresh = database.fresh().await?;
    enqueue::bulk(&fresh.storage, jobs).await?;
    let worker = Worker::start(&["--url", &fresh.url, "--until-drained", &jobs.to_string()]).await?;
    let drained = worker.finish().await?;
    fresh.close().await;
    report.add("rss_mib", drained.peak_memory_mib);
    report.add("client_cpu_us_per_job", 1e6 * drained.cpu_seconds / f64::from(u32::try_from(jobs)?));
    Ok(())
}
