//! Hints: collected by a call, told to this process at once and to all others by PUBLISH, off the path of the call.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobrunr_core::storage::{Change, ChangeFeed, ChangeHub, ChangeStream, StorageError};
use jobrunr_core::{Job, JobId, JobState, QueueName, StateName};
use redis::cmd;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::RedisStorage;
use crate::encoding::{decode_id, decode_time, encode_id, encode_time};
use crate::error::classify;
use crate::link::{Link, Way};
use crate::listener::Listener;

/// Least time between two messages of one process.
const INTERVAL: Duration = Duration::from_millis(5);

/// More hints about single jobs than this become one that says to look at everything.
const MOST_JOBS: usize = 64;

/// The hints that one call gives.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    ready: BTreeSet<QueueName>,
    /// When the first of the jobs that became SCHEDULED is due.
    scheduled_at: Option<chrono::DateTime<chrono::Utc>>,
    deleted: Vec<JobId>,
    recurring: bool,
}

impl Hints {
    /// Notes what a new job has come to.
    pub(crate) fn note(&mut self, job: &Job) {
        match job.state_name() {
            StateName::Enqueued => self.note_ready(job.queue()),
            StateName::Scheduled => {
                self.scheduled_at = self.scheduled_at.into_iter().chain(job.scheduled_at()).min();
            }
            _ => {}
        }
    }

    /// Notes what a saved job has come to.
    pub(crate) fn note_saved(&mut self, job: &Job) {
        self.note(job);
        let ran = || job.history().iter().any(|entry| matches!(entry.state, JobState::Processing { .. }));
        if job.state_name() == StateName::Deleted && ran() {
            self.deleted.push(job.id());
        }
    }

    /// Notes that there are jobs to claim in this queue.
    pub(crate) fn note_ready(&mut self, queue: &QueueName) {
        if !self.ready.contains(queue) {
            self.ready.insert(queue.clone());
        }
    }

    /// The hint that a recurring job was saved or deleted.
    pub(crate) fn recurring_jobs_changed() -> Self {
        Self { recurring: true, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.scheduled_at.is_none() && self.deleted.is_empty() && !self.recurring
    }

    fn merge(&mut self, other: Self) {
        self.ready.extend(other.ready);
        self.scheduled_at = self.scheduled_at.into_iter().chain(other.scheduled_at).min();
        self.deleted.extend(other.deleted);
        self.recurring |= other.recurring;
    }

    fn changes(&self) -> Vec<Change> {
        let ready = self.ready.iter().map(|queue| Change::JobsReady { queue: queue.clone() });
        let scheduled = self.scheduled_at.map(|scheduled_at| Change::JobScheduled { scheduled_at });
        let recurring = self.recurring.then_some(Change::RecurringJobsChanged);
        let mut changes: Vec<Change> = ready.chain(scheduled).chain(recurring).collect();
        if self.deleted.len() > MOST_JOBS {
            changes.push(Change::Resync);
        } else {
            let deleted = |id: &JobId| Change::JobChanged { id: *id, state: StateName::Deleted };
            changes.extend(self.deleted.iter().map(deleted));
        }
        changes
    }
}

/// A hint as one line of a message.
fn encode(change: &Change) -> Option<String> {
    Some(match change {
        Change::JobsReady { queue } => format!("ready {queue}"),
        Change::JobScheduled { scheduled_at } => format!("scheduled {}", encode_time(*scheduled_at)),
        Change::JobChanged { id, state } => format!("job {} {state}", encode_id(*id)),
        Change::RecurringJobsChanged => "recurring".to_owned(),
        Change::Resync => "resync".to_owned(),
        _ => return None,
    })
}

/// The hint in a line; a later version may send others, which say only that something happened.
fn decode(line: &str) -> Change {
    let mut words = line.split(' ');
    let change = match (words.next(), words.next(), words.next()) {
        (Some("ready"), Some(queue), None) => queue.parse().ok().map(|queue| Change::JobsReady { queue }),
        (Some("scheduled"), Some(at), None) => {
            decode_time(at).map(|scheduled_at| Change::JobScheduled { scheduled_at })
        }
        (Some("job"), Some(id), Some(state)) => match (decode_id(id), state.parse()) {
            (Some(id), Ok(state)) => Some(Change::JobChanged { id, state }),
            _ => None,
        },
        (Some("recurring"), None, None) => Some(Change::RecurringJobsChanged),
        _ => None,
    };
    change.unwrap_or(Change::Resync)
}

/// What hears hints: the subscribers of this process, and the connection that hears what others say.
pub(crate) struct Feed {
    hub: Arc<ChangeHub>,
    listener: Listener,
}

impl Feed {
    pub(crate) fn new(link: &Arc<Link>, channel: String, tasks: TaskTracker) -> Self {
        Self { hub: Arc::new(ChangeHub::new()), listener: Listener::new(Arc::clone(link), channel, tasks) }
    }

    pub(crate) fn close(&self) {
        self.listener.close();
        self.hub.close();
    }
}

/// What is to be told to other processes.
pub(crate) struct Outbox {
    /// Tells this storage's messages from those of others.
    origin: String,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    hints: Hints,
    last_sent_at: Option<Instant>,
    /// Whether a task sends what is here, and goes on until nothing is left.
    is_sent: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { origin: Uuid::now_v7().simple().to_string(), content: Mutex::default() }
    }
}

impl Outbox {
    fn with<R>(&self, work: impl FnOnce(&mut Content) -> R) -> R {
        work(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The hints in a message; none if it is one of this storage's own.
    pub(crate) fn decode(&self, message: &str) -> Vec<Change> {
        let (origin, lines) = message.split_once('\n').unwrap_or(("", message));
        if origin == self.origin { Vec::new() } else { lines.split('\n').map(decode).collect() }
    }

    fn encode(&self, hints: &Hints) -> String {
        let lines = hints.changes().into_iter().filter_map(|change| encode(&change));
        std::iter::once(self.origin.clone()).chain(lines).collect::<Vec<_>>().join("\n")
    }
}

impl ChangeFeed for RedisStorage {
    fn subscribe(&self) -> ChangeStream {
        let feed = &self.inner.feed;
        let changes = feed.hub.subscribe();
        if !self.inner.under_way.is_closed() {
            feed.listener.start(&feed.hub, &Arc::downgrade(&self.inner));
        }
        changes
    }
}

impl RedisStorage {
    /// Tells everybody: this process at once, others soon.
    pub(crate) fn hint(&self, hints: Hints) {
        if hints.is_empty() {
            return;
        }
        let hub = &self.inner.feed.hub;
        if hub.has_subscribers() {
            hints.changes().into_iter().for_each(|change| hub.send(change));
        }
        let must_begin = self.inner.outbox.with(|content| {
            content.hints.merge(hints);
            !std::mem::replace(&mut content.is_sent, true)
        });
        if must_begin {
            let turn = Turn { storage: self.clone(), has_ended: false };
            self.inner.under_way.spawn(async move { turn.send_all().await });
        }
    }

    /// Publishes hints, also while the storage is being closed: what was written before is news to others all the same.
    async fn publish(&self, hints: &Hints) -> Result<(), StorageError> {
        let mut publish = cmd("PUBLISH");
        publish.arg(self.inner.feed.listener.channel()).arg(self.inner.outbox.encode(hints));
        let sent = self.inner.link.command(Way::Plain, &publish).await;
        sent.map(drop).map_err(|refused| classify(&refused.error, "send hints"))
    }
}

/// The right and duty to send what is in the outbox; it ends with its task, however that ends.
struct Turn {
    storage: RedisStorage,
    has_ended: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.has_ended {
            self.storage.inner.outbox.with(|content| content.is_sent = false);
        }
    }
}

impl Turn {
    async fn send_all(mut self) {
        loop {
            let last_sent_at = self.storage.inner.outbox.with(|content| content.last_sent_at);
            if let Some(last_sent_at) = last_sent_at {
                tokio::time::sleep_until(last_sent_at + INTERVAL).await;
            }
            let hints = self.storage.inner.outbox.with(|content| {
                let hints = std::mem::take(&mut content.hints);
                content.last_sent_at = Some(Instant::now());
                // Race: whoever adds hints after this begins a turn of their own.
                content.is_sent = !hints.is_empty();
                hints
            });
            if hints.is_empty() {
                self.has_ended = true;
                return;
            }
            if let Err(error) = self.storage.publish(&hints).await {
                // A lost hint costs time, never correctness: polling finds the work.
                tracing::debug!("hints were lost: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_survive_the_way_to_others_and_back_to_oneself_they_are_dropped() {
        let (one, other) = (Outbox::default(), Outbox::default());
        let scheduled_at = Some(chrono::DateTime::UNIX_EPOCH);
        let mut hints = Hints { scheduled_at, recurring: true, ..Hints::default() };
        hints.note_ready(&"high".parse().unwrap());
        hints.deleted.push(JobId::new());

        let message = one.encode(&hints);

        assert_eq!(other.decode(&message), hints.changes());
        assert_eq!(one.decode(&message), []);
    }

    #[test]
    fn what_is_not_understood_says_to_look_at_everything() {
        for line in ["ready", "ready A B", "scheduled soon", "job x ENQUEUED", "later", ""] {
            assert_eq!(decode(line), Change::Resync, "{line}");
        }
    }

    #[test]
    fn many_deleted_jobs_are_one_hint() {
        let deleted = (0..=MOST_JOBS).map(|_| JobId::new()).collect();
        let hints = Hints { deleted, ..Hints::default() };

        assert_eq!(hints.changes(), [Change::Resync]);
    }
}
