//! Databases for the contest: an empty one for each measurement, on the server that tests use too.

use std::str::FromStr;

use anyhow::{Context, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

/// Where the server is.
const VARIABLE: &str = "JOBRUNR_TEST_POSTGRES_URL";

/// The server that all databases of the contest are made on.
#[derive(Debug)]
pub(crate) struct Server {
    options: PgConnectOptions,
    made: usize,
}

impl Server {
    pub(crate) fn find() -> Result<Self> {
        let url = std::env::var(VARIABLE)
            .with_context(|| format!("{VARIABLE} is not set; `cargo xtask bench peers` sets it"))?;
        Ok(Self { options: PgConnectOptions::from_str(&url)?, made: 0 })
    }

    /// Makes an empty database.
    pub(crate) async fn fresh(&mut self) -> Result<Database> {
        self.made += 1;
        let name = format!("jobrunr_peers_{}_{}", std::process::id(), self.made);
        let mut connection = self.connect().await?;
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
        connection.close().await?;
        Ok(Database { name, server: self.options.clone() })
    }

    async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }
}

/// A database of its own.
#[derive(Debug)]
pub(crate) struct Database {
    name: String,
    server: PgConnectOptions,
}

impl Database {
    pub(crate) fn url(&self) -> String {
        self.server.clone().database(&self.name).to_url_lossy().to_string()
    }

    /// Brings the database to rest, so that what was written before costs the next measurement nothing: rows are
    /// counted for the planner and dirty pages are on the disk.
    pub(crate) async fn settle(&self) -> Result<()> {
        let mut connection = self.server.clone().database(&self.name).connect().await?;
        connection.execute("VACUUM ANALYZE").await?;
        connection.execute("CHECKPOINT").await?;
        Ok(connection.close().await?)
    }

    pub(crate) async fn drop(self) -> Result<()> {
        let mut connection = PgConnection::connect_with(&self.server).await?;
        connection.execute(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name))).await?;
        Ok(connection.close().await?)
    }
}
