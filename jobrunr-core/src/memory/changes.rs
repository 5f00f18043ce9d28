//! Hints: collected by a call while it works, sent to every open handle once its lock is released.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chrono::{DateTime, Utc};

use crate::ids::JobId;
use crate::job::Job;
use crate::names::QueueName;
use crate::state::StateName;
use crate::storage::{Change, ChangeHub};

/// The hints that one call gives.
#[derive(Default)]
pub(super) struct Hints {
    /// The queues that got jobs.
    ready: BTreeSet<QueueName>,
    /// When the first of the jobs that became SCHEDULED is due.
    scheduled_at: Option<DateTime<Utc>>,
    /// The jobs that ended or parked.
    ended: Vec<(JobId, StateName)>,
}

impl Hints {
    /// Notes the state that a job has come to.
    pub(super) fn note(&mut self, job: &Job) {
        match job.state_name() {
            StateName::Enqueued => {
                if !self.ready.contains(job.queue()) {
                    self.ready.insert(job.queue().clone());
                }
            }
            StateName::Scheduled => {
                self.scheduled_at = self.scheduled_at.into_iter().chain(job.scheduled_at()).min();
            }
            StateName::Awaiting | StateName::Processing => {}
            state
            @ (StateName::Processed | StateName::Succeeded | StateName::Failed | StateName::Deleted) => {
                self.ended.push((job.id(), state));
            }
        }
    }

    fn changes(&self) -> impl Iterator<Item = Change> {
        let ready = self.ready.iter().map(|queue| Change::JobsReady { queue: queue.clone() });
        let scheduled = self.scheduled_at.map(|scheduled_at| Change::JobScheduled { scheduled_at });
        let ended = self.ended.iter().map(|(id, state)| Change::JobChanged { id: *id, state: *state });
        ready.chain(scheduled).chain(ended)
    }
}

/// The hubs of the open handles on one content.
#[derive(Default)]
pub(super) struct Feeds {
    hubs: Mutex<Vec<Weak<ChangeHub>>>,
}

impl Feeds {
    /// Adds a hub for one more handle.
    pub(super) fn add(&self) -> Arc<ChangeHub> {
        let hub = Arc::new(ChangeHub::new());
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        hubs.retain(|hub| hub.strong_count() > 0);
        hubs.push(Arc::downgrade(&hub));
        hub
    }

    /// Sends the hints of one call.
    ///
    /// Race: whether anybody listens is asked only now. Who subscribes later looks at content that has the change already.
    pub(super) fn send(&self, hints: &Hints) {
        self.for_each_heard(|hub| hints.changes().for_each(|change| hub.send(change)));
    }

    /// Sends the hint that a recurring job was saved or deleted.
    pub(super) fn send_recurring_jobs_changed(&self) {
        self.for_each_heard(|hub| hub.send(Change::RecurringJobsChanged));
    }

    fn for_each_heard(&self, mut send: impl FnMut(&ChangeHub)) {
        let hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        let open = hubs.iter().filter_map(Weak::upgrade);
        open.filter(|hub| hub.has_subscribers()).for_each(|hub| send(&hub));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::ids::ServerId;
    use crate::job::{JobDefinition, ServerRef};
    use crate::json_text::JsonText;
    use crate::memory::MemoryStorage;
    use crate::state::JobState;
    use crate::storage::{ClaimRequest, JobStore, StorageExt, StorageProvider};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn job(queue: &str, state: JobState) -> Job {
        let mut definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
        definition.queue = queue.parse().unwrap();
        Job::new(JobId::new(), definition, state, at(0)).unwrap()
    }

    fn so_far(changes: &mut crate::storage::ChangeStream) -> Vec<Change> {
        std::iter::from_fn(|| changes.next().now_or_never().flatten()).collect()
    }

    #[tokio::test]
    async fn one_call_gives_one_hint_a_queue_and_one_for_the_first_due_job() {
        let storage = MemoryStorage::new();
        let mut changes = storage.changes().unwrap().subscribe();
        let scheduled = [at(9), at(7), at(8)].map(|due_at| job("c", JobState::scheduled(due_at)));
        let enqueued = ["b", "a", "b"].map(|queue| job(queue, JobState::enqueued()));

        storage.insert_jobs(&[scheduled, enqueued].concat()).await.unwrap();

        let ready = |queue: &str| Change::JobsReady { queue: queue.parse().unwrap() };
        let expected = [ready("a"), ready("b"), Change::JobScheduled { scheduled_at: at(7) }];
        assert_eq!(so_far(&mut changes), expected);
    }

    #[tokio::test]
    async fn a_deleted_running_job_is_told_of_to_every_handle() {
        let storage = MemoryStorage::new();
        let elsewhere = storage.open_again();
        storage.insert_jobs(&[job("a", JobState::enqueued())]).await.unwrap();
        let server = ServerRef { id: ServerId::new(), name: "one".into() };
        let mut running = storage.claim_jobs(&ClaimRequest::new(server, 1, at(1))).await.unwrap().remove(0);
        let mut changes = elsewhere.changes().unwrap().subscribe();

        running.delete(None, at(2)).unwrap();
        storage.save_job(&mut running).await.unwrap();

        let expected = Change::JobChanged { id: running.id(), state: StateName::Deleted };
        assert_eq!(so_far(&mut changes), [expected]);
    }

    #[tokio::test]
    async fn what_lost_or_was_there_already_gives_no_hint() {
        let storage = MemoryStorage::new();
        let mut first = job("a", JobState::enqueued());
        storage.insert_job(&mut first).await.unwrap();
        let mut stale = first.clone();
        storage.save_job(&mut first).await.unwrap();
        stale.delete(None, at(1)).unwrap();
        let mut changes = storage.changes().unwrap().subscribe();

        storage.insert_jobs(&[first]).await.unwrap();
        storage.save_jobs(&[stale]).await.unwrap();

        assert_eq!(so_far(&mut changes), []);
    }
}
