//! Hints about what happened, so that nobody has to poll often. Losing one costs time, never correctness.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use tokio::sync::broadcast;

use crate::ids::JobId;
use crate::names::QueueName;
use crate::state::StateName;

/// Yields hints about changes made by any process that uses the same database.
///
/// *Promises:* within a second, usually a few milliseconds: `JobsReady` after jobs became ENQUEUED; `JobScheduled` after
/// jobs became SCHEDULED (one hint with the earliest time stands for a batch); `JobChanged` after a PROCESSING job was
/// DELETED; after a connection was lost, or where hints had to be dropped, one `Resync`.
///
/// *Does not promise* one hint a change: they may be doubled, merged, or replaced by `Resync`. Others than those named
/// may come.
///
/// *Held by* scenarios 61–66.
pub trait ChangeFeed: Send + Sync {
    /// A stream of the hints from now on. A subscriber that is slow, or gone, holds up nobody. On a storage that was
    /// closed the stream ends at once.
    fn subscribe(&self) -> ChangeStream;
}

/// The hints one subscriber gets; it ends when the storage is closed.
pub type ChangeStream = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// One hint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// There are jobs to claim in this queue.
    JobsReady {
        /// The queue.
        queue: QueueName,
    },
    /// A job waits for this instant: a timer set for a later one should be set again.
    JobScheduled {
        /// When it becomes due.
        scheduled_at: chrono::DateTime<chrono::Utc>,
    },
    /// A job moved to this state.
    JobChanged {
        /// The job.
        id: JobId,
        /// Its state now.
        state: StateName,
    },
    /// A recurring job was saved or deleted.
    RecurringJobsChanged,
    /// Anything may have happened: look for yourself.
    Resync,
}

/// Hands hints to the subscribers of one process; storages that learn of changes by themselves feed it.
#[derive(Debug)]
pub struct ChangeHub {
    sender: std::sync::Mutex<Option<broadcast::Sender<Change>>>,
}

/// How many hints a subscriber may be behind before they are replaced by one `Resync`.
const BACKLOG: usize = 1_024;

impl ChangeHub {
    /// A hub without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self { sender: std::sync::Mutex::new(Some(broadcast::channel(BACKLOG).0)) }
    }

    fn sender(&self) -> Option<broadcast::Sender<Change>> {
        self.sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Hands a hint to every subscriber; never waits.
    pub fn send(&self, change: Change) {
        if let Some(sender) = self.sender() {
            // Nobody listening is no error.
            let _ = sender.send(change);
        }
    }

    /// Whether anybody listens; where nobody does, working out what to send can be spared.
    #[must_use]
    pub fn has_subscribers(&self) -> bool {
        self.sender().is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Ends every stream, now and later ones.
    pub fn close(&self) {
        self.sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }
}

impl Default for ChangeHub {
    fn default() -> Self {
        Self::new()
    }
}

impl ChangeFeed for ChangeHub {
    fn subscribe(&self) -> ChangeStream {
        let Some(sender) = self.sender() else { return Box::pin(stream::empty()) };
        let receiver = sender.subscribe();
        Box::pin(stream::unfold(receiver, |mut receiver| async {
            let change = match receiver.recv().await {
                Ok(change) => change,
                Err(broadcast::error::RecvError::Lagged(_)) => Change::Resync,
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((change, receiver))
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_subscriber_that_fell_behind_is_told_to_look_for_itself() {
        let hub = ChangeHub::new();
        let mut changes = hub.subscribe();

        for _ in 0..=BACKLOG {
            hub.send(Change::RecurringJobsChanged);
        }

        assert_eq!(changes.next().await, Some(Change::Resync));
        assert_eq!(changes.next().await, Some(Change::RecurringJobsChanged));
    }

    #[tokio::test]
    async fn closing_ends_the_streams() {
        let hub = ChangeHub::new();
        let mut changes = hub.subscribe();

        hub.close();

        assert_eq!(changes.next().await, None);
        assert_eq!(hub.subscribe().next().await, None);
    }
}
