//! Searching and counting jobs.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{SignatureSelection, StorageError};
use crate::ids::{JobId, ServerId};
use crate::job::Job;
use crate::names::{JobSignature, QueueName, RecurringJobId};
use crate::state::StateName;

/// Finds jobs by what they are.
#[async_trait]
pub trait JobSearch: Send + Sync {
    /// Lists the jobs that fit, in the query's order, from its cursor or offset on, up to its limit.
    ///
    /// *Promises:* whole jobs but for their metadata, which is empty: [`find_job`](super::JobStore::find_job) has it.
    /// Going on by [`JobQuery::after`] sees each job once that neither came nor changed meanwhile. A stored job that
    /// cannot be read fails nothing: it is left out, or shown with what could be read, as FAILED of kind `Corrupt`.
    ///
    /// *Held by* scenarios 37–41, 45 and 46.
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StorageError>;

    /// Counts the jobs that fit; order, cursor, offset and limit do not matter.
    ///
    /// *Held by* scenario 41.
    async fn count_jobs(&self, query: &JobQuery) -> Result<u64, StorageError>;

    /// Counts all jobs by state, and all successes there ever were.
    ///
    /// *Promises:* exact, with every call that returned before; fast enough to be asked every second however many jobs
    /// there are.
    ///
    /// *Held by* scenarios 42 and 43.
    async fn job_counts(&self) -> Result<JobCounts, StorageError>;

    /// Lists the distinct types of the jobs in any of these states, sorted; none if there are no states.
    ///
    /// *Held by* scenario 44.
    async fn list_signatures(&self, states: &[StateName]) -> Result<Vec<JobSignature>, StorageError>;
}

/// How many jobs there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounts {
    by_state: [u64; StateName::ALL.len()],
    /// How many times a job succeeded, ever: the SUCCEEDED entries written by saves, and by inserts of jobs that bring
    /// some along. Purging jobs does not lower it.
    pub succeeded_all_time: u64,
}

impl JobCounts {
    /// How many jobs are in this state.
    #[must_use]
    pub fn in_state(&self, state: StateName) -> u64 {
        self.by_state[usize::from(state.index())]
    }

    /// How many jobs there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_state.iter().sum()
    }

    /// Sets how many jobs are in this state.
    pub fn set(&mut self, state: StateName, count: u64) {
        self.by_state[usize::from(state.index())] = count;
    }
}

/// Which jobs to list or count, and in what order. Every condition that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobQuery {
    /// In any of these states; all states if empty.
    pub states: Vec<StateName>,
    /// With all of these labels, exactly.
    pub labels: Vec<String>,
    /// In this queue.
    pub queue: Option<QueueName>,
    /// Of these types.
    pub signatures: SignatureSelection,
    /// With this text in the name, as it stands; ASCII letters match in either case, of others that is not promised. The
    /// empty text is in every name.
    pub name_contains: Option<String>,
    /// Made by this recurring job.
    pub recurring_job_id: Option<RecurringJobId>,
    /// Held, or held last, by this server.
    pub server_id: Option<ServerId>,
    /// Held, or held last, by a server that is none of these; jobs that were never claimed do not fit.
    pub server_not_in: Option<Vec<ServerId>>,
    /// AWAITING this job now.
    pub awaited_job_id: Option<JobId>,
    /// Created in this window.
    pub created: TimeWindow,
    /// Last updated in this window.
    pub updated: TimeWindow,
    /// Scheduled (see [`Job::scheduled_at`]) in this window; jobs that never were do not fit if it is bounded.
    pub scheduled: TimeWindow,
    /// With this text in the message of the last failure; letters as with `name_contains`. Jobs that never failed do not
    /// fit, whatever the text.
    pub error_contains: Option<String>,
    /// In what order.
    pub order: JobOrder,
    /// Only what follows this place in that order.
    pub after: Option<JobCursor>,
    /// How many to pass over, counting from `after` if that is set.
    pub offset: usize,
    /// How many to list at most.
    pub limit: Option<usize>,
}

/// How many jobs a list holds if its query does not say.
pub const DEFAULT_LIST_LIMIT: usize = 50;

impl JobQuery {
    /// All jobs, oldest first, in pages of [`DEFAULT_LIST_LIMIT`].
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The jobs in this state.
    #[must_use]
    pub fn in_state(state: StateName) -> Self {
        Self { states: vec![state], ..Self::default() }
    }

    /// The jobs in any of these states; in all states if there are none.
    #[must_use]
    pub fn in_states(states: impl IntoIterator<Item = StateName>) -> Self {
        Self { states: states.into_iter().collect(), ..Self::default() }
    }

    /// Only with this label too, exactly.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.labels.push(label.into());
        self
    }

    /// Only in this queue.
    #[must_use]
    pub fn queue(mut self, queue: QueueName) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Only of this type.
    #[must_use]
    pub fn signature(mut self, signature: JobSignature) -> Self {
        self.signatures = SignatureSelection::Only(vec![signature]);
        self
    }

    /// Only of these types.
    #[must_use]
    pub fn signatures(mut self, signatures: SignatureSelection) -> Self {
        self.signatures = signatures;
        self
    }

    /// Only with this text in the name.
    #[must_use]
    pub fn name_contains(mut self, text: impl Into<String>) -> Self {
        self.name_contains = Some(text.into());
        self
    }

    /// Only made by this recurring job.
    #[must_use]
    pub fn recurring_job_id(mut self, id: RecurringJobId) -> Self {
        self.recurring_job_id = Some(id);
        self
    }

    /// Only held, or held last, by this server.
    #[must_use]
    pub fn server_id(mut self, id: ServerId) -> Self {
        self.server_id = Some(id);
        self
    }

    /// Only held, or held last, by a server that is none of these.
    #[must_use]
    pub fn server_not_in(mut self, live: impl IntoIterator<Item = ServerId>) -> Self {
        self.server_not_in = Some(live.into_iter().collect());
        self
    }

    /// Only AWAITING this job.
    #[must_use]
    pub fn awaited_job_id(mut self, id: JobId) -> Self {
        self.awaited_job_id = Some(id);
        self
    }

    /// Only created in this window.
    #[must_use]
    pub fn created(mut self, window: TimeWindow) -> Self {
        self.created = window;
        self
    }

    /// Only last updated in this window.
    #[must_use]
    pub fn updated(mut self, window: TimeWindow) -> Self {
        self.updated = window;
        self
    }

    /// Only scheduled in this window.
    #[must_use]
    pub fn scheduled(mut self, window: TimeWindow) -> Self {
        self.scheduled = window;
        self
    }

    /// Only with this text in the message of the last failure.
    #[must_use]
    pub fn error_contains(mut self, text: impl Into<String>) -> Self {
        self.error_contains = Some(text.into());
        self
    }

    /// In this order.
    #[must_use]
    pub fn order(mut self, order: JobOrder) -> Self {
        self.order = order;
        self
    }

    /// Those created last first.
    #[must_use]
    pub fn newest_first(self) -> Self {
        self.order(JobOrder::descending(OrderField::CreatedAt))
    }

    /// Only what follows this job in the order; the fast way to page.
    #[must_use]
    pub fn after(mut self, cursor: JobCursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Passing over the first ones; slow for large numbers, see [`after`](Self::after).
    #[must_use]
    pub fn offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// At most so many; default [`DEFAULT_LIST_LIMIT`].
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// How many to list at most.
    #[must_use]
    pub fn effective_limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIST_LIMIT)
    }
}

/// A span of time; an open end does not bound it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeWindow {
    /// From this instant on, inclusive.
    pub from: Option<DateTime<Utc>>,
    /// Before this instant, exclusive.
    pub before: Option<DateTime<Utc>>,
}

impl TimeWindow {
    /// From this instant on, inclusive.
    #[must_use]
    pub const fn from(instant: DateTime<Utc>) -> Self {
        Self { from: Some(instant), before: None }
    }

    /// Before this instant, exclusive.
    #[must_use]
    pub const fn before(instant: DateTime<Utc>) -> Self {
        Self { from: None, before: Some(instant) }
    }

    /// From the first instant, inclusive, to the second, exclusive.
    #[must_use]
    pub const fn between(from: DateTime<Utc>, before: DateTime<Utc>) -> Self {
        Self { from: Some(from), before: Some(before) }
    }

    /// Whether either end is bounded.
    #[must_use]
    pub const fn is_bounded(&self) -> bool {
        self.from.is_some() || self.before.is_some()
    }

    /// Whether the instant lies in the window.
    #[must_use]
    pub fn contains(&self, instant: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| instant >= from) && self.before.is_none_or(|before| instant < before)
    }
}

/// In what order jobs are listed; ties go by id, in the same direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobOrder {
    /// By what.
    pub field: OrderField,
    /// Whether the latest come first.
    pub descending: bool,
}

impl JobOrder {
    /// The earliest first.
    #[must_use]
    pub const fn ascending(field: OrderField) -> Self {
        Self { field, descending: false }
    }

    /// The latest first.
    #[must_use]
    pub const fn descending(field: OrderField) -> Self {
        Self { field, descending: true }
    }
}

/// An instant of a job that lists can be ordered by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OrderField {
    /// [`Job::created_at`].
    #[default]
    CreatedAt,
    /// [`Job::updated_at`].
    UpdatedAt,
    /// [`Job::scheduled_at`]; a job that was never scheduled counts as scheduled at the Unix epoch.
    ScheduledAt,
}

impl OrderField {
    /// The instant of `job` that this field orders by.
    #[must_use]
    pub fn of(self, job: &Job) -> DateTime<Utc> {
        match self {
            Self::CreatedAt => job.created_at(),
            Self::UpdatedAt => job.updated_at(),
            Self::ScheduledAt => job.scheduled_at().unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}

/// A place in an ordered list: right after one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobCursor {
    /// The instant that the list is ordered by.
    pub instant: DateTime<Utc>,
    /// The id that decides between equal instants.
    pub id: JobId,
}

impl JobCursor {
    /// The place right after `job` in a list with this order.
    #[must_use]
    pub fn after(job: &Job, order: JobOrder) -> Self {
        Self { instant: order.field.of(job), id: job.id() }
    }
}
