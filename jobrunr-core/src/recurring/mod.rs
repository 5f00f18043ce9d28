//! A recurring job as it is stored: what to create at each tick, when, and which tick came last.
//!
//! [`RecurringJobBuilder`] makes one, [`RecurringJob::due_ticks`] tells which ticks are to be run. Saving and pausing are in
//! `scheduler/recurring.rs`, creating the runs is the server's business.

mod builder;
mod ticks;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use builder::{InvalidRecurringJob, RecurringJobBuilder, RecurringJobDraft};
pub use ticks::DueTicks;

use crate::clock::to_micros;
use crate::ids::{JobId, Version};
use crate::job::{JobDefinition, JobMetadata, JobSettings};
use crate::json_text::JsonText;
use crate::limits::MAX_OPEN_RUNS;
use crate::names::{JobSignature, Labels, QueueName, RecurringJobId};
use crate::request::JobDraft;
use crate::schedule::RecurringSchedule;
use crate::state::JobState;

/// One recurring job. Storages keep it whole, as JSON, beside its id, version and next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecurringJob {
    /// What it is saved and found by.
    pub id: RecurringJobId,
    /// The version that guards its saves; [`Version::UNSAVED`] replaces what is stored.
    pub version: Version,
    /// When it runs.
    pub schedule: RecurringSchedule,
    /// What to create at each tick.
    pub template: JobTemplate,
    /// What to do about ticks that were missed.
    pub misfire: MisfirePolicy,
    /// What to do while the run of the tick before is not finished.
    pub overlap: OverlapPolicy,
    /// Whether ticks are passed over for now.
    pub paused: bool,
    /// The last tick that was dealt with: run, or passed over as its policies say.
    pub last_tick_at: Option<DateTime<Utc>>,
    /// When something is to be done next: its next tick, or `delete_at` where that comes first. `None` while it is paused
    /// and after its schedule has ended. Storages find what is due by it.
    pub next_run_at: Option<DateTime<Utc>>,
    /// When the recurring job removes itself; from then on there are no ticks.
    pub delete_at: Option<DateTime<Utc>>,
    /// Its runs that had not ended when they were looked at last, oldest first, the latest
    /// [`MAX_OPEN_RUNS`] of them. Not kept where runs may overlap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_runs: Vec<JobId>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was saved last.
    pub updated_at: DateTime<Utc>,
}

impl RecurringJob {
    /// A recurring job that begins at `now`, with default policies and no next run yet.
    #[must_use]
    pub fn new(
        id: RecurringJobId,
        schedule: RecurringSchedule,
        template: JobTemplate,
        now: DateTime<Utc>,
    ) -> Self {
        let now = to_micros(now);
        Self {
            id,
            version: Version::UNSAVED,
            schedule,
            template,
            misfire: MisfirePolicy::default(),
            overlap: OverlapPolicy::default(),
            paused: false,
            last_tick_at: None,
            next_run_at: None,
            delete_at: None,
            open_runs: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// The next tick; `None` if there is none, or while it is paused.
    #[must_use]
    pub fn next_tick_at(&self) -> Option<DateTime<Utc>> {
        self.next_run_at.filter(|next| self.delete_at.is_none_or(|end| *next < end))
    }

    /// Notes which tick comes next; `None` = none.
    pub fn set_next_tick(&mut self, tick: Option<DateTime<Utc>>) {
        self.next_run_at = [tick, self.delete_at].into_iter().flatten().min();
    }

    /// Notes runs that have not ended, the latest last; the oldest are forgotten where there are too many.
    pub fn note_open_runs(&mut self, runs: impl IntoIterator<Item = JobId>) {
        self.open_runs.extend(runs);
        let too_many = self.open_runs.len().saturating_sub(MAX_OPEN_RUNS);
        self.open_runs.drain(..too_many);
    }

    /// Whether its time is over: it is to be removed.
    #[must_use]
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.delete_at.is_some_and(|end| end <= now)
    }

    /// The run of a tick, under the id that belongs to this tick whoever creates it.
    ///
    /// It says when the tick was: a job's [`scheduled_at`](crate::Job::scheduled_at) is the tick whose run it is.
    #[must_use]
    pub fn run_of_tick(&self, tick: DateTime<Utc>) -> JobDraft {
        let reason = Some(format!("a tick of the recurring job {}", self.id));
        let state = JobState::Scheduled { scheduled_at: tick, reason, starts_afresh: false };
        self.draft(JobId::of_tick(&self.id, tick), state)
    }

    /// A run that somebody asked for, under a new id, to be run at once.
    #[must_use]
    pub fn run_on_request(&self) -> JobDraft {
        let reason = Some(format!("the recurring job {} was triggered", self.id));
        self.draft(JobId::new(), JobState::Enqueued { reason, starts_afresh: false })
    }

    fn draft(&self, id: JobId, state: JobState) -> JobDraft {
        let JobTemplate { signature, payload, name, labels, queue, priority, retries, timeout } =
            self.template.clone();
        let recurring_job_id = Some(self.id.clone());
        let settings = JobSettings { retries, timeout, recurring_job_id, ..JobSettings::default() };
        let definition = JobDefinition { signature, payload, name, labels, queue, priority, settings };
        JobDraft { id, definition, state, metadata: JobMetadata::new() }
    }
}

/// What a recurring job creates at each tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTemplate {
    /// The type of the jobs.
    pub signature: JobSignature,
    /// What they do, as data.
    pub payload: JsonText,
    /// What people call them.
    pub name: String,
    /// What they are found by.
    pub labels: Labels,
    /// The line they wait in.
    pub queue: QueueName,
    /// Their priority in it.
    pub priority: i32,
    /// How often they are retried; `None` leaves it to the server.
    pub retries: Option<u32>,
    /// How long one run may take; `None` = as long as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

impl From<&JobDefinition> for JobTemplate {
    fn from(definition: &JobDefinition) -> Self {
        Self {
            signature: definition.signature.clone(),
            payload: definition.payload.clone(),
            name: definition.name.clone(),
            labels: definition.labels.clone(),
            queue: definition.queue.clone(),
            priority: definition.priority,
            retries: definition.settings.retries,
            timeout: definition.settings.timeout,
        }
    }
}

/// What to do about ticks that were missed: that are older than the time-out of a server, so that nobody was up.
///
/// A tick that is late by less, because a server was just starting or the storage was away for a moment, is run whatever
/// the policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MisfirePolicy {
    /// Pass over them.
    #[default]
    Skip,
    /// Run once for all of them: for the latest.
    RunOnce,
    /// Run once for each, but for the latest ones only; one after the other, unless runs may overlap.
    RunAll {
        /// How many of the latest missed ticks are run: 1 to [`MAX_MISSED_RUNS`](crate::limits::MAX_MISSED_RUNS).
        at_most: u32,
    },
}

/// What to do at a tick while the run of the tick before has not ended, retries included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapPolicy {
    /// Pass over the tick.
    #[default]
    Skip,
    /// Run beside it.
    Allow,
    /// Run after it; at most one run waits, AWAITING the one before.
    QueueOne,
    /// Delete the runs that have not ended, then run.
    CancelPrevious,
}
