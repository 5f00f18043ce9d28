//! The states of a job, the table of legal moves between them, and what each entry of a history carries.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, ServerId};
use crate::json_text::JsonText;
use crate::limits::cut_entry_text;

/// The name of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StateName {
    /// Waits for something other than a time: another job, a permit.
    Awaiting,
    /// Waits for its time.
    Scheduled,
    /// Waits in its queue for a worker.
    Enqueued,
    /// Runs, or is about to, on one server.
    Processing,
    /// Its handler has run; it waits without a worker for what completes it.
    Processed,
    /// Ended well.
    Succeeded,
    /// Ended badly; stays until somebody acts unless it is retried.
    Failed,
    /// Is not wanted any more; its row goes after a while.
    Deleted,
}

impl StateName {
    /// Every state, in the order of the table of moves.
    pub const ALL: [Self; 8] = [
        Self::Awaiting,
        Self::Scheduled,
        Self::Enqueued,
        Self::Processing,
        Self::Processed,
        Self::Succeeded,
        Self::Failed,
        Self::Deleted,
    ];

    /// Whether a job may move from this state to `next`: every legal move, and the only place that knows one.
    #[must_use]
    pub const fn can_become(self, next: Self) -> bool {
        use StateName::{Awaiting, Deleted, Enqueued, Failed, Processed, Processing, Scheduled, Succeeded};
        match self {
            Awaiting | Scheduled => matches!(next, Scheduled | Enqueued | Deleted),
            Enqueued => matches!(next, Awaiting | Scheduled | Processing | Deleted),
            Processing => !matches!(next, Processing),
            Processed => matches!(next, Succeeded | Failed | Deleted),
            Succeeded => matches!(next, Enqueued | Deleted),
            Failed => matches!(next, Scheduled | Enqueued | Deleted),
            Deleted => matches!(next, Scheduled | Enqueued),
        }
    }

    /// Whether a job may begin its life in this state.
    #[must_use]
    pub const fn can_be_first(self) -> bool {
        matches!(self, Self::Awaiting | Self::Scheduled | Self::Enqueued)
    }

    /// Whether a job in this state is done unless somebody acts: SUCCEEDED, FAILED or DELETED.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Deleted)
    }

    /// The name as users, storages and JSON spell it, for example `ENQUEUED`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Awaiting => "AWAITING",
            Self::Scheduled => "SCHEDULED",
            Self::Enqueued => "ENQUEUED",
            Self::Processing => "PROCESSING",
            Self::Processed => "PROCESSED",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Deleted => "DELETED",
        }
    }

    /// The place of this state in [`ALL`](Self::ALL); stores may keep it as a number, it never changes.
    #[must_use]
    pub const fn index(self) -> u8 {
        match self {
            Self::Awaiting => 0,
            Self::Scheduled => 1,
            Self::Enqueued => 2,
            Self::Processing => 3,
            Self::Processed => 4,
            Self::Succeeded => 5,
            Self::Failed => 6,
            Self::Deleted => 7,
        }
    }

    /// The state at this place of [`ALL`](Self::ALL), if there is one.
    #[must_use]
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a job state; states are written like ENQUEUED")]
pub struct UnknownState(String);

impl FromStr for StateName {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// A move that the table of states does not allow. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job cannot go from {from} to {to}")]
pub struct IllegalTransition {
    /// The state the job is in.
    pub from: StateName,
    /// The state it was to move to.
    pub to: StateName,
}

/// One state a job was in, since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When the job entered the state; never before the entry that precedes it.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub at: DateTime<Utc>,
    /// The state and what belongs to it.
    pub state: JobState,
}

/// A state with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum JobState {
    /// See [`StateName::Awaiting`].
    Awaiting {
        /// The job it waits for, if it waits for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<JobId>,
        /// Why it waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// See [`StateName::Scheduled`].
    Scheduled {
        /// When it becomes due.
        #[serde(with = "chrono::serde::ts_microseconds")]
        scheduled_at: DateTime<Utc>,
        /// Why it waits, for example `retry 1 of 10`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Whether failures are counted anew from here, because somebody rescheduled an ended job.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        starts_afresh: bool,
    },
    /// See [`StateName::Enqueued`].
    Enqueued {
        /// Why it was put (back) in its queue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Whether failures are counted anew from here, because somebody requeued an ended job.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        starts_afresh: bool,
    },
    /// See [`StateName::Processing`].
    Processing {
        /// The server that claimed it.
        server_id: ServerId,
        /// The name of that server.
        server_name: String,
    },
    /// See [`StateName::Processed`].
    Processed {},
    /// See [`StateName::Succeeded`].
    Succeeded {
        /// How long it had waited in its queue when it was claimed for the last time.
        #[serde(with = "duration_micros", rename = "latency_micros")]
        latency: Duration,
        /// How long it took from that claim to its success.
        #[serde(with = "duration_micros", rename = "processing_micros")]
        processing_duration: Duration,
        /// What its handler returned, if that was anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<JsonText>,
    },
    /// See [`StateName::Failed`].
    Failed(Box<Failure>),
    /// See [`StateName::Deleted`].
    Deleted {
        /// Why it is not wanted any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl JobState {
    /// ENQUEUED, without a reason.
    #[must_use]
    pub const fn enqueued() -> Self {
        Self::Enqueued { reason: None, starts_afresh: false }
    }

    /// SCHEDULED for `scheduled_at`, without a reason.
    #[must_use]
    pub const fn scheduled(scheduled_at: DateTime<Utc>) -> Self {
        Self::Scheduled { scheduled_at, reason: None, starts_afresh: false }
    }

    /// SCHEDULED for when `delay` has passed from `now` on, for this reason.
    #[must_use]
    pub fn scheduled_in(delay: Duration, reason: impl Into<String>, now: DateTime<Utc>) -> Self {
        let delay = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
        let scheduled_at = now.checked_add_signed(delay).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Self::Scheduled { scheduled_at, reason: Some(reason.into()), starts_afresh: false }
    }

    /// FAILED with this failure.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }

    /// The name of the state.
    #[must_use]
    pub const fn name(&self) -> StateName {
        match self {
            Self::Awaiting { .. } => StateName::Awaiting,
            Self::Scheduled { .. } => StateName::Scheduled,
            Self::Enqueued { .. } => StateName::Enqueued,
            Self::Processing { .. } => StateName::Processing,
            Self::Processed {} => StateName::Processed,
            Self::Succeeded { .. } => StateName::Succeeded,
            Self::Failed(_) => StateName::Failed,
            Self::Deleted { .. } => StateName::Deleted,
        }
    }

    /// Whether failures are counted anew from an entry with this state.
    #[must_use]
    pub const fn starts_afresh(&self) -> bool {
        matches!(
            self,
            Self::Enqueued { starts_afresh: true, .. } | Self::Scheduled { starts_afresh: true, .. }
        )
    }

    /// Cuts every text of the state to the limits of a history entry and every time to microseconds.
    pub(crate) fn within_limits(mut self) -> Self {
        match &mut self {
            Self::Awaiting { reason, .. } | Self::Enqueued { reason, .. } | Self::Deleted { reason } => {
                cut_reason(reason)
            }
            Self::Scheduled { reason, scheduled_at, .. } => {
                cut_reason(reason);
                *scheduled_at = crate::clock::to_micros(*scheduled_at);
            }
            Self::Processing { .. } | Self::Processed {} | Self::Succeeded { .. } | Self::Failed(_) => {}
        }
        self
    }
}

fn cut_reason(reason: &mut Option<String>) {
    if let Some(text) = reason.take() {
        *reason = Some(cut_entry_text(text));
    }
}

/// Why a run of a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What sort of failure it is.
    pub kind: FailureKind,
    /// The name of the Rust type of the error, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// What went wrong, in one message.
    pub message: String,
    /// The messages of the error's sources, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Where it happened, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
    /// Whether the handler said that another try is of no use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub do_not_retry: bool,
}

impl Failure {
    /// A failure of this kind; texts longer than an entry may hold are cut with a marker.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            error_type: None,
            message: cut_entry_text(message),
            causes: Vec::new(),
            backtrace: None,
            do_not_retry: false,
        }
    }

    /// The same failure, not to be retried.
    #[must_use]
    pub fn do_not_retry(mut self) -> Self {
        self.do_not_retry = true;
        self
    }

    /// The same failure with its causes; those that do not fit an entry are left out.
    #[must_use]
    pub fn with_causes(mut self, causes: impl IntoIterator<Item = String>) -> Self {
        let mut room = crate::limits::MAX_ENTRY_TEXT_BYTES;
        for cause in causes {
            let cause = cut_entry_text(cause);
            let Some(left) = room.checked_sub(cause.len()) else { break };
            room = left;
            self.causes.push(cause);
        }
        self
    }

    /// The same failure with the place it happened at.
    #[must_use]
    pub fn with_backtrace(mut self, backtrace: impl Into<String>) -> Self {
        self.backtrace = Some(cut_entry_text(backtrace));
        self
    }

    /// The same failure with the name of the error's type.
    #[must_use]
    pub fn with_error_type(mut self, error_type: impl Into<String>) -> Self {
        self.error_type = Some(cut_entry_text(error_type));
        self
    }
}

/// What sort of failure a run ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler returned an error.
    Error,
    /// The handler panicked.
    Panicked,
    /// The run took longer than the job's timeout.
    TimedOut,
    /// The server that ran the job is gone.
    Orphaned,
    /// The payload does not fit the job's type.
    Undecodable,
    /// What is stored of the job cannot be read.
    Corrupt,
    /// Whoever was to complete an external job said that it failed.
    Signalled,
}

mod duration_micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the design, one row a state, one column a next state in the order of `StateName::ALL`.
    const TABLE: [(&str, &str); 8] = [
        ("AWAITING", ".xx....x"),
        ("SCHEDULED", ".xx....x"),
        ("ENQUEUED", "xx.x...x"),
        ("PROCESSING", "xxx.xxxx"),
        ("PROCESSED", ".....xxx"),
        ("SUCCEEDED", "..x....x"),
        ("FAILED", ".xx....x"),
        ("DELETED", ".xx....."),
    ];

    #[test]
    fn every_pair_of_states_is_as_the_table_says() {
        for (from, row) in TABLE {
            let from: StateName = from.parse().unwrap();
            for (to, mark) in StateName::ALL.into_iter().zip(row.chars()) {
                assert_eq!(from.can_become(to), mark == 'x', "{from} -> {to}");
            }
        }
    }

    #[test]
    fn the_diagram_in_the_documentation_shows_exactly_the_legal_moves() {
        let page = include_str!("../../docs/state-machine.md");
        let arrows: std::collections::BTreeSet<(String, String)> = page
            .lines()
            .filter_map(|line| line.trim().split_once(" --> "))
            .map(|(from, to)| (from.to_owned(), to.split(':').next().unwrap_or(to).trim().to_owned()))
            .filter(|(_, to)| to != "[*]")
            .collect();

        let first = StateName::ALL.into_iter().filter(|state| state.can_be_first());
        let mut legal: std::collections::BTreeSet<_> =
            first.map(|state| ("[*]".to_owned(), state.to_string())).collect();
        for from in StateName::ALL {
            let next = StateName::ALL.into_iter().filter(|to| from.can_become(*to));
            legal.extend(next.map(|to| (from.to_string(), to.to_string())));
        }

        assert_eq!(arrows, legal);
    }

    #[test]
    fn names_and_indexes_lead_back_to_the_state() {
        for state in StateName::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(StateName::from_index(state.index()), Some(state));
        }
        assert_eq!(StateName::from_index(8), None);
        assert!("enqueued".parse::<StateName>().is_err());
    }

    #[test]
    fn every_state_survives_json() {
        let at = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        let states = [
            JobState::Awaiting { job: Some(JobId::new()), reason: None },
            JobState::scheduled(at),
            JobState::Enqueued { reason: Some("retry".into()), starts_afresh: true },
            JobState::Processing { server_id: ServerId::new(), server_name: "a".into() },
            JobState::Processed {},
            JobState::Succeeded {
                latency: Duration::from_micros(7),
                processing_duration: Duration::from_secs(3),
                result: Some(JsonText::of(&[1, 2]).unwrap()),
            },
            JobState::failed(Failure::new(FailureKind::Panicked, "no").with_causes(["a".to_owned()])),
            JobState::Deleted { reason: Some("done".into()) },
        ];
        for state in states {
            let entry = HistoryEntry { at, state };

            let json = serde_json::to_string(&entry).unwrap();

            assert_eq!(serde_json::from_str::<HistoryEntry>(&json).unwrap(), entry, "{json}");
        }
    }
}
