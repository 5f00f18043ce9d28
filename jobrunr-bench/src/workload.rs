//! The jobs that are measured, and the handlers that run them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::clock::{Clock, SystemClock};
use jobrunr_core::filters::JobFilter;
use jobrunr_core::{Job, JobContext, JobHandler, JobId, JobRequest, JobResult};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, Notify, mpsc};

/// Does nothing, with a payload of 400 bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Noop {
    data: String,
}

impl Noop {
    pub(crate) fn new() -> Self {
        Self { data: "x".repeat(389) }
    }
}

impl JobRequest for Noop {
    const JOB_TYPE: &'static str = "noop";
}

/// Counts no-op jobs and tells when all have run.
#[derive(Debug, Clone)]
pub(crate) struct Countdown {
    left: Arc<AtomicUsize>,
    done: Arc<Notify>,
}

impl Countdown {
    pub(crate) fn from(jobs: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(jobs)), done: Arc::new(Notify::new()) }
    }

    /// Waits until so many jobs have run.
    pub(crate) async fn finished(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
    }
}

impl JobHandler<Noop> for Countdown {
    type Output = ();

    async fn run(&self, _: Noop, _: &JobContext) -> JobResult {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
        Ok(())
    }
}

/// Tells when it started, beside the instant it is measured from.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Timed {
    /// When it was enqueued, or when it is due.
    pub(crate) expected_at: DateTime<Utc>,
}

impl JobRequest for Timed {
    const JOB_TYPE: &'static str = "timed";
}

/// Sends how long after its expected instant each job started, in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Stopwatch(pub(crate) mpsc::UnboundedSender<i64>);

impl JobHandler<Timed> for Stopwatch {
    type Output = ();

    async fn run(&self, request: Timed, _: &JobContext) -> JobResult {
        let late = SystemClock.now() - request.expected_at;
        self.0.send(late.num_microseconds().unwrap_or(i64::MAX))?;
        Ok(())
    }
}

/// Writes so many lines of about 100 bytes to its log, in a row.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Talking {
    /// How many.
    pub(crate) lines: usize,
}

impl JobRequest for Talking {
    const JOB_TYPE: &'static str = "talking";
}

/// Sends when each job started, and when its success was stored.
#[derive(Debug, Clone)]
pub(crate) struct Talker(pub(crate) mpsc::UnboundedSender<(JobId, Instant)>);

impl JobHandler<Talking> for Talker {
    type Output = ();

    async fn run(&self, request: Talking, context: &JobContext) -> JobResult {
        self.0.send((context.job_id(), Instant::now()))?;
        for number in 0..request.lines {
            context.log().info(format!("{number:0>100}"));
        }
        Ok(())
    }
}

#[async_trait]
impl JobFilter for Talker {
    async fn on_succeeded(&self, job: &Job) {
        // Nobody listens any more if the measurement has failed.
        let _ = self.0.send((job.id(), Instant::now()));
    }
}

/// Takes a while, and leaves a line at its start and at its end in a file of its process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Recorded {
    /// How long it takes, in milliseconds.
    pub(crate) millis: u64,
}

impl JobRequest for Recorded {
    const JOB_TYPE: &'static str = "recorded";
}

/// Writes the lines of [`Recorded`] jobs.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: Mutex<tokio::fs::File>,
}

impl Recorder {
    pub(crate) async fn create(path: PathBuf) -> std::io::Result<Self> {
        let file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await?;
        Ok(Self { file: Mutex::new(file) })
    }

    async fn record(&self, what: &str, id: JobId) -> std::io::Result<()> {
        let mut file = self.file.lock().await;
        let line = format!("{what} {id} {}\n", SystemClock.now().timestamp_micros());
        file.write_all(line.as_bytes()).await?;
        file.flush().await
    }
}

impl JobHandler<Recorded> for Recorder {
    type Output = ();

    async fn run(&self, request: Recorded, context: &JobContext) -> JobResult {
        self.record("start", context.job_id()).await?;
        tokio::time::sleep(Duration::from_millis(request.millis)).await;
        self.record("end", context.job_id()).await?;
        Ok(())
    }
}
