//! One operation on two storages at once, whose answers must be the same.

use std::fmt::Debug;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{
    ClaimRequest, CompareAndSet, JobCursor, JobOrder, JobQuery, JobSelection, Metadata, QueueSelection,
    RecurringJobQuery, SignatureSelection, StorageError, StorageProvider,
};
use jobrunr_core::{Job, JobMetadata, ServerId, ServerRef, StateName, Version};
use serde_json::json;
use uuid::Uuid;

use super::operation::{Change, IDS, NewJob, Operation, Query, Types};
use crate::builders::{a_job, a_recurring_job, at, move_to, numbered_id, queue, recurring_id, signature};
use crate::content::UNBOUNDED;

const QUEUES: [&str; 3] = ["default", "high", "low"];
const TYPES: [&str; 4] = ["mail", "print", "pay", "Mail"];
const LABELS: [&str; 4] = ["tenant", "tenant:1", "a_b", "100%"];

/// The storage under test and the model, in step.
pub(super) struct Pair {
    storage: Arc<dyn StorageProvider>,
    model: Arc<dyn StorageProvider>,
    now: DateTime<Utc>,
    /// Jobs as they were loaded at some time.
    copies: Vec<Job>,
}

/// Makes the same call on both storages; the answer, if it is the same.
macro_rules! both {
    ($pair:expr, $method:ident($($argument:expr),*)) => {
        agree(stringify!($method), $pair.storage.$method($($argument),*).await, $pair.model.$method($($argument),*).await)
    };
}

fn agree<T: Debug + PartialEq>(
    method: &str,
    storage: Result<T, StorageError>,
    model: Result<T, StorageError>,
) -> Result<T, String> {
    match (storage, model) {
        (Ok(storage), Ok(model)) if storage == model => Ok(model),
        (storage, model) => Err(format!("{method} answered\n  {storage:?}\nand the model\n  {model:?}")),
    }
}

fn texts(numbers: &[u8], all: &[&'static str]) -> Vec<&'static str> {
    numbers.iter().map(|number| all[usize::from(*number)]).collect()
}

fn types(types: &Types) -> SignatureSelection {
    let named = |numbers: &[u8]| texts(numbers, &TYPES).into_iter().map(signature).collect();
    match types {
        Types::All => SignatureSelection::All,
        Types::Only(numbers) => SignatureSelection::Only(named(numbers)),
        Types::Except(numbers) => SignatureSelection::Except(named(numbers)),
    }
}

/// The same server for every claim of one sequence.
fn claimer() -> ServerRef {
    ServerRef { id: ServerId::from(Uuid::from_u128(0x5e)), name: "claimer".to_owned() }
}

impl Pair {
    pub(super) fn new(storage: Arc<dyn StorageProvider>, model: Arc<dyn StorageProvider>) -> Self {
        Self { storage, model, now: at(0), copies: Vec::new() }
    }

    /// Does one operation on both; the error tells how they differ.
    pub(super) async fn step(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Insert(jobs) => {
                let jobs: Vec<Job> = jobs.iter().map(|job| self.new_job(job)).collect();
                both!(self, insert_jobs(&jobs)).map(drop)
            }
            Operation::Find(id) => {
                let found = both!(self, find_job(numbered_id(*id)))?;
                found.into_iter().for_each(|job| self.remember(job));
                Ok(())
            }
            Operation::Save(changes) => self.save(changes).await,
            Operation::StaleSave { copy, change } => self.save_copy(*copy, change).await,
            Operation::SaveMetadata { id, name, value } => {
                let entries = JobMetadata::from([(format!("name {name}"), json!({ "value": value }))]);
                both!(self, save_job_metadata(numbered_id(*id), &entries)).map(drop)
            }
            Operation::Claim { limit, queues, types: of } => self.claim(*limit, queues, of).await,
            Operation::ReleaseDue { limit } => both!(self, enqueue_due_jobs(self.now, *limit)).map(drop),
            Operation::DeleteIds(numbers) => {
                let selection = JobSelection::Ids(numbers.iter().copied().map(numbered_id).collect());
                both!(self, delete_jobs(&selection)).map(drop)
            }
            Operation::DeleteAged { state, older_by_seconds, limit } => {
                let selection = JobSelection::Aged {
                    state: *state,
                    updated_before: self.now - TimeDelta::seconds(*older_by_seconds),
                    signatures: SignatureSelection::All,
                    limit: *limit,
                };
                both!(self, delete_jobs(&selection)).map(drop)
            }
            Operation::Wait { seconds } => {
                self.now += TimeDelta::seconds(*seconds);
                Ok(())
            }
            other => self.step_beside_jobs(other).await,
        }
    }

    /// The operations that look, and those on recurring jobs and values.
    async fn step_beside_jobs(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::List(query) => {
                let query = self.query(query).await?;
                let listed = both!(self, list_jobs(&query))
                    .map_err(|difference| format!("{difference}\nfor {query:?}"))?;
                listed.into_iter().take(1).for_each(|job| self.remember(job));
                Ok(())
            }
            Operation::Count(query) => {
                let query = self.query(query).await?;
                both!(self, count_jobs(&query))
                    .map(drop)
                    .map_err(|difference| format!("{difference}\nfor {query:?}"))
            }
            Operation::Counts => both!(self, job_counts()).map(drop),
            Operation::ListSignatures(states) => both!(self, list_signatures(states)).map(drop),
            Operation::SaveRecurring { id, is_stale, next_run_second, paused } => {
                let id = recurring_id(&format!("recurring-{id}"));
                let found = both!(self, find_recurring_job(&id))?;
                let version = match found {
                    Some(_) if *is_stale => Version::new(1),
                    Some(found) => found.version,
                    None => Version::UNSAVED,
                };
                let next_run_at = next_run_second.map(at);
                let job =
                    RecurringJob { version, next_run_at, paused: *paused, ..a_recurring_job(id.as_str()) };
                both!(self, save_recurring_job(&job)).map(drop)
            }
            Operation::ListRecurring { due_second, after, limit } => {
                let after = after.map(|id| recurring_id(&format!("recurring-{id}")));
                let query = RecurringJobQuery { due_at: due_second.map(at), after, limit: *limit };
                both!(self, list_recurring_jobs(&query)).map(drop)
            }
            Operation::DeleteRecurring(id) => {
                both!(self, delete_recurring_job(&recurring_id(&format!("recurring-{id}")), None)).map(drop)
            }
            Operation::SaveValue { name, owner, value } => {
                let metadata = Metadata::new(text(*name), text(*owner), text(*value), self.now);
                both!(self, save_metadata(&metadata))
            }
            Operation::CompareAndSet { name, owner, expected, new } => {
                let (name, owner, expected) = (text(*name), text(*owner), expected.map(text));
                let change = CompareAndSet { name, owner, expected, new: text(*new), now: self.now };
                both!(self, compare_and_set_metadata(&change)).map(drop)
            }
            Operation::ListValues(name) => both!(self, list_metadata(&text(*name))).map(drop),
            Operation::DeleteValues { name, owner } => {
                both!(self, delete_metadata(&text(*name), owner.map(text).as_deref())).map(drop)
            }
            other => unreachable!("{other:?} is an operation on jobs"),
        }
    }

    fn new_job(&self, job: &NewJob) -> Job {
        let builder = a_job()
            .id(numbered_id(job.id))
            .named(&format!("Job {} of 100%", job.id))
            .in_queue(QUEUES[usize::from(job.queue)])
            .of_type(TYPES[usize::from(job.kind)])
            .labelled(&["common", LABELS[usize::from(job.label)]])
            .priority(job.priority);
        match job.due_in {
            Some(seconds) => builder.scheduled(self.now, self.now + TimeDelta::seconds(seconds)),
            None => builder.enqueued(self.now),
        }
    }

    fn remember(&mut self, job: Job) {
        if self.copies.len() == 20 {
            self.copies.remove(0);
        }
        self.copies.push(job);
    }

    async fn save(&mut self, changes: &[Change]) -> Result<(), String> {
        let mut jobs = Vec::new();
        for change in changes {
            if let Some(mut job) = both!(self, find_job(numbered_id(change.id)))? {
                self.apply(&mut job, change);
                jobs.push(job);
            }
        }
        both!(self, save_jobs(&jobs)).map(drop)
    }

    async fn save_copy(&mut self, copy: usize, change: &Change) -> Result<(), String> {
        let Some(mut job) = self.copies.get(copy).cloned() else { return Ok(()) };
        self.apply(&mut job, change);
        both!(self, save_jobs(std::slice::from_ref(&job))).map(drop)
    }

    fn apply(&self, job: &mut Job, change: &Change) {
        for choice in &change.moves {
            let from = job.state_name();
            let legal: Vec<StateName> =
                StateName::ALL.into_iter().filter(|to| from.can_become(*to)).collect();
            move_to(job, legal[choice % legal.len()], self.now);
        }
    }

    async fn claim(&mut self, limit: usize, queues: &[u8], of: &Types) -> Result<(), String> {
        let mut claim = ClaimRequest::new(claimer(), limit, self.now);
        claim.signatures = types(of);
        if !queues.is_empty() {
            claim.queues = QueueSelection::InOrder(texts(queues, &QUEUES).into_iter().map(queue).collect());
        }
        let claimed = both!(self, claim_jobs(&claim))?;
        claimed.into_iter().for_each(|job| self.remember(job));
        Ok(())
    }

    async fn query(&self, query: &Query) -> Result<JobQuery, String> {
        let order = JobOrder { field: query.field, descending: query.descending };
        let mut asked = JobQuery::in_states(query.states.iter().copied())
            .signatures(types(&query.types))
            .order(order)
            .offset(query.offset)
            .limit(query.limit);
        asked.queue = query.queue.map(|number| queue(QUEUES[usize::from(number)]));
        asked.labels = query.label.map(|number| LABELS[usize::from(number)].to_owned()).into_iter().collect();
        asked.name_contains.clone_from(&query.name);
        asked.error_contains.clone_from(&query.error);
        if let Some(id) = query.after {
            let job = both!(self, find_job(numbered_id(id)))?;
            asked.after = job.map(|job| JobCursor::after(&job, order));
        }
        Ok(asked)
    }

    /// Compares all there is at the end.
    pub(super) async fn compare_content(&self) -> Result<(), String> {
        both!(self, list_jobs(&JobQuery::all().limit(UNBOUNDED)))?;
        for id in 0..IDS {
            both!(self, find_job(numbered_id(id)))?;
        }
        both!(self, job_counts())?;
        both!(self, list_recurring_jobs(&RecurringJobQuery::default()))?;
        for name in 0..3 {
            both!(self, list_metadata(&text(name)))?;
        }
        Ok(())
    }
}

/// A short text that differs from the others in little.
fn text(number: u8) -> String {
    ["", "a", "A"][usize::from(number)].to_owned()
}
