//! Putting a server together: options, handlers and what they need, filters, retries.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::clock::{Clock, StorageClock, SystemClock};
use jobrunr_core::filters::{JobFilter, JobFilters};
use jobrunr_core::handler::Provided;
use jobrunr_core::recurring::RecurringJobDraft;
use jobrunr_core::retry::{Retries, RetryPolicy};
use jobrunr_core::schedule::CustomSchedules;
use jobrunr_core::storage::StorageProvider;
use jobrunr_core::trace::{TraceCarrier, Traces};
use jobrunr_core::{JobFunction, JobHandler, JobRequest};
use tokio::sync::mpsc;

use crate::engine::{Engine, EngineParts};
use crate::error::ServerError;
use crate::options::ServerOptions;
use crate::queues::ServedQueue;
use crate::registry::{Registration, Registry};
use crate::retention::Retention;
use crate::server::BackgroundJobServer;
use crate::shutdown::Inboxes;

/// Puts a [`BackgroundJobServer`] together; made by [`BackgroundJobServer::builder`].
#[must_use = "nothing runs before `.start().await`"]
pub struct BackgroundJobServerBuilder {
    storage: Arc<dyn StorageProvider>,
    options: ServerOptions,
    registrations: Vec<Registration>,
    provided: Provided,
    filters: JobFilters,
    retries: Retries,
    schedules: CustomSchedules,
    traces: Option<Traces>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for BackgroundJobServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundJobServerBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl BackgroundJobServerBuilder {
    pub(crate) fn new(storage: Arc<dyn StorageProvider>) -> Self {
        Self {
            storage,
            options: ServerOptions::default(),
            registrations: Vec::new(),
            provided: Provided::default(),
            filters: JobFilters::default(),
            retries: Retries::default(),
            schedules: CustomSchedules::new(),
            traces: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// Runs jobs of type `R` with this handler: `.handle::<SendEmail, _>(mailer)`.
    pub fn handle<R: JobRequest, H: JobHandler<R>>(mut self, handler: H) -> Self {
        self.registrations.push(Registration::of_handler::<R, H>(handler));
        self
    }

    /// Runs jobs with a function that has `#[job]`: `.job(resize)`, without calling it.
    pub fn job(mut self, function: impl JobFunction) -> Self {
        self.registrations.push(Registration::of_function(function));
        self
    }

    /// Runs jobs with every function of the program that has `#[job]`, as if each was given with [`job`](Self::job).
    ///
    /// Those that were given already stay as they are. Functions of libraries are found too, as far as they are linked in.
    #[cfg(feature = "register-all")]
    pub fn register_all(mut self) -> Self {
        crate::collection::add_all(&mut self.registrations);
        self
    }

    /// Gives this value to the job functions that have a parameter of type `Inject<T>`.
    ///
    /// A value given later takes the place of an earlier one of its type.
    pub fn provide<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.provided.insert(value);
        self
    }

    /// Shows jobs to this filter on their way, after those added before; with
    /// [`OnJobType`](jobrunr_core::OnJobType) jobs of one type only.
    ///
    /// It also sees the jobs that are created with the scheduler of the server, as handlers do.
    pub fn filter(mut self, filter: impl JobFilter) -> Self {
        self.filters.push(filter);
        self
    }

    /// How many jobs run at once; at least 1, default 16 a CPU.
    pub fn workers(mut self, workers: usize) -> Self {
        self.options.workers = Some(workers);
        self
    }

    /// How many jobs are claimed ahead of a free worker; default as many as suits the jobs.
    ///
    /// The default is as many as the workers have lately started in 100 ms, between the number of workers (at most 256) and
    /// 1 000. If then longer jobs come first, what is beyond the lower bound goes back to its queue after a second. With 0 no
    /// other server waits for a job that this one holds without running it.
    pub fn prefetch(mut self, jobs: usize) -> Self {
        self.options.prefetch = Some(jobs);
        self
    }

    /// How often the server sends a heartbeat, keeps house, and looks for what no hint told of; 200 ms to 24 h, default 15 s.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.options.poll_interval = interval;
        self
    }

    /// How often an idle server looks for jobs; at least 10 ms.
    ///
    /// By default the poll interval where the storage sends hints, 200 ms where it does not.
    pub fn claim_interval(mut self, interval: Duration) -> Self {
        self.options.claim_interval = Some(interval);
        self
    }

    /// After how many poll intervals of silence a server counts as dead; 4 to 1 000, default 4.
    pub fn timeout_multiplicand(mut self, intervals: u32) -> Self {
        self.options.timeout_multiplicand = intervals;
        self
    }

    /// Serves these queues only: by rank, or each with a share; by default all queues as if they were one line.
    ///
    /// `.queues(["high", "low"])` takes from `low` only what is left over by `high`.
    ///
    /// `.queues([("high", 5), ("low", 1)])` starts five jobs of `high` for each of `low` in the long run, as long as both have
    /// jobs waiting; what an empty queue leaves over the others take. Shares are of jobs, however long they run.
    pub fn queues<Q: Into<ServedQueue>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.options.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// What people call the server; default the name of the host, cut at 128 bytes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// How long running jobs may go on when the server stops, before they are cancelled; default 10 s.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.options.shutdown_grace = grace;
        self
    }

    /// How long a cancelled run may go on before it is aborted; default 10 s.
    pub fn cancellation_grace(mut self, grace: Duration) -> Self {
        self.options.cancellation_grace = grace;
        self
    }

    /// How failed jobs are retried, in place of what was said before.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// Asks this policy about failed runs after those added before; with [`OnJobType`](jobrunr_core::OnJobType) about runs
    /// of one type of job only.
    pub fn retry_policy(mut self, policy: impl RetryPolicy + 'static) -> Self {
        self.retries = self.retries.policy(policy);
        self
    }

    /// How often jobs that say nothing themselves are retried; default 10.
    pub fn default_retries(mut self, retries: u32) -> Self {
        self.retries = self.retries.default_retries(retries);
        self
    }

    /// How long ended jobs are kept.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.options.retention = retention;
        self
    }

    /// The custom schedules of recurring jobs.
    pub fn schedules(mut self, schedules: CustomSchedules) -> Self {
        self.schedules = schedules;
        self
    }

    /// Links the span of each run to what its job was created in, and has the jobs that handlers create carry theirs along.
    ///
    /// Schedulers apart from the server need [`traces`](jobrunr_core::JobScheduler::traces) too.
    pub fn traces(mut self, carrier: impl TraceCarrier) -> Self {
        self.traces = Some(Traces::new(carrier));
        self
    }

    /// The local clock; default that of the machine. For tests, which move it.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Checks everything, announces the server in the storage, which must be set up, and starts it.
    ///
    /// # Errors
    /// [`ServerError`] saying what is wrong; nothing runs then.
    pub async fn start(self) -> Result<BackgroundJobServer, ServerError> {
        let Assembly { engine, inboxes, recurring_jobs } = self.assemble()?;
        BackgroundJobServer::start(engine, inboxes, recurring_jobs).await
    }

    /// Checks everything and puts the server together.
    pub(crate) fn assemble(self) -> Result<Assembly, ServerError> {
        let Self {
            storage,
            options,
            mut registrations,
            provided,
            filters,
            retries,
            schedules,
            traces,
            clock,
        } = self;
        let settings = options.check(storage.changes().is_some())?;
        let mut recurring_jobs = Vec::new();
        for registration in &mut registrations {
            recurring_jobs.extend(registration.take_recurring_jobs()?);
        }
        let registry = Registry::new(registrations, &Arc::new(provided))?;
        let clock = StorageClock::new(clock);
        let (outcomes, outcomes_inbox) = mpsc::unbounded_channel();
        let (saved, saved_inbox) = mpsc::unbounded_channel();
        let (suspects, suspects_inbox) = mpsc::unbounded_channel();
        // Before the first claim, so that no hint falls between them.
        let changes = storage.changes().map(jobrunr_core::storage::ChangeFeed::subscribe);
        let inboxes =
            Inboxes { outcomes: outcomes_inbox, saved: saved_inbox, suspects: suspects_inbox, changes };
        let parts = EngineParts {
            storage,
            settings,
            registry,
            filters,
            retries,
            schedules,
            traces,
            clock,
            outcomes,
            saved,
            suspects,
        };
        Ok(Assembly { engine: Engine::new(parts), inboxes, recurring_jobs })
    }
}

/// A server that was put together and is not started.
pub(crate) struct Assembly {
    pub(crate) engine: Arc<Engine>,
    pub(crate) inboxes: Inboxes,
    /// What is to be saved when it starts.
    pub(crate) recurring_jobs: Vec<RecurringJobDraft<'static>>,
}
