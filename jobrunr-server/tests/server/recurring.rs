//! Recurring jobs at their ticks: through a year and its changes of clocks, by several masters, and after times without any.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc};
use jobrunr_core::recurring::{MisfirePolicy, OverlapPolicy, RecurringJobBuilder};
use jobrunr_core::schedule::{Cron, IntoSchedule, Tz};
use jobrunr_core::storage::{JobQuery, JobSearch, JobStore, RecurringJobStore};
use jobrunr_core::{Job, JobContext, JobId, RecurringJobId, StateName};
use jobrunr_server::{BackgroundJobServerBuilder, Keep, Retention};

use crate::faulty::{Fault, Faulty};
use crate::world::{Doing, Work, World, pass, seconds, work};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A tick, and when its run started.
type Run = (DateTime<Utc>, DateTime<Utc>);

/// Every run, in the order they were started in.
#[derive(Clone, Default)]
pub(crate) struct Runs(Arc<Mutex<Vec<Run>>>);

impl Runs {
    /// The ticks of the runs so far, in the order they were started in.
    pub(crate) fn ticks(&self) -> Vec<DateTime<Utc>> {
        self.0.lock().unwrap().iter().map(|(tick, _)| *tick).collect()
    }

    /// How late the latest start was.
    pub(crate) fn latest_start(&self) -> TimeDelta {
        let runs = self.0.lock().unwrap();
        runs.iter().map(|(tick, started_at)| *started_at - *tick).max().unwrap_or_default()
    }

    /// Has a server note the runs of `Work`.
    pub(crate) fn noted_by(&self, builder: BackgroundJobServerBuilder) -> BackgroundJobServerBuilder {
        let runs = Arc::clone(&self.0);
        builder.handle::<Work, _>(Doing(move |_: Work, context: JobContext| {
            let tick = context.job().scheduled_at();
            let started_at = context.job().updated_at();
            runs.lock().unwrap().push((tick.unwrap_or(started_at), started_at));
            async { Ok(()) }
        }))
    }
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    format!("{text}Z").parse().unwrap()
}

pub(crate) fn recurring_id(text: &str) -> RecurringJobId {
    text.parse().unwrap()
}

/// Waits for an instant of the world.
pub(crate) async fn pass_until(world: &World, instant: DateTime<Utc>) {
    pass((instant - world.now()).to_std().unwrap()).await;
}

impl World {
    /// Has job 1 run at these ticks.
    pub(crate) async fn repeat(&self, id: &str, schedule: impl IntoSchedule + Send) -> RecurringJobId {
        self.scheduler.schedule_recurrently(id, schedule, work(1)).await.unwrap()
    }

    /// All runs of a recurring job, by their ticks.
    pub(crate) async fn runs_of(&self, id: &RecurringJobId) -> Vec<Job> {
        let query = JobQuery::all().recurring_job_id(id.clone()).limit(100_000);
        let mut runs = self.memory.list_jobs(&query).await.unwrap();
        runs.sort_by_key(Job::scheduled_at);
        runs
    }
}

/// What `0 2 * * *` means, without any knowledge of schedules: on each day the first minute whose local time is 02:00 or
/// later, which is after the gap where there is one, and in the first pass where there are two.
fn two_o_clock(zone: Tz, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let two = NaiveTime::from_hms_opt(2, 0, 0).unwrap();
    let mut ticks: Vec<DateTime<Utc>> = Vec::new();
    let mut day: Option<NaiveDate> = None;
    let mut minute = from - TimeDelta::days(2);
    while minute <= until {
        let local = minute.with_timezone(&zone).naive_local();
        if local.time() >= two && day.is_none_or(|day| local.date() > day) {
            day = Some(local.date());
            ticks.push(minute);
        }
        minute += TimeDelta::minutes(1);
    }
    ticks.retain(|tick| *tick > from);
    ticks
}

#[tokio::test(start_paused = true)]
async fn through_a_year_two_o_clock_comes_once_a_day_in_every_zone() {
    for zone in [Tz::Europe__Brussels, Tz::America__New_York, Tz::Australia__Lord_Howe] {
        let from = at("2027-01-15T08:00:00");
        let world = World::starting_at(from);
        let runs = Runs::default();
        let server = runs.noted_by(world.server().poll_interval(6 * HOUR)).start().await.unwrap();
        let cron: Cron = "0 2 * * *".parse().unwrap();
        world.repeat("nightly", cron.in_zone(zone)).await;

        pass(366 * DAY).await;

        let expected = two_o_clock(zone, from, world.now());
        assert!(expected.len() >= 365, "{}", expected.len());
        assert!(
            expected.windows(2).any(|pair| pair[1] - pair[0] < TimeDelta::hours(24)),
            "clocks change in {zone}"
        );
        assert_eq!(runs.ticks(), expected, "{zone}");
        assert!(runs.latest_start() <= TimeDelta::milliseconds(50), "{} late", runs.latest_start());
        server.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_beats_time_runs_through_both_passes_of_a_repeated_hour() {
    // In Brussels the clock goes from 03:00 back to 02:00, in New York from 02:00 to 01:00, on Lord Howe by half an hour.
    for (zone, cron, step, from, change) in [
        (Tz::Europe__Brussels, "*/20 * * * *", 20, "2027-10-30T22:50:00", "2027-10-31T01:00:00"),
        (Tz::America__New_York, "*/10 0-4 * * *", 10, "2027-11-07T04:05:00", "2027-11-07T06:00:00"),
        (Tz::Australia__Lord_Howe, "*/15 * * * *", 15, "2027-04-03T13:05:00", "2027-04-03T15:00:00"),
    ] {
        let world = World::starting_at(at(from));
        let runs = Runs::default();
        let server = runs.noted_by(world.server()).start().await.unwrap();
        let cron: Cron = cron.parse().unwrap();
        world.repeat("beat", cron.in_zone(zone)).await;

        pass_until(&world, at(change) + TimeDelta::hours(2)).await;

        let ticks = runs.ticks();
        let distance = TimeDelta::minutes(step);
        assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == distance), "{zone}: {ticks:?}");
        assert!(
            ticks[0] - at(from) <= distance && world.now() - ticks[ticks.len() - 1] <= distance,
            "{zone}"
        );
        server.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_knows_its_tick_and_carries_what_the_recurring_job_says() {
    let world = World::new();
    let server = Runs::default().noted_by(world.server()).start().await.unwrap();
    let builder =
        RecurringJobBuilder::new("*/5 * * * *", work(7)).id("beat").name("Beat").labels(["x"]).retries(2);
    let id = world.scheduler.save_recurring_job(builder).await.unwrap();

    pass(5 * MINUTE).await;
    pass(Duration::from_secs(1)).await;

    let [run] = &world.runs_of(&id).await[..] else { panic!("one run") };
    let tick = at("2027-01-15T08:05:00");
    assert_eq!(run.id(), JobId::of_tick(&id, tick));
    assert_eq!(run.scheduled_at(), Some(tick));
    assert_eq!(crate::world::states(run), ["SCHEDULED", "ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    assert_eq!((run.name(), run.payload().as_str()), ("Beat", r#"{"number":7}"#));
    assert!(run.labels().contains("x"));
    assert_eq!(run.definition().settings.retries, Some(2));
    let stored = world.memory.find_recurring_job(&id).await.unwrap().unwrap();
    assert_eq!(
        (stored.last_tick_at, stored.next_tick_at()),
        (Some(tick), Some(tick + TimeDelta::minutes(5)))
    );
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_masters_at_once_create_each_tick_once() {
    let world = World::new();
    let begun_at = world.now();
    let runs = Runs::default();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let storage = Faulty::new(&world.memory).seeing_no_other_servers();
        // Neither sees the other, and so each would rescue the other's jobs if it looked for orphans at a tick.
        let server = world.server_over(storage.shared()).poll_interval(HOUR);
        servers.push(runs.noted_by(server).start().await.unwrap());
    }
    assert!(servers.iter().all(jobrunr_server::BackgroundJobServer::is_master));
    for number in 0..20 {
        world.repeat(&format!("beat-{number}"), "* * * * * *").await;
    }

    pass(Duration::from_millis(60_500)).await;

    let mut ticks = runs.ticks();
    ticks.sort();
    let expected: Vec<_> = (1..=60).flat_map(|second| [begun_at + seconds(second); 20]).collect();
    assert_eq!(ticks, expected);
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_master_killed_between_creating_the_run_and_advancing_the_tick_loses_and_doubles_nothing() {
    for fault in [Fault::Hang, Fault::BeforeEffect, Fault::AfterEffect] {
        let world = World::new();
        let begun_at = world.now();
        let runs = Runs::default();
        let id = world.repeat("beat", "* * * * *").await;
        for minute in 1..=5 {
            let storage = Faulty::new(&world.memory);
            let doomed = runs.noted_by(world.server_over(storage.shared())).start().await.unwrap();
            pass_until(&world, begun_at + seconds(60 * minute - 5)).await;
            storage
                .fail(move |operation| if operation == "save_recurring_job" { fault } else { Fault::None });
            pass_until(&world, begun_at + seconds(60 * minute + 20)).await;
            assert_eq!(runs.ticks().len(), usize::try_from(minute).unwrap(), "the run was created");
            drop(doomed);
        }

        let server = runs.noted_by(world.server()).start().await.unwrap();
        pass(MINUTE).await;

        let expected: Vec<_> = (1..=6).map(|minute| begun_at + seconds(60 * minute)).collect();
        assert_eq!(runs.ticks(), expected, "{fault:?}");
        let stored = world.memory.find_recurring_job(&id).await.unwrap().unwrap();
        assert_eq!(stored.next_tick_at(), Some(begun_at + seconds(420)));
        server.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lost_answers_and_outages_of_the_storage_double_nothing() {
    let world = World::new();
    let begun_at = world.now();
    let storage = Faulty::new(&world.memory);
    let runs = Runs::default();
    let server = runs.noted_by(world.server_over(storage.shared())).start().await.unwrap();
    // However long the pauses between two tries get, no tick is lost by these policies.
    let builder = RecurringJobBuilder::new("* * * * *", work(1))
        .id("beat")
        .misfire(MisfirePolicy::RunAll { at_most: 100 })
        .overlap(OverlapPolicy::Allow);
    world.scheduler.save_recurring_job(builder).await.unwrap();
    storage.fail(|operation| match operation {
        "insert_jobs" | "save_recurring_job" | "list_recurring_jobs" => match fastrand::u8(..6) {
            0 => Fault::AfterEffect,
            1 => Fault::BeforeEffect,
            _ => Fault::None,
        },
        _ => Fault::None,
    });

    pass(HOUR).await;
    storage.mend();
    pass(MINUTE + Duration::from_secs(1)).await;

    let expected: Vec<_> = (1..=61).map(|minute| begun_at + seconds(60 * minute)).collect();
    let mut ticks = runs.ticks();
    ticks.sort();
    assert_eq!(ticks, expected);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_while_nobody_was_up_is_made_up_for_as_the_policy_says() {
    let expected = [
        (MisfirePolicy::Skip, vec![]),
        (MisfirePolicy::RunOnce, vec!["2027-01-15T12:00:00"]),
        (MisfirePolicy::RunAll { at_most: 2 }, vec!["2027-01-15T11:00:00", "2027-01-15T12:00:00"]),
        (
            MisfirePolicy::RunAll { at_most: 100 },
            vec!["2027-01-15T09:00:00", "2027-01-15T10:00:00", "2027-01-15T11:00:00", "2027-01-15T12:00:00"],
        ),
    ];
    for (policy, missed) in expected {
        for overlap in [
            OverlapPolicy::Skip,
            OverlapPolicy::Allow,
            OverlapPolicy::QueueOne,
            OverlapPolicy::CancelPrevious,
        ] {
            let world = World::new();
            let runs = Runs::default();
            let builder = || {
                RecurringJobBuilder::new("0 * * * *", work(1)).id("hourly").misfire(policy).overlap(overlap)
            };
            world.scheduler.save_recurring_job(builder()).await.unwrap();
            pass(4 * HOUR + 30 * MINUTE).await;

            let server = runs.noted_by(world.server()).start().await.unwrap();
            // As programs do when they start.
            world.scheduler.save_recurring_job(builder()).await.unwrap();
            pass(40 * MINUTE).await;

            let mut expected: Vec<_> = missed.iter().map(|tick| at(tick)).collect();
            expected.push(at("2027-01-15T13:00:00"));
            let mut ticks = runs.ticks();
            ticks.sort();
            assert_eq!(ticks, expected, "{policy:?} {overlap:?}");
            server.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_at_the_wrong_moment_misses_nothing() {
    let world = World::new();
    let runs = Runs::default();
    let server = runs.noted_by(world.server()).start().await.unwrap();
    world.repeat("hourly", "0 * * * *").await;
    pass(59 * MINUTE + Duration::from_secs(58)).await;

    server.stop().await;
    pass(Duration::from_secs(5)).await;
    let server = runs.noted_by(world.server()).start().await.unwrap();
    pass(Duration::from_secs(1)).await;

    assert_eq!(runs.ticks(), [at("2027-01-15T09:00:00")]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_master_delays_a_tick_by_one_poll_and_costs_none() {
    let world = World::new();
    let runs = Runs::default();
    let master = runs.noted_by(world.server()).start().await.unwrap();
    pass(Duration::from_secs(1)).await;
    let other = runs.noted_by(world.server()).start().await.unwrap();
    world.repeat("hourly", "0 * * * *").await;
    pass(59 * MINUTE + Duration::from_secs(55)).await;

    drop(master);
    pass(Duration::from_secs(22)).await;

    assert!(!other.is_master(), "it cannot know yet that the master is dead");
    assert_eq!(runs.ticks(), [at("2027-01-15T09:00:00")]);
    assert!(runs.latest_start() <= seconds(16));
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_schedule_counts_at_once_though_the_master_sleeps() {
    for (hints, late) in [(true, 60), (false, 250)] {
        let world = World::new();
        let storage = Faulty::new(&world.memory);
        let storage = if hints { storage } else { storage.without_hints() };
        let runs = Runs::default();
        let server = runs
            .noted_by(world.server_over(storage.shared()).poll_interval(10 * MINUTE))
            .start()
            .await
            .unwrap();
        world.repeat("beat", "0 9 * * *").await;
        // Near enough for the master to have its timer set.
        pass_until(&world, at("2027-01-15T08:59:30.123")).await;

        world.repeat("beat", "*/10 * 8-9 * * *").await;
        pass(Duration::from_secs(5)).await;
        world.repeat("beat", "45 59 8 * * *").await;
        pass(MINUTE).await;

        assert_eq!(runs.ticks(), [at("2027-01-15T08:59:45")], "neither of the replaced schedules counts");
        world.repeat("beat", "* * * * * *").await;
        let changed_at = world.now();
        pass(Duration::from_secs(2)).await;
        let ticks = runs.ticks();
        assert!(ticks.len() >= 2, "{ticks:?}");
        assert!(ticks[1] - changed_at < seconds(1) + TimeDelta::milliseconds(late));
        server.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_recurring_job_has_no_runs_and_goes_on_when_it_is_resumed() {
    let world = World::new();
    let runs = Runs::default();
    let server = runs.noted_by(world.server()).start().await.unwrap();
    let id = world.repeat("beat", "* * * * *").await;
    pass(90 * Duration::from_secs(1)).await;

    world.scheduler.pause_recurring_job(&id).await.unwrap();
    pass(10 * MINUTE).await;
    assert_eq!(runs.ticks(), [at("2027-01-15T08:01:00")]);
    world.scheduler.resume_recurring_job(&id).await.unwrap();
    pass(MINUTE).await;

    assert_eq!(runs.ticks(), [at("2027-01-15T08:01:00"), at("2027-01-15T08:12:00")]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_triggered_run_is_run_at_once() {
    let world = World::new();
    let runs = Runs::default();
    let server = runs.noted_by(world.server()).start().await.unwrap();
    let id = world.repeat("yearly", "@yearly").await;

    let run = world.scheduler.trigger_recurring_job(&id).await.unwrap();

    let run = world.job_in(run, StateName::Succeeded).await;
    assert_eq!(run.recurring_job_id(), Some(&id));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_recurring_job_removes_itself_when_its_time_is_over_also_if_it_is_paused() {
    let world = World::new();
    let runs = Runs::default();
    let server = runs.noted_by(world.server()).start().await.unwrap();
    let end = world.now() + seconds(150);
    for id in ["active", "paused"] {
        let builder = RecurringJobBuilder::new("* * * * *", work(1)).id(id).delete_at(end);
        world.scheduler.save_recurring_job(builder).await.unwrap();
    }
    world.scheduler.pause_recurring_job(&recurring_id("paused")).await.unwrap();

    pass(Duration::from_secs(149)).await;
    assert_eq!(world.scheduler.list_recurring_jobs().await.unwrap().len(), 2);
    pass(Duration::from_secs(2)).await;
    let [left] = &world.scheduler.list_recurring_jobs().await.unwrap()[..] else { panic!("one is left") };
    assert_eq!(left.id, "paused");
    pass(HOUR + MINUTE).await;

    assert_eq!(world.scheduler.list_recurring_jobs().await.unwrap(), []);
    assert_eq!(runs.ticks(), [at("2027-01-15T08:01:00"), at("2027-01-15T08:02:00")]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_just_started_removes_what_is_over_and_paused() {
    let world = World::new();
    let builder =
        RecurringJobBuilder::new("* * * * *", work(1)).id("beat").delete_at(world.now() + seconds(90));
    let id = world.scheduler.save_recurring_job(builder).await.unwrap();
    world.scheduler.pause_recurring_job(&id).await.unwrap();
    pass(2 * MINUTE).await;

    let server = Runs::default().noted_by(world.server()).start().await.unwrap();
    pass(MINUTE).await;

    assert_eq!(world.scheduler.find_recurring_job(&id).await.unwrap(), None);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn five_thousand_recurring_jobs_cost_one_query_a_cycle_and_one_insert_a_common_tick() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    for number in 0..5_000 {
        world.repeat(&format!("daily-{number}"), "0 9 * * *").await;
    }
    let retention = Retention::default().delete_succeeded_after(Keep::Forever);
    let server = world.server_over(storage.shared()).retention(retention);
    let runs = Runs::default();
    let server = runs.noted_by(server).start().await.unwrap();
    pass(MINUTE).await;
    let before = storage.calls();
    let count = |operation: &str| {
        let count =
            |calls: &std::collections::BTreeMap<_, usize>| calls.get(operation).copied().unwrap_or_default();
        count(&storage.calls()) - count(&before)
    };

    pass(57 * MINUTE).await;
    let cycles = 57 * 4;
    let lists = count("list_recurring_jobs");
    assert!((cycles - 1..=cycles + 1).contains(&lists), "{lists} in {cycles} cycles");
    assert_eq!((count("find_recurring_job"), count("save_recurring_job"), count("insert_jobs")), (0, 0, 0));

    pass(3 * MINUTE).await;
    assert_eq!(runs.ticks(), vec![at("2027-01-15T09:00:00"); 5_000]);
    assert_eq!((count("save_recurring_job"), count("insert_jobs")), (5_000, 1));
    let lists = count("list_recurring_jobs") - lists;
    assert!(lists <= 3 * 4 + 10, "{lists} in 3 minutes with the tick in them");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ticks_of_many_recurring_jobs_with_times_of_their_own_are_all_on_time() {
    let world = World::new();
    let runs = Runs::default();
    let server = runs.noted_by(world.server().workers(64)).start().await.unwrap();
    for number in 0..200 {
        world.repeat(&format!("every-{number}"), Duration::from_millis(10_000 + number * 37)).await;
        pass(Duration::from_millis(7)).await;
    }

    pass(3 * MINUTE).await;

    assert!(runs.ticks().len() > 200 * 180 / 20, "{}", runs.ticks().len());
    let late = runs.latest_start();
    assert!(late <= TimeDelta::milliseconds(100), "{late} late");
    assert!(world.now().year() == 2027);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_run_of_a_recurring_job_that_is_deleted_meanwhile_is_withdrawn() {
    use futures_util::FutureExt;
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let id = world.repeat("beat", "* * * * *").await;
    let server = world.server_over(storage.shared()).queues(["none"]);
    let server = Runs::default().noted_by(server).start().await.unwrap();
    let (memory, deleted) = (world.memory.clone(), id.clone());
    storage.fail(move |operation| {
        if operation == "insert_jobs" {
            // Between the look and the insert of the run.
            memory.delete_recurring_job(&deleted, None).now_or_never().unwrap().unwrap();
        }
        Fault::None
    });

    pass(61 * Duration::from_secs(1)).await;

    let [run] = &world.runs_of(&id).await[..] else { panic!("one run") };
    assert_eq!(run.state_name(), StateName::Deleted);
    assert_eq!(world.memory.find_job(run.id()).await.unwrap().unwrap(), *run);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_recurring_job_that_is_given_more_time_while_it_is_removed_stays_and_goes_on() {
    use futures_util::FutureExt;
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let runs = Runs::default();
    let server = runs.noted_by(world.server_over(storage.shared())).start().await.unwrap();
    let end = world.now() + seconds(90);
    let builder = RecurringJobBuilder::new("* * * * *", work(1)).id("beat").delete_at(end);
    let id = world.scheduler.save_recurring_job(builder).await.unwrap();
    let (memory, saved) = (world.memory.clone(), id.clone());
    storage.fail(move |operation| {
        if operation == "delete_recurring_job" {
            // Between the look of the master and its removal.
            let job = memory.find_recurring_job(&saved).now_or_never().unwrap().unwrap();
            if let Some(mut job) = job.filter(|job| job.delete_at == Some(end)) {
                job.delete_at = Some(end + seconds(60));
                job.set_next_tick(Some(end + seconds(30)));
                memory.save_recurring_job(&job).now_or_never().unwrap().unwrap();
            }
        }
        Fault::None
    });

    pass(100 * Duration::from_secs(1)).await;
    assert!(world.memory.find_recurring_job(&id).await.unwrap().is_some(), "who saved it anew has won");
    pass(60 * Duration::from_secs(1)).await;

    assert_eq!(world.memory.find_recurring_job(&id).await.unwrap(), None, "at its new end it is removed");
    assert_eq!(runs.ticks(), [at("2027-01-15T08:01:00"), at("2027-01-15T08:02:00")]);
    server.stop().await;
}
