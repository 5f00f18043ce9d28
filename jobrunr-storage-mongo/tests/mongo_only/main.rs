//! What the suite cannot know: MongoDB killed, failed over, asked for its plans, refusing users.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod clocks;
mod counts;
mod errors;
mod failover;
mod hints;
mod majority;
mod outage;
mod plans;
mod plans_of_searches;
mod schema;
mod servers;
mod transactions;

use std::time::Duration;

use chrono::{DateTime, Utc};
use jobrunr_core::recurring::{JobTemplate, RecurringJob};
use jobrunr_core::schedule::Cron;
use jobrunr_core::storage::{ServerAnnouncement, SetUp, StorageProvider};
use jobrunr_core::{Job, JobDefinition, JobId, JobState, JsonText, ServerId, ServerRef};
use jobrunr_storage_mongo::MongoStorage;

use support::{Fresh, Mongo};

/// A storage that is set up, in a database of its own, behind a proxy.
async fn a_storage_on(server: Mongo) -> Option<(Fresh, MongoStorage)> {
    let fresh = server.fresh().await?;
    let storage = fresh.open_mongo(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    Some((fresh, storage))
}

/// An instant, in seconds after the beginning of 2026.
fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600 + second, 0).unwrap()
}

fn a_definition() -> JobDefinition {
    JobDefinition::new("work".parse().unwrap(), JsonText::of(&42).unwrap())
}

fn an_enqueued_job() -> Job {
    Job::new(JobId::new(), a_definition(), JobState::enqueued(), at(0)).unwrap()
}

fn a_server() -> ServerRef {
    ServerRef { id: ServerId::new(), name: "one".into() }
}

fn an_announcement() -> ServerAnnouncement {
    ServerAnnouncement {
        id: ServerId::new(),
        name: "one".to_owned(),
        workers: 1,
        poll_interval: Duration::from_secs(15),
        server_timeout: Duration::from_secs(60),
        queues: Vec::new(),
        signatures: Vec::new(),
    }
}

fn a_recurring_job(id: &str) -> RecurringJob {
    let template = JobTemplate::from(&a_definition());
    RecurringJob::new(id.parse().unwrap(), Cron::hourly().into(), template, at(0))
}
