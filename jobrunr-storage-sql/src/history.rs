//! How a history becomes columns: its tail lies in the hot row, what comes before in an insert-only archive.
//!
//! The tail is the longest end of a history that reads `[SCHEDULED]? [ENQUEUED]? [PROCESSING]? [SUCCEEDED]? [DELETED]?`
//! and whose entries hold nothing that the columns cannot say. So a claim, the release of a due job and a plain success
//! change a few columns and write no history; a failure archives all it has, once, in the statement that overwrites it.
//!
//! Where a tail begins follows from the history alone, and adding an entry never moves it back.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::{HistoryEntry, Job, JobId, JobState, JsonText, ServerRef, StateName};

use crate::row::Unreadable;
use crate::times::{from_micros, micros};

/// Longest reason of a DELETED entry that its column takes, in bytes.
const MAX_REASON_BYTES: usize = 128;

/// The instants at which the entries of the tail were made, in microseconds; `None` where the tail has no such entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    /// Of its SCHEDULED entry, which is due at [`HotColumns::scheduled_at`].
    pub scheduled_entry_at: Option<i64>,
    /// Of its ENQUEUED entry.
    pub enqueued_entry_at: Option<i64>,
    /// Of its PROCESSING entry.
    pub claimed_at: Option<i64>,
    /// Of its SUCCEEDED entry.
    pub finished_at: Option<i64>,
    /// Of its DELETED entry.
    pub deleted_at: Option<i64>,
    /// The reason of its DELETED entry.
    pub deleted_reason: Option<String>,
}

/// What the hot row says of a job's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotColumns {
    /// The present state.
    pub state: StateName,
    /// [`Job::enqueued_at`]: its place in line.
    pub queued_at: Option<i64>,
    /// [`Job::created_at`].
    pub created_at: i64,
    /// [`Job::updated_at`].
    pub updated_at: i64,
    /// [`Job::scheduled_at`].
    pub scheduled_at: Option<i64>,
    /// [`Job::awaited_job_id`].
    pub awaited_job_id: Option<JobId>,
    /// How many entries are archived: those before the tail.
    pub archived_entries: usize,
    /// The tail.
    pub tail: Tail,
}

/// A history, ready to be written.
#[derive(Debug)]
pub struct EncodedHistory<'a> {
    /// What the hot row is to say.
    pub columns: HotColumns,
    /// The entries that must be archived now, oldest first; none for an ordinary job.
    pub to_archive: &'a [HistoryEntry],
    /// The server that [`HotColumns`] refer to, if the job was ever claimed.
    pub server: Option<ServerRef>,
    /// The result of the tail's SUCCEEDED entry, if it has one.
    pub result: Option<&'a JsonText>,
}

/// Encodes the history of a job of which so many entries are archived already.
#[must_use]
pub fn encode_history(job: &Job, archived_entries: usize) -> EncodedHistory<'_> {
    let history = job.history();
    let start = tail_start(history).max(archived_entries.min(history.len()));
    let (tail, result) = encode_tail(&history[start..]);
    EncodedHistory {
        columns: HotColumns {
            state: job.state_name(),
            queued_at: job.enqueued_at().map(micros),
            created_at: micros(job.created_at()),
            updated_at: micros(job.updated_at()),
            scheduled_at: job.scheduled_at().map(micros),
            awaited_job_id: job.awaited_job_id(),
            archived_entries: start,
            tail,
        },
        to_archive: &history[archived_entries.min(start)..start],
        server: job.server(),
        result,
    }
}

/// The index of the first entry of the tail; the length of the history if the tail is empty.
#[must_use]
pub fn tail_start(history: &[HistoryEntry]) -> usize {
    let mut start = history.len();
    let mut next_place = usize::MAX;
    while let Some(index) = start.checked_sub(1) {
        let Some(place) = place_in_tail(&history[..index], &history[index]) else { break };
        if place >= next_place {
            break;
        }
        (start, next_place) = (index, place);
    }
    start
}

/// Where in a tail an entry may stand that comes after `before`; `None` if its columns cannot say all that it says.
fn place_in_tail(before: &[HistoryEntry], entry: &HistoryEntry) -> Option<usize> {
    match &entry.state {
        JobState::Scheduled { reason: None, starts_afresh: false, .. } => Some(0),
        JobState::Enqueued { reason: None, starts_afresh: false } => Some(1),
        JobState::Processing { .. } => Some(2),
        JobState::Succeeded { latency, processing_duration, .. } => {
            (durations(before, entry.at) == (*latency, *processing_duration)).then_some(3)
        }
        JobState::Deleted { reason } => {
            reason.as_ref().is_none_or(|reason| reason.len() <= MAX_REASON_BYTES).then_some(4)
        }
        _ => None,
    }
}

/// What the SUCCEEDED entry says of a job with this history that ends at `ended_at`, as [`Job::success`] has it.
fn durations(before: &[HistoryEntry], ended_at: DateTime<Utc>) -> (Duration, Duration) {
    let is = |state| move |entry: &HistoryEntry| entry.state.name() == state;
    let claim = before.iter().rposition(is(StateName::Processing));
    let claimed_at = claim.map_or(ended_at, |index| before[index].at);
    let waiting = &before[..claim.unwrap_or(0)];
    let enqueued_at =
        waiting.iter().rfind(|entry| is(StateName::Enqueued)(entry)).map_or(claimed_at, |entry| entry.at);
    let duration = |delta: TimeDelta| delta.to_std().unwrap_or_default();
    (duration(claimed_at - enqueued_at), duration(ended_at - claimed_at))
}

fn encode_tail(entries: &[HistoryEntry]) -> (Tail, Option<&JsonText>) {
    let mut tail = Tail::default();
    let mut kept_result = None;
    for HistoryEntry { at, state } in entries {
        let at = Some(micros(*at));
        match state {
            JobState::Scheduled { .. } => tail.scheduled_entry_at = at,
            JobState::Enqueued { .. } => tail.enqueued_entry_at = at,
            JobState::Processing { .. } => tail.claimed_at = at,
            JobState::Succeeded { result, .. } => (tail.finished_at, kept_result) = (at, result.as_ref()),
            JobState::Deleted { reason } => (tail.deleted_at, tail.deleted_reason) = (at, reason.clone()),
            _ => unreachable!("a tail holds only entries that have a place in it"),
        }
    }
    (tail, kept_result)
}

impl HotColumns {
    /// Rebuilds the whole history from the archived entries and the columns.
    ///
    /// `server` and `result` are what the row refers to: the server that claimed the job last, and the result of the
    /// tail's SUCCEEDED entry.
    ///
    /// # Errors
    /// [`Unreadable`] if archive and columns do not fit together.
    pub fn history(
        &self,
        archived: Vec<HistoryEntry>,
        server: Option<&ServerRef>,
        result: Option<JsonText>,
    ) -> Result<Vec<HistoryEntry>, Unreadable> {
        if archived.len() != self.archived_entries {
            return Err(Unreadable::because("entries of the history are missing"));
        }
        let mut history = archived;
        history.reserve(3);
        let Tail {
            scheduled_entry_at,
            enqueued_entry_at,
            claimed_at,
            finished_at,
            deleted_at,
            deleted_reason,
        } = &self.tail;
        let mut add = |at: i64, state| from_micros(at).map(|at| history.push(HistoryEntry { at, state }));
        if let Some(at) = scheduled_entry_at {
            let due =
                self.scheduled_at.ok_or_else(|| Unreadable::because("when the job is due is missing"))?;
            add(*at, JobState::scheduled(from_micros(due)?))?;
        }
        if let Some(at) = enqueued_entry_at {
            add(*at, JobState::enqueued())?;
        }
        if let Some(at) = claimed_at {
            let server = server.ok_or_else(|| Unreadable::because("the server of the job is missing"))?;
            add(*at, JobState::Processing { server_id: server.id, server_name: server.name.clone() })?;
        }
        if let Some(at) = finished_at {
            let at = from_micros(*at)?;
            let (latency, processing_duration) = durations(&history, at);
            let state = JobState::Succeeded { latency, processing_duration, result };
            history.push(HistoryEntry { at, state });
        }
        if let Some(at) = deleted_at {
            let state = JobState::Deleted { reason: deleted_reason.clone() };
            history.push(HistoryEntry { at: from_micros(*at)?, state });
        }
        match history.last() {
            Some(last) if last.state.name() == self.state => Ok(history),
            Some(_) => Err(Unreadable::because("the history does not end in the state of the job")),
            None => Err(Unreadable::because("the history is empty")),
        }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
