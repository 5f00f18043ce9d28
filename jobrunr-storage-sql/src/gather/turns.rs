//! The right and duty to write. A turn ends with its caller or task, however that ends.

use std::fmt;

use tokio::time::timeout;

use super::state::Released;
use super::{Gatherer, Gathering, PATIENCE, group_of};

/// The turn of a caller that writes its own jobs, being alone. Dropping it ends it too.
pub struct CallersTurn<S: Gathering> {
    storage: S,
    number: u64,
    kept: Option<S::Connection>,
    is_over: bool,
}

impl<S: Gathering> fmt::Debug for CallersTurn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallersTurn").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<S: Gathering> CallersTurn<S> {
    pub(super) const fn new(storage: S, number: u64, kept: Option<S::Connection>) -> Self {
        Self { storage, number, kept, is_over: false }
    }

    /// The connection that the last writer left, if there is one.
    pub const fn take_connection(&mut self) -> Option<S::Connection> {
        self.kept.take()
    }

    /// Ends the turn and leaves a connection to the next writer. Whoever waits goes on.
    pub fn end(mut self, connection: Option<S::Connection>) {
        self.is_over = true;
        let left = self.storage.gatherer().state().end_alone(self.number, connection);
        Gatherer::keep(&self.storage, left);
    }
}

impl<S: Gathering> Drop for CallersTurn<S> {
    fn drop(&mut self) {
        if !self.is_over {
            self.storage.gatherer().state().end_alone(self.number, None);
        }
    }
}

/// Whether a task counts as a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Not before it is released.
    By,
    Counted,
    Over,
}

/// The turn of a task that writes what waits.
pub(super) struct TasksTurn<S: Gathering> {
    storage: S,
    /// The calls in its statement.
    under_way: usize,
    standing: Standing,
}

impl<S: Gathering> TasksTurn<S> {
    pub(super) const fn counted(storage: S) -> Self {
        Self { storage, under_way: 0, standing: Standing::Counted }
    }

    pub(super) const fn standing_by(storage: S) -> Self {
        Self { storage, under_way: 0, standing: Standing::By }
    }

    /// Writes what waits when the caller before is through, or after a while without it.
    pub(super) async fn succeed(mut self, mut released: Released<S>) {
        let kept = match timeout(PATIENCE, &mut released).await {
            Ok(kept) => kept.ok().flatten(),
            Err(_) if self.storage.gatherer().state().succeed_unreleased() => None,
            // Race: it was released at the same moment.
            Err(_) => released.await.ok().flatten(),
        };
        self.standing = Standing::Counted;
        self.write_all(kept).await;
    }

    /// Writes until nobody waits any more.
    pub(super) async fn write_all(mut self, mut kept: Option<S::Connection>) {
        loop {
            self.storage.gatherer().let_others_come().await;
            let calls = {
                let mut state = self.storage.gatherer().state();
                state.under_way -= std::mem::take(&mut self.under_way);
                let calls = group_of(&self.storage, &mut state.waiting);
                self.under_way = calls.len();
                state.under_way += calls.len();
                if calls.is_empty() {
                    // Race: whoever comes after this writes by itself, or has a task begin.
                    state.writers -= 1;
                    self.standing = Standing::Over;
                } else if kept.is_none() {
                    kept = state.kept.take();
                }
                calls
            };
            if calls.is_empty() {
                Gatherer::keep(&self.storage, kept);
                return;
            }
            self.storage.write(calls, &mut kept).await;
        }
    }
}

impl<S: Gathering> Drop for TasksTurn<S> {
    fn drop(&mut self) {
        if self.standing == Standing::Over {
            return;
        }
        let mut state = self.storage.gatherer().state();
        state.under_way -= self.under_way;
        if self.standing == Standing::Counted || state.lose_successor() {
            state.writers -= 1;
        }
        // They are told by that.
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }
}
