#![doc = include_str!("../README.md")]

mod database;
mod drain;
mod enqueue;
mod latency;
mod mongo;
mod mysql;
mod postgres;
mod process;
mod raw_mongo;
mod raw_mysql;
mod raw_postgres;
mod raw_redis;
mod raw_sqlite;
mod redis;
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
    /// Measures everything on PostgreSQL.
    Postgres(suite::SuiteOptions),
    /// Measures everything on MySQL or MariaDB.
    Mysql(suite::SuiteOptions),
    /// Measures everything on Redis.
    Redis(suite::SuiteOptions),
    /// Measures everything on MongoDB.
    Mongo(suite::SuiteOptions),
    /// Runs a server in this process; for measurements and tests across processes.
    Worker(worker::WorkerOptions),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Sqlite(options) => suite::run(&sqlite::Sqlite::default(), &options).await,
        Command::Postgres(options) => suite::run(&postgres::Postgres::connect().await?, &options).await,
        Command::Mysql(options) => {
            let mysql = mysql::MySql::connect().await?;
            let result = suite::run(&mysql, &options).await;
            mysql.restore().await?;
            result
        }
        Command::Redis(options) => suite::run(&redis::Redis::connect().await?, &options).await,
        Command::Mongo(options) => suite::run(&mongo::Mongo::connect().await?, &options).await,
        Command::Worker(options) => worker::run(&options).await,
    }
}
