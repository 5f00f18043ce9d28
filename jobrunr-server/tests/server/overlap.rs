//! What a tick does while the run before has not ended.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::recurring::{MisfirePolicy, OverlapPolicy, RecurringJobBuilder};
use jobrunr_core::storage::JobStore;
use jobrunr_core::{Job, JobContext, JobError, JobId, JobResult, RecurringJobId, StateName};
use jobrunr_server::{BackgroundJobServer, BackgroundJobServerBuilder};
use tokio::sync::{Semaphore, mpsc};

use crate::faulty::{Fault, Faulty};
use crate::recurring::at;
use crate::world::{Doing, Work, World, next, pass, states, work};

const MINUTE: Duration = Duration::from_secs(60);

/// Runs of `Work` that tell their ticks when they start and end when they are let.
struct Gate {
    open: Arc<Semaphore>,
    started: mpsc::UnboundedReceiver<DateTime<Utc>>,
}

impl Gate {
    async fn start(builder: BackgroundJobServerBuilder) -> (BackgroundJobServer, Self) {
        let open = Arc::new(Semaphore::new(0));
        let (sender, started) = mpsc::unbounded_channel();
        let gate = Arc::clone(&open);
        let handler = Doing(move |_: Work, context: JobContext| {
            let (sender, gate) = (sender.clone(), Arc::clone(&gate));
            async move {
                sender.send(context.job().scheduled_at().unwrap_or_default())?;
                tokio::select! {
                    permit = gate.acquire() => permit?.forget(),
                    () = context.cancellation_token().cancelled() => return Err("cancelled".into()),
                }
                Ok(())
            }
        });
        let server = builder.handle::<Work, _>(handler).start().await.unwrap();
        (server, Self { open, started })
    }

    fn started(&mut self) -> Vec<DateTime<Utc>> {
        std::iter::from_fn(|| self.started.try_recv().ok()).collect()
    }
}

impl World {
    /// Has job 1 run every minute.
    pub(crate) async fn repeat_with(&self, overlap: OverlapPolicy) -> RecurringJobId {
        let builder = RecurringJobBuilder::new("* * * * *", work(1)).id("beat").overlap(overlap);
        self.scheduler.save_recurring_job(builder).await.unwrap()
    }

    async fn states_of_runs(&self, id: &RecurringJobId) -> Vec<StateName> {
        self.runs_of(id).await.iter().map(Job::state_name).collect()
    }
}

fn minute(number: i64) -> DateTime<Utc> {
    at("2027-01-15T08:00:00") + TimeDelta::minutes(number)
}

#[tokio::test(start_paused = true)]
async fn skip_passes_over_ticks_until_the_run_has_ended() {
    let world = World::new();
    let (server, mut gate) = Gate::start(world.server()).await;
    let id = world.repeat_with(OverlapPolicy::Skip).await;

    pass(3 * MINUTE + MINUTE / 2).await;
    assert_eq!(gate.started(), [minute(1)]);
    gate.open.add_permits(1);
    pass(MINUTE).await;

    assert_eq!(gate.started(), [minute(4)]);
    assert_eq!(world.states_of_runs(&id).await, [StateName::Succeeded, StateName::Processing]);
    let stored = world.scheduler.find_recurring_job(&id).await.unwrap().unwrap();
    assert_eq!((stored.last_tick_at, stored.open_runs.len()), (Some(minute(4)), 1));
    gate.open.add_permits(1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_its_retry_has_not_ended() {
    let world = World::new();
    let handler = Doing(async |_: Work, _: JobContext| -> JobResult {
        Err(JobError::retry_in(5 * MINUTE).caused_by("not now"))
    });
    let server = world.server().handle::<Work, _>(handler).start().await.unwrap();
    let builder = RecurringJobBuilder::new("* * * * *", work(1)).id("beat").retries(1);
    let id = world.scheduler.save_recurring_job(builder).await.unwrap();

    pass(7 * MINUTE + MINUTE / 2).await;

    assert_eq!(world.states_of_runs(&id).await, [StateName::Failed, StateName::Scheduled]);
    let ticks: Vec<_> = world.runs_of(&id).await.iter().map(|run| run.history()[0].at).collect();
    assert_eq!(ticks.len(), 2);
    assert!(ticks[1] >= minute(6), "{ticks:?}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn allow_runs_them_beside_each_other() {
    let world = World::new();
    let (server, mut gate) = Gate::start(world.server()).await;
    let id = world.repeat_with(OverlapPolicy::Allow).await;

    pass(3 * MINUTE + MINUTE / 2).await;

    assert_eq!(gate.started(), [minute(1), minute(2), minute(3)]);
    assert_eq!(world.states_of_runs(&id).await, [StateName::Processing; 3]);
    gate.open.add_permits(3);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn queue_one_has_one_run_wait_which_goes_on_when_the_other_ends() {
    let world = World::new();
    let (server, mut gate) = Gate::start(world.server()).await;
    let id = world.repeat_with(OverlapPolicy::QueueOne).await;

    pass(4 * MINUTE + MINUTE / 2).await;
    assert_eq!(gate.started(), [minute(1)]);
    let [first, waiting] = &world.runs_of(&id).await[..] else { panic!("one runs and one waits") };
    assert_eq!(first.state_name(), StateName::Processing);
    assert_eq!(states(waiting), ["SCHEDULED", "ENQUEUED", "AWAITING"]);
    assert_eq!((waiting.awaited_job_id(), waiting.scheduled_at()), (Some(first.id()), Some(minute(2))));

    let ended_at = world.now();
    gate.open.add_permits(1);
    assert_eq!(next(&mut gate.started).await, Some(minute(2)));
    assert!(world.now() - ended_at < TimeDelta::milliseconds(100), "at once");
    pass(MINUTE).await;
    assert_eq!(
        world.states_of_runs(&id).await,
        [StateName::Succeeded, StateName::Processing, StateName::Awaiting]
    );
    gate.open.add_permits(2);
    pass(MINUTE / 4).await;

    assert_eq!(gate.started(), [minute(5)]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_queued_run_starts_also_when_the_storage_refuses_the_outcome_of_the_one_before() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let (server, mut gate) = Gate::start(world.server_over(storage.shared())).await;
    let id = world.repeat_with(OverlapPolicy::QueueOne).await;
    storage.refuse_saves_of(JobId::of_tick(&id, minute(1)));
    // Between two polls, which would find it too.
    pass(2 * MINUTE + Duration::from_secs(37)).await;
    assert_eq!(gate.started(), [minute(1)]);

    let ended_at = world.now();
    gate.open.add_permits(1);

    assert_eq!(next(&mut gate.started).await, Some(minute(2)));
    assert!(world.now() - ended_at < TimeDelta::milliseconds(100), "at once");
    assert_eq!(world.states_of_runs(&id).await, [StateName::Failed, StateName::Processing]);
    gate.open.add_permits(1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_run_goes_on_also_when_the_other_ends_unnoticed() {
    let world = World::new();
    let (server, mut gate) = Gate::start(world.server()).await;
    let id = world.repeat_with(OverlapPolicy::QueueOne).await;
    pass(2 * MINUTE + MINUTE / 2).await;
    assert_eq!(gate.started(), [minute(1)]);
    let first = world.runs_of(&id).await[0].id();

    world.scheduler.delete(first, "not needed").await.unwrap();

    assert_eq!(next(&mut gate.started).await, Some(minute(2)));
    assert!(world.now() < minute(3), "within a poll");
    gate.open.add_permits(1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn cancel_previous_deletes_the_run_and_starts_the_next() {
    let world = World::new();
    let (server, mut gate) = Gate::start(world.server()).await;
    let id = world.repeat_with(OverlapPolicy::CancelPrevious).await;

    pass(3 * MINUTE + MINUTE / 2).await;

    assert_eq!(gate.started(), [minute(1), minute(2), minute(3)]);
    let expected = [StateName::Deleted, StateName::Deleted, StateName::Processing];
    assert_eq!(world.states_of_runs(&id).await, expected);
    let runs = world.runs_of(&id).await;
    assert!(runs[1].updated_at() <= runs[2].created_at(), "first the one ends, then the other begins");
    gate.open.add_permits(1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ended_is_left_as_it_is_by_the_next() {
    let world = World::new();
    let (server, gate) = Gate::start(world.server()).await;
    gate.open.add_permits(10);
    let id = world.repeat_with(OverlapPolicy::CancelPrevious).await;

    pass(3 * MINUTE + MINUTE / 2).await;

    assert_eq!(world.states_of_runs(&id).await, [StateName::Succeeded; 3]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn missed_ticks_are_made_up_for_one_after_the_other() {
    let world = World::new();
    let builder = RecurringJobBuilder::new("0 * * * *", work(1))
        .id("hourly")
        .misfire(MisfirePolicy::RunAll { at_most: 3 });
    let id = world.scheduler.save_recurring_job(builder).await.unwrap();
    pass(210 * MINUTE).await;

    let (server, mut gate) = Gate::start(world.server()).await;
    for hour in 1..=3 {
        pass(MINUTE).await;
        assert_eq!(gate.started(), [minute(60 * hour)]);
        assert_eq!(world.runs_of(&id).await.len(), 3, "all are there from the beginning");
        gate.open.add_permits(1);
    }
    pass(MINUTE).await;

    assert_eq!(world.states_of_runs(&id).await, [StateName::Succeeded; 3]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_triggered_run_counts_as_one_that_has_not_ended() {
    let world = World::new();
    let (server, mut gate) = Gate::start(world.server()).await;
    let id = world.repeat_with(OverlapPolicy::Skip).await;
    pass(MINUTE / 2).await;

    let triggered = world.scheduler.trigger_recurring_job(&id).await.unwrap();
    pass(2 * MINUTE).await;

    assert_eq!(gate.started().len(), 1);
    assert_eq!(world.runs_of(&id).await.iter().map(Job::id).collect::<Vec<_>>(), [triggered]);
    gate.open.add_permits(1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_tick_was_not_noted_counts_too() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let id = world.repeat_with(OverlapPolicy::Skip).await;
    let doomed = world.server_over(storage.shared()).queues(["none"]);
    let (doomed, _) = Gate::start(doomed).await;
    storage.fail(|operation| if operation == "save_recurring_job" { Fault::Hang } else { Fault::None });
    pass(MINUTE + MINUTE / 4).await;
    drop(doomed);

    // The next tick is due when another one comes up, and the run of the first has not begun.
    pass(MINUTE).await;
    let second = world.server().queues(["none"]);
    let (server, _) = Gate::start(second).await;
    pass(MINUTE).await;

    let [only] = &world.runs_of(&id).await[..] else { panic!("one run") };
    assert_eq!(only.scheduled_at(), Some(minute(1)));
    assert!(world.memory.find_job(only.id()).await.unwrap().is_some());
    server.stop().await;
}
