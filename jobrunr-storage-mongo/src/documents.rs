//! One job as its document holds it, and the way there and back.
//!
//! | field | what it is |
//! |---|---|
//! | `_id`, `version`, `created` | the job, its version, when it was created |
//! | `state`, `updated` | its state as a number, and since when |
//! | `lane` | its queue and its type, with a space between: no queue has one in it |
//! | `rank`, `queued` | its place in line: less is earlier |
//! | `scheduled`, `timed` | when it is or was due; 0, and no `timed`, if it never was scheduled |
//! | `server`, `server_name` | who holds it, or held it last |
//! | `marks` | which writes made its last versions, see `marks.rs` |
//! | `error` | the message of its last failure |
//! | `tags` | what few jobs have and all are found by, in one index: `l:` and a label, `r:` and the recurring job it comes from, `a:` and the job it waits for |
//! | `history` | its entries as JSON texts, but for the PROCESSING entry it is in: state, server and `updated` say that one |
//! | `name`, `settings`, `payload` | what is written once |
//! | `metadata` | names, escaped, and values as JSON texts |
//!
//! All instants are microseconds. So a claim changes a few numbers and writes no history.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use jobrunr_core::storage::StorageError;
use jobrunr_core::{
    HistoryEntry, Job, JobDefinition, JobId, JobMetadata, JobSettings, JobSignature, JobState, JsonText,
    Label, Labels, QueueName, RecurringJobId, ServerRef, StateName, StoredJob, Version,
};
use mongodb::bson::{Bson, Document, Uuid, doc};
use serde::{Deserialize, Serialize};

use crate::PROVIDER;
use crate::marks::{Since, Token};

/// Why something stored cannot be read. The message never shows what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable(&'static str);

impl Unreadable {
    pub(crate) const fn because(reason: &'static str) -> Self {
        Self(reason)
    }

    pub(crate) fn into_error(self, operation: &'static str, of: impl fmt::Display) -> StorageError {
        StorageError::Corrupt { provider: PROVIDER, operation, what: format!("{of}: {self}") }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An instant as it is stored.
pub(crate) fn micros(instant: DateTime<Utc>) -> i64 {
    instant.timestamp_micros()
}

/// The instant that is stored as this.
pub(crate) fn from_micros(micros: i64) -> Result<DateTime<Utc>, Unreadable> {
    DateTime::from_timestamp_micros(micros).ok_or(Unreadable("an instant is out of the calendar"))
}

/// The id of a job or a server as it is stored.
pub(crate) fn uuid(id: impl Into<uuid::Uuid>) -> Uuid {
    Uuid::from_bytes(id.into().into_bytes())
}

/// The id that is stored as this.
pub(crate) fn from_uuid<I: From<uuid::Uuid>>(id: Uuid) -> I {
    I::from(uuid::Uuid::from_bytes(id.bytes()))
}

/// The id of a document, if it is one of a job or a server.
pub(crate) fn id_of<I: From<uuid::Uuid>>(document: &Document) -> Option<I> {
    match document.get("_id") {
        Some(Bson::Binary(binary)) => binary.to_uuid().ok().map(from_uuid),
        _ => None,
    }
}

/// A version as it is stored.
pub(crate) fn version_number(version: Version) -> i64 {
    i64::try_from(version.number()).unwrap_or(i64::MAX)
}

/// A state as it is stored.
pub(crate) fn state_number(state: StateName) -> i32 {
    i32::from(state.index())
}

/// The state that is stored as this.
pub(crate) fn from_state_number(number: i32) -> Option<StateName> {
    u8::try_from(number).ok().and_then(StateName::from_index)
}

/// Queue and type as one text.
pub(crate) fn lane(queue: &QueueName, signature: &JobSignature) -> String {
    format!("{queue} {signature}")
}

/// What [`lane`] made one.
pub(crate) fn split_lane(lane: &str) -> Option<(&str, &str)> {
    lane.split_once(' ')
}

/// What the tags of a label begin with.
const LABEL: &str = "l:";

/// The tag of jobs with this label.
pub(crate) fn label_tag(label: &str) -> String {
    format!("{LABEL}{label}")
}

/// The tag of jobs that come from this recurring job.
pub(crate) fn recurring_tag(id: &RecurringJobId) -> String {
    format!("r:{id}")
}

/// The tag of jobs that wait for this one.
pub(crate) fn awaited_tag(id: JobId) -> String {
    format!("a:{id}")
}

fn tags_of(job: &Job) -> Vec<String> {
    let labels = job.labels().iter().map(|label| label_tag(label.as_str()));
    let recurring = job.recurring_job_id().map(recurring_tag);
    labels.chain(recurring).chain(job.awaited_job_id().map(awaited_tag)).collect()
}

/// The name of metadata as that of a field, which has no dots, dollars or zeros, nor is empty.
pub(crate) fn metadata_key(name: &str) -> String {
    let mut key = String::with_capacity(name.len() + 1);
    key.push('_');
    for character in name.chars() {
        match character {
            '.' => key.push_str("%2E"),
            '$' => key.push_str("%24"),
            '%' => key.push_str("%25"),
            '\0' => key.push_str("%00"),
            other => key.push(other),
        }
    }
    key
}

fn metadata_name(key: &str) -> Option<String> {
    let escaped = key.strip_prefix('_')?;
    Some(escaped.replace("%2E", ".").replace("%24", "$").replace("%00", "\0").replace("%25", "%"))
}

/// An entry of a history as it is stored.
pub(crate) fn encode_entry(entry: &HistoryEntry) -> String {
    serde_json::to_string(entry).expect("entries are texts, numbers and JSON")
}

/// One job as its document holds it; see the table above.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobDocument {
    #[serde(rename = "_id")]
    id: Uuid,
    version: i64,
    created: i64,
    state: i32,
    updated: i64,
    lane: String,
    rank: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queued: Option<i64>,
    scheduled: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timed: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    history: Vec<String>,
    #[serde(default)]
    marks: Vec<i64>,
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    payload: String,
}

impl JobDocument {
    /// The document of a new job.
    pub(crate) fn of(job: &Job) -> Self {
        let definition = job.definition();
        let settings = &definition.settings;
        let server = job.server();
        Self {
            id: uuid(job.id()),
            version: version_number(job.version()),
            created: micros(job.created_at()),
            state: state_number(job.state_name()),
            updated: micros(job.updated_at()),
            lane: lane(job.queue(), job.signature()),
            rank: -i64::from(job.priority()),
            queued: job.enqueued_at().map(micros),
            scheduled: job.scheduled_at().map_or(0, micros),
            timed: job.scheduled_at().map(|_| true),
            server: server.as_ref().map(|server| uuid(server.id)),
            server_name: server.map(|server| server.name),
            error: job.last_failure().map(|failure| failure.message.clone()),
            history: written_entries(job.history()).iter().map(encode_entry).collect(),
            marks: Vec::new(),
            name: definition.name.clone(),
            tags: tags_of(job),
            settings: (*settings != JobSettings::default())
                .then(|| serde_json::to_string(settings).expect("settings are texts and numbers")),
            metadata: job
                .metadata()
                .iter()
                .map(|(name, value)| (metadata_key(name), value.to_string()))
                .collect(),
            payload: definition.payload.as_str().to_owned(),
        }
    }

    pub(crate) fn id(&self) -> JobId {
        from_uuid(self.id)
    }

    /// What was written after the write with this token, if that was one of the last.
    pub(crate) fn since(&self, token: Token) -> Option<Since> {
        Since::of(&self.marks, token)
    }

    /// The job that the document holds.
    pub(crate) fn into_job(self) -> Result<Job, Unreadable> {
        let history = self.whole_history()?;
        let (queue, signature) =
            split_lane(&self.lane).ok_or(Unreadable("queue and type are not readable"))?;
        let labels = self.tags.iter().filter_map(|tag| tag.strip_prefix(LABEL));
        let labels = labels.map(|label| Label::new(label).map_err(|_| Unreadable("a label is none")));
        let labels = labels.collect::<Result<Vec<_>, _>>()?;
        let settings = match &self.settings {
            None => JobSettings::default(),
            Some(json) => {
                serde_json::from_str(json).map_err(|_| Unreadable("the settings are not readable"))?
            }
        };
        let priority = i32::try_from(-self.rank).map_err(|_| Unreadable("the priority is out of range"))?;
        let mut metadata = JobMetadata::new();
        for (key, value) in &self.metadata {
            let name = metadata_name(key).ok_or(Unreadable("the name of metadata is not readable"))?;
            let value = serde_json::from_str(value).map_err(|_| Unreadable("metadata is not readable"))?;
            metadata.insert(name, value);
        }
        let definition = JobDefinition {
            signature: signature.parse().map_err(|_| Unreadable("the type is none"))?,
            queue: queue.parse().map_err(|_| Unreadable("the queue is none"))?,
            labels: Labels::new(labels).map_err(|_| Unreadable("there are too many labels"))?,
            payload: JsonText::from_stored(self.payload),
            name: self.name,
            priority,
            settings,
        };
        let version = u64::try_from(self.version).map_err(|_| Unreadable("the version is negative"))?;
        Ok(Job::from_stored(StoredJob {
            id: from_uuid(self.id),
            version: Version::new(version),
            definition: Arc::new(definition),
            history,
            metadata,
        }))
    }

    fn whole_history(&self) -> Result<Vec<HistoryEntry>, Unreadable> {
        let state = from_state_number(self.state).ok_or(Unreadable("the state is none"))?;
        let read = |json: &String| {
            serde_json::from_str::<HistoryEntry>(json).map_err(|_| Unreadable("the history is not readable"))
        };
        let mut history = self.history.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if history.is_empty() {
            // No job begins with the entry that the fields say.
            return Err(Unreadable("the history is empty"));
        }
        if state == StateName::Processing {
            let server_id =
                self.server.map(from_uuid).ok_or(Unreadable("the server of the job is missing"))?;
            let server_name = self.server_name.clone().unwrap_or_default();
            let state = JobState::Processing { server_id, server_name };
            history.push(HistoryEntry { at: from_micros(self.updated)?, state });
        }
        match history.last() {
            Some(last) if last.state.name() == state => Ok(history),
            Some(_) => Err(Unreadable("the history does not end in the state of the job")),
            None => Err(Unreadable("the history is empty")),
        }
    }
}

/// The entries that a history is written with: all, but for the PROCESSING entry that the job is in.
fn written_entries(history: &[HistoryEntry]) -> &[HistoryEntry] {
    match history.split_last() {
        Some((last, before)) if last.state.name() == StateName::Processing => before,
        _ => history,
    }
}

/// What is to be changed in the document of a job that is in this state, so that it holds the job's new entries.
///
/// The version is one greater afterwards and the document bears the mark of the write.
pub(crate) fn change_of(job: &Job, stored_state: StateName, token: Token) -> Document {
    let new = job.new_entries();
    let stored = &job.history()[..job.history().len() - new.len()];
    // The PROCESSING entry that the job was in becomes a part of the history when the job leaves it.
    let left = match stored.last() {
        Some(last) if stored_state == StateName::Processing && !new.is_empty() => std::slice::from_ref(last),
        _ => &[],
    };
    let pushed: Vec<Bson> =
        left.iter().chain(written_entries(new)).map(|entry| Bson::from(encode_entry(entry))).collect();
    let mut set = doc! { "version": version_number(job.version().next()) };
    let mut unset = Document::new();
    if !new.is_empty() {
        set.insert("state", state_number(job.state_name()));
        set.insert("updated", micros(job.updated_at()));
    }
    let has = |state: StateName| new.iter().any(|entry| entry.state.name() == state);
    if has(StateName::Enqueued) {
        set.insert("queued", job.enqueued_at().map_or(Bson::Null, |at| Bson::from(micros(at))));
    }
    if has(StateName::Scheduled) {
        set.insert("scheduled", job.scheduled_at().map_or(0, micros));
        set.insert("timed", true);
    }
    if has(StateName::Processing)
        && let Some(ServerRef { id, name }) = job.server()
    {
        set.insert("server", uuid(id));
        set.insert("server_name", name);
    }
    if has(StateName::Failed)
        && let Some(failure) = job.last_failure()
    {
        set.insert("error", failure.message.clone());
    }
    if !new.is_empty() && (stored_state == StateName::Awaiting || job.awaited_job_id().is_some()) {
        match tags_of(job) {
            tags if tags.is_empty() => unset.insert("tags", ""),
            tags => set.insert("tags", tags),
        };
    }
    let mut change = doc! { "$set": set };
    if !unset.is_empty() {
        change.insert("$unset", unset);
    }
    let mut push = doc! { "marks": token.mark(new.len()).pushed() };
    if !pushed.is_empty() {
        push.insert("history", doc! { "$each": pushed });
    }
    change.insert("$push", push);
    change
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn a_job() -> Job {
        let definition = JobDefinition::new("send invoice".parse().unwrap(), JsonText::of(&1).unwrap());
        Job::new(JobId::new(), definition, JobState::enqueued(), at(1)).unwrap()
    }

    #[test]
    fn a_job_comes_back_from_its_document() {
        let mut job = a_job();
        let server = ServerRef { id: jobrunr_core::ServerId::new(), name: "one".into() };
        for step in 0..2 {
            let document = JobDocument::of(&job);
            assert_eq!(document.history.len(), 1, "the PROCESSING entry is in the fields");
            assert_eq!(document.into_job().unwrap(), job);
            if step == 0 {
                job.start_processing(&server, at(2)).unwrap();
            }
        }
    }

    #[test]
    fn a_save_writes_the_entry_that_the_job_leaves_and_the_new_ones() {
        let mut job = a_job();
        let server = ServerRef { id: jobrunr_core::ServerId::new(), name: "one".into() };
        job.start_processing(&server, at(2)).unwrap();
        job.mark_inserted();
        job.succeed(None, at(3)).unwrap();

        let change = change_of(&job, StateName::Processing, Token::random());

        let pushed = change.get_document("$push").unwrap().get_document("history").unwrap();
        assert_eq!(pushed.get_array("$each").unwrap().len(), 2);
        let set = change.get_document("$set").unwrap();
        assert_eq!(set.get_i32("state").unwrap(), state_number(StateName::Succeeded));
        assert!(!set.contains_key("queued") && !set.contains_key("server"), "what stays is not sent");
    }

    #[test]
    fn any_name_of_metadata_is_a_field_and_comes_back() {
        for name in ["", "a.b", "$set", "%2E", "\0", "%", "_", "ü", "a%24b"] {
            let key = metadata_key(name);

            assert!(!key.is_empty() && !key.contains(['.', '$', '\0']), "{key:?}");
            assert_eq!(metadata_name(&key).unwrap(), name);
        }
    }
}
