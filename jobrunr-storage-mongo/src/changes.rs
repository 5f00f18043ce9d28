//! Hints: collected by a call, told to this process at once and to all others by a document in a collection of their own,
//! off the path of the call. Others watch that collection by a change stream; what is in it goes after a minute.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobrunr_core::storage::{Change, ChangeFeed, ChangeHub, ChangeStream};
use jobrunr_core::{Job, JobId, JobState, QueueName, StateName};
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::options::WriteConcern;
use tokio::time::Instant;

use crate::call::{Broken, Commands};
use crate::documents::{from_micros, from_uuid, micros, uuid};
use crate::listener::Listener;
use crate::{MongoStorage, PROVIDER};

/// Least time between two documents of one process.
const INTERVAL: Duration = Duration::from_millis(10);

/// More hints about single jobs than this become one that says to look at everything.
const MOST_JOBS: usize = 64;

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
        let scheduled_at = self.scheduled_at.and_then(|at| from_micros(at).ok());
        let scheduled = scheduled_at.map(|scheduled_at| Change::JobScheduled { scheduled_at });
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

    /// The document that tells others.
    fn encode(&self, origin: &str) -> Document {
        let mut document = doc! { "origin": origin, "at": DateTime::now() };
        if !self.ready.is_empty() {
            let queues = self.ready.iter().map(|queue| Bson::from(queue.as_str()));
            document.insert("ready", queues.collect::<Vec<_>>());
        }
        if let Some(at) = self.scheduled_at {
            document.insert("scheduled", at);
        }
        if self.deleted.len() > MOST_JOBS {
            document.insert("resync", true);
        } else if !self.deleted.is_empty() {
            document
                .insert("deleted", self.deleted.iter().map(|id| Bson::from(uuid(*id))).collect::<Vec<_>>());
        }
        if self.recurring {
            document.insert("recurring", true);
        }
        document
    }
}

/// The hints that a document holds; a later version may send others, which say only that something happened.
fn decode(document: &Document) -> Vec<Change> {
    let mut hints = Hints::default();
    let mut is_understood = !document.contains_key("resync");
    for (name, value) in document {
        match (name.as_str(), value) {
            ("_id" | "origin" | "at", _) => {}
            ("ready", Bson::Array(queues)) => {
                for queue in queues {
                    match queue.as_str().and_then(|queue| queue.parse().ok()) {
                        Some(queue) => hints.note_ready(&queue),
                        None => is_understood = false,
                    }
                }
            }
            ("scheduled", Bson::Int64(at)) => hints.scheduled_at = Some(*at),
            ("deleted", Bson::Array(ids)) => {
                for id in ids {
                    match id {
                        Bson::Binary(id) => hints.deleted.extend(id.to_uuid().ok().map(from_uuid::<JobId>)),
                        _ => is_understood = false,
                    }
                }
            }
            ("recurring", Bson::Boolean(true)) => hints.recurring = true,
            _ => is_understood = false,
        }
    }
    let mut changes = hints.changes();
    if !is_understood {
        changes.push(Change::Resync);
    }
    changes
}

/// What hears hints: the subscribers of this process, and the change stream of what others say.
#[derive(Default)]
pub(crate) struct Feed {
    pub(crate) hub: Arc<ChangeHub>,
    listener: Listener,
}

impl Feed {
    pub(crate) fn close(&self) {
        self.listener.close();
        self.hub.close();
    }
}

/// What is to be told to other processes.
pub(crate) struct Outbox {
    /// Tells this storage's documents from those of others.
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
        Self { origin: uuid::Uuid::now_v7().simple().to_string(), content: Mutex::default() }
    }
}

impl Outbox {
    fn with<R>(&self, work: impl FnOnce(&mut Content) -> R) -> R {
        work(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The hints that a document holds; none if it is one of this storage's own.
    pub(crate) fn decode(&self, document: &Document) -> Vec<Change> {
        if document.get_str("origin") == Ok(&self.origin) { Vec::new() } else { decode(document) }
    }
}

impl ChangeFeed for MongoStorage {
    fn subscribe(&self) -> ChangeStream {
        let Some(feed) = &self.inner.feed else { return Box::pin(futures_util::stream::empty()) };
        let changes = feed.hub.subscribe();
        if !self.inner.under_way.is_closed() {
            feed.listener.start(self);
        }
        changes
    }
}

impl MongoStorage {
    /// Tells everybody: this process at once, others soon.
    pub(crate) fn hint(&self, hints: Hints) {
        if hints.is_empty() || !self.inner.has_transactions {
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

    /// Tells everybody, this process included, when the transaction of a caller commits.
    pub(crate) async fn hint_in(&self, commands: &mut Commands<'_>, hints: &Hints) -> Result<(), Broken> {
        if hints.is_empty() {
            return Ok(());
        }
        let document = hints.encode("a transaction");
        commands
            .write(doc! { "insert": &self.inner.collections.hints, "documents": [document] })
            .await
            .map(drop)
    }

    async fn send(&self, hints: &Hints) {
        let collection = self.collection::<Document>(&self.inner.collections.hints);
        let document = hints.encode(&self.inner.outbox.origin);
        let sent = collection.insert_one(document).write_concern(WriteConcern::nodes(1));
        if let Err(failed) = self.limited("send hints", sent.into_future()).await {
            // A lost hint costs time, never correctness: polling finds the work.
            tracing::debug!("hints of {PROVIDER} were lost: {}", failed.error);
        }
    }
}

/// The right and duty to send what is in the outbox; it ends with its task, however that ends.
struct Turn {
    storage: MongoStorage,
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
            self.storage.send(&hints).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_survive_the_way_to_others_and_back_to_oneself_they_are_dropped() {
        let (one, other) = (Outbox::default(), Outbox::default());
        let mut hints = Hints { scheduled_at: Some(5), recurring: true, ..Hints::default() };
        hints.note_ready(&"high".parse().unwrap());
        hints.deleted.push(JobId::new());

        let document = hints.encode(&one.origin);

        assert_eq!(other.decode(&document), hints.changes());
        assert_eq!(one.decode(&document), []);
    }

    #[test]
    fn what_is_not_understood_says_to_look_at_everything() {
        for document in [doc! { "news": 1 }, doc! { "ready": ["A B"] }, doc! { "scheduled": "soon" }] {
            assert_eq!(decode(&document), [Change::Resync], "{document}");
        }
    }

    #[test]
    fn many_deleted_jobs_are_one_hint() {
        let deleted = (0..=MOST_JOBS).map(|_| JobId::new()).collect();
        let hints = Hints { deleted, ..Hints::default() };

        assert_eq!(hints.changes(), [Change::Resync]);
        assert_eq!(decode(&hints.encode("other")), [Change::Resync]);
    }
}
