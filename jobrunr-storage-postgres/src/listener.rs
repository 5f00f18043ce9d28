//! The one connection that listens for hints. It begins when somebody subscribes, and comes back by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jobrunr_core::storage::{Change, ChangeHub, StorageError};
use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{Failed, Statement};
use crate::error::classify;
use crate::names::Runs;
use crate::{Inner, PROVIDER, PostgresStorage};

/// How long nothing may be heard before the connection is asked whether it still works.
const SILENCE: Duration = Duration::from_secs(60);

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);

const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

const OPERATION: &str = "listen for hints";

/// Listens, once it was started, until it is closed or dropped.
pub(crate) struct Listener {
    at: PgConnectOptions,
    /// How long it may take to begin.
    patience: Duration,
    hub: Arc<ChangeHub>,
    tasks: TaskTracker,
    was_started: AtomicBool,
    closed: CancellationToken,
}

impl Listener {
    pub(crate) fn new(
        at: PgConnectOptions,
        patience: Duration,
        hub: Arc<ChangeHub>,
        tasks: TaskTracker,
    ) -> Self {
        let closed = CancellationToken::new();
        Self { at, patience, hub, tasks, was_started: AtomicBool::new(false), closed }
    }

    /// Starts listening, unless that has been done.
    pub(crate) fn start(&self, storage: &PostgresStorage) {
        if self.was_started.swap(true, Ordering::Relaxed) {
            return;
        }
        let listening = Listening {
            at: self.at.clone(),
            patience: self.patience,
            hub: Arc::clone(&self.hub),
            storage: Arc::downgrade(&storage.inner),
        };
        let closed = self.closed.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = closed.cancelled() => {}
                () = listening.go_on() => {}
            }
        });
    }

    pub(crate) fn close(&self) {
        self.closed.cancel();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the listening task has.
struct Listening {
    at: PgConnectOptions,
    patience: Duration,
    hub: Arc<ChangeHub>,
    /// Weak, so that the listener of a storage that is dropped without being closed is dropped with it.
    storage: Weak<Inner>,
}

impl Listening {
    /// Listens until the storage is gone.
    async fn go_on(self) {
        let mut back_off = FIRST_BACK_OFF;
        while self.storage.strong_count() > 0 {
            match timeout(self.patience, self.connect()).await.unwrap_or_else(|_| Err(self.timed_out())) {
                Ok(mut listener) => {
                    back_off = FIRST_BACK_OFF;
                    // What happened before is not told.
                    self.hub.send(Change::Resync);
                    let error = self.hear(&mut listener).await;
                    tracing::debug!("the connection that hears hints was lost: {error}");
                }
                Err(error) => tracing::debug!("hints cannot be heard at the moment: {error}"),
            }
            tokio::time::sleep(back_off.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
        }
    }

    async fn connect(&self) -> Result<PgListener, StorageError> {
        let failed = |error: sqlx::Error| classify(&error, OPERATION);
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.patience)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(self.at.clone());
        let mut listener = PgListener::connect_with(&pool).await.map_err(failed)?;
        let gone = || StorageError::Closed { provider: PROVIDER, operation: OPERATION };
        let storage = PostgresStorage { inner: self.storage.upgrade().ok_or_else(gone)? };
        let channel = storage.channel(&mut listener, OPERATION).await?;
        let channel = channel.ok_or_else(|| StorageError::SchemaMismatch {
            provider: PROVIDER,
            what: "there are no tables yet".to_owned(),
        })?;
        listener.listen(&channel).await.map_err(failed)?;
        // It would come back without anybody being told what was missed.
        listener.eager_reconnect(false);
        Ok(listener)
    }

    fn timed_out(&self) -> StorageError {
        let source = format!("the server did not answer within {:?}", self.patience).into();
        StorageError::Unavailable { provider: PROVIDER, operation: OPERATION, source }
    }

    /// Passes on what is heard until the connection breaks; returns why it did.
    async fn hear(&self, listener: &mut PgListener) -> String {
        loop {
            match timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    let Some(storage) = self.storage.upgrade() else { return "nobody listens".to_owned() };
                    if let Some(change) = storage.outbox.decode(notification.payload()) {
                        self.hub.send(change);
                    }
                }
                Ok(Ok(None)) => return "it was closed".to_owned(),
                Ok(Err(error)) => return classify(&error, OPERATION).to_string(),
                Err(_) => match timeout(PATIENCE, listener.execute("SELECT 1")).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return classify(&error, OPERATION).to_string(),
                    Err(_) => return "it does not answer".to_owned(),
                },
            }
        }
    }
}

impl Runs for PgListener {
    async fn run(&mut self, statement: Statement) -> Result<Vec<PgRow>, Failed> {
        let rows = statement.fetch_all(self).await;
        rows.map_err(|error| classify(&error, OPERATION).into())
    }
}
