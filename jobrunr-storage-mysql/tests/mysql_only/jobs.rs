//! Jobs for tests, and the times they are made at.

use std::time::Duration;

use chrono::{DateTime, Utc};
use jobrunr_core::storage::{ClaimRequest, ServerAnnouncement};
use jobrunr_core::{Job, JobDefinition, JobId, JobState, JsonText, ServerId, ServerRef};

/// So many seconds after the beginning of the tests' time.
pub(crate) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600 + second, 0).unwrap()
}

pub(crate) fn a_job(state: JobState) -> Job {
    let payload = JsonText::of("payload").unwrap();
    Job::new(JobId::new(), JobDefinition::new("mail".parse().unwrap(), payload), state, at(0)).unwrap()
}

pub(crate) fn enqueued_jobs(count: usize) -> Vec<Job> {
    (0..count).map(|_| a_job(JobState::enqueued())).collect()
}

pub(crate) fn a_server() -> ServerRef {
    ServerRef { id: ServerId::new(), name: "one".to_owned() }
}

pub(crate) fn a_claim(limit: usize) -> ClaimRequest {
    ClaimRequest::new(a_server(), limit, at(10))
}

pub(crate) fn an_announcement() -> ServerAnnouncement {
    let ServerRef { id, name } = a_server();
    ServerAnnouncement {
        id,
        name,
        workers: 8,
        poll_interval: Duration::from_secs(15),
        server_timeout: Duration::from_secs(60),
        queues: Vec::new(),
        signatures: Vec::new(),
    }
}
