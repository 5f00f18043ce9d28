//! A server in a process of its own.

use std::path::PathBuf;
use std::time::Duration;

use jobrunr_server::BackgroundJobServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::drain::ServerSize;
use crate::process::{self, cpu_time, peak_memory_mib};
use crate::workload::{Countdown, Recorder, Stopwatch};

/// How the server in the other process runs.
#[derive(Debug, clap::Args)]
pub(crate) struct WorkerOptions {
    /// The database.
    #[arg(long)]
    url: String,
    /// Jobs at once; default that of the library.
    #[arg(long)]
    workers: Option<usize>,
    /// Jobs claimed ahead; default that of the library.
    #[arg(long)]
    prefetch: Option<usize>,
    /// How often it says that it is alive, in milliseconds; default that of the library.
    #[arg(long)]
    poll_interval_ms: Option<u64>,
    /// Ends when so many no-op jobs have run.
    #[arg(long)]
    until_drained: Option<usize>,
    /// Ends after so many seconds of doing nothing.
    #[arg(long)]
    idle_seconds: Option<u64>,
    /// Where jobs of the kill test leave their lines.
    #[arg(long)]
    record: Option<PathBuf>,
}

/// What the process says at its end, as one line of JSON; before that `ready`, and a line a latency.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct WorkerReport {
    pub(crate) cpu_seconds: f64,
    pub(crate) wall_seconds: f64,
    pub(crate) peak_memory_mib: f64,
}

pub(crate) async fn run(options: &WorkerOptions) -> anyhow::Result<()> {
    let storage = jobrunr::connect(&options.url).await?;
    let countdown = Countdown::from(options.until_drained.unwrap_or(usize::MAX));
    let (sender, latencies) = mpsc::unbounded_channel();

    let mut builder = BackgroundJobServer::builder(std::sync::Arc::clone(&storage))
        .handle::<crate::workload::Noop, _>(countdown.clone())
        .handle::<crate::workload::Timed, _>(Stopwatch(sender));
    if let Some(path) = &options.record {
        builder = builder.handle::<crate::workload::Recorded, _>(Recorder::create(path.clone()).await?);
    }
    let size = ServerSize { workers: options.workers, prefetch: options.prefetch };
    builder = size.apply(builder);
    if let Some(millis) = options.poll_interval_ms {
        builder = builder.poll_interval(Duration::from_millis(millis));
    }
    let server = builder.start().await?;
    process::say("ready").await?;

    let started = std::time::Instant::now();
    let cpu_before = cpu_time()?;
    if options.until_drained.is_some() {
        countdown.finished().await;
    } else if let Some(seconds) = options.idle_seconds {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    } else {
        tell_latencies_until_input_ends(latencies).await?;
    }
    let report = WorkerReport {
        cpu_seconds: (cpu_time()? - cpu_before).as_secs_f64(),
        wall_seconds: started.elapsed().as_secs_f64(),
        peak_memory_mib: peak_memory_mib()?,
    };

    server.stop().await;
    storage.close().await;
    process::say(&serde_json::to_string(&report)?).await
}

async fn tell_latencies_until_input_ends(mut latencies: mpsc::UnboundedReceiver<i64>) -> anyhow::Result<()> {
    let mut input = tokio::io::stdin();
    let mut output = tokio::io::stdout();
    let mut byte = [0];
    loop {
        tokio::select! {
            read = input.read(&mut byte) => if read? == 0 { return Ok(()) },
            Some(micros) = latencies.recv() => {
                output.write_all(format!("{micros}\n").as_bytes()).await?;
                output.flush().await?;
            }
        }
    }
}
