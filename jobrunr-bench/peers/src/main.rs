#![doc = include_str!("../README.md")]

mod apalis;
mod contest;
mod database;
mod figures;
mod graphile;
mod jobrunr;
mod peer;
mod river;
mod table;
mod workload;

use clap::Parser;

use crate::peer::Peer;

/// Measures JobRunr for Rust beside other job libraries, on PostgreSQL.
#[derive(Debug, Parser)]
struct Arguments {
    /// How much is measured.
    #[command(flatten)]
    options: contest::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Arguments::parse().options;
    let peers: [&dyn Peer; 4] = [&jobrunr::JobRunr, &graphile::Graphile, &apalis::Apalis, &river::River];

    let results = contest::run(&peers, &options).await?;

    table::print(&results);
    println!("\nwritten to {}", table::write(&results)?.display());
    Ok(())
}
