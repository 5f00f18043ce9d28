//! One job as the tables hold it, and the way from there to a [`Job`].

use std::fmt;
use std::sync::Arc;

use jobrunr_core::storage::StorageError;
use jobrunr_core::{
    FailureKind, HistoryEntry, Job, JobDefinition, JobId, JobMetadata, JobSettings, JobState, JsonText,
    Label, Labels, ServerRef, StoredJob, Version,
};

use crate::history::HotColumns;
use crate::lanes::Lane;

/// Why something stored cannot be read. The message never shows what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(String);

impl Unreadable {
    /// It cannot be read for this reason.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The error of a call that met it.
    #[must_use]
    pub fn into_error(
        self,
        provider: &'static str,
        operation: &'static str,
        of: impl fmt::Display,
    ) -> StorageError {
        StorageError::Corrupt { provider, operation, what: format!("{of}: {self}") }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// What was written once of a job, as text columns hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDefinition {
    /// The name.
    pub name: String,
    /// The labels as JSON; `None` if there are none.
    pub labels: Option<String>,
    /// The settings as JSON; `None` if all are at their defaults.
    pub settings: Option<String>,
    /// The payload.
    pub payload: JsonText,
}

impl StoredDefinition {
    /// The labels of a definition as their column holds them.
    #[must_use]
    pub fn encode_labels(labels: &Labels) -> Option<String> {
        (!labels.is_empty()).then(|| serde_json::to_string(labels).expect("texts are JSON"))
    }

    /// The settings of a definition as their column holds them.
    #[must_use]
    pub fn encode_settings(settings: &JobSettings) -> Option<String> {
        (*settings != JobSettings::default())
            .then(|| serde_json::to_string(settings).expect("settings are numbers and texts, which are JSON"))
    }

    fn decode(&self, lane: &Lane, priority: i32) -> Result<JobDefinition, Unreadable> {
        let labels = self.labels.as_deref().map_or_else(|| Ok(Labels::default()), decode_labels)?;
        let settings =
            self.settings.as_deref().map_or_else(|| Ok(JobSettings::default()), decode_settings)?;
        Ok(JobDefinition {
            signature: lane.signature.clone(),
            payload: self.payload.clone(),
            name: self.name.clone(),
            labels,
            queue: lane.queue.clone(),
            priority,
            settings,
        })
    }
}

fn decode_labels(json: &str) -> Result<Labels, Unreadable> {
    let labels: Vec<Label> = serde_json::from_str(json)
        .map_err(|_| Unreadable::because("the labels are no JSON list of labels"))?;
    Labels::new(labels).map_err(|_| Unreadable::because("there are too many labels"))
}

fn decode_settings(json: &str) -> Result<JobSettings, Unreadable> {
    serde_json::from_str(json).map_err(|_| Unreadable::because("the settings are no JSON of settings"))
}

/// Everything that is stored of one job.
///
/// The parts that are read one by one are results of their own, so that a job of which some can be read can be shown.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// The id.
    pub id: JobId,
    /// The version.
    pub version: Version,
    /// Its queue and type.
    pub lane: Lane,
    /// Its priority.
    pub priority: i32,
    /// What the hot row says.
    pub columns: HotColumns,
    /// What was written once.
    pub definition: Result<StoredDefinition, Unreadable>,
    /// The server that claimed it last.
    pub server: Option<ServerRef>,
    /// The result of the tail's SUCCEEDED entry.
    pub result: Option<JsonText>,
    /// The archived entries, one text for each time some were archived, oldest first.
    pub archive: Vec<Result<String, Unreadable>>,
    /// What running code saved, by name, as JSON; empty if it was not read.
    pub metadata: Vec<(String, String)>,
}

impl JobRow {
    /// Makes the job.
    ///
    /// # Errors
    /// [`Unreadable`] saying what cannot be read.
    pub fn decode(&self) -> Result<Job, Unreadable> {
        let definition = self.definition.as_ref().map_err(Clone::clone)?.decode(&self.lane, self.priority)?;
        let archived = decode_archive(&self.archive)?;
        let history = self.columns.history(archived, self.server.as_ref(), self.result.clone())?;
        Ok(Job::from_stored(StoredJob {
            id: self.id,
            version: self.version,
            definition: Arc::new(definition),
            history,
            metadata: decode_metadata(&self.metadata)?,
        }))
    }

    /// Makes of a job that was parked because it cannot be read what can be shown of it; `None` if it never was parked.
    ///
    /// Its history is what can be read of it, the FAILED entry of kind `Corrupt` among it; what cannot be read of its
    /// definition is left empty.
    #[must_use]
    pub fn salvage(&self) -> Option<Job> {
        let readable = self.archive.iter().flatten().filter_map(|json| decode_entries(json).ok());
        let archived: Vec<HistoryEntry> = readable.flatten().collect();
        let columns = HotColumns { archived_entries: archived.len(), ..self.columns.clone() };
        let history = columns.history(archived, self.server.as_ref(), self.result.clone()).ok()?;
        let is_corrupt_mark = |entry: &HistoryEntry| matches!(&entry.state, JobState::Failed(failure) if failure.kind == FailureKind::Corrupt);
        if !history.iter().any(is_corrupt_mark) {
            return None;
        }
        let Lane { queue, signature } = self.lane.clone();
        let stored = self.definition.as_ref().ok();
        let text = |json: Option<&Option<String>>| json.and_then(Clone::clone);
        let labels = text(stored.map(|stored| &stored.labels)).and_then(|json| decode_labels(&json).ok());
        let settings =
            text(stored.map(|stored| &stored.settings)).and_then(|json| decode_settings(&json).ok());
        let definition = JobDefinition {
            payload: stored.map_or_else(|| JsonText::from_stored("null"), |stored| stored.payload.clone()),
            name: stored.map_or_else(|| signature.as_str().to_owned(), |stored| stored.name.clone()),
            labels: labels.unwrap_or_default(),
            settings: settings.unwrap_or_default(),
            signature,
            queue,
            priority: self.priority,
        };
        Some(Job::from_stored(StoredJob {
            id: self.id,
            version: self.version,
            definition: Arc::new(definition),
            history,
            metadata: decode_metadata(&self.metadata).unwrap_or_default(),
        }))
    }
}

fn decode_archive(archive: &[Result<String, Unreadable>]) -> Result<Vec<HistoryEntry>, Unreadable> {
    let mut entries = Vec::new();
    for json in archive {
        entries.extend(decode_entries(json.as_ref().map_err(Clone::clone)?)?);
    }
    Ok(entries)
}

fn decode_entries(json: &str) -> Result<Vec<HistoryEntry>, Unreadable> {
    serde_json::from_str(json).map_err(|_| Unreadable::because("the history is no JSON of entries"))
}

fn decode_metadata(metadata: &[(String, String)]) -> Result<JobMetadata, Unreadable> {
    let decode = |(name, json): &(String, String)| {
        let value = serde_json::from_str(json).map_err(|_| Unreadable::because("the metadata is no JSON"))?;
        Ok((name.clone(), value))
    };
    metadata.iter().map(decode).collect()
}

/// Entries as one row of the archive holds them.
#[must_use]
pub fn encode_entries(entries: &[HistoryEntry]) -> String {
    serde_json::to_string(entries).expect("states are made of texts, numbers and JSON")
}

/// The message of the last failure among these entries: what searches for errors look at.
#[must_use]
pub fn last_error(entries: &[HistoryEntry]) -> Option<&str> {
    entries.iter().rev().find_map(|entry| match &entry.state {
        JobState::Failed(failure) => Some(failure.message.as_str()),
        _ => None,
    })
}
