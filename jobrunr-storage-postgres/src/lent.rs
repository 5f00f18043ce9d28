//! A connection out of the pool, and how it goes back.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, raw_sql};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// A connection out of the pool. When it is dropped it goes back, or is closed if it does not show in time that it works.
///
/// The pool by itself asks each connection that comes back whether it works and waits for the answer without end: on a way
/// that swallows everything it would get none of them back for a quarter of an hour.
pub(crate) struct Lent {
    /// Gone once it is given back.
    connection: Option<PoolConnection<Postgres>>,
    pub(crate) condition: Condition,
    tasks: TaskTracker,
    patience: Duration,
}

/// What a connection is like between two statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Each statement is a transaction.
    Plain,
    /// A transaction is open; it ends unless it is committed.
    InTransaction,
    /// Nobody knows; it is closed.
    Unknown,
}

impl Lent {
    pub(crate) const fn new(
        connection: PoolConnection<Postgres>,
        tasks: TaskTracker,
        patience: Duration,
    ) -> Self {
        Self { connection: Some(connection), condition: Condition::Plain, tasks, patience }
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is given back only when it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let Ok(runtime) = Handle::try_current() else {
            // Nobody is there to give it back.
            drop(connection.detach());
            return;
        };
        let patience = self.patience;
        match self.condition {
            // This has a time limit of its own.
            Condition::Unknown => connection.close_on_drop(),
            Condition::Plain => {
                // What the pool does when a connection is dropped; where it is given up, the connection is closed.
                let returned = connection.return_to_pool();
                self.tasks.spawn_on(in_time(patience, returned), &runtime);
            }
            Condition::InTransaction => {
                connection.close_on_drop();
                let returned = async move {
                    if raw_sql("ROLLBACK").execute(&mut *connection).await.is_ok() {
                        connection.return_to_pool().await;
                    }
                };
                self.tasks.spawn_on(in_time(patience, returned), &runtime);
            }
        }
    }
}

async fn in_time(patience: Duration, returned: impl Future<Output = ()>) {
    if tokio::time::timeout(patience, returned).await.is_err() {
        tracing::debug!("a connection did not answer within {patience:?} and was closed");
    }
}
