//! The job that every library runs, and what its handler tells.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify, mpsc};

/// How long one job may take to start, or all to be run, before the contest is called off.
const LIMIT: Duration = Duration::from_secs(120);

/// Does nothing, with a payload of 400 bytes as JSON.
#[derive(Debug, Clone, Serialize, Deserialize, riverqueue::JobArgs)]
#[river(kind = "noop")]
pub(crate) struct Noop {
    data: String,
}

impl Noop {
    pub(crate) fn new() -> Self {
        Self { data: "x".repeat(389) }
    }
}

/// Counts the calls of a handler and notes when they happened.
#[derive(Debug)]
pub(crate) struct Calls {
    left: AtomicUsize,
    done: Notify,
    sender: mpsc::UnboundedSender<Instant>,
    receiver: Mutex<mpsc::UnboundedReceiver<Instant>>,
}

impl Calls {
    /// Expects so many calls.
    pub(crate) fn expected(calls: usize) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { left: AtomicUsize::new(calls), done: Notify::new(), sender, receiver: Mutex::new(receiver) }
    }

    /// A handler was called.
    pub(crate) fn add(&self) {
        // Nobody listens any more when a worker runs on for a moment.
        let _ = self.sender.send(Instant::now());
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    /// Waits until all expected calls have happened.
    pub(crate) async fn all(&self) -> Result<()> {
        let all = async {
            while self.left.load(Ordering::Acquire) > 0 {
                self.done.notified().await;
            }
        };
        if tokio::time::timeout(LIMIT, all).await.is_err() {
            bail!("{} jobs were not run within {LIMIT:?}", self.left.load(Ordering::Acquire));
        }
        Ok(())
    }

    /// When the next call happened; waits for it.
    pub(crate) async fn next(&self) -> Result<Instant> {
        let mut receiver = self.receiver.lock().await;
        let call = tokio::time::timeout(LIMIT, receiver.recv()).await;
        call.with_context(|| format!("a job was not run within {LIMIT:?}"))?.context("this has a sender")
    }
}
