//! What the suite cannot know: outages, lost answers, poolers, older schemas, the caller's own transactions.

#![expect(clippy::unwrap_used, reason = "what helps tests is part of them")]

mod support;

#[path = "postgres_only/answers.rs"]
mod answers;
#[path = "postgres_only/errors.rs"]
mod errors;
#[path = "postgres_only/gathering.rs"]
mod gathering;
#[path = "postgres_only/hints.rs"]
mod hints;
#[path = "postgres_only/notes.rs"]
mod notes;
#[path = "postgres_only/outage.rs"]
mod outage;
#[path = "postgres_only/plans.rs"]
mod plans;
#[path = "postgres_only/pooler.rs"]
mod pooler;
#[path = "postgres_only/schema.rs"]
mod schema;
#[path = "postgres_only/transactions.rs"]
mod transactions;

use chrono::{DateTime, Utc};
use jobrunr_core::{Job, JobDefinition, JobId, JobState, JsonText, ServerId, ServerRef};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000 + second, 0).unwrap()
}

fn an_enqueued_job() -> Job {
    let definition = JobDefinition::new("mail".parse().unwrap(), JsonText::of(&"hello").unwrap());
    Job::new(JobId::new(), definition, JobState::enqueued(), at(0)).unwrap()
}

fn a_server() -> ServerRef {
    ServerRef { id: ServerId::new(), name: "one".to_owned() }
}
