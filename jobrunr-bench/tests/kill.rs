//! Worker processes are killed at random again and again; whatever they were doing, every job ends well in the end.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod databases;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use databases::Fresh;
use jobrunr_core::clock::{Clock, SystemClock};
use jobrunr_core::storage::{JobCursor, JobQuery, StorageProvider};
use jobrunr_core::{Job, JobId, JobRequest, JobScheduler, StateName};
use serde::{Deserialize, Serialize};

const JOBS: usize = 2_000;
const WORKER_PROCESSES: usize = 3;
const KILLS: usize = 10;
/// How long all of it may take, on a slow machine too.
const LIMIT: Duration = Duration::from_secs(240);

/// The job that the worker processes run; they have its handler.
#[derive(Serialize, Deserialize)]
struct Recorded {
    millis: u64,
}

impl JobRequest for Recorded {
    const JOB_TYPE: &'static str = "recorded";
}

/// One worker process and the file it leaves its lines in.
struct WorkerProcess {
    child: Child,
    record: PathBuf,
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about it then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl WorkerProcess {
    fn start(url: &str, folder: &Path, number: usize) -> Self {
        let record = folder.join(format!("worker-{number}.txt"));
        let child = Command::new(env!("CARGO_BIN_EXE_jobrunr-bench"))
            .args(["worker", "--url", url, "--workers", "4", "--poll-interval-ms", "1000", "--record"])
            .arg(&record)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, record }
    }

    /// Ends the process as the kernel does it: nothing of its own runs any more. Returns when it was gone.
    fn kill(mut self) -> (PathBuf, DateTime<Utc>) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.record.clone(), SystemClock.now())
    }
}

/// One run of a job, as its process recorded it.
#[derive(Debug, Clone, Copy)]
struct Run {
    started_at: i64,
    /// Its end, or the end of its process.
    ended_at: i64,
    finished: bool,
}

fn read_runs(record: &Path, process_ended_at: i64) -> Vec<(JobId, Run)> {
    let text = std::fs::read_to_string(record).unwrap_or_default();
    let mut runs: Vec<(JobId, Run)> = Vec::new();
    let mut open: HashMap<JobId, usize> = HashMap::new();
    for line in text.lines() {
        // The last line of a killed process may be torn.
        let words: Vec<&str> = line.split(' ').collect();
        let [what, id, at] = words[..] else { continue };
        let (Ok(id), Ok(at)) = (id.parse(), at.parse()) else { continue };
        match (what, open.remove(&id)) {
            ("start", _) => {
                open.insert(id, runs.len());
                let run = Run { started_at: at, ended_at: process_ended_at, finished: false };
                runs.push((id, run));
            }
            ("end", Some(index)) => {
                runs[index].1.ended_at = at;
                runs[index].1.finished = true;
            }
            _ => panic!("{} ends a run that did not start: {line}", record.display()),
        }
    }
    runs
}

async fn all_jobs(storage: &dyn StorageProvider) -> Vec<Job> {
    let query = JobQuery::all().limit(500);
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        let page = match jobs.last() {
            Some(last) => query.clone().after(JobCursor::after(last, query.order)),
            None => query.clone(),
        };
        let page = storage.list_jobs(&page).await.unwrap();
        if page.is_empty() {
            return jobs;
        }
        jobs.extend(page);
    }
}

fn assert_legal(job: &Job) {
    let states: Vec<StateName> = job.history().iter().map(|entry| entry.state.name()).collect();
    assert!(states[0].can_be_first(), "job {} began as {}", job.id(), states[0]);
    for pair in states.windows(2) {
        assert!(pair[0].can_become(pair[1]), "job {} went from {} to {}", job.id(), pair[0], pair[1]);
    }
    assert!(
        job.history().is_sorted_by_key(|entry| entry.at),
        "the history of job {} is out of order",
        job.id()
    );
}

async fn wait_until_all_have_ended(storage: &dyn StorageProvider, since: Instant) {
    loop {
        let counts = storage.job_counts().await.unwrap();
        if counts.in_state(StateName::Succeeded) + counts.in_state(StateName::Failed) == JOBS as u64 {
            return;
        }
        assert!(since.elapsed() < LIMIT, "after {LIMIT:?}: {counts:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Kills workers on this database, then looks at every job and at everything that the workers left behind.
async fn survive_ten_kills(url: &str, folder: &Path) {
    let storage: Arc<dyn StorageProvider> = jobrunr::connect(url).await.unwrap();
    let scheduler = JobScheduler::new(Arc::clone(&storage));
    scheduler.enqueue_all((0..JOBS).map(|_| Recorded { millis: 25 })).await.unwrap();
    let since = Instant::now();

    let mut workers: Vec<_> =
        (0..WORKER_PROCESSES).map(|number| WorkerProcess::start(url, folder, number)).collect();
    let mut killed = Vec::new();
    for number in (WORKER_PROCESSES..).take(KILLS) {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(150..600))).await;
        let victim = workers.swap_remove(fastrand::usize(..workers.len()));
        killed.push(victim.kill());
        workers.push(WorkerProcess::start(url, folder, number));
    }
    wait_until_all_have_ended(storage.as_ref(), since).await;
    killed.extend(workers.into_iter().map(WorkerProcess::kill));

    let jobs = all_jobs(storage.as_ref()).await;
    assert_eq!(jobs.len(), JOBS, "a job is missing");
    for job in &jobs {
        assert_legal(job);
        assert_eq!(job.state_name(), StateName::Succeeded, "job {}: {:?}", job.id(), job.history());
    }
    assert_none_ran_twice_at_once(&jobs, &killed);
    storage.close().await;
}

fn assert_none_ran_twice_at_once(jobs: &[Job], processes: &[(PathBuf, DateTime<Utc>)]) {
    let mut runs: HashMap<JobId, Vec<Run>> = HashMap::new();
    for (record, ended_at) in processes {
        for (id, run) in read_runs(record, ended_at.timestamp_micros()) {
            runs.entry(id).or_default().push(run);
        }
    }
    for job in jobs {
        let runs = runs.get_mut(&job.id()).unwrap_or_else(|| panic!("job {} left no trace", job.id()));
        assert!(runs.iter().any(|run| run.finished), "job {} never ran to its end: {runs:?}", job.id());
        runs.sort_by_key(|run| run.started_at);
        for pair in runs.windows(2) {
            assert!(
                pair[0].ended_at <= pair[1].started_at,
                "job {} ran in two live processes at once: {pair:?}",
                job.id()
            );
        }
    }
    let interrupted = runs.values().flatten().filter(|run| !run.finished).count();
    assert!(interrupted > 0, "no kill met a running job, so nothing was tested");
    println!("{interrupted} runs were interrupted by {KILLS} kills; {} processes ran", processes.len());
}

/// A folder of one test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kill-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

async fn survive_ten_kills_on(name: &str, database: Option<impl Fresh>) {
    let Some(database) = database else { return };
    let folder = folder(name);
    survive_ten_kills(&database.url(), &folder).await;
    database.drop().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_survive_ten_kills_of_their_workers() {
    let folder = folder("sqlite");
    survive_ten_kills(&format!("sqlite:{}", folder.join("jobs.db").display()), &folder).await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_in_postgres_survive_ten_kills_of_their_workers() {
    survive_ten_kills_on("postgres", databases::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_in_mysql_survive_ten_kills_of_their_workers() {
    survive_ten_kills_on("mysql", databases::mysql().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_in_mongo_survive_ten_kills_of_their_workers() {
    survive_ten_kills_on("mongo", databases::mongo().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_in_redis_survive_ten_kills_of_their_workers() {
    survive_ten_kills_on("redis", databases::redis().await).await;
}
