//! The tasks of a server: all are started here, and all are ended here, in order.

use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::JobId;
use jobrunr_core::storage::ChangeStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::completer::{Outcome, Saved};
use crate::engine::Engine;
use crate::error::ServerError;
use crate::holdings::Interruption;
use crate::load::LoadMeter;
use crate::options::STOP_GRACE;
use crate::{cancellation, claimer, completer, heartbeat, hints, housekeeping};

/// How long the last outcomes may take to be saved when the server stops, and its row to be removed.
const FLUSH_TIME_LIMIT: Duration = Duration::from_secs(10);

/// What the tasks of a server receive.
pub(crate) struct Inboxes {
    pub(crate) outcomes: mpsc::UnboundedReceiver<Outcome>,
    pub(crate) saved: mpsc::UnboundedReceiver<Saved>,
    pub(crate) suspects: mpsc::UnboundedReceiver<Option<JobId>>,
    pub(crate) changes: Option<ChangeStream>,
}

/// That a task of the server ended before it should.
#[derive(Debug, Clone)]
pub(crate) struct BreakDown {
    part: &'static str,
    message: String,
}

impl From<BreakDown> for ServerError {
    fn from(BreakDown { part, message }: BreakDown) -> Self {
        Self::BrokeDown { part, message }
    }
}

/// The tasks of a server, which end with this value at the latest.
pub(crate) struct Tasks {
    engine: Arc<Engine>,
    /// Those that end as soon as the server stops.
    first: JoinSet<()>,
    completer: JoinSet<()>,
    teller: JoinSet<()>,
    heartbeat: JoinSet<()>,
}

impl Tasks {
    pub(crate) fn start(engine: &Arc<Engine>, inboxes: Inboxes, meter: LoadMeter) -> Self {
        let own = || Arc::clone(engine);
        let mut first = JoinSet::new();
        first.spawn(claimer::keep_claiming(own()));
        first.spawn(cancellation::keep_checking(own(), inboxes.suspects));
        first.spawn(housekeeping::keep_ticking(own()));
        first.spawn(housekeeping::keep_releasing(own()));
        first.spawn(housekeeping::keep_releasing_waiters(own()));
        first.spawn(housekeeping::keep_rescuing(own()));
        first.spawn(housekeeping::keep_clearing(own()));
        first.spawn(housekeeping::keep_timing_out(own()));
        first.spawn(housekeeping::keep_looking(own()));
        if let Some(changes) = inboxes.changes {
            first.spawn(hints::keep_listening(own(), changes));
        }
        let mut tasks = Self {
            engine: own(),
            first,
            completer: JoinSet::new(),
            teller: JoinSet::new(),
            heartbeat: JoinSet::new(),
        };
        tasks.completer.spawn(completer::keep_saving(own(), inboxes.outcomes));
        tasks.teller.spawn(completer::keep_telling_filters(own(), inboxes.saved));
        tasks.heartbeat.spawn(heartbeat::keep_beating(own(), meter));
        tasks
    }

    /// Sees to the tasks until the server is stopped, then ends them in order; an error if one of them broke down before.
    pub(crate) async fn run(mut self) -> Result<(), BreakDown> {
        let engine = Arc::clone(&self.engine);
        let broken = tokio::select! {
            biased;
            () = engine.phases.stopping.cancelled() => None,
            Some(ended) = self.first.join_next() => Some(("claimer or housekeeping", ended)),
            Some(ended) = self.completer.join_next() => Some(("completer", ended)),
            Some(ended) = self.teller.join_next() => Some(("filter task", ended)),
            Some(ended) = self.heartbeat.join_next() => Some(("heartbeat", ended)),
        };
        match broken {
            None => {
                self.stop().await;
                engine.health.ended("it was stopped");
                Ok(())
            }
            Some((part, ended)) => {
                let message = ended.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
                tracing::error!("the server ends because its {part} broke down: {message}");
                engine.health.ended(format!("its {part} broke down: {message}"));
                self.break_down().await;
                Err(BreakDown { part, message })
            }
        }
    }

    /// Gives back what was not started, lets running jobs end, saves what is left, and leaves the cluster.
    async fn stop(&mut self) {
        let engine = Arc::clone(&self.engine);
        let (grace, limit) = (engine.settings.shutdown_grace, FLUSH_TIME_LIMIT);
        tracing::info!(running = engine.desk.busy(), "the server stops");
        // The workers end by themselves: no job may start any more.
        engine.workers.close();
        let workers = engine.workers.wait();
        tokio::pin!(workers);
        if timeout(grace, &mut workers).await.is_err() {
            engine.holdings.interrupt_all(Interruption::ServerStops);
            if timeout(STOP_GRACE, &mut workers).await.is_err() {
                engine.phases.aborting.cancel();
                if timeout(STOP_GRACE, &mut workers).await.is_err() {
                    let left = engine.holdings.running().len();
                    tracing::error!(
                        count = left,
                        "jobs block their threads and cannot be aborted; other servers will run them again"
                    );
                }
            }
        }
        end(&mut self.first, limit, "claiming and keeping house").await;
        engine.phases.flushing.cancel();
        end(&mut self.completer, limit, "saving outcomes").await;
        engine.phases.telling.cancel();
        end(&mut self.teller, limit, "telling filters").await;
        engine.phases.parting.cancel();
        end(&mut self.heartbeat, limit, "sending heartbeats").await;
        self.leave_cluster().await;
        tracing::info!("the server has stopped");
    }

    /// Ends everything at once, as the end of the process would; what it held is left to other servers.
    async fn break_down(&mut self) {
        abandon(&self.engine);
        for tasks in [&mut self.first, &mut self.completer, &mut self.teller, &mut self.heartbeat] {
            tasks.shutdown().await;
        }
        self.leave_cluster().await;
    }

    async fn leave_cluster(&self) {
        let engine = &self.engine;
        engine.membership.lose_lease();
        let id = engine.membership.life().id();
        match timeout(FLUSH_TIME_LIMIT, engine.storage.remove_server(id)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!("the row of the server could not be removed, it will time out: {error}")
            }
            Err(_) => tracing::warn!("the row of the server could not be removed in time, it will time out"),
        }
    }
}

/// Ends every run at once; nothing is saved of them.
pub(crate) fn abandon(engine: &Engine) {
    engine.membership.life().end();
    engine.phases.stopping.cancel();
    engine.holdings.interrupt_all(Interruption::ServerGone);
    engine.phases.aborting.cancel();
}

async fn end(tasks: &mut JoinSet<()>, limit: Duration, what: &str) {
    let all_ended = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a task of the server broke down while it stopped: {error}");
            }
        }
    };
    if timeout(limit, all_ended).await.is_err() {
        tracing::error!("{what} did not end within {limit:?} and was cut off");
        tasks.shutdown().await;
    }
}
