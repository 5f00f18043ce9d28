//! Who writes, who waits, and who begins when.

use std::collections::VecDeque;
use std::fmt;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Call, Gathering};

/// One writer gathers best; a second one works while the first waits for the disk.
const MAX_WRITERS: usize = 2;

/// How many calls must wait before a second writer is worth it, and how many may be on their way: beyond that, statements
/// that hold more are worth more than two at once.
const ENOUGH_WAIT: usize = 4;
const FEW_UNDER_WAY: usize = 8;

/// Tells the task that stands by to begin, and gives it a connection if there is one.
pub(super) type Release<S> = oneshot::Sender<Option<<S as Gathering>::Connection>>;

/// How the task that stands by is told to begin.
pub(super) type Released<S> = oneshot::Receiver<Option<<S as Gathering>::Connection>>;

/// What all callers and writers look at.
pub(super) struct State<S: Gathering> {
    pub(super) waiting: VecDeque<Call<S>>,
    /// A caller that writes by itself is one of them.
    pub(super) writers: usize,
    /// How many calls are in statements on their way.
    pub(super) under_way: usize,
    /// The number of the turn of a caller that writes by itself, as long as others rely on it.
    alone: Option<u64>,
    turns: u64,
    /// Where calls wait for that caller alone, a task stands by.
    successor: Option<Release<S>>,
    pub(super) kept: Option<S::Connection>,
    pub(super) kept_since: Option<Instant>,
    /// Whether a task sees to it that the connection is not kept for nobody.
    pub(super) is_watched: bool,
}

impl<S: Gathering> Default for State<S> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            writers: 0,
            under_way: 0,
            alone: None,
            turns: 0,
            successor: None,
            kept: None,
            kept_since: None,
            is_watched: false,
        }
    }
}

impl<S: Gathering> fmt::Debug for State<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("waiting", &self.waiting.len())
            .field("writers", &self.writers)
            .field("under_way", &self.under_way)
            .field("alone", &self.alone)
            .finish_non_exhaustive()
    }
}

/// Which task has to begin since a call waits.
pub(super) enum Begins<S: Gathering> {
    /// Whoever is at work will see to it.
    Nobody,
    /// One that writes; it is counted.
    Writer,
    /// One that stands by until the caller that writes by itself is through; it is counted when it is released.
    Successor(Released<S>),
}

impl<S: Gathering> State<S> {
    /// Begins the turn of a caller, if it is alone; gives the number of the turn and the connection that was kept.
    pub(super) fn begin_alone(&mut self) -> Option<(u64, Option<S::Connection>)> {
        if self.writers > 0 || !self.waiting.is_empty() {
            return None;
        }
        self.writers = 1;
        self.under_way += 1;
        self.turns += 1;
        self.alone = Some(self.turns);
        Some((self.turns, self.kept.take()))
    }

    /// Has a call wait.
    pub(super) fn add(&mut self, call: Call<S>) -> Begins<S> {
        self.waiting.push_back(call);
        let is_second_worth_it = self.waiting.len() >= ENOUGH_WAIT && self.under_way <= FEW_UNDER_WAY;
        if self.successor.is_some() {
            if is_second_worth_it {
                self.release(None);
            }
            return Begins::Nobody;
        }
        if self.writers == 0 || (self.writers < MAX_WRITERS && is_second_worth_it) {
            self.writers += 1;
            return Begins::Writer;
        }
        if self.alone.is_some() && self.writers == 1 {
            let (release, released) = oneshot::channel();
            self.successor = Some(release);
            return Begins::Successor(released);
        }
        Begins::Nobody
    }

    /// Ends the turn of a caller. If a task stands by it begins with the connection; else the connection is left.
    pub(super) fn end_alone(
        &mut self,
        turn: u64,
        connection: Option<S::Connection>,
    ) -> Option<S::Connection> {
        if self.alone != Some(turn) {
            // Others had stopped relying on it.
            return connection;
        }
        self.disown();
        self.release(connection)
    }

    /// No longer relies on the caller that writes by itself; the task that stands by begins without it. Tells whether that
    /// task had not been released before.
    pub(super) fn succeed_unreleased(&mut self) -> bool {
        let was_standing_by = self.successor.take().is_some();
        if was_standing_by {
            self.disown();
            self.writers += 1;
        }
        was_standing_by
    }

    /// The task that stands by goes away without having begun. Tells whether it was counted, being released.
    pub(super) fn lose_successor(&mut self) -> bool {
        self.successor.take().is_none()
    }

    fn disown(&mut self) {
        if self.alone.take().is_some() {
            self.writers -= 1;
            self.under_way -= 1;
        }
    }

    /// Has the task that stands by begin; gives the connection back if there is none.
    fn release(&mut self, connection: Option<S::Connection>) -> Option<S::Connection> {
        let Some(successor) = self.successor.take() else { return connection };
        self.writers += 1;
        // If it has gone with its runtime, its turn ends by that.
        successor.send(connection).err().flatten()
    }
}
