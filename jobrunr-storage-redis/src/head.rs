//! The head of a job: all that changes in its life but its history, as one text of fixed places.
//!
//! One field is read and written faster than twelve, by scripts above all, and a hash with few fields is small. The
//! places are listed in [`FIELDS`], and only there: what scripts know of them is made from that table.

use chrono::{DateTime, Utc};
use jobrunr_core::{HistoryEntry, Job, JobId, JobState, ServerId, StateName, Version};

use crate::encoding::{
    ID, LANE, PRIORITY, TIME, decode_id, decode_time, encode_id, encode_priority, encode_server, encode_time,
};

/// The parts of a head in their order, each with its width.
///
/// A script makes a new head from few pieces: what never changes stands together, and so does what a save compares (from
/// CREATED to UPDATED). Priority and ENQUEUED are a place in line, and the last three a member of sorted sets. What there is none of (a server, a time) is `-` all over.
const FIELDS: &[(&str, usize)] = &[
    // The latest time it was scheduled for; stays after its release.
    ("SCHEDULED", TIME),
    // The job it waits for.
    ("AWAITED", ID),
    // Which entry of its history is the latest failure.
    ("FAILURE", COUNT),
    // Which call claimed it, if it was not saved since.
    ("TOKEN", TOKEN),
    // `r` if a recurring job made it, whose id is the field `r` of the hash.
    ("RECURRING", 1),
    // `s` if what was settled at its creation is so small that a claim reads it at once.
    ("SMALL", 1),
    ("PRIORITY", PRIORITY),
    // Since when it has its place in line.
    ("ENQUEUED", TIME),
    ("CREATED", TIME),
    ("STATE", 1),
    // Who holds it, or held it last.
    ("SERVER", ID),
    // How many entries its history has.
    ("ENTRIES", COUNT),
    ("VERSION", VERSION),
    ("UPDATED", TIME),
    // The job's own id.
    ("ID", ID),
    // The queue and the type, as a number of the hash `lanes`.
    ("LANE", LANE),
];

/// The width of a version.
const VERSION: usize = 20;

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
    unreachable!("{name} is no part of a head")
}

/// The places as the beginning of a script: `UPDATED_AT` and `UPDATED_TO` for `string.sub`.
pub(crate) fn places_for_scripts() -> String {
    let mut lines = String::new();
    let mut start = 1;
    for (name, width) in FIELDS {
        lines += &format!("local {name}_AT, {name}_TO = {start}, {}\n", start + width - 1);
        start += width;
    }
    lines
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
    pub(crate) id: String,
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
            text.get(start..end)
        };
        let optional = |name| part(name).map(|part| (!part.starts_with('-')).then_some(part));
        let time = |part: Option<&str>| part.map(decode_time);
        Some(Self {
            id: part("ID")?.to_owned(),
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

    /// What a save that adds this failure as an entry makes of it.
    pub(crate) fn parked(&self) -> Present {
        Present {
            state: StateName::Failed,
            server_id: self.server_id,
            scheduled_at: self.scheduled_at,
            enqueued_at: self.enqueued_at,
            awaited_job_id: None,
            failure: Some(self.entries),
            entries: self.entries + 1,
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

/// What a save writes of a head, besides the instant: all but what stays for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    state: StateName,
    server_id: Option<ServerId>,
    scheduled_at: Option<DateTime<Utc>>,
    enqueued_at: Option<DateTime<Utc>>,
    awaited_job_id: Option<JobId>,
    failure: Option<usize>,
    entries: usize,
}

impl Present {
    /// What the job's history says of the present.
    pub(crate) fn of(job: &Job) -> Self {
        Self {
            state: job.state_name(),
            server_id: job.server_id(),
            scheduled_at: job.scheduled_at(),
            enqueued_at: job.enqueued_at(),
            awaited_job_id: job.awaited_job_id(),
            failure: last_failure(job.history()),
            entries: job.history().len(),
        }
    }

    /// From the beginning of a head up to what never changes.
    pub(crate) fn encode_beginning(&self) -> String {
        format!(
            "{}{}{}{}",
            or_blank(self.scheduled_at.map(encode_time), TIME),
            or_blank(self.awaited_job_id.map(encode_id), ID),
            or_blank(self.failure.map(|index| format!("{index:0COUNT$}")), COUNT),
            blank(TOKEN),
        )
    }

    /// After what never changes, up to the id.
    pub(crate) fn encode_end(
        &self,
        created_at: DateTime<Utc>,
        version: u64,
        updated_at: DateTime<Utc>,
    ) -> String {
        let standing =
            encode_standing(created_at, self.state, self.server_id, self.entries, version, updated_at);
        format!("{}{standing}", or_blank(self.enqueued_at.map(encode_time), TIME))
    }
}

/// From CREATED on up to the id: it is the same only as long as nothing was written.
pub(crate) fn encode_standing(
    created_at: DateTime<Utc>,
    state: StateName,
    server: Option<ServerId>,
    entries: usize,
    version: u64,
    updated_at: DateTime<Utc>,
) -> String {
    let server = or_blank(server.map(encode_server), ID);
    let (created, updated) = (encode_time(created_at), encode_time(updated_at));
    format!("{created}{}{server}{entries:0COUNT$}{version:0VERSION$}{updated}", state.index())
}

/// The head of a new job up to its lane, which the script knows.
pub(crate) fn new_head_before_lane(job: &Job, is_small: bool) -> String {
    let present = Present::of(job);
    let priority = encode_priority(job.priority());
    let recurring = if job.recurring_job_id().is_some() { "r" } else { "-" };
    let small = if is_small { "s" } else { "-" };
    let end = present.encode_end(job.created_at(), job.version().number(), job.updated_at());
    let (beginning, id) = (present.encode_beginning(), encode_id(job.id()));
    format!("{beginning}{recurring}{small}{priority}{end}{id}")
}

/// Who holds a job with this history, or held it last.
pub(crate) fn last_server(entries: &[HistoryEntry]) -> Option<ServerId> {
    entries.iter().rev().find_map(|entry| match &entry.state {
        JobState::Processing { server_id, .. } => Some(*server_id),
        _ => None,
    })
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

        let head = Head::parse(&format!("{}00000007", new_head_before_lane(&job, true))).unwrap();

        let expected = Head {
            id: encode_id(job.id()),
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

        assert!(places.starts_with(
            "local SCHEDULED_AT, SCHEDULED_TO = 1, 20\nlocal AWAITED_AT, AWAITED_TO = 21, 52\n"
        ));
        let (start, end) = span("LANE");
        assert_eq!(places.lines().last().unwrap(), format!("local LANE_AT, LANE_TO = {}, {end}", start + 1));
    }
}
