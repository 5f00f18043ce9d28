//! The hooks around a run: which are called, in what order, and that they can do no harm.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::filters::{JobFilter, StateElection};
use jobrunr_core::{Failure, HistoryEntry, Job, JobBuilder, JobContext, JobResult, JobState, StateName};

use crate::world::{Doing, Other, Work, World, pass, states, work};

pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// Writes down every call.
pub(crate) struct Writes(pub(crate) Log);

impl Writes {
    fn write(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }
}

#[async_trait]
impl JobFilter for Writes {
    fn elect_state(&self, election: &mut StateElection<'_>) {
        let states: Vec<_> = election.states().iter().map(|state| state.name().as_str()).collect();
        self.write(format!("elect {} -> {}", election.job().state_name(), states.join("+")));
    }

    async fn on_state_applied(&self, _: &Job, entry: &HistoryEntry) {
        self.write(format!("applied {}", entry.state.name()));
    }

    async fn on_processing(&self, job: &Job) {
        self.write(format!("processing {}", job.state_name()));
    }

    async fn on_succeeded(&self, job: &Job) {
        self.write(format!("succeeded {}", job.state_name()));
    }

    async fn on_failed(&self, _: &Job, failure: &Failure) {
        self.write(format!("failed: {}", failure.message));
    }

    async fn on_failed_after_retries(&self, _: &Job, failure: &Failure) {
        self.write(format!("failed after retries: {}", failure.message));
    }
}

/// A handler that writes down its runs and fails as long as the number is at least the attempt.
pub(crate) fn writing(
    log: &Log,
) -> Doing<impl Fn(Work, JobContext) -> std::future::Ready<JobResult> + use<>> {
    let log = Arc::clone(log);
    Doing(move |Work { number }: Work, context: JobContext| {
        log.lock().unwrap().push("run".to_owned());
        std::future::ready(if context.attempt() <= number { Err("no".into()) } else { Ok(()) })
    })
}

#[tokio::test(start_paused = true)]
async fn the_hooks_of_a_run_come_in_the_documented_order() {
    let world = World::new();
    let log = Log::default();
    let server = world
        .server()
        .filter(Writes(Arc::clone(&log)))
        .handle::<Work, _>(writing(&log))
        .start()
        .await
        .unwrap();

    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;

    let expected = [
        "applied PROCESSING",
        "processing PROCESSING",
        "run",
        "elect PROCESSING -> FAILED+SCHEDULED",
        "applied FAILED",
        "applied SCHEDULED",
        "failed: no",
        "applied ENQUEUED",
        "applied PROCESSING",
        "processing PROCESSING",
        "run",
        "elect PROCESSING -> SUCCEEDED",
        "applied SUCCEEDED",
        "succeeded SUCCEEDED",
    ];
    assert_eq!(*log.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn the_last_failure_has_a_hook_of_its_own() {
    let world = World::new();
    let log = Log::default();
    let filter = Writes(Arc::clone(&log));
    let server = world.server().filter(filter).handle::<Work, _>(writing(&log)).start().await.unwrap();

    let id = world.create(JobBuilder::new(work(1)).retries(0)).await;
    world.job_in(id, StateName::Failed).await;
    server.stop().await;

    let expected = [
        "applied PROCESSING",
        "processing PROCESSING",
        "run",
        "elect PROCESSING -> FAILED",
        "applied FAILED",
        "failed after retries: no",
    ];
    assert_eq!(written(&log), expected);
}

/// What was written down since the last time.
pub(crate) fn written(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn deleting_requeuing_and_rescheduling_are_told_to_the_filters_of_who_does_it() {
    let world = World::new();
    let log = Log::default();
    let scheduler = world.scheduler.clone().filter(Writes(Arc::clone(&log)));

    let id = scheduler.enqueue(work(1)).await.unwrap();
    scheduler.delete(id, "not needed").await.unwrap();
    scheduler.requeue(id).await.unwrap();
    scheduler.reschedule(id, world.now()).await.unwrap();

    assert_eq!(
        written(&log),
        ["applied ENQUEUED", "applied DELETED", "applied ENQUEUED", "applied SCHEDULED"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_whose_job_was_deleted_is_told_to_nobody() {
    let world = World::new();
    let log = Log::default();
    let server = world
        .server()
        .filter(Writes(Arc::clone(&log)))
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| {
            context.cancellation_token().cancelled().await;
            Ok(())
        }))
        .start()
        .await
        .unwrap();
    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Processing).await;
    pass(Duration::from_secs(1)).await;

    world.scheduler.delete(id, "not needed").await.unwrap();
    pass(Duration::from_secs(60)).await;
    server.stop().await;

    assert_eq!(written(&log), ["applied PROCESSING", "processing PROCESSING"]);
}

#[tokio::test(start_paused = true)]
async fn the_job_of_a_dead_server_is_a_failed_run_to_the_filters_of_the_master() {
    let world = World::new();
    let hanging = Doing(async |_: Work, _| std::future::pending::<JobResult>().await);
    let log = Log::default();
    let builder = world.server().name("dying").filter(Writes(Arc::clone(&log)));
    let dying = builder.handle::<Work, _>(hanging).start().await.unwrap();
    let retried = world.enqueue(0).await;
    let last = world.create(JobBuilder::new(work(0)).retries(0)).await;
    world.until_count(StateName::Processing, 2).await;
    pass(Duration::from_secs(1)).await;
    let claimed = ["applied PROCESSING", "processing PROCESSING"];
    assert_eq!(written(&log), [claimed, claimed].concat());
    drop(dying);

    // It has no handler for these jobs, so nothing but the rescue is written down.
    let other = Doing(async |_: Other, _| Ok(()));
    let filter = Writes(Arc::clone(&log));
    let master = world.server().filter(filter).handle::<Other, _>(other).start().await.unwrap();
    world.job_in(retried, StateName::Enqueued).await;
    world.job_in(last, StateName::Failed).await;
    master.stop().await;

    let written = written(&log);
    let (elections, told): (Vec<_>, Vec<_>) = written.iter().partition(|hook| hook.starts_with("elect"));
    assert_eq!(elections.len(), 2);
    assert!(elections.contains(&&"elect PROCESSING -> FAILED+ENQUEUED".to_owned()), "{elections:?}");
    assert!(elections.contains(&&"elect PROCESSING -> FAILED".to_owned()), "{elections:?}");
    let position = |beginning: &str| told.iter().position(|hook| hook.starts_with(beginning)).unwrap();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told[position("applied ENQUEUED") - 1] == "applied FAILED");
    assert_eq!(position("failed: the server dying"), position("applied ENQUEUED") + 1);
    assert!(told[position("failed after retries: the server dying") - 1] == "applied FAILED");
}

#[tokio::test(start_paused = true)]
async fn the_hooks_of_an_external_job_part_its_trigger_from_its_end() {
    let world = World::new();
    let (log, signals) = (Log::default(), Log::default());
    let filter = Writes(Arc::clone(&log));
    let server = world.server().filter(filter).handle::<Work, _>(writing(&log)).start().await.unwrap();
    let scheduler = world.scheduler.clone().filter(Writes(Arc::clone(&signals)));
    let id = world.create(JobBuilder::external(work(0))).await;
    world.job_in(id, StateName::Processed).await;

    scheduler.signal_succeeded(id, 1).await.unwrap();
    server.stop().await;

    let trigger = [
        "applied PROCESSING",
        "processing PROCESSING",
        "run",
        "elect PROCESSING -> PROCESSED",
        "applied PROCESSED",
    ];
    assert_eq!(written(&log), trigger);
    let end = ["elect PROCESSED -> SUCCEEDED", "applied SUCCEEDED", "succeeded SUCCEEDED"];
    assert_eq!(written(&signals), end);
}

#[tokio::test(start_paused = true)]
async fn a_filter_elects_another_state() {
    struct DeletesInsteadOfFailing;
    #[async_trait]
    impl JobFilter for DeletesInsteadOfFailing {
        fn elect_state(&self, election: &mut StateElection<'_>) {
            if election.states()[0].name() == StateName::Failed {
                election.replace([JobState::Deleted { reason: Some("not worth it".into()) }]);
            }
        }
    }
    let world = World::new();
    let log = Log::default();
    let server = world
        .server()
        .filter(DeletesInsteadOfFailing)
        .handle::<Work, _>(writing(&log))
        .start()
        .await
        .unwrap();

    let id = world.enqueue(1).await;

    let job = world.job_in(id, StateName::Deleted).await;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "DELETED"]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn filters_that_panic_or_elect_nonsense_do_no_harm() {
    struct Harmful;
    #[async_trait]
    impl JobFilter for Harmful {
        fn elect_state(&self, election: &mut StateElection<'_>) {
            election.replace([JobState::Processed {}, JobState::enqueued()]);
        }

        async fn on_processing(&self, _: &Job) {
            panic!("on processing")
        }

        async fn on_state_applied(&self, _: &Job, _: &HistoryEntry) {
            panic!("on state applied")
        }

        async fn on_succeeded(&self, _: &Job) {
            panic!("on succeeded")
        }
    }
    let world = World::new();
    let log = Log::default();
    let server = world.server().filter(Harmful).handle::<Work, _>(writing(&log)).start().await.unwrap();

    let id = world.enqueue(0).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_election_that_panics_changes_nothing_and_the_filters_after_it_elect_all_the_same() {
    struct Panics;
    #[async_trait]
    impl JobFilter for Panics {
        fn elect_state(&self, election: &mut StateElection<'_>) {
            election.replace([JobState::Deleted { reason: None }]);
            panic!("elect state")
        }
    }
    let world = World::new();
    let log = Log::default();
    let builder = world.server().filter(Panics).filter(Writes(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(writing(&log)).start().await.unwrap();

    let id = world.enqueue(0).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    server.stop().await;
    assert!(written(&log).contains(&"elect PROCESSING -> SUCCEEDED".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_elects_nothing_at_all_is_passed_over() {
    struct ElectsNothing;
    #[async_trait]
    impl JobFilter for ElectsNothing {
        fn elect_state(&self, election: &mut StateElection<'_>) {
            election.replace([]);
        }
    }
    let world = World::new();
    let log = Log::default();
    let server = world.server().filter(ElectsNothing).handle::<Work, _>(writing(&log)).start().await.unwrap();

    let id = world.enqueue(0).await;

    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_never_ends_keeps_nothing_from_being_saved() {
    struct Hangs;
    #[async_trait]
    impl JobFilter for Hangs {
        async fn on_succeeded(&self, _: &Job) {
            std::future::pending().await
        }
    }
    let world = World::new();
    let log = Log::default();
    let server = world.server().filter(Hangs).handle::<Work, _>(writing(&log)).start().await.unwrap();

    world.scheduler.enqueue_all(std::iter::repeat_n(work(0), 20)).await.unwrap();

    world.until_count(StateName::Succeeded, 20).await;
    pass(Duration::from_secs(1)).await;
    server.stop().await;
}
