//! The kit: an in-memory storage, a clock that stands still, and a server without tasks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::clock::Clock;
use jobrunr_core::storage::{StorageError, StorageProvider};
use jobrunr_core::{Job, JobId, JobScheduler, MemoryStorage, MemoryStorageOptions};
use tokio::sync::{Mutex, MutexGuard};

use super::clock::TestClock;
use super::inline::{Inline, TooManyRuns};
use super::runs::Runs;
use crate::builder::{Assembly, BackgroundJobServerBuilder};
use crate::engine::Engine;
use crate::health::with_sources;
use crate::server::BackgroundJobServer;

/// When time begins unless a test says otherwise: 2030-01-01, midnight UTC.
const START: i64 = 1_893_456_000;
/// How many runs one call makes before it counts as one that would never end.
const MOST_RUNS: usize = 10_000;

/// Runs jobs within a test: what is enqueued when the test says so, at the time the test says it is.
///
/// It has an in-memory storage of its own, a clock that stands still until it is moved, and a server that has no tasks:
/// jobs run one after the other within [`run_all_enqueued`](Self::run_all_enqueued) and [`run_for`](Self::run_for), on the
/// way every server takes with them, filters, retries, contexts, time limits and panics included. Nothing goes on between
/// two calls.
///
/// What is measured in real time stays so: the timeout of a run, a handler that sleeps. `#[tokio::test(start_paused =
/// true)]` makes these pass at once; the clock of the kit stands still all the same.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use jobrunr_core::{JobContext, JobError, JobHandler, JobRequest, JobResult, StateName};
/// use jobrunr_server::testing::{TestKit, assert_enqueued};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct SendEmail { to: String, text: String }
///
/// impl JobRequest for SendEmail {
///     const JOB_TYPE: &'static str = "send-email";
/// }
///
/// struct Mailer;
///
/// impl JobHandler<SendEmail> for Mailer {
///     type Output = String;
///
///     async fn run(&self, email: SendEmail, context: &JobContext) -> JobResult<String> {
///         if context.attempt() == 1 {
///             return Err(JobError::retry_in(Duration::from_secs(60)).caused_by("the mail server is busy"));
///         }
///         Ok(format!("sent to {}", email.to))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kit = TestKit::new(|server| server.handle::<SendEmail, _>(Mailer));
///
/// kit.scheduler().enqueue(SendEmail { to: "ada@example.org".into(), text: "Hello".into() }).await?;
/// assert_enqueued!(kit, SendEmail { to: "ada@example.org" });
///
/// let runs = kit.run_all_enqueued().await;
/// assert_eq!(runs[0].failure().unwrap().message, "the mail server is busy");
/// assert_eq!(runs[0].state(), StateName::Scheduled);
///
/// kit.advance(Duration::from_secs(60));
/// let runs = kit.run_all_enqueued().await;
/// assert_eq!(runs[0].result::<String>(), "sent to ada@example.org");
/// # Ok(())
/// # }
/// ```
pub struct TestKit {
    clock: TestClock,
    engine: Arc<Engine>,
    inline: Mutex<Inline>,
    most_runs: usize,
}

impl fmt::Debug for TestKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestKit").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl TestKit {
    /// A kit whose server is put together by `configure`, which can be what the program itself uses.
    ///
    /// The clock shows midnight UTC of 2030-01-01. The clock is the kit's, whatever `configure` says.
    ///
    /// # Panics
    /// If a server put together like that would not start.
    #[track_caller]
    pub fn new(configure: impl FnOnce(BackgroundJobServerBuilder) -> BackgroundJobServerBuilder) -> Self {
        let start = DateTime::from_timestamp(START, 0).expect("it is an instant of this century");
        Self::starting_at(start, configure)
    }

    /// A [new](Self::new) kit whose clock shows this instant at first.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[track_caller]
    pub fn starting_at(
        start: DateTime<Utc>,
        configure: impl FnOnce(BackgroundJobServerBuilder) -> BackgroundJobServerBuilder,
    ) -> Self {
        let clock = TestClock::starting_at(start);
        let options = MemoryStorageOptions::default().clock(Arc::new(clock.clone()));
        let storage: Arc<dyn StorageProvider> = Arc::new(MemoryStorage::with_options(options));
        let builder = configure(BackgroundJobServer::builder(storage)).clock(Arc::new(clock.clone()));
        let Assembly { engine, inboxes, recurring_jobs } = match builder.assemble() {
            Ok(assembly) => assembly,
            Err(error) => panic!("the server of the test kit would not start: {}", with_sources(&error)),
        };
        let inline = Mutex::new(Inline::new(&engine, inboxes, recurring_jobs));
        Self { clock, engine, inline, most_runs: MOST_RUNS }
    }

    /// The same kit, taking a call that makes so many runs for one that never ends; default 10 000.
    #[must_use]
    pub const fn limit_runs(mut self, runs: usize) -> Self {
        self.most_runs = runs;
        self
    }

    /// Creates jobs, with the filters of the server; give it to the code under test.
    #[must_use]
    pub fn scheduler(&self) -> &JobScheduler {
        &self.engine.scheduler
    }

    /// Where the jobs are.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn StorageProvider> {
        &self.engine.storage
    }

    /// The clock, which can be given to code under test that tells the time by a [`Clock`].
    #[must_use]
    pub const fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Moves the clock on by this much, as if no server was up meanwhile. Nothing runs.
    ///
    /// Ticks of recurring jobs that are passed over like this are missed ones.
    pub fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// The job with this id, as it is now.
    ///
    /// # Panics
    /// If there is none.
    pub async fn job(&self, id: JobId) -> Job {
        match demand("look for a job", self.storage().find_job(id).await) {
            Some(job) => job,
            None => panic!("there is no job {id}"),
        }
    }

    /// Runs everything that is enqueued or due at the present instant, one after the other, and everything that comes of it
    /// at that instant: follow-ups, and retries without a delay.
    ///
    /// Jobs go in the order in which a server with one worker would start them. Those that are due later wait until the
    /// clock was moved and this is called again.
    ///
    /// # Panics
    /// If it is called within a job, or makes [too many](Self::limit_runs) runs.
    pub async fn run_all_enqueued(&self) -> Runs {
        self.run_until(self.now()).await
    }

    /// Lets this much time pass, and runs everything at the very instant it is due: retries, scheduled jobs, ticks of
    /// recurring jobs, timeouts of external jobs. The clock shows the end of that time afterwards.
    ///
    /// # Panics
    /// As [`run_all_enqueued`](Self::run_all_enqueued).
    pub async fn run_for(&self, time: Duration) -> Runs {
        let until = TimeDelta::from_std(time).ok().and_then(|time| self.now().checked_add_signed(time));
        self.run_until(until.expect("a test does not last hundreds of thousands of years")).await
    }

    async fn run_until(&self, until: DateTime<Utc>) -> Runs {
        let mut inline = self.inline();
        demand("join the cluster", inline.begin().await);
        for draft in inline.take_recurring_jobs() {
            if let Err(error) = self.scheduler().save_recurring_draft(draft).await {
                panic!("a recurring job of the program was not saved: {}", with_sources(&error));
            }
        }
        let mut runs = Runs::default();
        loop {
            if let Err(TooManyRuns(runs)) =
                demand("run jobs", inline.run_all(&mut runs, self.most_runs).await)
            {
                panic!("{}", self.endless(&runs));
            }
            match demand("look for what is due next", inline.next_due(until).await) {
                Some(next) => self.clock.set(next),
                None if self.now() < until => self.clock.set(until),
                None => break,
            }
        }
        runs.leave(demand("look for what is left", inline.left().await));
        demand("leave the cluster", inline.end().await);
        runs
    }

    fn inline(&self) -> MutexGuard<'_, Inline> {
        self.inline.try_lock().expect("a test kit runs jobs in one place at a time, and not within a job")
    }

    fn endless(&self, runs: &Runs) -> String {
        let last: Vec<_> = runs.iter().rev().take(5).map(|run| format!("  {run}")).collect();
        format!(
            "there were {} runs and no end in sight; does a job enqueue itself? Raise the limit with `limit_runs` if not. \
             The last runs were, the latest first:\n{}",
            self.most_runs,
            last.join("\n")
        )
    }
}

/// What the storage gives, which in memory it always does.
fn demand<T>(attempt: &str, result: Result<T, StorageError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the test kit could not {attempt}: {}", with_sources(&error)),
    }
}
