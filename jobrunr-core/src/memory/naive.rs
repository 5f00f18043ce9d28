//! The least that could be right: all jobs in one list, each question answered by looking at every one of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::ids::JobId;
use crate::job::{Job, StoredJob};
use crate::names::{JobSignature, QueueName};
use crate::state::{JobState, StateName};
use crate::storage::{
    ClaimRequest, DueReport, InsertReport, JobCounts, JobQuery, JobSelection, QueueSelection, SaveReport,
};

#[derive(Default)]
pub(super) struct Naive {
    pub(super) jobs: BTreeMap<JobId, Job>,
    succeeded_all_time: u64,
}

impl Naive {
    pub(super) fn insert(&mut self, jobs: &[Job]) -> InsertReport {
        let mut report = InsertReport::default();
        for job in jobs {
            if self.jobs.contains_key(&job.id()) {
                report.already_present.push(job.id());
            } else {
                let mut job = job.clone();
                job.mark_inserted();
                self.jobs.insert(job.id(), job);
            }
        }
        report
    }

    pub(super) fn save(&mut self, jobs: &[Job]) -> SaveReport {
        let mut report = SaveReport::default();
        for (index, job) in jobs.iter().enumerate() {
            let is_first = jobs[..index].iter().all(|earlier| earlier.id() != job.id());
            match self.jobs.get_mut(&job.id()) {
                Some(stored)
                    if is_first
                        && stored.version() == job.version()
                        && stored.created_at() == job.created_at() =>
                {
                    let succeeded = |entry: &&_| matches!(entry, JobState::Succeeded { .. });
                    let added = job.new_entries().iter().map(|entry| &entry.state).filter(succeeded).count();
                    self.succeeded_all_time += u64::try_from(added).unwrap();
                    *stored = Job::from_stored(StoredJob {
                        id: stored.id(),
                        version: stored.version().next(),
                        definition: stored.shared_definition(),
                        history: [stored.history(), job.new_entries()].concat(),
                        metadata: stored.metadata().clone(),
                    });
                }
                _ => report.conflicts.push(job.id()),
            }
        }
        report
    }

    pub(super) fn claim(&mut self, request: &ClaimRequest) -> Vec<Job> {
        let place = |queue: &QueueName| match &request.queues {
            QueueSelection::All => Some(0),
            QueueSelection::InOrder(queues) => queues.iter().position(|wanted| wanted == queue),
        };
        let mut line: Vec<_> = (self.jobs.values())
            .filter(|job| job.state_name() == StateName::Enqueued)
            .filter(|job| request.signatures.contains(job.signature()))
            .filter_map(|job| {
                Some((place(job.queue())?, Reverse(job.priority()), job.enqueued_at(), job.id()))
            })
            .collect();
        line.sort();
        let taken = line.into_iter().take(request.limit).map(|(.., id)| id);
        taken.map(|id| self.change(id, |job| job.start_processing(&request.server, request.now))).collect()
    }

    pub(super) fn enqueue_due(&mut self, now: DateTime<Utc>, limit: usize) -> DueReport {
        let mut released = self.scheduled();
        released.retain(|(due_at, _)| *due_at <= now);
        released.truncate(limit);
        let released: Vec<_> = released.into_iter().map(|(_, id)| id).collect();
        for id in &released {
            self.change(*id, |job| job.enqueue(now));
        }
        DueReport { released, next_due_at: self.scheduled().first().map(|(due_at, _)| *due_at) }
    }

    fn scheduled(&self) -> Vec<(DateTime<Utc>, JobId)> {
        let scheduled = self.jobs.values().filter(|job| job.state_name() == StateName::Scheduled);
        let mut keys: Vec<_> = scheduled.map(|job| (job.scheduled_at().unwrap(), job.id())).collect();
        keys.sort();
        keys
    }

    fn change(
        &mut self,
        id: JobId,
        change: impl FnOnce(&mut Job) -> Result<(), crate::state::IllegalTransition>,
    ) -> Job {
        let job = self.jobs.get_mut(&id).unwrap();
        change(job).unwrap();
        job.mark_saved();
        job.clone()
    }

    pub(super) fn delete(&mut self, selection: &JobSelection) -> u64 {
        let ids = match selection {
            JobSelection::Ids(ids) => ids.clone(),
            JobSelection::Aged { state, updated_before, signatures, limit } => {
                let aged = self.jobs.values().filter(|job| {
                    job.state_name() == *state
                        && job.updated_at() < *updated_before
                        && signatures.contains(job.signature())
                });
                let mut keys: Vec<_> = aged.map(|job| (job.updated_at(), job.id())).collect();
                keys.sort();
                keys.into_iter().take(*limit).map(|(_, id)| id).collect()
            }
        };
        ids.into_iter().filter_map(|id| self.jobs.remove(&id)).map(|_| 1).sum()
    }

    pub(super) fn list(&self, query: &JobQuery) -> Vec<Job> {
        let key = |job: &Job| (query.order.field.of(job), job.id());
        let mut found = self.fitting(query);
        found.sort_by_key(|job| key(job));
        if query.order.descending {
            found.reverse();
        }
        if let Some(cursor) = query.after {
            let cursor = (cursor.instant, cursor.id);
            found.retain(|job| if query.order.descending { key(job) < cursor } else { key(job) > cursor });
        }
        let page = found.into_iter().skip(query.offset).take(query.effective_limit());
        page.map(|job| job.clone().with_metadata(BTreeMap::new())).collect()
    }

    pub(super) fn count(&self, query: &JobQuery) -> u64 {
        u64::try_from(self.fitting(query).len()).unwrap()
    }

    fn fitting(&self, query: &JobQuery) -> Vec<&Job> {
        self.jobs.values().filter(|job| fits(job, query)).collect()
    }

    pub(super) fn counts(&self) -> JobCounts {
        let mut counts = JobCounts::default();
        counts.succeeded_all_time = self.succeeded_all_time;
        for state in StateName::ALL {
            counts.set(state, self.count(&JobQuery::in_state(state)));
        }
        counts
    }

    pub(super) fn signatures(&self, states: &[StateName]) -> Vec<JobSignature> {
        let jobs = self.jobs.values().filter(|job| states.contains(&job.state_name()));
        let distinct: BTreeSet<_> = jobs.map(|job| job.signature().clone()).collect();
        distinct.into_iter().collect()
    }
}

fn fits(job: &Job, query: &JobQuery) -> bool {
    let contains = |whole: &str, text: &str| whole.to_lowercase().contains(&text.to_lowercase());
    let awaited = match job.state() {
        JobState::Awaiting { job, .. } => *job,
        _ => None,
    };
    let server = job.server_id();
    let conditions = [
        query.states.is_empty() || query.states.contains(&job.state_name()),
        query.labels.iter().all(|label| job.labels().contains(label)),
        query.queue.is_none() || query.queue.as_ref() == Some(job.queue()),
        query.signatures.contains(job.signature()),
        query.name_contains.as_ref().is_none_or(|text| contains(job.name(), text)),
        query.recurring_job_id.is_none() || query.recurring_job_id.as_ref() == job.recurring_job_id(),
        query.server_id.is_none() || query.server_id == server,
        query.server_not_in.as_ref().is_none_or(|live| server.is_some_and(|id| !live.contains(&id))),
        query.awaited_job_id.is_none() || query.awaited_job_id == awaited,
        query.created.contains(job.created_at()),
        query.updated.contains(job.updated_at()),
        !query.scheduled.is_bounded() || job.scheduled_at().is_some_and(|at| query.scheduled.contains(at)),
        query
            .error_contains
            .as_ref()
            .is_none_or(|text| job.last_failure().is_some_and(|failure| contains(&failure.message, text))),
    ];
    conditions.into_iter().all(|condition| condition)
}
