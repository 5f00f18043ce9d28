//! Recurring jobs that tick every second, under masters that meet and masters that die.

use jobrunr::RecurringJobId;
use jobrunr::prelude::*;
use jobrunr::recurring::{MisfirePolicy, OverlapPolicy, RecurringJobBuilder};
use jobrunr::server::BackgroundJobServerBuilder;
use tokio::sync::{Semaphore, mpsc};

use crate::LIMIT;
use crate::database::Database;
use crate::faulty::{Fault, Faulty};

const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What is told of each run.
type Told = mpsc::UnboundedSender<(RecurringJobId, DateTime<Utc>)>;

/// The run of a tick: tells which.
#[job]
async fn tell(context: JobContext, told: Inject<Told>) -> JobResult {
    let job = context.job();
    let id = job.recurring_job_id().cloned().ok_or("it is the run of a recurring job")?;
    told.send((id, job.scheduled_at().ok_or("it has a tick")?))?;
    Ok(())
}

/// The run of a tick: waits until it may end.
#[job]
async fn gated(gate: Inject<Semaphore>) -> JobResult {
    gate.acquire().await?.forget();
    Ok(())
}

/// A recurring job with a tick each second, none of which is passed over however busy the machine is.
async fn every_second(scheduler: &JobScheduler, id: &str) -> RecurringJobId {
    let builder = RecurringJobBuilder::new("* * * * * *", tell::job())
        .id(id)
        .misfire(MisfirePolicy::RunAll { at_most: 100 })
        .overlap(OverlapPolicy::Allow);
    scheduler.save_recurring_job(builder).await.unwrap()
}

fn server(storage: Arc<dyn StorageProvider>, told: &Told) -> BackgroundJobServerBuilder {
    BackgroundJobServer::builder(storage).workers(4).job(tell).provide(told.clone())
}

/// Waits until the condition holds that is looked for in the storage.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let there = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, there).await.expect("it never came to that");
}

async fn runs_of(storage: &dyn StorageProvider, id: &RecurringJobId) -> Vec<Job> {
    let query = JobQuery::all().recurring_job_id(id.clone()).limit(1_000);
    let mut runs = storage.list_jobs(&query).await.unwrap();
    runs.sort_by_key(Job::scheduled_at);
    runs
}

/// Waits until the first runs have ended well, and checks that they are those of one tick after the other, each run once.
async fn assert_each_tick_ran_once(
    storage: &dyn StorageProvider,
    id: &RecurringJobId,
    count: usize,
    told: impl FnOnce() -> Vec<DateTime<Utc>>,
) {
    let first = async || runs_of(storage, id).await.into_iter().take(count).collect::<Vec<_>>();
    until(async || {
        let runs = first().await;
        runs.len() == count && runs.iter().all(|run| run.state_name() == Succeeded)
    })
    .await;

    let ticks: Vec<_> = first().await.iter().filter_map(Job::scheduled_at).collect();
    assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::seconds(1)), "{id}: {ticks:?}");
    let mut told = told();
    told.retain(|told| ticks.contains(told));
    told.sort_unstable();
    assert_eq!(told, ticks, "{id}: each of them once");
}

pub(crate) async fn two_masters_at_once(database: &Database) {
    let storage = database.open().await;
    let (told, mut hears) = mpsc::unbounded_channel();
    let mut masters = Vec::new();
    for _ in 0..2 {
        let blind = Faulty::over(database.open().await).seeing_no_other_servers();
        // Neither sees the other, and so each would rescue the other's jobs if it looked for orphans.
        let master = server(blind.shared(), &told).poll_interval(Duration::from_secs(3_600));
        masters.push(master.start().await.unwrap());
    }
    assert!(masters.iter().all(BackgroundJobServer::is_master));
    let scheduler = JobScheduler::new(Arc::clone(&storage));
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(every_second(&scheduler, &format!("beat-{number}")).await);
    }

    let mut heard = Vec::new();
    for id in &ids {
        assert_each_tick_ran_once(storage.as_ref(), id, 5, || {
            heard.extend(std::iter::from_fn(|| hears.try_recv().ok()));
            let of_id = heard.iter().filter(|(of, _)| of == id);
            of_id.map(|(_, at)| *at).collect()
        })
        .await;
    }

    for master in masters {
        master.stop().await;
    }
    storage.close().await;
}

pub(crate) async fn a_master_killed_in_between(database: &Database) {
    let storage = database.open().await;
    let (told, mut hears) = mpsc::unbounded_channel();
    let id = every_second(&JobScheduler::new(Arc::clone(&storage)), "beat").await;
    for fault in [Fault::Hang, Fault::AfterEffect, Fault::BeforeEffect] {
        let before = runs_of(storage.as_ref(), &id).await.len();
        let doomed = Faulty::over(database.open().await);
        doomed.fail(move |operation| if operation == "save_recurring_job" { fault } else { Fault::None });
        let server = server(doomed.shared(), &told).poll_interval(POLL_INTERVAL).start().await.unwrap();
        // It has created runs, and these have run.
        until(async || {
            let runs = runs_of(storage.as_ref(), &id).await;
            runs.len() > before && runs.iter().all(|run| run.state_name() == Succeeded)
        })
        .await;
        drop(server);
    }

    let before = runs_of(storage.as_ref(), &id).await.len();
    let server = server(database.open().await, &told).poll_interval(POLL_INTERVAL).start().await.unwrap();
    assert_each_tick_ran_once(storage.as_ref(), &id, before + 3, || {
        let mut heard: Vec<_> = std::iter::from_fn(|| hears.try_recv().ok()).map(|(_, at)| at).collect();
        // A run that was under way when its server was killed is run again, so ticks are counted, not calls.
        heard.sort_unstable();
        heard.dedup();
        heard
    })
    .await;
    server.stop().await;
    storage.close().await;
}

pub(crate) async fn queue_one(database: &Database) {
    let storage = database.open().await;
    let scheduler = JobScheduler::new(Arc::clone(&storage));
    let server = BackgroundJobServer::builder(database.open().await)
        .poll_interval(POLL_INTERVAL)
        .cancellation_grace(Duration::from_millis(50))
        .shutdown_grace(Duration::from_millis(50))
        .job(gated)
        .provide(Semaphore::new(0))
        .start()
        .await
        .unwrap();
    let builder = RecurringJobBuilder::new("* * * * * *", gated::job()).id("gated");
    let id = scheduler.save_recurring_job(builder.overlap(OverlapPolicy::QueueOne)).await.unwrap();
    let states = async || {
        let runs = runs_of(storage.as_ref(), &id).await;
        runs.iter().map(Job::state_name).collect::<Vec<_>>()
    };

    until(async || states().await == [Processing, Awaiting]).await;
    let waiting = storage.list_jobs(&JobQuery::in_state(Awaiting)).await.unwrap();
    let running = storage.list_jobs(&JobQuery::in_state(Processing)).await.unwrap();
    assert_eq!(waiting[0].awaited_job_id(), Some(running[0].id()));

    // Another process ends the run that is waited for; the one that waits goes on, and the next waits for it.
    JobScheduler::new(Arc::clone(&storage)).delete(running[0].id(), "not needed").await.unwrap();
    until(async || states().await == [Deleted, Processing, Awaiting]).await;
    assert!(scheduler.delete_recurring_job(&id).await.unwrap());
    until(async || states().await == [Deleted, Processing, Deleted]).await;

    scheduler.delete(waiting[0].id(), "the end").await.unwrap();
    server.stop().await;
    storage.close().await;
}
