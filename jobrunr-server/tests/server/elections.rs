//! What filters may elect for a run that has ended, after the retry was decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::filters::{JobFilter, StateElection};
use jobrunr_core::{Failure, FailureKind, Job, JobBuilder, JobContext, JobError, JobState, StateName};

use crate::filters::{Log, Writes, writing, written};
use crate::world::{Doing, Work, World, pass, states, work};

/// A filter that elects what a closure says.
struct Elects<F>(F);

impl<F: Fn(&mut StateElection<'_>) + Send + Sync + 'static> JobFilter for Elects<F> {
    fn elect_state(&self, election: &mut StateElection<'_>) {
        (self.0)(election);
    }
}

fn names(election: &StateElection<'_>) -> Vec<StateName> {
    election.states().iter().map(JobState::name).collect()
}

const FAILED_AND_RETRIED: [StateName; 2] = [StateName::Failed, StateName::Scheduled];

#[tokio::test(start_paused = true)]
async fn a_filter_drops_a_retry_and_the_failure_is_the_last() {
    let world = World::new();
    let log = Log::default();
    let drops = Elects(|election: &mut StateElection<'_>| {
        if names(election) == FAILED_AND_RETRIED {
            election.replace([election.states()[0].clone()]);
        }
    });
    let builder = world.server().filter(drops).filter(Writes(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(writing(&Log::default())).start().await.unwrap();

    let id = world.enqueue(1).await;
    let job = world.job_in(id, StateName::Failed).await;
    pass(Duration::from_secs(3_600)).await;

    assert_eq!(states(&world.job(id).await), ["ENQUEUED", "PROCESSING", "FAILED"]);
    assert_eq!(job.failures(), 1);
    server.stop().await;
    let end = ["elect PROCESSING -> FAILED", "applied FAILED", "failed after retries: no"];
    assert_eq!(written(&log)[2..], end);
}

#[tokio::test(start_paused = true)]
async fn a_filter_changes_the_delay_of_a_retry() {
    let world = World::new();
    let retried_at = world.now() + TimeDelta::hours(2);
    let delays = Elects(move |election: &mut StateElection<'_>| {
        if names(election) == FAILED_AND_RETRIED {
            election.replace([election.states()[0].clone(), JobState::scheduled(retried_at)]);
        }
    });
    let server =
        world.server().filter(delays).handle::<Work, _>(writing(&Log::default())).start().await.unwrap();

    let id = world.enqueue(1).await;
    let job = world.job_in(id, StateName::Scheduled).await;
    assert_eq!(job.scheduled_at(), Some(retried_at));

    let job = world.job_in(id, StateName::Succeeded).await;
    assert!(job.updated_at() >= retried_at, "{}", job.updated_at());
    assert_eq!(job.failures(), 1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_adds_a_retry_where_none_was_decided() {
    let world = World::new();
    let insists = Elects(|election: &mut StateElection<'_>| {
        if names(election) == [StateName::Failed] {
            election.replace([election.states()[0].clone(), JobState::enqueued()]);
        }
    });
    let refusing = Doing(async |_: Work, context: JobContext| match context.attempt() {
        1 => Err(JobError::do_not_retry("no")),
        2 => Err("no".into()),
        _ => Ok(()),
    });
    let server = world.server().filter(insists).handle::<Work, _>(refusing).start().await.unwrap();

    let id = world.create(JobBuilder::new(work(1)).retries(2)).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    let expected = ["ENQUEUED", "PROCESSING", "FAILED", "ENQUEUED", "PROCESSING", "FAILED", "SCHEDULED"];
    assert_eq!(states(&job)[..7], expected, "the retries that are left are decided as ever");
    server.stop().await;
}

/// Takes a success for a failure.
fn disappointed(election: &StateElection<'_>) -> Option<JobState> {
    let failure = || Failure::new(FailureKind::Error, "a success that is none");
    (names(election) == [StateName::Succeeded]).then(|| JobState::failed(failure()))
}

#[tokio::test(start_paused = true)]
async fn a_success_that_a_filter_makes_a_failure_is_not_retried() {
    let world = World::new();
    let log = Log::default();
    let fails = Elects(|election: &mut StateElection<'_>| {
        if let Some(failed) = disappointed(election) {
            election.replace([failed]);
        }
    });
    let builder = world.server().filter(fails).filter(Writes(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(writing(&Log::default())).start().await.unwrap();

    let id = world.create(JobBuilder::new(work(0)).retries(5)).await;
    world.job_in(id, StateName::Failed).await;
    pass(Duration::from_secs(3_600)).await;

    assert_eq!(states(&world.job(id).await), ["ENQUEUED", "PROCESSING", "FAILED"]);
    server.stop().await;
    let end =
        ["elect PROCESSING -> FAILED", "applied FAILED", "failed after retries: a success that is none"];
    assert_eq!(written(&log)[2..], end);
}

#[tokio::test(start_paused = true)]
async fn a_success_that_a_filter_makes_a_failure_is_retried_if_the_filter_says_so() {
    let world = World::new();
    let log = Log::default();
    let elections = Arc::new(AtomicUsize::new(0));
    let clock = Arc::clone(&world.clock);
    let retries = Elects(move |election: &mut StateElection<'_>| {
        let now: DateTime<Utc> = clock.now();
        if elections.fetch_add(1, Ordering::Relaxed) == 0
            && let Some(failed) = disappointed(election)
        {
            election.replace([failed, JobState::scheduled_in(Duration::from_secs(60), "once more", now)]);
        }
    });
    let builder = world.server().filter(retries).filter(Writes(Arc::clone(&log)));
    let server = builder.handle::<Work, _>(writing(&Log::default())).start().await.unwrap();

    let id = world.enqueue(0).await;
    let job: Job = world.job_in(id, StateName::Succeeded).await;
    server.stop().await;

    let twice = ["ENQUEUED", "PROCESSING", "FAILED", "SCHEDULED", "ENQUEUED", "PROCESSING", "SUCCEEDED"];
    assert_eq!(states(&job), twice);
    assert_eq!(job.failures(), 1);
    let end = [
        "elect PROCESSING -> FAILED+SCHEDULED",
        "applied FAILED",
        "applied SCHEDULED",
        "failed: a success that is none",
    ];
    assert_eq!(written(&log)[2..6], end);
}
