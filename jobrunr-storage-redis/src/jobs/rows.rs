//! Jobs as they are stored: what is written once, the entries of their history, and how they are read back.

use std::sync::Arc;

use jobrunr_core::{
    HistoryEntry, Job, JobDefinition, JobId, JobMetadata, JobSettings, JobSignature, JsonText, Labels,
    QueueName, StoredJob, Version,
};
use redis::{Pipeline, cmd};
use serde::{Deserialize, Serialize};

use crate::calls::Call;
use crate::encoding::{TIME, decode_time, encode_time};
use crate::error::Failed;
use crate::head::Head;

/// The fields of a hash as they were read.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// How many jobs are read at once.
const READ_AT_ONCE: usize = 100;

/// The first line of the field `d`: all that was settled at a job's creation but its payload.
#[derive(Serialize)]
struct DefinitionToWrite<'j> {
    signature: &'j JobSignature,
    name: &'j str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    labels: &'j [jobrunr_core::Label],
    queue: &'j QueueName,
    priority: i32,
    settings: &'j JobSettings,
}

#[derive(Deserialize)]
struct StoredDefinition {
    signature: JobSignature,
    name: String,
    #[serde(default)]
    labels: Labels,
    queue: QueueName,
    priority: i32,
    settings: JobSettings,
}

/// How many bytes definition and payload may have together to be one field, which claims read in their script.
const SMALL: usize = 2048;

/// What of a new job is never written again.
pub(super) struct Defined<'j> {
    /// The field `d`: the definition, the first entry, and of a small job the payload, a line each. Only the last of
    /// them can have a line break in it.
    pub(super) text: String,
    /// The field `p`: the payload of a job that is not small.
    pub(super) large_payload: Option<&'j str>,
}

impl<'j> Defined<'j> {
    pub(super) fn of(job: &'j Job) -> Self {
        let JobDefinition { signature, payload, name, labels, queue, priority, settings } = job.definition();
        let labels = labels.as_slice();
        let written = DefinitionToWrite { signature, name, labels, queue, priority: *priority, settings };
        let mut text = serde_json::to_string(&written).expect("names, numbers and durations are JSON");
        let payload = payload.as_str();
        let is_small = text.len() + payload.len() <= SMALL;
        text.push('\n');
        text += &encode_entry(&job.history()[0]);
        if is_small {
            text.push('\n');
            text += payload;
        }
        Self { text, large_payload: (!is_small).then_some(payload) }
    }

    pub(super) const fn is_small(&self) -> bool {
        self.large_payload.is_none()
    }
}

/// The definition and the first entry in the field `d`, and the payload if it is there.
pub(crate) fn lines_of(defined: &str) -> Option<(&str, &str, Option<&str>)> {
    let mut lines = defined.splitn(3, '\n');
    Some((lines.next()?, lines.next()?, lines.next()))
}

/// One entry of a history as a field holds it.
pub(super) fn encode_entry(entry: &HistoryEntry) -> String {
    let state = serde_json::to_string(&entry.state).expect("states are JSON");
    format!("{}{state}", encode_time(entry.at))
}

/// How many bytes entries of a history take.
pub(super) fn bytes_of_entries(entries: &[HistoryEntry]) -> usize {
    entries.iter().map(|entry| encode_entry(entry).len()).sum()
}

fn decode_entry(text: &str) -> Option<HistoryEntry> {
    let (at, state) = text.split_at_checked(TIME)?;
    Some(HistoryEntry { at: decode_time(at)?, state: serde_json::from_str(state).ok()? })
}

/// A job as it was read, not looked into yet but for its head.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) head: Head,
    pub(crate) has_metadata: bool,
    pub(super) defined: Option<Vec<u8>>,
    pub(super) payload: Option<Vec<u8>>,
    /// All but the first.
    pub(super) later_entries: Vec<Option<Vec<u8>>>,
}

impl Row {
    /// Sorts the fields of a job.
    ///
    /// # Errors
    /// What is wrong with its head.
    pub(crate) fn read(fields: Fields) -> Result<Self, String> {
        let head = fields.iter().find(|(name, _)| name == "h");
        let head = head.and_then(|(_, head)| Head::parse(std::str::from_utf8(head).ok()?));
        let head = head.ok_or("its head cannot be read")?;
        let mut row = Self {
            later_entries: vec![None; head.entries.saturating_sub(1).min(fields.len())],
            head,
            has_metadata: false,
            defined: None,
            payload: None,
        };
        for (name, value) in fields {
            match name.as_str() {
                "d" => row.defined = Some(value),
                "p" => row.payload = Some(value),
                "m" => row.has_metadata = true,
                number => {
                    let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
                    if let Some(entry) = index.and_then(|index| row.later_entries.get_mut(index)) {
                        *entry = Some(value);
                    }
                }
            }
        }
        Ok(row)
    }

    /// The job.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn into_job(self, id: JobId, metadata: JobMetadata) -> Result<Job, String> {
        let entries = self.head.entries;
        let version = self.head.version;
        self.into_job_at(id, version, entries, metadata)
    }

    /// The job as it was at an earlier version, with so many entries.
    pub(crate) fn into_job_at(
        self,
        id: JobId,
        version: Version,
        entries: usize,
        metadata: JobMetadata,
    ) -> Result<Job, String> {
        let text = |bytes: Option<Vec<u8>>, what: &str| {
            let text = bytes.map(String::from_utf8);
            text.ok_or_else(|| format!("{what} is missing"))?.map_err(|_| format!("{what} is no text"))
        };
        let defined = text(self.defined, "its definition")?;
        let (definition, first_entry, payload) = lines_of(&defined).ok_or("its definition has one line")?;
        let StoredDefinition { signature, name, labels, queue, priority, settings } =
            serde_json::from_str(definition)
                .map_err(|error| format!("its definition: {}", kind_of(&error)))?;
        let payload = match payload {
            Some(payload) => payload.to_owned(),
            None => text(self.payload, "its payload")?,
        };
        let payload = JsonText::from_stored(payload);
        let definition = JobDefinition { signature, payload, name, labels, queue, priority, settings };
        if entries == 0 || self.later_entries.len() < entries - 1 {
            return Err("its history is not whole".to_owned());
        }
        let read = |entry: Option<Vec<u8>>| decode_entry(std::str::from_utf8(&entry?).ok()?);
        let later = self.later_entries.into_iter().take(entries - 1).map(read);
        let history: Option<Vec<HistoryEntry>> =
            std::iter::once(decode_entry(first_entry)).chain(later).collect();
        let history = history.ok_or("its history cannot be read")?;
        Ok(Job::from_stored(StoredJob { id, version, definition: Arc::new(definition), history, metadata }))
    }
}

/// What is wrong with JSON, without any of it.
fn kind_of(error: &serde_json::Error) -> String {
    format!("{:?} error at column {}", error.classify(), error.column())
}

impl Call<'_> {
    /// Reads jobs whole but for their metadata; those that are gone have no fields.
    pub(crate) async fn load_rows(&self, ids: &[&str]) -> Result<Vec<Fields>, Failed> {
        let keys = &self.storage.inner.keys;
        let mut rows = Vec::with_capacity(ids.len());
        for ids in ids.chunks(READ_AT_ONCE) {
            let mut read = Pipeline::with_capacity(ids.len());
            for id in ids {
                let mut one = cmd("HGETALL");
                one.arg(keys.job(id));
                read.add_command(one);
            }
            rows.extend(self.read_all::<Fields>(&read).await?);
        }
        Ok(rows)
    }

    /// Reads the metadata of jobs.
    pub(crate) async fn load_metadata(
        &self,
        ids: &[&str],
    ) -> Result<Vec<Result<JobMetadata, String>>, Failed> {
        let keys = &self.storage.inner.keys;
        let mut read = Pipeline::with_capacity(ids.len());
        for id in ids {
            let mut one = cmd("HGETALL");
            one.arg(keys.data(id));
            read.add_command(one);
        }
        let data = self.read_all::<Fields>(&read).await?;
        Ok(data.into_iter().map(decode_metadata).collect())
    }
}

fn decode_metadata(fields: Fields) -> Result<JobMetadata, String> {
    let decode = |(name, value): (String, Vec<u8>)| match serde_json::from_slice(&value) {
        Ok(value) => Ok((name, value)),
        Err(error) => Err(format!("its metadata: {}", kind_of(&error))),
    };
    fields.into_iter().map(decode).collect()
}
