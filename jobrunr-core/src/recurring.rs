//! A recurring job as it is stored: what to create at each tick, when, and which tick came last.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::clock::to_micros;
use crate::ids::Version;
use crate::job::JobDefinition;
use crate::json_text::JsonText;
use crate::names::{JobSignature, Labels, QueueName, RecurringJobId};
use crate::schedule::RecurringSchedule;

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
    /// The last tick that was dealt with.
    pub last_tick_at: Option<DateTime<Utc>>,
    /// The next tick; `None` if there is none. Storages find what is due by it.
    pub next_run_at: Option<DateTime<Utc>>,
    /// When the recurring job removes itself.
    pub delete_at: Option<DateTime<Utc>>,
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
            created_at: now,
            updated_at: now,
        }
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
        }
    }
}

/// What to do about ticks that passed while nobody was there to deal with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MisfirePolicy {
    /// Pass over them.
    #[default]
    Skip,
    /// Run once for all of them.
    RunOnce,
    /// Run once for each, but for the latest ones only.
    RunAll {
        /// How many of the latest missed ticks are run.
        at_most: u32,
    },
}

/// What to do at a tick while the run of the tick before is not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapPolicy {
    /// Pass over the tick.
    #[default]
    Skip,
    /// Run beside it.
    Allow,
    /// Run after it; at most one run waits.
    QueueOne,
    /// Delete the run that is not finished, then run.
    CancelPrevious,
}
