//! A connection that the pool has lent, and how it comes back: nobody waits for ever for a server that does not answer.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::MySql;
use sqlx::mysql::MySqlConnection;
use sqlx::pool::PoolConnection;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// A connection of the pool, for as long as it is needed.
pub(crate) struct Lent {
    connection: Option<PoolConnection<MySql>>,
    /// How long the server may take to answer when the pool asks whether the connection still works.
    limit: Duration,
    tasks: TaskTracker,
    is_given_up: bool,
}

const LENT: &str = "the connection is taken out when this is dropped";

impl Lent {
    pub(crate) const fn new(connection: PoolConnection<MySql>, limit: Duration, tasks: TaskTracker) -> Self {
        Self { connection: Some(connection), limit, tasks, is_given_up: false }
    }

    /// Keeps a connection in an unknown state from being used again.
    pub(crate) const fn give_up(&mut self) {
        self.is_given_up = true;
    }
}

impl Deref for Lent {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        self.connection.as_ref().expect(LENT)
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        self.connection.as_mut().expect(LENT)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let Ok(runtime) = Handle::try_current() else {
            // Without a runtime nobody can take leave of the server.
            drop(connection.detach());
            return;
        };
        if self.is_given_up {
            connection.close_on_drop();
        } else {
            // The pool asks whoever comes back, and would wait for the answer without an end.
            self.tasks.spawn_on(timeout(self.limit, connection.return_to_pool()), &runtime);
        }
    }
}
