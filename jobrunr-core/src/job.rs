//! A job: what is written once (its definition) and what grows (its history), moved only along the table of states.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::clock::to_micros;
use crate::ids::{JobId, ServerId, Version};
use crate::json_text::JsonText;
use crate::limits::{MAX_NAME_BYTES, cut};
use crate::names::{JobSignature, Labels, QueueName, RecurringJobId};
use crate::state::{Failure, HistoryEntry, IllegalTransition, JobState, StateName};

/// What belongs to a job apart from its state: saved by running code under names of its choice.
pub type JobMetadata = BTreeMap<String, serde_json::Value>;

/// Everything about a job that is written when it is inserted and never again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDefinition {
    /// The type of the job: what handler runs it.
    pub signature: JobSignature,
    /// What to do, as data.
    pub payload: JsonText,
    /// What people call the job.
    pub name: String,
    /// What it is found by.
    pub labels: Labels,
    /// The line it waits in.
    pub queue: QueueName,
    /// Jobs of a higher priority leave their queue first. Default 0.
    pub priority: i32,
    /// What else was settled at creation.
    pub settings: JobSettings,
}

impl JobDefinition {
    /// The definition of a job with a payload and everything else at its default.
    #[must_use]
    pub fn new(signature: JobSignature, payload: JsonText) -> Self {
        Self {
            name: signature.as_str().to_owned(),
            signature,
            payload,
            labels: Labels::default(),
            queue: QueueName::default_queue(),
            priority: 0,
            settings: JobSettings::default(),
        }
    }

    /// The same definition under this name, cut to the limit of names at a character boundary.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        cut(name, MAX_NAME_BYTES).clone_into(&mut self.name);
        self
    }
}

/// What was settled at a job's creation and is read only when the job is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobSettings {
    /// How often the job is retried; `None` leaves it to the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// How long one run may take; `None` = as long as it likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Whether the job waits in PROCESSED for a signal after its handler has run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// The recurring job whose tick it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recurring_job_id: Option<RecurringJobId>,
}

/// One unit of work: a definition, a history of states, and the version that guards its saves.
///
/// Two jobs are equal if everything a storage keeps of them is equal.
#[derive(Debug, Clone)]
pub struct Job {
    id: JobId,
    version: Version,
    definition: Arc<JobDefinition>,
    history: Vec<HistoryEntry>,
    /// How many entries of the history are known to be stored: those before the ones added since.
    stored_entries: usize,
    metadata: JobMetadata,
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        let Self { id, version, definition, history, stored_entries: _, metadata } = self;
        *id == other.id
            && *version == other.version
            && *definition == other.definition
            && *history == other.history
            && *metadata == other.metadata
    }
}

/// A job as a storage read it, ready to become a [`Job`].
#[derive(Debug, Clone)]
pub struct StoredJob {
    /// The id.
    pub id: JobId,
    /// The stored version.
    pub version: Version,
    /// What was written once.
    pub definition: Arc<JobDefinition>,
    /// Every entry, oldest first; never empty.
    pub history: Vec<HistoryEntry>,
    /// What running code saved; empty if the storage did not read it.
    pub metadata: JobMetadata,
}

/// A server as a job's history names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRef {
    /// The id of this life of the server.
    pub id: ServerId,
    /// Its name, for people.
    pub name: String,
}

impl Job {
    /// A new job in its first state.
    ///
    /// # Errors
    /// [`IllegalTransition`] if no job may begin in that state; its `from` is then the state itself.
    pub fn new(
        id: JobId,
        definition: JobDefinition,
        state: JobState,
        now: DateTime<Utc>,
    ) -> Result<Self, IllegalTransition> {
        if !state.name().can_be_first() {
            return Err(IllegalTransition { from: state.name(), to: state.name() });
        }
        Ok(Self {
            id,
            version: Version::FIRST,
            definition: Arc::new(definition),
            history: vec![HistoryEntry { at: to_micros(now), state: state.within_limits() }],
            stored_entries: 0,
            metadata: JobMetadata::new(),
        })
    }

    /// The job that a storage has read.
    ///
    /// # Panics
    /// If the history is empty, which no stored job's is.
    #[must_use]
    pub fn from_stored(stored: StoredJob) -> Self {
        let StoredJob { id, version, definition, history, metadata } = stored;
        assert!(!history.is_empty(), "job {id} was read without any history");
        let stored_entries = history.len();
        Self { id, version, definition, history, stored_entries, metadata }
    }

    /// The same job with metadata it has from the beginning; [`insert_jobs`] writes it.
    ///
    /// [`insert_jobs`]: crate::storage::JobStore::insert_jobs
    #[must_use]
    pub fn with_metadata(mut self, metadata: JobMetadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The id.
    #[must_use]
    pub const fn id(&self) -> JobId {
        self.id
    }

    /// The version that was loaded, or [`Version::FIRST`] for a new job.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// What was written once.
    #[must_use]
    pub fn definition(&self) -> &JobDefinition {
        &self.definition
    }

    /// The same, shared: cheap to keep beside the job.
    #[must_use]
    pub fn shared_definition(&self) -> Arc<JobDefinition> {
        Arc::clone(&self.definition)
    }

    /// The type of the job.
    #[must_use]
    pub fn signature(&self) -> &JobSignature {
        &self.definition.signature
    }

    /// What people call the job.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// What it is found by.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.definition.labels
    }

    /// The line it waits in.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        &self.definition.queue
    }

    /// Jobs of a higher priority leave their queue first.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.definition.priority
    }

    /// What to do, as data.
    #[must_use]
    pub fn payload(&self) -> &JsonText {
        &self.definition.payload
    }

    /// The recurring job whose tick it is, if it is one.
    #[must_use]
    pub fn recurring_job_id(&self) -> Option<&RecurringJobId> {
        self.definition.settings.recurring_job_id.as_ref()
    }

    /// What running code saved with the job.
    ///
    /// Complete in a job that was found or claimed, empty in one that was listed.
    #[must_use]
    pub const fn metadata(&self) -> &JobMetadata {
        &self.metadata
    }

    /// Every state the job was ever in, oldest first.
    #[must_use]
    pub fn history(&self) -> &[HistoryEntry] {
        &self.history
    }

    /// The entries added since the job was made, loaded or last saved: what a save writes.
    #[must_use]
    pub fn new_entries(&self) -> &[HistoryEntry] {
        &self.history[self.stored_entries..]
    }

    /// Notes that the job was inserted: its whole history is stored.
    pub fn mark_inserted(&mut self) {
        self.stored_entries = self.history.len();
    }

    /// Notes that a save of the job won: its history is stored and its version one greater.
    pub fn mark_saved(&mut self) {
        self.stored_entries = self.history.len();
        self.version = self.version.next();
    }

    fn last(&self) -> &HistoryEntry {
        self.history.last().expect("a job has at least the entry it was made with")
    }

    /// The present state with what belongs to it.
    #[must_use]
    pub fn state(&self) -> &JobState {
        &self.last().state
    }

    /// The name of the present state.
    #[must_use]
    pub fn state_name(&self) -> StateName {
        self.state().name()
    }

    /// When the job was created.
    #[must_use]
    pub fn created_at(&self) -> DateTime<Utc> {
        self.history[0].at
    }

    /// When the job entered its present state.
    #[must_use]
    pub fn updated_at(&self) -> DateTime<Utc> {
        self.last().at
    }

    /// The time of the job's latest SCHEDULED entry; readable also after the job was released.
    #[must_use]
    pub fn scheduled_at(&self) -> Option<DateTime<Utc>> {
        self.history.iter().rev().find_map(|entry| match entry.state {
            JobState::Scheduled { scheduled_at, .. } => Some(scheduled_at),
            _ => None,
        })
    }

    /// When the job took its present (or last) place in its queue; `None` if it never was in one.
    ///
    /// A job that is given back unfinished keeps its place; a retried or requeued one queues anew.
    #[must_use]
    pub fn enqueued_at(&self) -> Option<DateTime<Utc>> {
        let is = |index: usize, state| self.history[index].state.name() == state;
        let keeps_place = |index: usize| !self.history[index].state.starts_afresh();
        let mut index = self.history.iter().rposition(|entry| entry.state.name() == StateName::Enqueued)?;
        while index >= 2
            && keeps_place(index)
            && is(index - 1, StateName::Processing)
            && is(index - 2, StateName::Enqueued)
        {
            index -= 2;
        }
        Some(self.history[index].at)
    }

    /// The server that holds the job or held it last; `None` if it was never claimed.
    #[must_use]
    pub fn server(&self) -> Option<ServerRef> {
        self.history.iter().rev().find_map(|entry| match &entry.state {
            JobState::Processing { server_id, server_name } => {
                Some(ServerRef { id: *server_id, name: server_name.clone() })
            }
            _ => None,
        })
    }

    /// The id of [`server`](Self::server).
    #[must_use]
    pub fn server_id(&self) -> Option<ServerId> {
        self.history.iter().rev().find_map(|entry| match &entry.state {
            JobState::Processing { server_id, .. } => Some(*server_id),
            _ => None,
        })
    }

    /// The job that this one waits for, while it is AWAITING one.
    #[must_use]
    pub fn awaited_job_id(&self) -> Option<JobId> {
        match self.state() {
            JobState::Awaiting { job, .. } => *job,
            _ => None,
        }
    }

    /// The latest failure, if there was one.
    #[must_use]
    pub fn last_failure(&self) -> Option<&Failure> {
        self.history.iter().rev().find_map(|entry| match &entry.state {
            JobState::Failed(failure) => Some(failure.as_ref()),
            _ => None,
        })
    }

    /// How often the job has failed since it was made or last requeued by a person.
    #[must_use]
    pub fn failures(&self) -> u32 {
        let run = self.history.iter().rposition(|entry| entry.state.starts_afresh()).unwrap_or(0);
        let failed = self.history[run..].iter().filter(|entry| entry.state.name() == StateName::Failed);
        u32::try_from(failed.count()).unwrap_or(u32::MAX)
    }

    /// Moves the job to `state`; every other way to move it ends here.
    ///
    /// The entry's time is `now`, or that of the entry before it if `now` is earlier: a history never goes backwards.
    ///
    /// # Errors
    /// [`IllegalTransition`] if the table of states does not allow the move; nothing changes then.
    pub fn transition(&mut self, state: JobState, now: DateTime<Utc>) -> Result<(), IllegalTransition> {
        let (from, to) = (self.state_name(), state.name());
        if !from.can_become(to) {
            return Err(IllegalTransition { from, to });
        }
        let at = to_micros(now).max(self.updated_at());
        self.history.push(HistoryEntry { at, state: state.within_limits() });
        Ok(())
    }

    /// Puts the job in its queue.
    ///
    /// # Errors
    /// [`IllegalTransition`] if its state does not allow that.
    pub fn enqueue(&mut self, now: DateTime<Utc>) -> Result<(), IllegalTransition> {
        self.transition(JobState::enqueued(), now)
    }

    /// Puts an ended job back in its queue because somebody asked for it: failures are counted anew.
    ///
    /// # Errors
    /// [`IllegalTransition`] if its state does not allow that.
    pub fn requeue(&mut self, reason: Option<String>, now: DateTime<Utc>) -> Result<(), IllegalTransition> {
        self.transition(JobState::Enqueued { reason, starts_afresh: true }, now)
    }

    /// Puts a claimed job back in its queue, at its old place; no failure is counted.
    ///
    /// # Errors
    /// [`IllegalTransition`] if it is not PROCESSING.
    pub fn give_back(
        &mut self,
        reason: impl Into<String>,
        now: DateTime<Utc>,
    ) -> Result<(), IllegalTransition> {
        if self.state_name() != StateName::Processing {
            return Err(IllegalTransition { from: self.state_name(), to: StateName::Enqueued });
        }
        self.transition(JobState::Enqueued { reason: Some(reason.into()), starts_afresh: false }, now)
    }

    /// Lets the job wait until `scheduled_at`.
    ///
    /// # Errors
    /// [`IllegalTransition`] if its state does not allow that.
    pub fn schedule(
        &mut self,
        scheduled_at: DateTime<Utc>,
        reason: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<(), IllegalTransition> {
        self.transition(JobState::Scheduled { scheduled_at, reason, starts_afresh: false }, now)
    }

    /// Gives the job to a server.
    ///
    /// # Errors
    /// [`IllegalTransition`] if it is not ENQUEUED.
    pub fn start_processing(
        &mut self,
        server: &ServerRef,
        now: DateTime<Utc>,
    ) -> Result<(), IllegalTransition> {
        let state = JobState::Processing { server_id: server.id, server_name: server.name.clone() };
        self.transition(state, now)
    }

    /// Parks the job, whose handler has run, until it is completed from elsewhere.
    ///
    /// # Errors
    /// [`IllegalTransition`] if it is not PROCESSING.
    pub fn park(&mut self, now: DateTime<Utc>) -> Result<(), IllegalTransition> {
        self.transition(JobState::Processed {}, now)
    }

    /// Ends the job well; latency and processing duration are taken from its history.
    ///
    /// # Errors
    /// [`IllegalTransition`] if it is neither PROCESSING nor PROCESSED.
    pub fn succeed(&mut self, result: Option<JsonText>, now: DateTime<Utc>) -> Result<(), IllegalTransition> {
        let ended_at = to_micros(now).max(self.updated_at());
        let state = self.success(result, ended_at);
        self.transition(state, now)
    }

    /// The SUCCEEDED state this job would get at `ended_at`.
    ///
    /// Latency is the time from its last ENQUEUED entry to its last PROCESSING entry, processing duration the time
    /// from there to `ended_at`; both are zero where an entry is missing.
    #[must_use]
    pub fn success(&self, result: Option<JsonText>, ended_at: DateTime<Utc>) -> JobState {
        let claim = self.history.iter().rposition(|entry| entry.state.name() == StateName::Processing);
        let claimed_at = claim.map_or(ended_at, |index| self.history[index].at);
        let waiting = &self.history[..claim.unwrap_or(0)];
        let enqueued = waiting.iter().rfind(|entry| entry.state.name() == StateName::Enqueued);
        let enqueued_at = enqueued.map_or(claimed_at, |entry| entry.at);
        JobState::Succeeded {
            latency: (claimed_at - enqueued_at).to_std().unwrap_or_default(),
            processing_duration: (ended_at - claimed_at).to_std().unwrap_or_default(),
            result,
        }
    }

    /// Ends the run badly.
    ///
    /// # Errors
    /// [`IllegalTransition`] if it is neither PROCESSING nor PROCESSED.
    pub fn fail(&mut self, failure: Failure, now: DateTime<Utc>) -> Result<(), IllegalTransition> {
        self.transition(JobState::failed(failure), now)
    }

    /// Marks the job as not wanted any more.
    ///
    /// # Errors
    /// [`IllegalTransition`] if it is DELETED already.
    pub fn delete(&mut self, reason: Option<String>, now: DateTime<Utc>) -> Result<(), IllegalTransition> {
        self.transition(JobState::Deleted { reason }, now)
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
