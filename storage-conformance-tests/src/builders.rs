//! Making jobs, names and instants, so that a scenario shows only what matters to it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::recurring::{JobTemplate, RecurringJob};
use jobrunr_core::schedule::Cron;
use jobrunr_core::storage::{BoxError, ClaimRequest, ServerAnnouncement, StorageProvider};
use jobrunr_core::{
    Failure, FailureKind, Job, JobDefinition, JobId, JobSettings, JobSignature, JobState, JsonText, Label,
    Labels, QueueName, RecurringJobId, ServerId, ServerRef, StateName,
};
use serde_json::json;
use uuid::Uuid;

/// 2026-01-01T00:00:00Z, in seconds.
const BASE: i64 = 1_767_225_600;

/// An instant, in seconds after the beginning of 2026.
pub(crate) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(BASE + second, 0).expect("scenarios stay within the calendar")
}

/// An instant, in microseconds after the beginning of 2026.
pub(crate) fn at_micros(microsecond: i64) -> DateTime<Utc> {
    at(0) + TimeDelta::microseconds(microsecond)
}

/// The smallest step of time that storages keep.
pub(crate) const MICROSECOND: TimeDelta = TimeDelta::microseconds(1);

/// A server of this name, under a new id.
pub(crate) fn server(name: &str) -> ServerRef {
    ServerRef { id: ServerId::new(), name: name.to_owned() }
}

pub(crate) fn queue(text: &str) -> QueueName {
    QueueName::new(text).expect("scenarios use valid queue names")
}

pub(crate) fn signature(text: &str) -> JobSignature {
    JobSignature::new(text).expect("scenarios use valid signatures")
}

pub(crate) fn recurring_id(text: &str) -> RecurringJobId {
    RecurringJobId::new(text).expect("scenarios use valid ids of recurring jobs")
}

pub(crate) fn labels(texts: &[&str]) -> Labels {
    let labels = texts.iter().map(|text| Label::new(text).expect("scenarios use valid labels"));
    Labels::new(labels).expect("scenarios use few labels")
}

/// An id that sorts by its number.
pub(crate) fn numbered_id(number: u64) -> JobId {
    JobId::from(Uuid::from_u128((0x0190_0000_0000_7000_8000 << 48) | u128::from(number)))
}

/// A failure of an ordinary kind.
pub(crate) fn failure(message: &str) -> Failure {
    Failure::new(FailureKind::Error, message)
}

/// A claim of up to `limit` jobs of any type from all queues.
pub(crate) fn a_claim(limit: usize, now: DateTime<Utc>) -> ClaimRequest {
    ClaimRequest::new(server("claimer"), limit, now)
}

/// A job to be made; every setting has a default.
#[derive(Debug, Clone)]
pub(crate) struct JobBuilder {
    id: JobId,
    definition: JobDefinition,
}

/// A job with a small payload, in the default queue.
pub(crate) fn a_job() -> JobBuilder {
    let payload = JsonText::of(&json!({ "order": 42 })).expect("a literal is JSON");
    JobBuilder { id: JobId::new(), definition: JobDefinition::new(signature("send-invoice"), payload) }
}

/// A job that is ENQUEUED at the beginning of 2026.
pub(crate) fn an_enqueued_job() -> Job {
    a_job().enqueued(at(0))
}

/// So many of them, all alike but for their ids.
pub(crate) fn enqueued_jobs(count: usize) -> Vec<Job> {
    (0..count).map(|_| an_enqueued_job()).collect()
}

impl JobBuilder {
    pub(crate) fn id(mut self, id: JobId) -> Self {
        self.id = id;
        self
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        self.definition = self.definition.named(name);
        self
    }

    pub(crate) fn of_type(mut self, text: &str) -> Self {
        self.definition.signature = signature(text);
        self
    }

    pub(crate) fn in_queue(mut self, text: &str) -> Self {
        self.definition.queue = queue(text);
        self
    }

    pub(crate) fn priority(mut self, priority: i32) -> Self {
        self.definition.priority = priority;
        self
    }

    pub(crate) fn labelled(mut self, texts: &[&str]) -> Self {
        self.definition.labels = labels(texts);
        self
    }

    /// With this text as payload, byte for byte.
    pub(crate) fn payload(mut self, json: impl Into<std::sync::Arc<str>>) -> Self {
        self.definition.payload = JsonText::parse(json).expect("scenarios use valid JSON");
        self
    }

    pub(crate) fn settings(mut self, settings: JobSettings) -> Self {
        self.definition.settings = settings;
        self
    }

    pub(crate) fn tick_of(mut self, text: &str) -> Self {
        self.definition.settings.recurring_job_id = Some(recurring_id(text));
        self
    }

    /// The job, in this first state.
    pub(crate) fn first(self, state: JobState, now: DateTime<Utc>) -> Job {
        Job::new(self.id, self.definition, state, now).expect("scenarios begin jobs in a first state")
    }

    pub(crate) fn enqueued(self, now: DateTime<Utc>) -> Job {
        self.first(JobState::enqueued(), now)
    }

    pub(crate) fn scheduled(self, now: DateTime<Utc>, scheduled_at: DateTime<Utc>) -> Job {
        self.first(JobState::scheduled(scheduled_at), now)
    }

    /// The job after a short legal life that brought it to `state` at `now`, one second a step.
    pub(crate) fn in_state(self, state: StateName, now: DateTime<Utc>) -> Job {
        let path: &[StateName] = match state {
            StateName::Awaiting => &[StateName::Awaiting],
            StateName::Scheduled => &[StateName::Scheduled],
            StateName::Enqueued => &[StateName::Enqueued],
            StateName::Processing => &[StateName::Enqueued, StateName::Processing],
            StateName::Deleted => &[StateName::Enqueued, StateName::Deleted],
            ended => &[StateName::Enqueued, StateName::Processing, ended],
        };
        let steps = (0..path.len())
            .rev()
            .map(|left| now - TimeDelta::seconds(i64::try_from(left).expect("a life has few steps")));
        let mut steps = path.iter().zip(steps);
        let (first, started_at) = steps.next().expect("every life has a first step");
        let mut job = self.first(example_state(*first, started_at), started_at);
        for (next, reached_at) in steps {
            move_to(&mut job, *next, reached_at);
        }
        job
    }
}

/// Moves a job to a state of this name with ordinary contents.
pub(crate) fn move_to(job: &mut Job, state: StateName, now: DateTime<Utc>) {
    let state =
        if state == StateName::Succeeded { job.success(None, now) } else { example_state(state, now) };
    job.transition(state, now).expect("scenarios move jobs along the table of states");
}

fn example_state(state: StateName, now: DateTime<Utc>) -> JobState {
    match state {
        StateName::Awaiting => JobState::Awaiting { job: None, reason: Some("a permit".to_owned()) },
        StateName::Scheduled => JobState::scheduled(now + TimeDelta::hours(1)),
        StateName::Enqueued => JobState::enqueued(),
        StateName::Processing => {
            JobState::Processing { server_id: ServerId::new(), server_name: "worker".to_owned() }
        }
        StateName::Processed => JobState::Processed {},
        StateName::Failed => JobState::failed(failure("the printer is on fire")),
        StateName::Deleted => JobState::Deleted { reason: None },
        StateName::Succeeded => unreachable!("the success of a job follows from its history"),
    }
}

/// A recurring job that runs every hour, not saved yet, without a next run.
pub(crate) fn a_recurring_job(id: &str) -> RecurringJob {
    let template = JobTemplate::from(an_enqueued_job().definition());
    RecurringJob::new(recurring_id(id), Cron::hourly().into(), template, at(0))
}

/// What a server of this name, under a new id, says of itself.
pub(crate) fn an_announcement(name: &str) -> ServerAnnouncement {
    ServerAnnouncement {
        id: ServerId::new(),
        name: name.to_owned(),
        workers: 32,
        poll_interval: Duration::from_millis(15_001),
        server_timeout: Duration::from_micros(60_000_001),
        queues: vec![queue("high"), queue("default")],
        signatures: vec![signature("b"), signature("Zoë's \"type\"")],
    }
}

/// Inserts jobs of which none may exist; they count as stored afterwards.
pub(crate) async fn insert_all(storage: &dyn StorageProvider, jobs: &mut [Job]) -> Result<(), BoxError> {
    let report = storage.insert_jobs(jobs).await?;
    assert_eq!(report.already_present, [], "a new job was reported as already there");
    jobs.iter_mut().for_each(Job::mark_inserted);
    Ok(())
}

/// Inserts one job that may not exist, and returns it as it is stored.
pub(crate) async fn stored(storage: &dyn StorageProvider, mut job: Job) -> Result<Job, BoxError> {
    insert_all(storage, std::slice::from_mut(&mut job)).await?;
    Ok(job)
}

/// The ids of jobs, in their order.
pub(crate) fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(Job::id).collect()
}
