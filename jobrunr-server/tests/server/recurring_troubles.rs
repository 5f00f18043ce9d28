//! What is wrong with one recurring job is the trouble of that one alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::SchedulerError;
use jobrunr_core::filters::JobFilter;
use jobrunr_core::handler::{Dependency, Provided};
use jobrunr_core::recurring::{JobTemplate, RecurringJob};
use jobrunr_core::recurring::{RecurringJobBuilder, RecurringJobDraft};
use jobrunr_core::schedule::{CustomSchedule, CustomSchedules, Schedule};
use jobrunr_core::storage::{JobStore, RecurringJobStore};
use jobrunr_core::{
    FailureKind, Job, JobContext, JobDefinition, JobDraft, JobError, JobFunction, JobId, JobRequest,
    JobResult, JobState, JsonText, StateName,
};
use jobrunr_server::ServerError;

use crate::recurring::{Runs, at, recurring_id};
use crate::world::{Doing, Work, World, pass, states, work};

const MINUTE: Duration = Duration::from_secs(60);

/// Runs on the minute, unless it was told to panic.
#[derive(Debug)]
struct Moody(Arc<AtomicBool>);

impl Schedule for Moody {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        assert!(!self.0.load(Ordering::Relaxed), "not today");
        DateTime::from_timestamp((after.timestamp() / 60 + 1) * 60, 0)
    }
}

fn moody(panics: &Arc<AtomicBool>) -> CustomSchedules {
    let mut schedules = CustomSchedules::new();
    let panics = Arc::clone(panics);
    schedules.register("moody", move |_| Ok(Arc::new(Moody(Arc::clone(&panics)))));
    schedules
}

fn a_moody_schedule() -> CustomSchedule {
    CustomSchedule::new("moody", serde_json::Value::Null)
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_panics_stops_no_other_and_goes_on_when_it_has_calmed_down() {
    let world = World::new();
    let panics = Arc::new(AtomicBool::new(false));
    let scheduler = world.scheduler.clone().with_schedules(moody(&panics));
    let moody_id = scheduler.schedule_recurrently("a-moody", a_moody_schedule(), work(1)).await.unwrap();
    let calm_id = world.repeat("calm", "* * * * *").await;
    let runs = Runs::default();
    let server = runs.noted_by(world.server().schedules(moody(&panics))).start().await.unwrap();

    panics.store(true, Ordering::Relaxed);
    pass(5 * MINUTE + MINUTE / 2).await;
    assert_eq!(world.runs_of(&calm_id).await.len(), 5);
    assert_eq!(world.runs_of(&moody_id).await.len(), 0);
    panics.store(false, Ordering::Relaxed);
    pass(2 * MINUTE).await;

    assert!(!world.runs_of(&moody_id).await.is_empty());
    assert_eq!(world.runs_of(&calm_id).await.len(), 7);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_the_master_does_not_know_is_left_to_a_server_that_does() {
    let world = World::new();
    let calm = Arc::new(AtomicBool::new(false));
    let scheduler = world.scheduler.clone().with_schedules(moody(&calm));
    let id = scheduler.schedule_recurrently("moody", a_moody_schedule(), work(1)).await.unwrap();
    let runs = Runs::default();
    let master = runs.noted_by(world.server()).start().await.unwrap();
    pass(Duration::from_secs(1)).await;
    let other = runs.noted_by(world.server().schedules(moody(&calm))).start().await.unwrap();

    pass(3 * MINUTE + MINUTE / 2).await;

    assert!(master.is_master() && !other.is_master());
    let ticks: Vec<_> = world.runs_of(&id).await.iter().map(|run| run.scheduled_at().unwrap()).collect();
    assert_eq!(ticks, [at("2027-01-15T08:01:00"), at("2027-01-15T08:02:00"), at("2027-01-15T08:03:00")]);
    master.stop().await;
    other.stop().await;
}

/// Saves a recurring job around the scheduler, which would not take it.
async fn save_with_payload(world: &World, id: &str, payload: &str) {
    let definition = JobDefinition::new(Work::JOB_TYPE.parse().unwrap(), JsonText::parse(payload).unwrap());
    let schedule = jobrunr_core::schedule::Cron::every_minute().into();
    let template = JobTemplate::from(&definition);
    let mut job = RecurringJob::new(recurring_id(id), schedule, template, world.now());
    job.set_next_tick(Some(world.now() + TimeDelta::minutes(1)));
    world.memory.save_recurring_job(&job).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_decoded_fails_its_own_runs_only() {
    let world = World::new();
    save_with_payload(&world, "a-broken", r#"{"other":"shape"}"#).await;
    world.repeat("whole", "* * * * *").await;
    let runs = Runs::default();
    let server = runs.noted_by(world.server()).start().await.unwrap();

    pass(3 * MINUTE + MINUTE / 2).await;

    assert_eq!(runs.ticks().len(), 3);
    let broken = world.runs_of(&recurring_id("a-broken")).await;
    assert_eq!(broken.len(), 3, "a run that failed for good has ended");
    for run in broken {
        assert_eq!(run.last_failure().unwrap().kind, FailureKind::Undecodable);
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_the_storage_refuses_is_passed_over_and_the_others_are_created() {
    let world = World::new();
    save_with_payload(&world, "m-huge", &format!("{:?}", "x".repeat(2 << 20))).await;
    world.repeat("a", "* * * * *").await;
    world.repeat("z", "* * * * *").await;
    let runs = Runs::default();
    let server = runs.noted_by(world.server()).start().await.unwrap();

    pass(3 * MINUTE + MINUTE / 2).await;

    assert_eq!(runs.ticks().len(), 6);
    assert!(world.runs_of(&recurring_id("m-huge")).await.is_empty());
    let huge = world.memory.find_recurring_job(&recurring_id("m-huge")).await.unwrap().unwrap();
    assert_eq!(huge.last_tick_at, Some(at("2027-01-15T08:03:00")), "its ticks pass");
    assert!(huge.open_runs.is_empty());
    server.stop().await;
}

/// Spoils runs of one name, and does what it should to the others.
#[derive(Clone, Default)]
struct Spoiler(Arc<Mutex<Vec<JobId>>>);

#[async_trait]
impl JobFilter for Spoiler {
    fn on_creating(&self, draft: &mut JobDraft) {
        match draft.definition.name.as_str() {
            "panic" => panic!("on command"),
            "illegal" => draft.state = JobState::Processed {},
            "later" => draft.state = JobState::scheduled(at("2027-01-15T08:30:00")),
            _ => {
                draft.id = JobId::from_name("always the same");
                draft.definition.settings.recurring_job_id = None;
                draft.definition.name = "filtered".to_owned();
            }
        }
    }

    async fn on_created(&self, job: &Job) {
        self.0.lock().unwrap().push(job.id());
    }
}

#[tokio::test(start_paused = true)]
async fn filters_see_the_runs_and_can_spoil_none_but_their_own() {
    let world = World::new();
    for name in ["panic", "illegal", "later", "usual"] {
        let builder = RecurringJobBuilder::new("* * * * *", work(1)).id(name).name(name);
        world.scheduler.save_recurring_job(builder).await.unwrap();
    }
    let spoiler = Spoiler::default();
    let runs = Runs::default();
    let server = runs.noted_by(world.server().filter(spoiler.clone())).start().await.unwrap();

    pass(2 * MINUTE + MINUTE / 2).await;

    assert_eq!(world.runs_of(&recurring_id("panic")).await.len(), 2, "a hook that panics is passed over");
    assert_eq!(world.runs_of(&recurring_id("illegal")).await.len(), 0);
    let [later] = &world.runs_of(&recurring_id("later")).await[..] else { panic!("it has not ended") };
    assert_eq!(states(later), ["SCHEDULED"]);
    let usual = world.runs_of(&recurring_id("usual")).await;
    assert_eq!(usual.iter().map(Job::name).collect::<Vec<_>>(), ["filtered", "filtered"]);
    let told = spoiler.0.lock().unwrap().clone();
    for run in &usual {
        assert_eq!(told.iter().filter(|id| **id == run.id()).count(), 1);
        assert_eq!(world.job(run.id()).await.state_name(), StateName::Succeeded);
    }
    server.stop().await;
}

/// What `#[recurring]` makes of a function, written out.
struct Nightly(&'static str);

#[derive(serde::Serialize, serde::Deserialize)]
struct NightlyJob {}

impl JobRequest for NightlyJob {
    const JOB_TYPE: &'static str = "nightly";
}

impl JobFunction for Nightly {
    type Request = NightlyJob;
    type Output = ();

    fn dependencies(&self) -> Vec<Dependency> {
        Vec::new()
    }

    fn recurring_jobs(&self) -> Vec<Result<RecurringJobDraft<'static>, SchedulerError>> {
        vec![jobrunr_core::__private::recurring_job(RecurringJobBuilder::new(self.0, NightlyJob {}))]
    }

    async fn run(&self, _: NightlyJob, _: JobContext, _: Arc<Provided>) -> JobResult {
        Err(JobError::do_not_retry("nobody runs this"))
    }
}

#[tokio::test(start_paused = true)]
async fn the_recurring_jobs_of_functions_are_saved_when_a_server_starts() {
    let world = World::new();

    let server = world.server().job(Nightly("0 2 * * *")).start().await.unwrap();
    let saved = world.memory.find_recurring_job(&recurring_id("nightly")).await.unwrap().unwrap();
    let second = world.server().job(Nightly("0 2 * * *")).start().await.unwrap();

    assert_eq!(saved.next_tick_at(), Some(at("2027-01-16T02:00:00")));
    let again = world.memory.find_recurring_job(&recurring_id("nightly")).await.unwrap().unwrap();
    assert_eq!(again, saved, "the second one found nothing to change");
    server.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_with_a_recurring_job_that_is_not_valid_does_not_start_and_names_it() {
    let world = World::new();
    let idle = Doing(async |_: Work, _| Ok(()));

    let never = world.server().job(Nightly("0 0 30 2 *")).handle::<Work, _>(idle).start().await.unwrap_err();

    let ServerError::Recurring(error) = &never else { panic!("{never}") };
    let text = format!("{never}: {error}: {}", std::error::Error::source(error).unwrap());
    assert!(text.contains("\"nightly\" cannot be used") && text.contains("never fires"), "{text}");
    assert_eq!(jobrunr_core::storage::ServerStore::list_servers(&world.memory).await.unwrap().len(), 0);
    assert!(world.memory.find_job(JobId::new()).await.unwrap().is_none());
}
