//! That a job in the kit goes the way it goes on a server: hooks, contexts, time limits, cancellation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use jobrunr_core::clock::TokioClock;
use jobrunr_core::filters::JobFilter;
use jobrunr_core::retry::FixedDelays;
use jobrunr_core::storage::{JobQuery, JobSearch as _, JobStore as _, StorageProvider as _};
use jobrunr_core::{
    Failure, FailureKind, HistoryEntry, Job, JobBuilder, JobContext, JobDraft, JobError, JobLog, JobResult,
    JobScheduler, MemoryStorage, MemoryStorageOptions, StateName,
};
use jobrunr_server::testing::TestKit;
use jobrunr_server::{BackgroundJobServer, BackgroundJobServerBuilder};

use crate::{Diary, Doing, Work, kit, work};

/// Notes each call of each hook, after the payload of the job.
struct Noting(Diary);

impl Noting {
    fn note(&self, job: &Job, line: impl std::fmt::Display) {
        self.0.note(format!("{}: {line}", job.payload().as_str()));
    }
}

/// What was noted, job by job: on a server jobs go on beside each other.
fn by_job(diary: &Diary) -> Vec<String> {
    let mut lines = diary.lines();
    lines.sort_by_key(|line| line.split("}: ").next().map(str::to_owned));
    lines
}

#[async_trait]
impl JobFilter for Noting {
    fn on_creating(&self, draft: &mut JobDraft) {
        self.0.note(format!("{}: creating", draft.definition.payload.as_str()));
    }

    async fn on_created(&self, job: &Job) {
        self.note(job, "created");
    }

    async fn on_state_applied(&self, job: &Job, entry: &HistoryEntry) {
        self.note(job, format!("applied {}", entry.state.name()));
    }

    async fn on_processing(&self, job: &Job) {
        self.note(job, "processing");
    }

    async fn on_succeeded(&self, job: &Job) {
        self.note(job, "succeeded");
    }

    async fn on_failed(&self, job: &Job, failure: &Failure) {
        self.note(job, format!("failed: {}", failure.message));
    }

    async fn on_failed_after_retries(&self, job: &Job, failure: &Failure) {
        self.note(job, format!("failed for good: {}", failure.message));
    }
}

/// Fails once, panics once, snoozes once, then succeeds; with number 2 it fails for good.
async fn moody(work: Work, context: JobContext) -> JobResult<u32> {
    if work.number == 2 {
        return Err(JobError::do_not_retry("not this one"));
    }
    match context.attempt() {
        1 => Err("the first attempt".into()),
        2 => panic!("the second attempt"),
        _ if context.save_if_absent("snoozed", &true).await? => Err(JobError::snooze(Duration::from_secs(5))),
        attempt => Ok(attempt),
    }
}

fn moody_server(diary: &Diary) -> impl FnOnce(BackgroundJobServerBuilder) -> BackgroundJobServerBuilder {
    let noting = Noting(diary.clone());
    |server| {
        let server = server.handle::<Work, _>(Doing(moody)).filter(noting);
        server.workers(1).retry_policy(FixedDelays::new([Duration::from_secs(7)]))
    }
}

async fn enqueue_both(scheduler: &JobScheduler) -> Vec<jobrunr_core::JobId> {
    vec![scheduler.enqueue(work(1)).await.unwrap(), scheduler.enqueue(work(2)).await.unwrap()]
}

fn states(job: &Job) -> Vec<StateName> {
    job.history().iter().map(|entry| entry.state.name()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_through_the_same_hooks_and_states_as_on_a_server() {
    let in_the_kit = Diary::default();
    let kit = TestKit::new(moody_server(&in_the_kit));
    let ids = enqueue_both(kit.scheduler()).await;
    let _ = kit.run_for(Duration::from_secs(60)).await;
    let kit_states = [states(&kit.job(ids[0]).await), states(&kit.job(ids[1]).await)];

    let on_a_server = Diary::default();
    let clock = Arc::new(TokioClock::starting_at(kit.now()));
    let memory =
        MemoryStorage::with_options(MemoryStorageOptions::default().clock(Arc::<TokioClock>::clone(&clock)));
    let builder = BackgroundJobServer::builder(Arc::new(memory.clone())).clock(clock);
    let server = moody_server(&on_a_server)(builder).start().await.unwrap();
    server.pause();
    let ids = enqueue_both(server.scheduler()).await;
    server.resume();
    let mut changes = memory.changes().unwrap().subscribe();
    let unfinished = JobQuery::in_states([StateName::Enqueued, StateName::Scheduled, StateName::Processing]);
    while memory.count_jobs(&unfinished).await.unwrap() > 0 {
        let _ = tokio::time::timeout(Duration::from_secs(60), changes.next()).await;
    }
    server.stop().await;
    let mut server_states = Vec::new();
    for id in ids {
        server_states.push(states(&memory.find_job(id).await.unwrap().unwrap()));
    }

    assert_eq!(kit_states.as_slice(), server_states);
    assert_eq!(by_job(&in_the_kit), by_job(&on_a_server));
    let claims = in_the_kit.lines().iter().filter(|line| line.ends_with(": applied PROCESSING")).count();
    let in_histories = kit_states.iter().flatten().filter(|state| **state == StateName::Processing).count();
    assert_eq!(claims, in_histories);
    assert!(by_job(&in_the_kit).iter().any(|line| line.ends_with(": failed for good: not this one")));
}

#[tokio::test]
async fn what_a_run_saves_logs_and_steps_through_is_kept_over_retries() {
    let diary = Diary::default();
    let own = diary.clone();
    let kit = TestKit::new(|server| {
        let stepping = move |_: Work, context: JobContext| {
            let diary = own.clone();
            async move {
                context.log().info(format!("attempt {}", context.attempt()));
                let paid: u32 = context
                    .run_step_once("pay", async {
                        diary.note("paid");
                        Ok(42)
                    })
                    .await?;
                if context.attempt() == 1 { Err(JobError::from("after the payment")) } else { Ok(paid) }
            }
        };
        server.handle::<Work, _>(Doing(stepping)).retry_policy(FixedDelays::new([Duration::ZERO]))
    });
    let id = kit.scheduler().enqueue(work(1)).await.unwrap();

    let runs = kit.run_all_enqueued().await;

    assert_eq!((runs.len(), runs[1].result::<u32>()), (2, 42));
    assert_eq!(diary.lines(), ["paid"]);
    let log = JobLog::of(&kit.job(id).await);
    let lines: Vec<_> = log.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines, ["attempt 1", "attempt 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_over_its_timeout_fails_and_a_long_one_keeps_its_lease() {
    let kit = kit(async |work: Work, context: JobContext| {
        tokio::time::sleep(Duration::from_secs(work.number.into())).await;
        context.save("slept", &work.number).await?;
        Ok(())
    });
    let builder = |number| JobBuilder::new(work(number)).retries(0);
    kit.scheduler().create(builder(60).timeout(Duration::from_secs(5))).await.unwrap();
    let long = kit.scheduler().create(builder(10_000)).await.unwrap();

    let runs = kit.run_all_enqueued().await;

    assert_eq!(runs[0].failure().unwrap().kind, FailureKind::TimedOut);
    assert_eq!(runs[1].state(), StateName::Succeeded);
    assert_eq!(kit.job(long).await.metadata()["slept"], 10_000);
}

#[tokio::test]
async fn a_job_that_is_deleted_while_it_runs_is_cancelled() {
    let kit = kit(async |_, context: JobContext| {
        context.scheduler().delete(context.job_id(), "changed my mind").await?;
        context.cancellation_token().cancelled().await;
        Ok(())
    });
    kit.scheduler().enqueue(work(1)).await.unwrap();

    let runs = kit.run_all_enqueued().await;

    assert_eq!((runs.len(), runs[0].state()), (1, StateName::Deleted));
    assert_eq!(runs[0].to_string(), "work (attempt 1) DELETED (changed my mind)");
}

#[tokio::test]
async fn a_payload_that_does_not_fit_fails_for_good() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Former {}
    impl jobrunr_core::JobRequest for Former {
        const JOB_TYPE: &'static str = "labour";
    }
    let kit = crate::kit_that_counts();
    kit.scheduler().enqueue(Former {}).await.unwrap();

    let runs = kit.run_all_enqueued().await;

    assert_eq!(runs.of::<Work>().len(), 1);
    assert_eq!(runs[0].failure().unwrap().kind, FailureKind::Undecodable);
    assert_eq!(runs[0].state(), StateName::Failed);
}
