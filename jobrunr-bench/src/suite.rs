//! The same measurements for every database, raw and ours by turns.

mod drains;
mod enqueues;
mod log_lines;
mod quiet;

use crate::database::Database;
use crate::drain::ServerSize;
use crate::report::{Former, Report};

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct SuiteOptions {
    /// Jobs of a drain and of a bulk. [default: 50 000, MongoDB: 30 000]
    #[arg(long)]
    jobs: Option<usize>,
    /// Finished jobs in the table of the large drain, and jobs of the drain that memory is measured at. [default: 1 000 000,
    /// Redis: 200 000]
    #[arg(long)]
    many: Option<usize>,
    /// Jobs that are claimed and completed at a time in a drain, by raw statements and by the server, which else has its
    /// default options.
    #[arg(long)]
    batch: Option<usize>,
    /// Workers, if not the default of the library.
    #[arg(long)]
    workers: Option<usize>,
    /// Jobs claimed ahead, if not the default of the library.
    #[arg(long)]
    prefetch: Option<usize>,
    /// How often raw and ours take turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Jobs of a latency measurement, and of one of log lines.
    #[arg(long, default_value_t = 300)]
    samples: usize,
    /// How long an idle server is watched, in seconds.
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
    /// A tenth of everything, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Only the measurements with this word in their name; the figures of others stay as they were. The names: drain-raw,
    /// drain-large, drain-cliff, drain-cost, enqueue-single, enqueue-bulk, latency, due, idle, log-lines, memory.
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

    /// The server of a drain.
    fn server(&self) -> ServerSize {
        let default = ServerSize { workers: self.workers, prefetch: self.prefetch };
        self.batch.map_or(default, ServerSize::of_batch)
    }

    /// The options that give a worker process the size that was asked for.
    fn worker_size(&self) -> Vec<String> {
        let option = |name: &str, value: Option<usize>| value.map(|value| format!("--{name}={value}"));
        [option("workers", self.workers), option("prefetch", self.prefetch)].into_iter().flatten().collect()
    }
}

/// What one run measures with.
struct Suite<'a> {
    database: &'a dyn Database,
    options: &'a SuiteOptions,
    report: Report,
}

impl Suite<'_> {
    /// How many jobs a drain and a bulk have.
    fn jobs(&self) -> usize {
        self.options.share(self.options.jobs.unwrap_or_else(|| self.database.drain_jobs()))
    }

    /// How many jobs are many.
    fn many(&self) -> usize {
        self.options.share(self.options.many.unwrap_or_else(|| self.database.many_jobs()))
    }

    /// The name of a figure that was measured in a large table: as given with 1 000 000 jobs in it.
    fn key_of_many(&self, name: &str) -> String {
        let many = self.database.many_jobs();
        let label = match many / 1_000_000 {
            0 => format!("{}k", many / 1_000),
            millions => format!("{millions}m"),
        };
        name.replace("1m", &label)
    }
}

/// Measures everything and writes the report.
pub(crate) async fn run(database: &dyn Database, options: &SuiteOptions) -> anyhow::Result<()> {
    let mut suite = Suite { database, options, report: Report::new(database.name()) };
    if options.wants("drain-raw") {
        suite.drain_beside_raw().await?;
    }
    if options.wants("drain-large") {
        suite.drain_in_large_table().await?;
    }
    if options.wants("drain-cliff") {
        suite.drain_with_large_servers().await?;
    }
    if options.wants("drain-cost") {
        suite.costs_of_drain().await?;
    }
    if options.wants("enqueue-single") {
        suite.enqueue_single().await?;
    }
    if options.wants("enqueue-bulk") {
        suite.enqueue_bulk().await?;
    }
    if options.wants("latency") {
        suite.latency().await?;
    }
    if options.wants("due") {
        suite.due().await?;
    }
    if options.wants("idle") {
        suite.idle().await?;
    }
    if options.wants("log-lines") {
        suite.log_lines().await?;
    }
    if options.wants("memory") {
        suite.memory().await?;
    }
    let former = if options.only.is_some() { Former::Stay } else { Former::Go };
    println!("written to {}", suite.report.write(former)?.display());
    Ok(())
}
