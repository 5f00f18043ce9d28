//! Each claim that a server learns of is told as PROCESSING, once, whatever becomes of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::filters::JobFilter;
use jobrunr_core::storage::ServerStore;
use jobrunr_core::{HistoryEntry, Job, JobContext, JobId, JobResult, StateName};
use jobrunr_server::BackgroundJobServerBuilder;
use tokio::sync::mpsc;

use crate::faulty::{Fault, Faulty};
use crate::filters::{Log, Writes, writing, written};
use crate::outage::first;
use crate::world::{Doing, Other, Work, World, next, pass, states, work};

const SECOND: Duration = Duration::from_secs(1);

/// Writes down in which states a job had been when an entry of it was told.
struct Histories(Log);

#[async_trait]
impl JobFilter for Histories {
    async fn on_state_applied(&self, job: &Job, entry: &HistoryEntry) {
        let is_last = if job.history().last() == Some(entry) { "" } else { ", not its last entry" };
        let line = format!("{} {} after {}{is_last}", job.id(), entry.state.name(), states(job).join("+"));
        self.0.lock().unwrap().push(line);
    }
}

/// What is told of a job, without its id.
fn told_of(log: &Log, id: JobId) -> Vec<String> {
    let log = log.lock().unwrap();
    log.iter().filter_map(|line| line.strip_prefix(&format!("{id} "))).map(str::to_owned).collect()
}

/// A server with one worker, which one job keeps busy for ever, and one job claimed ahead.
async fn busy(
    world: &World,
    builder: BackgroundJobServerBuilder,
) -> (jobrunr_server::BackgroundJobServer, JobId) {
    let hanging = Doing(async |_: Work, _| std::future::pending::<JobResult>().await);
    let builder = builder.workers(1).prefetch(1);
    let server = builder.handle::<Work, _>(hanging).start().await.unwrap();
    world.enqueue(1).await;
    let ahead = world.enqueue(2).await;
    world.until_count(StateName::Processing, 2).await;
    pass(SECOND).await;
    (server, ahead)
}

const GIVEN_BACK: [&str; 2] =
    ["PROCESSING after ENQUEUED+PROCESSING", "ENQUEUED after ENQUEUED+PROCESSING+ENQUEUED"];

#[tokio::test(start_paused = true)]
async fn a_job_that_is_given_back_unstarted_is_told_as_claimed_before() {
    let world = World::new();
    let log = Log::default();
    let (server, ahead) = busy(&world, world.server().filter(Histories(Arc::clone(&log)))).await;
    assert!(told_of(&log, ahead).is_empty(), "it is told when its run begins, or does not");

    server.pause();
    pass(SECOND).await;

    assert_eq!(states(&world.job(ahead).await), ["ENQUEUED", "PROCESSING", "ENQUEUED"]);
    assert_eq!(told_of(&log, ahead), GIVEN_BACK);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_claimed_ahead_and_deleted_is_told_as_claimed_by_who_does_not_start_it() {
    let world = World::new();
    let log = Log::default();
    let (server, ahead) = busy(&world, world.server().filter(Histories(Arc::clone(&log)))).await;
    let scheduler = world.scheduler.clone().filter(Histories(Arc::clone(&log)));

    scheduler.delete(ahead, "not needed").await.unwrap();
    server.stop().await;

    let deleted = "DELETED after ENQUEUED+PROCESSING+DELETED";
    assert_eq!(told_of(&log, ahead), [deleted, GIVEN_BACK[0]], "the server knows nothing of the deletion");
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_got_lost_is_told_when_its_job_is_given_back() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let log = Log::default();
    let id = world.enqueue(0).await;
    storage.fail(first(1, "claim_jobs", Fault::AfterEffect));
    let builder = world.server_over(storage.shared()).filter(Histories(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(writing(&Log::default())).start().await.unwrap();

    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;

    let again = "ENQUEUED+PROCESSING+ENQUEUED+PROCESSING";
    let expected = [format!("PROCESSING after {again}"), format!("SUCCEEDED after {again}+SUCCEEDED")];
    let mut told = told_of(&log, id);
    // The run begins in a task of its own, and may be told of before what led to it.
    told.sort_by_key(String::len);
    assert_eq!(told[..2], GIVEN_BACK);
    assert_eq!(told[2..], expected);
}

#[tokio::test(start_paused = true)]
async fn what_a_server_held_when_it_was_declared_dead_is_told_as_claimed() {
    let world = World::new();
    let log = Log::default();
    let (server, ahead) = busy(&world, world.server().filter(Histories(Arc::clone(&log)))).await;

    world.memory.remove_server(server.id()).await.unwrap();
    world.job_when(ahead, |job| job.failures() == 1).await;
    pass(SECOND).await;

    let told = told_of(&log, ahead);
    assert_eq!(told.iter().filter(|line| *line == GIVEN_BACK[0]).count(), 1, "{told:?}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_answered_after_the_server_was_declared_dead_is_told_too() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let log = Log::default();
    let builder = world.server_over(storage.shared()).filter(Histories(Arc::clone(&log)));
    let id = world.enqueue(0).await;
    storage.fail(first(1, "claim_jobs", Fault::Late(Duration::from_secs(40))));
    let server = builder.handle::<Work, _>(writing(&Log::default())).start().await.unwrap();
    world.until_count(StateName::Processing, 1).await;

    world.memory.remove_server(server.id()).await.unwrap();
    world.job_in(id, StateName::Succeeded).await;
    pass(Duration::from_secs(60)).await;
    server.stop().await;

    let told = told_of(&log, id);
    assert_eq!(told.iter().filter(|line| *line == GIVEN_BACK[0]).count(), 1, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_does_not_fit_is_told_as_claimed_before_it_fails() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Former {}
    impl jobrunr_core::JobRequest for Former {
        const JOB_TYPE: &'static str = "work";
    }
    let world = World::new();
    let log = Log::default();
    let builder = world.server().filter(Writes(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(writing(&Log::default())).start().await.unwrap();

    let id = world.scheduler.enqueue(Former {}).await.unwrap();
    world.job_in(id, StateName::Failed).await;
    server.stop().await;

    let written = written(&log);
    let expected =
        ["applied PROCESSING", "processing PROCESSING", "elect PROCESSING -> FAILED", "applied FAILED"];
    assert_eq!(written[..4], expected);
    assert!(written[4].starts_with("failed after retries: "), "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn a_claimed_job_of_a_type_without_a_handler_is_told_as_claimed_before_it_is_given_back() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let log = Log::default();
    let id = world.scheduler.enqueue(Other {}).await.unwrap();
    storage.claim_any_type_once();
    let builder = world.server_over(storage.shared()).filter(Histories(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(writing(&Log::default())).start().await.unwrap();

    world.job_when(id, |job| job.history().len() == 3).await;
    server.stop().await;

    assert_eq!(told_of(&log, id), GIVEN_BACK);
}

#[tokio::test(start_paused = true)]
async fn a_requeued_job_is_told_as_claimed_anew() {
    let world = World::new();
    let log = Log::default();
    let builder = world.server().filter(Writes(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(writing(&Log::default())).start().await.unwrap();
    let id = world.enqueue(0).await;
    world.job_in(id, StateName::Succeeded).await;
    let run = ["applied PROCESSING", "processing PROCESSING", "elect PROCESSING -> SUCCEEDED"];
    let end = ["applied SUCCEEDED", "succeeded SUCCEEDED"];

    world.scheduler.clone().filter(Writes(Arc::clone(&log))).requeue(id).await.unwrap();
    world.job_when(id, |job| job.history().len() == 6).await;
    server.stop().await;

    let mut written = written(&log);
    // The scheduler tells of the requeuing while the server may have begun already.
    let requeued = written.iter().position(|hook| hook == "applied ENQUEUED").unwrap();
    written.remove(requeued);
    assert!(requeued >= run.len() + end.len(), "{requeued}");
    assert_eq!(written, [&run[..], &end, &run, &end].concat());
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_never_ends_for_a_claim_holds_up_its_run_for_a_while_and_no_other() {
    struct HangsAtFirst;
    #[async_trait]
    impl JobFilter for HangsAtFirst {
        async fn on_state_applied(&self, job: &Job, entry: &HistoryEntry) {
            if job.name() == "slow" && entry.state.name() == StateName::Processing {
                std::future::pending().await
            }
        }
    }
    let world = World::new();
    let (sender, mut started) = mpsc::unbounded_channel();
    let telling = Doing(move |Work { number }: Work, _: JobContext| {
        std::future::ready(sender.send(number).map_err(Into::into))
    });
    let builder = world.server().workers(2).filter(HangsAtFirst);
    let server = builder.handle::<Work, _>(telling).start().await.unwrap();
    let enqueued_at = world.now();

    world.create(jobrunr_core::JobBuilder::new(work(1)).name("slow")).await;
    world.scheduler.enqueue_all((2..12).map(work)).await.unwrap();

    for number in 2..12 {
        assert_eq!(next(&mut started).await, Some(number));
    }
    assert!(world.now() - enqueued_at < chrono::TimeDelta::seconds(1));
    assert_eq!(next(&mut started).await, Some(1), "its run begins without that filter");
    let waited = (world.now() - enqueued_at).num_seconds();
    assert!((30..=31).contains(&waited), "{waited} s");
    server.stop().await;
}
