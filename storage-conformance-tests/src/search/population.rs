//! A varied population, the criteria to look for in it, and what each means, told by a few lines of Rust.

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::storage::{BoxError, JobOrder, JobQuery, SignatureSelection, StorageProvider, TimeWindow};
use jobrunr_core::{Failure, FailureKind, Job, JobId, JobState, ServerId, ServerRef, StateName};
use uuid::Uuid;

use crate::builders::{a_job, at, insert_all, numbered_id, queue, recurring_id, signature};

/// The servers of the population; 0 and 1 are alive, say the criteria.
pub(super) fn server_id(number: u64) -> ServerId {
    ServerId::from(Uuid::from_u128(0x5e_0000_0000 + u128::from(number)))
}

const LABELS: [&[&str]; 6] = [
    &[],
    &["tenant"],
    &["tenant", "tenant:1"],
    &["100%", "a_b"],
    &["TENANT", "axb"],
    &["a_b", "tenant", "über"],
];
const NAMES: [&str; 6] =
    ["Send invoice", "send INVOICE 2", "50% off", "50x off", "under_score \\ back", "underxscore Über"];
const ERRORS: [&str; 4] =
    ["Connection refused", "connection RESET by 100% of peers", "disk_full \\ now", "diskxfull"];
const QUEUES: [&str; 3] = ["default", "high", "low_prio"];
const TYPES: [&str; 4] = ["mail", "mail-2", "print", "100%"];
const TICKS: [Option<&str>; 3] = [None, Some("nightly"), Some("nightly_2")];

fn pick<T: Copy>(values: &[T], number: usize) -> T {
    values[number % values.len()]
}

/// Inserts 320 jobs in all states, of all kinds; no two properties go together.
pub(super) async fn insert_population(storage: &dyn StorageProvider) -> Result<Vec<Job>, BoxError> {
    let mut jobs: Vec<Job> = (0..320).map(nth_job).collect();
    insert_all(storage, &mut jobs).await?;
    Ok(jobs)
}

fn nth_job(number: usize) -> Job {
    // Scattered by multiplication so that no property is a function of another.
    let scattered = number * 7_919 + number / 7 * 31 + number / 3;
    let created_at = at(i64::try_from(scattered % 40).expect("small"));
    let mut job = a_job()
        .id(numbered_id(u64::try_from(number * 101 % 320).expect("small")))
        .named(pick(&NAMES, scattered / 5))
        .labelled(pick(&LABELS, scattered / 3))
        .in_queue(pick(&QUEUES, scattered / 11))
        .of_type(pick(&TYPES, scattered / 13));
    if let Some(recurring) = pick(&TICKS, scattered / 17) {
        job = job.tick_of(recurring);
    }
    let state = pick(&StateName::ALL, number);
    live(job.first(first_state(state, scattered, created_at), created_at), state, scattered)
}

fn first_state(aim: StateName, scattered: usize, created_at: DateTime<Utc>) -> JobState {
    let scheduled_at = created_at + TimeDelta::seconds(i64::try_from(scattered % 9).expect("small"));
    match aim {
        StateName::Awaiting => {
            let job = (!scattered.is_multiple_of(3)).then(|| awaited(scattered));
            JobState::Awaiting { job, reason: None }
        }
        StateName::Scheduled => JobState::scheduled(scheduled_at),
        _ if scattered.is_multiple_of(4) => JobState::scheduled(scheduled_at),
        _ if scattered.is_multiple_of(9) => {
            JobState::Awaiting { job: Some(awaited(scattered)), reason: None }
        }
        _ => JobState::enqueued(),
    }
}

fn awaited(scattered: usize) -> JobId {
    numbered_id(9_000 + u64::try_from(scattered % 2).expect("small"))
}

/// Lets a job live until it is in the state it aims for, some after failed runs on other servers.
fn live(mut job: Job, aim: StateName, scattered: usize) -> Job {
    let mut now = job.created_at();
    let mut step = |job: &mut Job, state: JobState| {
        now += TimeDelta::seconds(1);
        job.transition(state, now).expect("the population lives legally");
    };
    let claim = |number: usize| {
        let server =
            ServerRef { id: server_id(u64::try_from(number % 4).expect("small")), name: "s".to_owned() };
        JobState::Processing { server_id: server.id, server_name: server.name }
    };
    let failed = |number: usize| JobState::failed(Failure::new(FailureKind::Error, pick(&ERRORS, number)));
    if matches!(aim, StateName::Awaiting | StateName::Scheduled) {
        return job;
    }
    if job.state_name() != StateName::Enqueued {
        step(&mut job, JobState::enqueued());
    }
    for run in 0..scattered % 3 {
        step(&mut job, claim(scattered / 19 + run));
        step(&mut job, failed(scattered / 23 + run));
        step(&mut job, JobState::enqueued());
    }
    match aim {
        StateName::Enqueued => {}
        StateName::Deleted => step(&mut job, JobState::Deleted { reason: None }),
        _ => {
            step(&mut job, claim(scattered / 29));
            match aim {
                StateName::Processed => step(&mut job, JobState::Processed {}),
                StateName::Failed => step(&mut job, failed(scattered / 37)),
                StateName::Succeeded => {
                    let success = job.success(None, job.updated_at());
                    step(&mut job, success);
                }
                _ => {}
            }
        }
    }
    job
}

/// One condition, as a query says it and as Rust does.
pub(super) struct Criterion {
    pub(super) name: &'static str,
    pub(super) add: fn(JobQuery) -> JobQuery,
    pub(super) fits: fn(&Job) -> bool,
}

fn name_has(job: &Job, lower_case: &str) -> bool {
    job.name().to_ascii_lowercase().contains(lower_case)
}

fn error_has(job: &Job, lower_case: &str) -> bool {
    job.last_failure().is_some_and(|failure| failure.message.to_ascii_lowercase().contains(lower_case))
}

macro_rules! criterion {
    ($name:literal, $add:expr, $fits:expr) => {
        Criterion { name: $name, add: $add, fits: $fits }
    };
}

/// Every kind of condition, awkward values included. Two that touch the same field of a query cannot be paired: the
/// later one would replace the earlier one, so a pair is left out if it does not keep both.
pub(super) const CRITERIA: &[Criterion] = &[
    criterion!("one state", |q| with_states(q, &[StateName::Failed]), |j| j.state_name()
        == StateName::Failed),
    criterion!(
        "several states",
        |q| with_states(q, &[StateName::Succeeded, StateName::Processing, StateName::Scheduled]),
        |j| matches!(j.state_name(), StateName::Succeeded | StateName::Processing | StateName::Scheduled)
    ),
    criterion!("one label", |q| q.label("tenant"), |j| j.labels().contains("tenant")),
    criterion!("two labels", |q| q.label("a_b").label("tenant"), |j| j.labels().contains("tenant")
        && j.labels().contains("a_b")),
    criterion!("a label with a wildcard", |q| q.label("100%"), |j| j.labels().contains("100%")),
    criterion!("a label that nobody has", |q| q.label("ten"), |_| false),
    criterion!("queue", |q| q.queue(queue("high")), |j| j.queue() == "high"),
    criterion!("one type", |q| q.signature(signature("mail")), |j| j.signature() == "mail"),
    criterion!(
        "several types",
        |q| q.signatures(SignatureSelection::Only(vec![signature("100%"), signature("print")])),
        |j| j.signature() == "100%" || j.signature() == "print"
    ),
    criterion!(
        "all types but one",
        |q| q.signatures(SignatureSelection::Except(vec![signature("mail")])),
        |j| j.signature() != "mail"
    ),
    criterion!("no type", |q| q.signatures(SignatureSelection::Only(Vec::new())), |_| false),
    criterion!("name", |q| q.name_contains("iNVoice"), |j| name_has(j, "invoice")),
    criterion!("name with %", |q| q.name_contains("0% O"), |j| name_has(j, "0% o")),
    criterion!("name with _", |q| q.name_contains("r_s"), |j| name_has(j, "r_s")),
    criterion!("name with \\", |q| q.name_contains("\\ "), |j| name_has(j, "\\ ")),
    criterion!("name beyond ASCII", |q| q.name_contains("Über"), |j| j.name().contains("Über")),
    criterion!("recurring job", |q| q.recurring_job_id(recurring_id("nightly")), |j| j
        .recurring_job_id()
        .is_some_and(|id| id == "nightly")),
    criterion!("server", |q| q.server_id(server_id(1)), |j| j.server_id() == Some(server_id(1))),
    criterion!("none of some servers", |q| q.server_not_in([server_id(0), server_id(1)]), |j| j
        .server_id()
        .is_some_and(|id| id != server_id(0) && id != server_id(1))),
    criterion!("none of no servers", |q| q.server_not_in([]), |j| j.server_id().is_some()),
    criterion!("awaited job", |q| q.awaited_job_id(numbered_id(9_000)), |j| j.awaited_job_id()
        == Some(numbered_id(9_000))),
    criterion!("created from", |q| q.created(TimeWindow::from(at(20))), |j| j.created_at() >= at(20)),
    criterion!("created between", |q| q.created(TimeWindow::between(at(5), at(25))), |j| j.created_at()
        >= at(5)
        && j.created_at() < at(25)),
    criterion!("updated before", |q| q.updated(TimeWindow::before(at(22))), |j| j.updated_at() < at(22)),
    criterion!("updated between", |q| q.updated(TimeWindow::between(at(10), at(40))), |j| j.updated_at()
        >= at(10)
        && j.updated_at() < at(40)),
    criterion!("scheduled from", |q| q.scheduled(TimeWindow::from(at(15))), |j| j
        .scheduled_at()
        .is_some_and(|due| due >= at(15))),
    criterion!("scheduled before", |q| q.scheduled(TimeWindow::before(at(30))), |j| j
        .scheduled_at()
        .is_some_and(|due| due < at(30))),
    criterion!("error", |q| q.error_contains("CONNECTION"), |j| error_has(j, "connection")),
    criterion!("any name", |q| q.name_contains(""), |_| true),
    criterion!("any error", |q| q.error_contains(""), |j| j.last_failure().is_some()),
    criterion!("error with _", |q| q.error_contains("k_f"), |j| error_has(j, "k_f")),
    criterion!("error with %", |q| q.error_contains("100% o"), |j| error_has(j, "100% o")),
];

fn with_states(mut query: JobQuery, states: &[StateName]) -> JobQuery {
    query.states = states.to_vec();
    query
}

/// The jobs of a population that fit, as a list must show them.
pub(super) fn expected(jobs: &[Job], order: JobOrder, fits: impl Fn(&Job) -> bool) -> Vec<Job> {
    let mut fitting: Vec<Job> = jobs.iter().filter(|job| fits(job)).cloned().collect();
    fitting.sort_by_key(|job| (order.field.of(job), job.id()));
    if order.descending {
        fitting.reverse();
    }
    fitting
}
