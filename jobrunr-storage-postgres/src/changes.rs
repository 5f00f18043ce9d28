//! Hints: collected by a call, told to this process at once and to all others by NOTIFY, off the path of the call.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobrunr_core::storage::{Change, ChangeFeed, ChangeHub, ChangeStream, StorageError};
use jobrunr_core::{Job, JobId, JobState, QueueName, StateName};
use jobrunr_storage_sql::{from_micros, micros};
use sqlx::Row;
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::PostgresStorage;
use crate::connection::Failed;
use crate::error::classify;
use crate::lent::Lent;
use crate::listener::Listener;
use crate::names::Runs;

/// Least time between two notifications of one process.
const INTERVAL: Duration = Duration::from_millis(10);

/// More hints about single jobs than this become one that says to look at everything.
const MOST_JOBS: usize = 64;

/// Stands for who sends a hint with the transaction of a caller. Nobody drops it as his own: this process has not been told.
const FROM_A_CALLER: &str = "-";

/// The hints that one call gives.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    ready: BTreeSet<QueueName>,
    /// When the first of the jobs that became SCHEDULED is due.
    scheduled_at: Option<i64>,
    deleted: Vec<JobId>,
    recurring: bool,
}

impl Hints {
    /// Notes what a new job has come to.
    pub(crate) fn note(&mut self, job: &Job) {
        match job.state_name() {
            StateName::Enqueued => self.note_ready(job.queue()),
            StateName::Scheduled => {
                self.scheduled_at = self.scheduled_at.into_iter().chain(job.scheduled_at().map(micros)).min();
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
        let scheduled = self.scheduled_at.and_then(|at| from_micros(at).ok());
        let scheduled = scheduled.map(|scheduled_at| Change::JobScheduled { scheduled_at });
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

/// A hint as the text of a notification, after who sent it.
fn encode(change: &Change) -> Option<String> {
    Some(match change {
        Change::JobsReady { queue } => format!("ready {queue}"),
        Change::JobScheduled { scheduled_at } => format!("scheduled {}", micros(*scheduled_at)),
        Change::JobChanged { id, state } => format!("job {} {state}", id.as_uuid().simple()),
        Change::RecurringJobsChanged => "recurring".to_owned(),
        Change::Resync => "resync".to_owned(),
        _ => return None,
    })
}

/// The hint that a notification holds; a later version may send others, which say only that something happened.
fn decode(text: &str) -> Change {
    let mut words = text.split(' ');
    let change = match (words.next(), words.next(), words.next()) {
        (Some("ready"), Some(queue), None) => queue.parse().ok().map(|queue| Change::JobsReady { queue }),
        (Some("scheduled"), Some(at), None) => {
            let at = at.parse().ok().and_then(|at| from_micros(at).ok());
            at.map(|scheduled_at| Change::JobScheduled { scheduled_at })
        }
        (Some("job"), Some(id), Some(state)) => match (id.parse::<JobId>(), state.parse()) {
            (Ok(id), Ok(state)) => Some(Change::JobChanged { id, state }),
            _ => None,
        },
        (Some("recurring"), None, None) => Some(Change::RecurringJobsChanged),
        _ => None,
    };
    change.unwrap_or(Change::Resync)
}

/// What hears hints: the subscribers of this process, and the connection that listens for what others say.
pub(crate) struct Feed {
    pub(crate) hub: Arc<ChangeHub>,
    listener: Listener,
}

impl Feed {
    pub(crate) fn new(listen_at: PgConnectOptions, patience: Duration, tasks: TaskTracker) -> Self {
        let hub = Arc::new(ChangeHub::new());
        Self { listener: Listener::new(listen_at, patience, Arc::clone(&hub), tasks), hub }
    }

    pub(crate) fn close(&self) {
        self.listener.close();
        self.hub.close();
    }
}

/// What is to be told to other processes.
pub(crate) struct Outbox {
    /// Tells this storage's notifications from those of others.
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

    /// The hint that a notification holds; `None` if it is one that this storage has given to its own subscribers.
    pub(crate) fn decode(&self, payload: &str) -> Option<Change> {
        let (origin, text) = payload.split_once(' ').unwrap_or(("", payload));
        (origin != self.origin).then(|| decode(text))
    }

    fn encode(&self, hints: &Hints) -> Vec<String> {
        encode_all(&self.origin, hints)
    }
}

fn encode_all(origin: &str, hints: &Hints) -> Vec<String> {
    let texts = hints.changes().into_iter().filter_map(|change| encode(&change));
    texts.map(|text| format!("{origin} {text}")).collect()
}

impl ChangeFeed for PostgresStorage {
    fn subscribe(&self) -> ChangeStream {
        let Some(feed) = &self.inner.feed else { return Box::pin(futures_util::stream::empty()) };
        let changes = feed.hub.subscribe();
        if !self.inner.under_way.is_closed() {
            feed.listener.start(self);
        }
        changes
    }
}

impl PostgresStorage {
    /// Tells everybody: this process at once, others soon.
    pub(crate) fn hint(&self, hints: Hints) {
        if hints.is_empty() {
            return;
        }
        if let Some(feed) = self.inner.feed.as_ref().filter(|feed| feed.hub.has_subscribers()) {
            hints.changes().into_iter().for_each(|change| feed.hub.send(change));
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

    /// Sends hints when the transaction of a caller commits, to this process as well.
    pub(crate) async fn notify_in(&self, transaction: &mut impl Runs, hints: &Hints) -> Result<(), Failed> {
        if !hints.is_empty() {
            let notify = self.statement(&self.inner.statements.notify_in_transaction);
            transaction.run(notify.bind(encode_all(FROM_A_CALLER, hints))).await?;
        }
        Ok(())
    }

    /// The channel that everybody who uses the same tables listens on; `None` while there are no tables.
    pub(crate) async fn channel(
        &self,
        runs: &mut impl Runs,
        operation: &'static str,
    ) -> Result<Option<String>, Failed> {
        let rows = runs.run(self.statement(&self.inner.statements.channel)).await?;
        let channel = rows.first().map(|row| row.try_get(0)).transpose();
        Ok(channel.map_err(|error| classify(&error, operation))?.flatten())
    }

    /// Sends hints on the connection that was kept, if there is one, and keeps it for the next.
    async fn notify(&self, hints: &Hints, kept: &mut Option<Lent>) -> Result<(), StorageError> {
        let mut call = self.last_call_on(kept.take(), "send hints").await?;
        let notify = self.statement(&self.inner.statements.notify);
        call.rows(notify.bind(self.inner.outbox.encode(hints))).await?;
        *kept = call.finish_and_keep().await?.filter(|_| self.may_keep_connections());
        Ok(())
    }
}

/// The right and duty to send what is in the outbox; it ends with its task, however that ends.
struct Turn {
    storage: PostgresStorage,
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
        // While hints go on coming: a pool asks each connection that comes back whether it still works.
        let mut kept = None;
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
            if let Err(error) = self.storage.notify(&hints, &mut kept).await {
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
        let at = jobrunr_core::clock::to_micros(chrono::DateTime::UNIX_EPOCH);
        let mut hints = Hints { scheduled_at: Some(micros(at)), recurring: true, ..Hints::default() };
        hints.note_ready(&"high".parse().unwrap());
        hints.deleted.push(JobId::new());

        let texts = one.encode(&hints);

        let heard: Vec<Change> = texts.iter().filter_map(|text| other.decode(text)).collect();
        assert_eq!(heard, hints.changes());
        assert!(texts.iter().all(|text| one.decode(text).is_none()));
    }

    #[test]
    fn what_goes_with_the_transaction_of_a_caller_is_for_oneself_too() {
        let mut hints = Hints::default();
        hints.note_ready(&"high".parse().unwrap());

        let texts = encode_all(FROM_A_CALLER, &hints);

        let heard: Vec<Change> = texts.iter().filter_map(|text| Outbox::default().decode(text)).collect();
        assert_eq!(heard, hints.changes());
    }

    #[test]
    fn what_is_not_understood_says_to_look_at_everything() {
        for text in ["ready", "ready A B", "scheduled soon", "job x ENQUEUED", "later", ""] {
            assert_eq!(decode(text), Change::Resync, "{text}");
        }
    }

    #[test]
    fn many_deleted_jobs_are_one_hint() {
        let deleted = (0..=MOST_JOBS).map(|_| JobId::new()).collect();
        let hints = Hints { deleted, ..Hints::default() };

        assert_eq!(hints.changes(), [Change::Resync]);
    }
}
