//! Collecting the hints of one call while it works, to send them once its lock is released.

use std::collections::BTreeSet;

use crate::ids::JobId;
use crate::job::Job;
use crate::names::QueueName;
use crate::state::StateName;
use crate::storage::{Change, ChangeHub};

/// The hints that one call gives: one a queue for jobs that can be claimed, one a job that ended or parked.
#[derive(Default)]
pub(super) struct Hints {
    ready: BTreeSet<QueueName>,
    ended: Vec<(JobId, StateName)>,
}

impl Hints {
    /// Notes the state that a job has come to.
    pub(super) fn note(&mut self, job: &Job) {
        let (queue, state) = (job.queue(), job.state_name());
        if state == StateName::Enqueued {
            if !self.ready.contains(queue) {
                self.ready.insert(queue.clone());
            }
        } else if state.is_final() || state == StateName::Processed {
            self.ended.push((job.id(), state));
        }
    }

    /// Sends what was noted.
    ///
    /// Race: whether anybody listens is asked only now. Who subscribes later looks at a content that has the change already.
    pub(super) fn send(self, hub: &ChangeHub) {
        if !hub.has_subscribers() {
            return;
        }
        for queue in self.ready {
            hub.send(Change::JobsReady { queue });
        }
        for (id, state) in self.ended {
            hub.send(Change::JobChanged { id, state });
        }
    }
}
