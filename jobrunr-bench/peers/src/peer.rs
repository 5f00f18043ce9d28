//! What the contest needs of a library: a store of jobs, and a worker on it.

use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;

use crate::workload::{Calls, Noop};

/// A library that takes part.
#[async_trait]
pub(crate) trait Peer: Sync {
    /// Its crate, by which it is found in `Cargo.lock`.
    fn name(&self) -> &'static str;

    /// What becomes of the rows of jobs that succeeded.
    fn rows(&self) -> Rows;

    /// How it is set up, in a few words.
    fn settings(&self) -> &'static str;

    /// Sets up an empty database and connects to it.
    async fn open(&self, url: &str) -> Result<Box<dyn Store>>;
}

/// What becomes of the rows of jobs that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// They stay until they are too old.
    Kept,
    /// They go with the success.
    Deleted,
}

impl Rows {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Deleted => "deleted",
        }
    }
}

/// The jobs of one library in one database.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Accepts one job, durably.
    async fn enqueue(&self, job: Noop) -> Result<()>;

    /// Accepts many jobs, durably, in the way that the library has for many.
    async fn enqueue_all(&self, jobs: Vec<Noop>) -> Result<()>;

    /// Starts a worker whose handler does nothing but tell `calls`.
    async fn start(&self, calls: Arc<Calls>) -> Result<Box<dyn Worker>>;

    /// Whether a job is left whose success is not stored.
    async fn is_unfinished(&self) -> Result<bool>;

    /// Lets go of the database.
    async fn close(self: Box<Self>);
}

/// A worker that runs.
#[async_trait]
pub(crate) trait Worker: Send {
    /// Ends it in good order.
    async fn stop(self: Box<Self>) -> Result<()>;
}

/// The version that this program was built with.
pub(crate) fn version(name: &str) -> Result<&'static str> {
    let lock = include_str!("../Cargo.lock");
    let (_, package) = lock.split_once(&format!("name = \"{name}\"\n")).context("it is not in Cargo.lock")?;
    let (_, version) = package.split_once("version = \"").context("packages have versions")?;
    Ok(version.split('"').next().unwrap_or_default())
}
