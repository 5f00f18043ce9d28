//! What the suite cannot know: outages, lost answers, poolers, older schemas, the caller's own transactions.

#![expect(clippy::unwrap_used, reason = "what helps tests is part of them")]

mod support;

#[path = "postgres_only/answers.rs"]
mod answers;
#[path = "postgres_only/bulk.rs"]
mod bulk;
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
#[path = "postgres_only/outcomes.rs"]
mod outcomes;
#[path = "postgres_only/plans.rs"]
mod plans;
#[path = "postgres_only/pooler.rs"]
mod pooler;
#[path = "postgres_only/schema.rs"]
mod schema;
#[path = "postgres_only/setting.rs"]
mod setting;
#[path = "postgres_only/stalls.rs"]
mod stalls;
#[path = "postgres_only/transactions.rs"]
mod transactions;

use chrono::{DateTime, Utc};
use jobrunr_core::{
    Job, JobContext, JobDefinition, JobHandler, JobId, JobRequest, JobResult, JobState, JsonText, QueueName,
    ServerId, ServerRef,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000 + second, 0).unwrap()
}

fn an_enqueued_job() -> Job {
    an_enqueued_job_in(QueueName::default())
}

fn an_enqueued_job_in(queue: QueueName) -> Job {
    an_enqueued_job_of("mail", queue)
}

fn an_enqueued_job_of(signature: &str, queue: QueueName) -> Job {
    let mut definition = JobDefinition::new(signature.parse().unwrap(), JsonText::of(&"hello").unwrap());
    definition.queue = queue;
    Job::new(JobId::new(), definition, JobState::enqueued(), at(0)).unwrap()
}

fn a_server() -> ServerRef {
    ServerRef { id: ServerId::new(), name: "one".to_owned() }
}

#[derive(Serialize, Deserialize)]
struct Greet {}

impl JobRequest for Greet {
    const JOB_TYPE: &'static str = "greet";
}

/// Tells of each run.
struct Greeter {
    ran: UnboundedSender<()>,
}

impl JobHandler<Greet> for Greeter {
    type Output = ();

    async fn run(&self, _: Greet, _: &JobContext) -> JobResult {
        // The test may have ended.
        let _ = self.ran.send(());
        Ok(())
    }
}
