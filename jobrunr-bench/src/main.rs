#![doc = include_str!("../README.md")]

mod database;
mod drain;
mod enqueue;
mod latency;
mod process;
mod raw_sqlite;
mod report;
mod sqlite;
mod suite;
mod worker;
mod workload;

use clap::{Parser, Subcommand};

/// Measures JobRunr for Rust against the databases it runs on.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures everything on SQLite.
    Sqlite(suite::SuiteOptions),
    /// Runs a server in this process; for measurements and tests across processes.
    Worker(worker::WorkerOptions),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Sqlite(options) => suite::run(&sqlite::Sqlite::default(), &options).await,
        Command::Worker(options) => worker::run(&options).await,
    }
}
