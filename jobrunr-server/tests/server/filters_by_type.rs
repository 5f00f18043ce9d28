//! Filters for one type of job among those for all.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::filters::{JobFilter, StateElection};
use jobrunr_core::{Failure, HistoryEntry, Job, JobBuilder, JobDraft, OnJobType, StateName};

use crate::filters::{Log, writing, written};
use crate::world::{Doing, Other, Work, World, pass, work};

/// Writes down its name with each hook that tells how jobs come and go.
pub(crate) struct Signs(pub(crate) &'static str, pub(crate) Log);

impl Signs {
    fn sign(&self, hook: &str) {
        self.1.lock().unwrap().push(format!("{}: {hook}", self.0));
    }
}

#[async_trait]
impl JobFilter for Signs {
    fn on_creating(&self, _: &mut JobDraft) {
        self.sign("creating");
    }

    async fn on_created(&self, _: &Job) {
        self.sign("created");
    }

    fn elect_state(&self, _: &mut StateElection<'_>) {
        self.sign("elect");
    }

    async fn on_state_applied(&self, _: &Job, entry: &HistoryEntry) {
        self.sign(&format!("applied {}", entry.state.name()));
    }

    async fn on_processing(&self, _: &Job) {
        self.sign("processing");
    }

    async fn on_succeeded(&self, _: &Job) {
        self.sign("succeeded");
    }

    async fn on_failed(&self, _: &Job, _: &Failure) {
        self.sign("failed");
    }

    async fn on_failed_after_retries(&self, _: &Job, _: &Failure) {
        self.sign("failed after retries");
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_for_one_type_takes_its_turn_and_sees_no_other_jobs() {
    let world = World::new();
    let log = Log::default();
    let signs = |name| Signs(name, Arc::clone(&log));
    let scheduler = world
        .scheduler
        .clone()
        .filter(signs("first"))
        .filter(OnJobType::of::<Work>(signs("work")))
        .filter(signs("last"));
    let server = world
        .server()
        .workers(1)
        .filter(OnJobType::of::<Work>(signs("work")))
        .filter(signs("all"))
        .filter(OnJobType::named(["labour", "other"], signs("other")))
        .handle::<Work, _>(writing(&Log::default()))
        .handle::<Other, _>(Doing(async |_: Other, _| Ok(())))
        .start()
        .await
        .unwrap();

    let other = scheduler.enqueue(Other {}).await.unwrap();
    world.job_in(other, StateName::Succeeded).await;
    pass(Duration::from_secs(1)).await;
    let hooks = ["applied PROCESSING", "processing", "elect", "applied SUCCEEDED", "succeeded"];
    let created = ["first: creating", "last: creating", "first: created", "last: created"];
    let created = created.into_iter().chain(["first: applied ENQUEUED", "last: applied ENQUEUED"]);
    let ran = hooks.iter().flat_map(|hook| ["all", "other"].map(|name| format!("{name}: {hook}")));
    let expected: Vec<String> = created.map(str::to_owned).chain(ran).collect();
    assert_eq!(written(&log), expected);

    let failing = scheduler.create(JobBuilder::new(work(9)).retries(1)).await.unwrap();
    world.job_in(failing, StateName::Failed).await;
    server.stop().await;
    let written = written(&log);
    let of_work: Vec<_> = written.iter().filter_map(|hook| hook.strip_prefix("work: ")).collect();
    let expected = [
        "creating",
        "created",
        "applied ENQUEUED",
        "applied PROCESSING",
        "processing",
        "elect",
        "applied FAILED",
        "applied SCHEDULED",
        "failed",
        "applied ENQUEUED",
        "applied PROCESSING",
        "processing",
        "elect",
        "applied FAILED",
        "failed after retries",
    ];
    assert_eq!(of_work, expected);
    assert!(!written.iter().any(|hook| hook.starts_with("other: ")), "{written:?}");
    let of_all = written.iter().filter(|hook| hook.starts_with("all: ")).count();
    assert_eq!(of_all, expected.len() - 3, "beside it the filter for all jobs is called");
}
