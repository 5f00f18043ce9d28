//! Runs of a recurring job beside its ticks: how many of them it remembers, and what a tick makes of many.

use std::time::Duration;

use jobrunr_core::limits::MAX_OPEN_RUNS;
use jobrunr_core::recurring::{OverlapPolicy, RecurringJob};
use jobrunr_core::storage::RecurringJobStore;
use jobrunr_core::{Job, JobId, JobScheduler, RecurringJobId, StateName};

use crate::faulty::{Fault, Faulty};
use crate::recurring::Runs;
use crate::world::{World, pass};

const MINUTE: Duration = Duration::from_secs(60);

impl World {
    async fn paused(&self) -> RecurringJobId {
        let id = self.repeat_with(OverlapPolicy::Skip).await;
        self.scheduler.pause_recurring_job(&id).await.unwrap();
        id
    }

    async fn trigger(&self, id: &RecurringJobId) -> JobId {
        self.scheduler.trigger_recurring_job(id).await.unwrap()
    }

    async fn stored(&self, id: &RecurringJobId) -> RecurringJob {
        self.memory.find_recurring_job(id).await.unwrap().unwrap()
    }

    /// Writes more open runs into the row than a trigger or a tick would, as they are no more.
    async fn note_runs_that_are_gone(&self, id: &RecurringJobId, count: usize) {
        let mut job = self.stored(id).await;
        job.open_runs = (0..count).map(|_| JobId::new()).collect();
        self.memory.save_recurring_job(&job).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn of_runs_that_do_not_end_only_the_latest_are_remembered() {
    let world = World::new();
    let id = world.paused().await;

    let mut runs = Vec::new();
    for _ in 0..MAX_OPEN_RUNS + 10 {
        runs.push(world.trigger(&id).await);
    }

    assert_eq!(world.stored(&id).await.open_runs, runs[10..]);
}

#[tokio::test(start_paused = true)]
async fn runs_that_have_ended_are_forgotten_and_one_that_has_not_is_remembered_whatever_comes_after_it() {
    let world = World::new();
    let id = world.paused().await;

    let lasting = world.trigger(&id).await;
    for _ in 0..100 {
        let run = world.trigger(&id).await;
        world.scheduler.delete(run, "it has ended").await.unwrap();
    }

    let open_runs = world.stored(&id).await.open_runs;
    assert_eq!(open_runs[0], lasting);
    assert!(open_runs.len() < 10, "{} are remembered", open_runs.len());
}

#[tokio::test(start_paused = true)]
async fn a_tick_looks_at_many_runs_side_by_side_and_at_no_more_than_are_remembered() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let id = world.repeat_with(OverlapPolicy::Skip).await;
    world.note_runs_that_are_gone(&id, 5 * MAX_OPEN_RUNS).await;
    let runs = Runs::default();
    let server = runs.noted_by(world.server_over(storage.shared())).start().await.unwrap();
    storage.fail(|operation| match operation {
        "find_job" => Fault::Late(Duration::from_millis(10)),
        _ => Fault::None,
    });

    pass(MINUTE + MINUTE / 2).await;

    let looks = storage.calls()["find_job"];
    assert!(looks <= MAX_OPEN_RUNS + 10, "{looks} looks");
    assert!(storage.most_at_once("find_job") > 1);
    assert!(runs.latest_start() < chrono::TimeDelta::seconds(1), "{} late", runs.latest_start());
    assert_eq!((runs.ticks().len(), world.stored(&id).await.open_runs.len()), (1, 1));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn cancel_previous_deletes_every_run_that_has_not_ended() {
    let world = World::new();
    let id = world.repeat_with(OverlapPolicy::CancelPrevious).await;
    for _ in 0..50 {
        world.trigger(&id).await;
    }

    let idle = Runs::default().noted_by(world.server().queues(["none"]));
    let server = idle.start().await.unwrap();
    pass(MINUTE + MINUTE / 2).await;

    let runs = world.runs_of(&id).await;
    let left: Vec<_> = runs.iter().filter(|run| run.state_name() != StateName::Deleted).collect();
    assert_eq!((runs.len(), left.len()), (51, 1));
    assert_eq!(world.stored(&id).await.open_runs, [left[0].id()]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_created_is_returned_also_if_its_recurring_job_cannot_be_saved() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let scheduler = JobScheduler::with_local_clock(storage.shared(), std::sync::Arc::clone(&world.clock));
    let id = world.paused().await;
    storage.fail(|operation| match operation {
        "save_recurring_job" => Fault::BeforeEffect,
        _ => Fault::None,
    });

    let run = scheduler.trigger_recurring_job(&id).await.unwrap();

    assert_eq!(world.runs_of(&id).await.iter().map(Job::id).collect::<Vec<_>>(), [run]);
    assert!(world.stored(&id).await.open_runs.is_empty(), "ticks take no notice of it");
    storage.fail(|operation| if operation == "insert_jobs" { Fault::BeforeEffect } else { Fault::None });
    assert!(scheduler.trigger_recurring_job(&id).await.is_err(), "nothing was created");
}
