//! The rounds: in each, every library by turns, on an empty database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::database::Server;
use crate::figures::{median, per_second, percentile};
use crate::peer::{Peer, Rows, version};
use crate::workload::{Calls, Noop};

/// Between two jobs of a latency measurement, so that the worker is idle again; odd, so that it meets no timer's rhythm.
const PAUSE: Duration = Duration::from_micros(17_300);
/// Jobs that a worker runs before latencies count: connections are open and statements prepared then.
const WARM_UP: usize = 10;

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Jobs of a bulk, and of the drain that follows it.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// How often each library has its turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Jobs of a latency measurement.
    #[arg(long, default_value_t = 100)]
    samples: usize,
    /// A tenth of the jobs in one round, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Only this library.
    #[arg(long)]
    only: Option<String>,
}

/// What came out for one library: medians over the rounds.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) rows: Rows,
    pub(crate) settings: &'static str,
    pub(crate) drain_jobs_per_s: f64,
    pub(crate) enqueue_bulk_per_s: f64,
    pub(crate) idle_latency_p50_ms: f64,
    pub(crate) idle_latency_p99_ms: f64,
}

/// What one turn of one library brought.
struct Turn {
    enqueue_bulk_per_s: f64,
    drain_jobs_per_s: f64,
    latencies_ms: Vec<f64>,
}

/// Lets the libraries take turns; an outcome each, in their order.
pub(crate) async fn run(peers: &[&dyn Peer], options: &Options) -> Result<Vec<Outcome>> {
    let peers: Vec<&dyn Peer> = peers
        .iter()
        .copied()
        .filter(|peer| options.only.as_deref().is_none_or(|name| name == peer.name()))
        .collect();
    let (jobs, rounds) = if options.quick { (options.jobs / 10, 1) } else { (options.jobs, options.rounds) };
    let mut server = Server::find()?;
    let mut turns: Vec<Vec<Turn>> = peers.iter().map(|_| Vec::new()).collect();
    for round in 1..=rounds {
        for (peer, turns) in peers.iter().zip(&mut turns) {
            let turn = take_turn(*peer, &mut server, jobs, options.samples);
            let turn = turn.await.with_context(|| peer.name())?;
            println!(
                "round {round}  {:<16} drain {:>7.0}/s  bulk {:>7.0}/s  latency p50 {:>7.2} ms",
                peer.name(),
                turn.drain_jobs_per_s,
                turn.enqueue_bulk_per_s,
                percentile(turn.latencies_ms.iter().copied(), 50),
            );
            turns.push(turn);
        }
    }
    peers.iter().zip(&turns).map(|(peer, turns)| outcome(*peer, turns)).collect()
}

async fn take_turn(peer: &dyn Peer, server: &mut Server, jobs: usize, samples: usize) -> Result<Turn> {
    let (bulk, drain) = bulk_and_drain(peer, server, jobs).await?;
    Ok(Turn {
        enqueue_bulk_per_s: per_second(jobs, bulk),
        drain_jobs_per_s: per_second(jobs, drain),
        latencies_ms: idle_latencies(peer, server, samples).await?,
    })
}

/// How long it takes to accept so many jobs at once, and then to run them: from the start of a worker until the last
/// success is stored.
async fn bulk_and_drain(peer: &dyn Peer, server: &mut Server, jobs: usize) -> Result<(Duration, Duration)> {
    let database = server.fresh().await?;
    let store = peer.open(&database.url()).await?;
    let many = vec![Noop::new(); jobs];

    let started = Instant::now();
    store.enqueue_all(many).await?;
    let bulk = started.elapsed();

    database.settle().await?;
    let calls = Arc::new(Calls::expected(jobs));
    let started = Instant::now();
    let worker = store.start(Arc::clone(&calls)).await?;
    calls.all().await?;
    while store.is_unfinished().await? {
        tokio::task::yield_now().await;
    }
    let drain = started.elapsed();

    worker.stop().await?;
    store.close().await;
    database.drop().await?;
    Ok((bulk, drain))
}

/// How long it takes from the call that enqueues a job until its handler starts, with an idle worker in this process.
async fn idle_latencies(peer: &dyn Peer, server: &mut Server, samples: usize) -> Result<Vec<f64>> {
    let database = server.fresh().await?;
    let store = peer.open(&database.url()).await?;
    let calls = Arc::new(Calls::expected(WARM_UP + samples));
    let worker = store.start(Arc::clone(&calls)).await?;

    let mut latencies = Vec::with_capacity(samples);
    for sample in 0..WARM_UP + samples {
        let enqueued = Instant::now();
        store.enqueue(Noop::new()).await?;
        let latency = calls.next().await?.duration_since(enqueued);
        if sample >= WARM_UP {
            latencies.push(latency.as_secs_f64() * 1_000.0);
        }
        tokio::time::sleep(PAUSE).await;
    }

    worker.stop().await?;
    store.close().await;
    database.drop().await?;
    Ok(latencies)
}

fn outcome(peer: &dyn Peer, turns: &[Turn]) -> Result<Outcome> {
    let of_latencies =
        |percent| median(turns.iter().map(|turn| percentile(turn.latencies_ms.iter().copied(), percent)));
    Ok(Outcome {
        name: peer.name(),
        version: version(peer.name())?,
        rows: peer.rows(),
        settings: peer.settings(),
        drain_jobs_per_s: median(turns.iter().map(|turn| turn.drain_jobs_per_s)),
        enqueue_bulk_per_s: median(turns.iter().map(|turn| turn.enqueue_bulk_per_s)),
        idle_latency_p50_ms: of_latencies(50),
        idle_latency_p99_ms: of_latencies(99),
    })
}
