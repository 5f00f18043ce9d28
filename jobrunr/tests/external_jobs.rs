//! External jobs on one SQLite file that is opened twice, as two processes would: one runs servers, the other signals.
#![cfg(all(feature = "macros", feature = "server", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::PathBuf;

use jobrunr::prelude::*;
use jobrunr::{JobLog, JobProgress, Signal, SignalError};

/// The trigger of the tests: it only leaves a trace.
#[job(labels = ["review"])]
async fn trigger(number: u32, context: JobContext) -> JobResult<String> {
    context.log().info(format!("attempt {} of {number}", context.attempt()));
    context.progress(2).increment();
    context.save("ticket", &number).await?;
    Ok("no result: that comes with the signal".to_owned())
}

/// A folder for one test, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("jobrunr-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The file, opened once more.
    async fn open(&self) -> Arc<dyn StorageProvider> {
        jobrunr::connect(&format!("sqlite:{}", self.0.join("jobs.db").display())).await.unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn job_in(storage: &dyn StorageProvider, id: JobId, state: StateName) -> Job {
    let there = async {
        loop {
            let job = storage.find_job(id).await.unwrap().expect("nothing is purged");
            if job.state_name() == state {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), there).await.expect("it comes to that within 30 seconds")
}

fn states(job: &Job) -> Vec<&'static str> {
    job.history().iter().map(|entry| entry.state.name().as_str()).collect()
}

#[tokio::test]
async fn a_process_without_a_server_completes_what_the_server_of_another_has_triggered() {
    let folder = Folder::new("signal");
    let (worker, web) = (folder.open().await, folder.open().await);
    let server = BackgroundJobServer::builder(Arc::clone(&worker)).job(trigger).start().await.unwrap();
    let scheduler = JobScheduler::new(Arc::clone(&web));
    let id = scheduler.create(JobBuilder::external(trigger::job(7_u32))).await.unwrap();
    job_in(web.as_ref(), id, Processed).await;

    let waiting = web.list_jobs(&JobQuery::in_state(Processed).label("review")).await.unwrap();
    assert_eq!(waiting.iter().map(Job::id).collect::<Vec<_>>(), [id]);
    let awaiting = JobScheduler::new(Arc::clone(&worker));
    let result =
        tokio::spawn(async move { awaiting.await_result::<String>(id, Duration::from_secs(30)).await });
    scheduler.signal_succeeded(id, "approved").await.unwrap();

    assert_eq!(result.await.unwrap().unwrap(), "approved", "the other process sees it");
    server.stop().await;
    let job = web.find_job(id).await.unwrap().unwrap();
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "PROCESSED", "SUCCEEDED"]);
    assert_eq!(JobLog::of(&job).lines[0].text, "attempt 1 of 7");
    assert_eq!(JobProgress::of(&job).unwrap().percent(), 50);
    assert_eq!(job.metadata()["ticket"], 7);
    worker.close().await;
    web.close().await;
}

#[tokio::test]
async fn a_failure_signalled_by_another_process_has_the_server_trigger_again() {
    let folder = Folder::new("retry");
    let (worker, web) = (folder.open().await, folder.open().await);
    let server = BackgroundJobServer::builder(Arc::clone(&worker)).job(trigger).start().await.unwrap();
    let at_once = jobrunr::retry::FixedDelays::new([Duration::from_millis(50)]);
    let retries = jobrunr::retry::Retries::default().policy(at_once);
    let scheduler = JobScheduler::new(Arc::clone(&web)).with_retries(retries);
    let id = scheduler.create(JobBuilder::external(trigger::job(7_u32)).retries(1)).await.unwrap();
    job_in(web.as_ref(), id, Processed).await;

    let first = || Signal::failed(id, "no card is free").of_attempt(1);
    scheduler.signal(first()).await.unwrap();
    job_in(web.as_ref(), id, Processed).await;
    scheduler.signal(first()).await.unwrap();
    assert_eq!(web.find_job(id).await.unwrap().unwrap().state_name(), Processed, "it was said before");
    scheduler.signal_failed(id, "no card is free").await.unwrap();

    let job = job_in(worker.as_ref(), id, Failed).await;
    assert_eq!(job.failures(), 2);
    let lines: Vec<_> = JobLog::of(&job).lines.into_iter().map(|line| line.text).collect();
    assert_eq!(lines, ["attempt 1 of 7", "attempt 2 of 7"]);
    server.stop().await;
    worker.close().await;
    web.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_that_signal_at_once_one_is_told_that_it_is_too_late() {
    let folder = Folder::new("race");
    let (worker, web) = (folder.open().await, folder.open().await);
    let server = BackgroundJobServer::builder(Arc::clone(&worker)).job(trigger).start().await.unwrap();
    let scheduler = JobScheduler::new(Arc::clone(&web));

    for number in 0..30_u32 {
        let id = scheduler.create(JobBuilder::external(trigger::job(number))).await.unwrap();
        // Every other time the trigger may still be running, or not have started at all.
        if number % 2 == 0 {
            job_in(web.as_ref(), id, Processed).await;
        }
        let (one, other) = (JobScheduler::new(Arc::clone(&worker)), JobScheduler::new(Arc::clone(&web)));
        let one = tokio::spawn(signalled(one, Signal::succeeded(id, "approved").unwrap()));
        let other = tokio::spawn(signalled(other, Signal::failed(id, "declined").do_not_retry()));
        let (approved, declined) = (one.await.unwrap(), other.await.unwrap());

        let job = web.find_job(id).await.unwrap().unwrap();
        match (&approved, &declined) {
            (Ok(()), Err(SignalError::AlreadyEnded { state: Succeeded, .. })) => {
                assert_eq!(job.state_name(), Succeeded);
            }
            (Err(SignalError::AlreadyEnded { state: Failed, .. }), Ok(())) => {
                assert_eq!(job.state_name(), Failed);
            }
            other => panic!("{other:?}"),
        }
    }
    server.stop().await;
    worker.close().await;
    web.close().await;
}

/// Signals as soon as the job has started.
async fn signalled(scheduler: JobScheduler, signal: Signal) -> Result<(), SignalError> {
    loop {
        match scheduler.signal(signal.clone()).await {
            Err(SignalError::NotStarted { .. }) => tokio::task::yield_now().await,
            result => return result,
        }
    }
}
