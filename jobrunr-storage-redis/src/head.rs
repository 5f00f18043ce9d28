//! The head of a job: all that changes in its life but its history, as one text of fixed places.
//!
//! One field is read and written faster than twelve, by scripts above all, and a hash with few fields is small. The
//! places are listed in [`FIELDS`], and only there: what scripts know of them is made from that table.

use chrono::{DateTime, Utc};
use jobrunr_core::{HistoryEntry, Job, JobId, JobState, ServerId, StateName, Version};

use crate::encoding::{
    ID, LANE, PRIORITY, TIME, decode_id, decode_time, encode_id, encode_priority, encode_server, encode_time,
};

/// The parts of a head in their order, each with its width; the version follows them and may have any width.
///
/// What there is none of (a server, a time) is `-` all over.
const FIELDS: &[(&str, usize)] = &[
    // The queue and the type, as a number of the hash `lanes`.
    ("LANE", LANE),
    ("STATE", 1),
    ("UPDATED", TIME),
    ("CREATED", TIME),
    // The latest time it was scheduled for; stays after its release.
    ("SCHEDULED", TIME),
    // Who holds it, or held it last.
    ("SERVER", ID),
    ("PRIORITY", PRIORITY),
    // Since when it has its place in line.
    ("ENQUEUED", TIME),
    // The job it waits for.
    ("AWAITED", ID),
    // How many entries its history has.
    ("ENTRIES", COUNT),
    // Which of them is the latest failure.
    ("FAILURE", COUNT),
    // `r` if a recurring job made it, whose id is the field `r` of the hash.
    ("RECURRING", 1),
    // Which call claimed it last.
    ("TOKEN", TOKEN),
];

/// The width of the number of an entry.
const COUNT: usize = 8;

/// The width of what marks a claim.
pub(crate) const TOKEN: usize = 16;

/// Where a part begins and ends.
fn span(name: &str) -> (usize, usize) {
    let mut start = 0;
    for (field, width) in FIELDS {
        if *field == name {
            return (start, start + width);
        }
        start += width;
    }
    (start, usize::MAX)
}

/// The places as the beginning of a script: `UPDATED_AT` and `UPDATED_TO` for `string.sub`.
pub(crate) fn places_for_scripts() -> String {
    let mut lines = String::new();
    let mut start = 1;
    for (name, width) in FIELDS {
        lines += &format!("local {name}_AT, {name}_TO = {start}, {}\n", start + width - 1);
        start += width;
    }
    lines + &format!("local VERSION_AT = {start}\n")
}

fn blank(width: usize) -> String {
    "-".repeat(width)
}

fn or_blank(text: Option<String>, width: usize) -> String {
    text.unwrap_or_else(|| blank(width))
}

/// A head as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) lane: String,
    pub(crate) state: StateName,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) scheduled_at: Option<DateTime<Utc>>,
    pub(crate) server_id: Option<ServerId>,
    pub(crate) enqueued_at: Option<DateTime<Utc>>,
    pub(crate) awaited_job_id: Option<JobId>,
    pub(crate) entries: usize,
    pub(crate) failure: Option<usize>,
    pub(crate) is_recurring: bool,
    pub(crate) version: Version,
}

impl Head {
    /// Reads a head; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let part = |name| {
            let (start, end) = span(name);
            text.get(start..end.min(text.len()))
        };
        let optional = |name| part(name).map(|part| (!part.starts_with('-')).then_some(part));
        let time = |part: Option<&str>| part.map(decode_time);
        Some(Self {
            lane: part("LANE")?.to_owned(),
            state: StateName::from_index(part("STATE")?.parse().ok()?)?,
            updated_at: decode_time(part("UPDATED")?)?,
            created_at: decode_time(part("CREATED")?)?,
            scheduled_at: lift(time(optional("SCHEDULED")?))?,
            server_id: lift(optional("SERVER")?.map(decode_id))?,
            enqueued_at: lift(time(optional("ENQUEUED")?))?,
            awaited_job_id: lift(optional("AWAITED")?.map(decode_id))?,
            entries: part("ENTRIES")?.parse().ok()?,
            failure: lift(optional("FAILURE")?.map(|number| number.parse().ok()))?,
            is_recurring: part("RECURRING")? == "r",
            version: Version::new(part("VERSION")?.parse().ok()?),
        })
    }

    /// The changes that leave state, times and holders as they are here, but for the state.
    pub(crate) fn moved_to(&self, state: StateName, updated_at: DateTime<Utc>) -> Change {
        Change {
            state_and_update: format!("{}{}", state.index(), encode_time(updated_at)),
            schedule_and_server: format!(
                "{}{}",
                or_blank(self.scheduled_at.map(encode_time), TIME),
                or_blank(self.server_id.map(encode_server), ID)
            ),
            enqueued: or_blank(self.enqueued_at.map(encode_time), TIME),
            awaited: blank(ID),
        }
    }
}

/// Something there may be none of, or that cannot be read.
#[expect(clippy::option_option, reason = "none, unreadable and there are three different things")]
fn lift<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        None => Some(None),
        Some(None) => None,
        Some(read) => Some(read),
    }
}

/// The parts of a head that a save writes; the others belong to the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) state_and_update: String,
    pub(crate) schedule_and_server: String,
    pub(crate) enqueued: String,
    pub(crate) awaited: String,
}

impl Change {
    /// What the job's history says of the present.
    pub(crate) fn of(job: &Job) -> Self {
        Self {
            state_and_update: format!("{}{}", job.state_name().index(), encode_time(job.updated_at())),
            schedule_and_server: format!(
                "{}{}",
                or_blank(job.scheduled_at().map(encode_time), TIME),
                or_blank(job.server_id().map(encode_server), ID)
            ),
            enqueued: or_blank(job.enqueued_at().map(encode_time), TIME),
            awaited: or_blank(job.awaited_job_id().map(encode_id), ID),
        }
    }
}

/// The head of a new job without its lane, which the script knows.
pub(crate) fn new_head_after_lane(job: &Job) -> String {
    let Change { state_and_update, schedule_and_server, enqueued, awaited } = Change::of(job);
    let created = encode_time(job.created_at());
    let priority = encode_priority(job.priority());
    let entries = job.history().len();
    let failure = or_blank(last_failure(job.history()).map(|index| format!("{index:0COUNT$}")), COUNT);
    let recurring = if job.recurring_job_id().is_some() { "r" } else { "-" };
    let token = blank(TOKEN);
    let version = job.version();
    format!(
        "{state_and_update}{created}{schedule_and_server}{priority}{enqueued}{awaited}{entries:0COUNT$}{failure}\
         {recurring}{token}{version}"
    )
}

/// The place of the latest failure among entries.
pub(crate) fn last_failure(entries: &[HistoryEntry]) -> Option<usize> {
    entries.iter().rposition(|entry| matches!(entry.state, JobState::Failed(_)))
}

#[cfg(test)]
mod tests {
    use jobrunr_core::{Failure, FailureKind, JobDefinition, JsonText, ServerRef};

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn a_head_says_of_a_job_what_its_history_says() {
        let definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
        let mut job = Job::new(JobId::new(), definition, JobState::scheduled(at(1)), at(0)).unwrap();
        job.enqueue(at(2)).unwrap();
        let server = ServerRef { id: ServerId::new(), name: "one".into() };
        job.start_processing(&server, at(3)).unwrap();
        job.fail(Failure::new(FailureKind::Corrupt, "no"), at(4)).unwrap();

        let head = Head::parse(&format!("00000007{}", new_head_after_lane(&job))).unwrap();

        let expected = Head {
            lane: "00000007".to_owned(),
            state: StateName::Failed,
            updated_at: at(4),
            created_at: at(0),
            scheduled_at: Some(at(1)),
            server_id: Some(server.id),
            enqueued_at: Some(at(2)),
            awaited_job_id: None,
            entries: 4,
            failure: Some(3),
            is_recurring: false,
            version: Version::FIRST,
        };
        assert_eq!(head, expected);
    }

    #[test]
    fn what_is_no_head_is_not_read() {
        for text in ["", "x", &"-".repeat(300), &"9".repeat(300)] {
            assert_eq!(Head::parse(text), None, "{text}");
        }
    }

    #[test]
    fn scripts_count_from_one_and_include_the_end() {
        let places = places_for_scripts();

        assert!(places.starts_with("local LANE_AT, LANE_TO = 1, 8\nlocal STATE_AT, STATE_TO = 9, 9\n"));
        assert_eq!(places.lines().last().unwrap(), format!("local VERSION_AT = {}", span("VERSION").0 + 1));
    }
}
