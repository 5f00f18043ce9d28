//! What a scheduler does to recurring jobs, on the in-memory storage with a moved clock.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::clock::{Clock, TokioClock};
use jobrunr_core::recurring::{
    InvalidRecurringJob, MisfirePolicy, OverlapPolicy, RecurringJob, RecurringJobBuilder,
};
use jobrunr_core::schedule::{Cron, CustomSchedule, CustomSchedules, Interval, Schedule, ScheduleError, Tz};
use jobrunr_core::storage::{JobSearch, JobStore, RecurringJobStore, RecurringSave};
use jobrunr_core::{
    InvalidJob, JobOptions, JobRequest, JobScheduler, MemoryStorage, MemoryStorageOptions, RecurringJobId,
    SchedulerError, StateName, Version,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Report {
    pages: u32,
}

impl JobRequest for Report {
    const JOB_TYPE: &'static str = "report";

    fn options(&self) -> JobOptions {
        JobOptions::default()
            .name(format!("Report of {} pages", self.pages))
            .retries(3)
            .timeout(Duration::from_secs(60))
    }
}

struct World {
    memory: MemoryStorage,
    scheduler: JobScheduler,
    clock: Arc<dyn Clock>,
}

impl World {
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(at("2026-06-01T10:30:00")));
        let options = MemoryStorageOptions::default().clock(Arc::clone(&clock));
        let memory = MemoryStorage::with_options(options);
        let scheduler = JobScheduler::with_local_clock(Arc::new(memory.clone()), Arc::clone(&clock));
        Self { memory, scheduler, clock }
    }

    async fn save(&self, schedule: &str) -> RecurringJobId {
        self.scheduler.schedule_recurrently("report", schedule, report()).await.unwrap()
    }

    async fn stored(&self) -> RecurringJob {
        self.memory.find_recurring_job(&id("report")).await.unwrap().unwrap()
    }

    async fn runs(&self, state: StateName) -> u64 {
        self.memory.job_counts().await.unwrap().in_state(state)
    }
}

fn report() -> Report {
    Report { pages: 7 }
}

fn id(text: &str) -> RecurringJobId {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    format!("{text}Z").parse().unwrap()
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_run_is_visible_ahead_of_time() {
    let world = World::new();

    world.save("0 * * * *").await;

    let [job] = &world.scheduler.list_recurring_jobs().await.unwrap()[..] else { panic!("there is one") };
    assert_eq!(job.id, "report");
    assert_eq!(job.next_tick_at(), Some(at("2026-06-01T11:00:00")));
    assert_eq!((job.last_tick_at, job.paused), (None, false));
    assert_eq!(job.template.name, "Report of 7 pages");
    assert_eq!((job.template.retries, job.template.timeout), (Some(3), Some(Duration::from_secs(60))));
}

#[tokio::test(start_paused = true)]
async fn the_builder_says_all_there_is_to_say() {
    let world = World::new();
    let end = at("2027-01-01T00:00:00");
    let builder = RecurringJobBuilder::new("30 2 * * *", report())
        .id("own-id")
        .zone("Australia/Lord_Howe")
        .name("Own name")
        .labels(["a", "b"])
        .queue("slow")
        .priority(-4)
        .retries(0)
        .timeout(Duration::from_secs(5))
        .misfire(MisfirePolicy::RunAll { at_most: 5 })
        .overlap(OverlapPolicy::QueueOne)
        .delete_at(end);

    let saved = world.scheduler.save_recurring_job(builder).await.unwrap();

    let job = world.scheduler.find_recurring_job(&saved).await.unwrap().unwrap();
    assert_eq!(job.id, "own-id");
    assert_eq!(job.schedule.to_string(), "\"30 2 * * *\" in Australia/Lord_Howe");
    assert_eq!(job.next_tick_at(), Some(at("2026-06-01T16:00:00")));
    let template = &job.template;
    assert_eq!(
        (template.name.as_str(), template.queue.as_str(), template.priority),
        ("Own name", "slow", -4)
    );
    assert!(template.labels.contains("a") && template.labels.contains("b"));
    assert_eq!((template.retries, template.timeout), (Some(0), Some(Duration::from_secs(5))));
    assert_eq!(job.misfire, MisfirePolicy::RunAll { at_most: 5 });
    assert_eq!((job.overlap, job.delete_at), (OverlapPolicy::QueueOne, Some(end)));
}

#[tokio::test(start_paused = true)]
async fn a_recurring_job_without_an_id_goes_by_its_job_type() {
    let world = World::new();

    let saved =
        world.scheduler.save_recurring_job(RecurringJobBuilder::new(Cron::daily(), report())).await.unwrap();

    assert_eq!(saved, "report");
}

#[tokio::test(start_paused = true)]
async fn saving_what_is_stored_already_writes_nothing() {
    let world = World::new();
    world.save("0 * * * *").await;
    let before = world.stored().await;
    pass(600).await;

    world.save("0 * * * *").await;

    assert_eq!(world.stored().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_missed_tick_is_not_forgotten_when_the_same_schedule_is_saved_again() {
    let world = World::new();
    world.save("0 * * * *").await;
    pass(7_200).await;

    let builder = RecurringJobBuilder::new("0 * * * *", report()).misfire(MisfirePolicy::RunOnce);
    world.scheduler.save_recurring_job(builder).await.unwrap();

    let job = world.stored().await;
    assert_eq!(job.next_tick_at(), Some(at("2026-06-01T11:00:00")), "still due");
    assert_eq!((job.misfire, job.version), (MisfirePolicy::RunOnce, Version::new(2)));
}

#[tokio::test(start_paused = true)]
async fn another_schedule_counts_from_now_on() {
    let world = World::new();
    world.save("0 * * * *").await;
    pass(7_200).await;

    world.save("*/10 * * * *").await;

    let job = world.stored().await;
    assert_eq!(job.next_tick_at(), Some(at("2026-06-01T12:40:00")));
    assert_eq!(job.created_at, at("2026-06-01T10:30:00"));
}

#[tokio::test(start_paused = true)]
async fn an_interval_goes_on_from_its_creation_however_often_it_is_saved() {
    let world = World::new();
    let every = Duration::from_secs(3_600);
    world.scheduler.schedule_recurrently("report", every, report()).await.unwrap();
    pass(1_000).await;

    world.scheduler.schedule_recurrently("report", every, report()).await.unwrap();

    let job = world.stored().await;
    assert_eq!(job.next_tick_at(), Some(at("2026-06-01T11:30:00")));
    assert_eq!(job.version, Version::FIRST);
    pass(1_000).await;
    world.scheduler.schedule_recurrently("report", every / 2, report()).await.unwrap();
    assert_eq!(world.stored().await.next_tick_at(), Some(at("2026-06-01T11:30:00")));
    world.scheduler.schedule_recurrently("report", every / 4, report()).await.unwrap();
    assert_eq!(world.stored().await.next_tick_at(), Some(at("2026-06-01T11:15:00")));
}

#[tokio::test(start_paused = true)]
async fn a_paused_one_has_no_next_run_until_it_is_resumed_and_stays_paused_when_it_is_saved() {
    let world = World::new();
    let id = world.save("0 * * * *").await;

    world.scheduler.pause_recurring_job(&id).await.unwrap();
    pass(7_200).await;
    world.save("0 * * * *").await;
    world.save("*/10 * * * *").await;
    let paused = world.stored().await;
    world.scheduler.pause_recurring_job(&id).await.unwrap();
    assert_eq!(world.stored().await, paused, "pausing twice is fine");
    world.scheduler.resume_recurring_job(&id).await.unwrap();
    let resumed = world.stored().await;
    world.scheduler.resume_recurring_job(&id).await.unwrap();

    assert_eq!((paused.paused, paused.next_tick_at()), (true, None));
    assert_eq!((resumed.paused, resumed.next_tick_at()), (false, Some(at("2026-06-01T12:40:00"))));
    assert_eq!(world.stored().await, resumed, "resuming twice is fine");
}

#[tokio::test(start_paused = true)]
async fn a_triggered_run_is_enqueued_at_once_beside_the_ticks() {
    let world = World::new();
    let id = world.save("0 * * * *").await;
    world.scheduler.pause_recurring_job(&id).await.unwrap();

    let first = world.scheduler.trigger_recurring_job(&id).await.unwrap();
    let second = world.scheduler.trigger_recurring_job(&id).await.unwrap();

    assert_ne!(first, second);
    let run = world.memory.find_job(first).await.unwrap().unwrap();
    assert_eq!((run.state_name(), run.name()), (StateName::Enqueued, "Report of 7 pages"));
    assert_eq!(run.recurring_job_id(), Some(&id));
    assert_eq!(run.definition().settings.timeout, Some(Duration::from_secs(60)));
    assert_eq!(run.payload().as_str(), r#"{"pages":7}"#);
    assert_eq!(world.stored().await.open_runs, [first, second]);
}

#[tokio::test(start_paused = true)]
async fn deleting_one_takes_the_runs_along_that_have_not_started() {
    let world = World::new();
    let id = world.save("0 * * * *").await;
    for _ in 0..3 {
        world.scheduler.trigger_recurring_job(&id).await.unwrap();
    }
    let server = jobrunr_core::ServerRef { id: jobrunr_core::ServerId::new(), name: "one".into() };
    let claim = jobrunr_core::storage::ClaimRequest::new(server, 1, world.clock.now());
    world.memory.claim_jobs(&claim).await.unwrap();

    assert!(world.scheduler.delete_recurring_job(&id).await.unwrap());
    assert!(!world.scheduler.delete_recurring_job(&id).await.unwrap(), "there is none any more");

    assert_eq!(world.scheduler.find_recurring_job(&id).await.unwrap(), None);
    assert_eq!(world.runs(StateName::Deleted).await, 2);
    assert_eq!(world.runs(StateName::Processing).await, 1, "what has started goes on");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_cannot_be_paused_resumed_or_triggered() {
    let scheduler = World::new().scheduler;
    let id = id("nothing");

    let errors = [
        scheduler.pause_recurring_job(&id).await.unwrap_err(),
        scheduler.resume_recurring_job(&id).await.unwrap_err(),
        scheduler.trigger_recurring_job(&id).await.unwrap_err(),
    ];

    for error in errors {
        assert_eq!(error.to_string(), "there is no recurring job nothing");
    }
}

async fn refused(builder: RecurringJobBuilder<Report, &str>) -> InvalidRecurringJob {
    let world = World::new();
    let error = world.scheduler.save_recurring_job(builder).await.unwrap_err();
    assert_eq!(world.scheduler.list_recurring_jobs().await.unwrap(), []);
    match error {
        SchedulerError::InvalidRecurring { id, source } => {
            assert!(!id.is_empty());
            source
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_breaks_a_rule_is_refused_and_nothing_is_stored() {
    let daily = || RecurringJobBuilder::new("@daily", report());
    let wrong = RecurringJobBuilder::new("61 * * * *", report());
    let never = RecurringJobBuilder::new("0 0 30 2 *", report());

    assert!(matches!(refused(daily().id("no spaces")).await, InvalidRecurringJob::Id(_)));
    assert!(matches!(refused(daily().labels([""])).await, InvalidRecurringJob::Job(InvalidJob::Name(_))));
    let invalid = refused(wrong).await;
    assert!(invalid.to_string().contains("the minute field has 61"), "{invalid}");
    assert!(matches!(refused(never).await, InvalidRecurringJob::Schedule(ScheduleError::NeverFires { .. })));
    let mars = refused(daily().zone("Mars")).await;
    assert!(mars.to_string().contains("\"Mars\" is not known"), "{mars}");
    for at_most in [0, 1_001] {
        let too_many = refused(daily().misfire(MisfirePolicy::RunAll { at_most })).await;
        assert!(matches!(too_many, InvalidRecurringJob::MissedRuns { .. }), "{too_many}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_cron_expressions_have_a_zone() {
    let world = World::new();
    let interval = RecurringJobBuilder::new(Duration::from_secs(60), report()).zone(Tz::Europe__Brussels);

    let error = world.scheduler.save_recurring_job(interval).await.unwrap_err();

    let SchedulerError::InvalidRecurring { source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().contains("its schedule is every 60s"), "{source}");
}

#[derive(Debug, Deserialize)]
struct Steps {
    milliseconds: i64,
}

impl Schedule for Steps {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(after + TimeDelta::milliseconds(self.milliseconds))
    }
}

#[tokio::test(start_paused = true)]
async fn ticks_of_an_own_schedule_are_at_least_a_second_apart_over_a_thousand() {
    let world = World::new();
    let mut schedules = CustomSchedules::new();
    schedules.register_type::<Steps>("steps");
    let scheduler = world.scheduler.clone().with_schedules(schedules);
    let steps =
        |milliseconds| CustomSchedule::new("steps", serde_json::json!({ "milliseconds": milliseconds }));

    let unknown = world.scheduler.schedule_recurrently("a", steps(2_000), report()).await.unwrap_err();
    let dense = scheduler.schedule_recurrently("a", steps(999), report()).await.unwrap_err();
    scheduler.schedule_recurrently("a", steps(1_000), report()).await.unwrap();

    let problem = |error| match error {
        SchedulerError::InvalidRecurring { source: InvalidRecurringJob::Schedule(problem), .. } => problem,
        other => panic!("{other}"),
    };
    assert!(matches!(problem(unknown), ScheduleError::UnknownCustomSchedule { .. }));
    assert!(matches!(problem(dense), ScheduleError::TooFrequent { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_save_goes_on_from_a_tick_that_a_server_dealt_with_meanwhile() {
    let world = World::new();
    world.save("0 * * * *").await;
    let mut advanced = world.stored().await;
    advanced.last_tick_at = Some(at("2026-06-01T11:00:00"));
    advanced.set_next_tick(Some(at("2026-06-01T12:00:00")));
    assert!(matches!(world.memory.save_recurring_job(&advanced).await.unwrap(), RecurringSave::Saved(_)));

    // The clock of this process is behind the tick, so counting from now would give it once more.
    world.save("0,30 * * * *").await;

    let job = world.stored().await;
    assert_eq!(job.last_tick_at, Some(at("2026-06-01T11:00:00")));
    assert_eq!(job.next_tick_at(), Some(at("2026-06-01T11:30:00")));
}

#[tokio::test(start_paused = true)]
async fn ticks_from_the_end_on_are_none_and_more_time_brings_them_back() {
    let world = World::new();
    let until = |end| RecurringJobBuilder::new("0 * * * *", report()).delete_at(at(end));

    world.scheduler.save_recurring_job(until("2026-06-01T11:00:00")).await.unwrap();
    let ending = world.stored().await;
    world.scheduler.save_recurring_job(until("2026-06-01T11:00:01")).await.unwrap();
    let longer = world.stored().await;

    assert_eq!((ending.next_tick_at(), ending.next_run_at), (None, Some(at("2026-06-01T11:00:00"))));
    assert_eq!(longer.next_tick_at(), Some(at("2026-06-01T11:00:00")));
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_ones_own_beginning_is_kept_as_it_is() {
    let world = World::new();
    let interval = Interval::new(Duration::from_secs(3_600), at("2026-01-01T00:15:00")).unwrap();

    world.scheduler.schedule_recurrently("report", interval, report()).await.unwrap();

    assert_eq!(world.stored().await.next_tick_at(), Some(at("2026-06-01T11:15:00")));
}
