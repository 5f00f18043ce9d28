//! The server as its owner sees it.

use std::fmt;
use std::sync::Arc;

use jobrunr_core::problems::{Problem, list_problems};
use jobrunr_core::recurring::RecurringJobDraft;
use jobrunr_core::storage::{StorageError, StorageProvider};
use jobrunr_core::{JobScheduler, ServerId};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::builder::BackgroundJobServerBuilder;
use crate::engine::Engine;
use crate::error::ServerError;
use crate::health::Health;
use crate::heartbeat;
use crate::load::LoadMeter;
use crate::shutdown::{BreakDown, Inboxes, Tasks, abandon};

/// Runs jobs: claims them, hands them to handlers, saves what comes of it, and keeps the cluster's house in order.
///
/// Dropping it without [`stop`](Self::stop) ends it as the end of the process would: running jobs are aborted, and other
/// servers run them again once this one has been silent for long enough.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use jobrunr_core::{JobContext, JobHandler, JobRequest, JobResult, JobScheduler, MemoryStorage};
/// use jobrunr_server::BackgroundJobServer;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Greet { name: String }
///
/// impl JobRequest for Greet {
///     const JOB_TYPE: &'static str = "greet";
/// }
///
/// struct Greeter;
///
/// impl JobHandler<Greet> for Greeter {
///     type Output = String;
///
///     async fn run(&self, request: Greet, _: &JobContext) -> JobResult<String> {
///         Ok(format!("Hello, {}!", request.name))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let storage = Arc::new(MemoryStorage::new());
/// let server = BackgroundJobServer::builder(storage).handle::<Greet, _>(Greeter).start().await?;
///
/// server.scheduler().enqueue(Greet { name: "Ada".into() }).await?;
///
/// server.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct BackgroundJobServer {
    engine: Arc<Engine>,
    tasks: AbortHandle,
    /// How the server ended, once it has.
    end: watch::Receiver<Option<Result<(), BreakDown>>>,
}

impl fmt::Debug for BackgroundJobServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundJobServer")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

impl BackgroundJobServer {
    /// A server over this storage, to be put together and started.
    pub fn builder(storage: Arc<dyn StorageProvider>) -> BackgroundJobServerBuilder {
        BackgroundJobServerBuilder::new(storage)
    }

    pub(crate) async fn start(
        engine: Arc<Engine>,
        inboxes: Inboxes,
        recurring_jobs: Vec<RecurringJobDraft<'static>>,
    ) -> Result<Self, ServerError> {
        #[cfg(feature = "metrics")]
        crate::metrics::describe();
        let meter = match begin(&engine, recurring_jobs).await {
            Ok(meter) => meter,
            Err(error) => {
                // It may have been announced; where this fails too, its row times out.
                let _ = engine.storage.remove_server(engine.membership.life().id()).await;
                return Err(error);
            }
        };
        let (sender, end) = watch::channel(None);
        let tasks = Tasks::start(&engine, inboxes, meter);
        let tasks = tokio::spawn(async move {
            let result = tasks.run().await;
            sender.send_replace(Some(result));
        });
        let server = Self { engine, tasks: tasks.abort_handle(), end };
        tracing::info!(server.id = %server.id(), server.name = server.name(), "the server has started");
        Ok(server)
    }

    /// Stops the server gracefully, and waits for it; stopping it again is fine.
    ///
    /// Jobs that were not started go back to their queues. Those that run may go on for the shutdown grace, then their
    /// tokens fire, and a second later they are aborted and go back to their queues too, which counts as no failure.
    /// The heartbeat goes on until everything is saved, then the server leaves the cluster.
    ///
    /// The server stops even if the returned future is dropped.
    pub async fn stop(&self) {
        self.engine.phases.stopping.cancel();
        // A break-down was logged and is part of the health.
        let _ = self.ended().await;
    }

    /// Waits for SIGTERM or ctrl-c, or for the server to end otherwise, and stops it gracefully.
    ///
    /// # Errors
    /// [`ServerError::Signals`] if signals cannot be listened to; [`ServerError::BrokeDown`] if the server broke down.
    pub async fn run_until_shutdown(&self) -> Result<(), ServerError> {
        tokio::select! {
            signal = shutdown_signal() => signal.map_err(ServerError::Signals)?,
            ended = self.ended() => return ended,
        }
        self.engine.phases.stopping.cancel();
        self.ended().await
    }

    async fn ended(&self) -> Result<(), ServerError> {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ok(())).map_err(Into::into),
            // The runtime that the server ran on is gone.
            Err(_) => Ok(()),
        }
    }

    /// Claims and starts no jobs until it is [resumed](Self::resume); those that run go on.
    ///
    /// Jobs that were claimed but not started go back to their queues. The server stays in the cluster, as its master
    /// if it is that.
    pub fn pause(&self) {
        self.engine.pause();
    }

    /// Claims and starts jobs again.
    pub fn resume(&self) {
        self.engine.resume();
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.engine.is_paused()
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        self.engine.health.health()
    }

    /// What is wrong with the cluster as a whole: job types that wait and that no live server handles.
    ///
    /// The master logs each when it has lasted for a poll interval.
    ///
    /// # Errors
    /// What the storage says.
    pub async fn problems(&self) -> Result<Vec<Problem>, StorageError> {
        list_problems(self.engine.storage.as_ref()).await
    }

    /// The id of its present life; a server that was declared dead comes back under a new one.
    #[must_use]
    pub fn id(&self) -> ServerId {
        self.engine.membership.life().id()
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.engine.settings.name
    }

    /// Whether it is the one server of the cluster that keeps house.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.engine.membership.is_master()
    }

    /// A scheduler with the storage, the clock and the filters of this server.
    #[must_use]
    pub fn scheduler(&self) -> &JobScheduler {
        &self.engine.scheduler
    }
}

/// Announces the server and saves the recurring jobs that its functions ask for.
async fn begin(
    engine: &Arc<Engine>,
    recurring_jobs: Vec<RecurringJobDraft<'static>>,
) -> Result<LoadMeter, ServerError> {
    let meter = heartbeat::begin(engine).await?;
    for draft in recurring_jobs {
        engine.scheduler.save_recurring_draft(draft).await?;
    }
    Ok(meter)
}

impl Drop for BackgroundJobServer {
    fn drop(&mut self) {
        // Once it was stopped gracefully there is nothing left to end.
        abandon(&self.engine);
        self.tasks.abort();
    }
}

#[cfg(unix)]
async fn shutdown_signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

#[cfg(not(unix))]
async fn shutdown_signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
