//! Nothing keeps the server from others for long.

use std::collections::BTreeMap;
use std::sync::Arc;

use jobrunr_core::storage::{
    JobQuery, JobSearch, JobSelection, JobStore, SignatureSelection, StorageProvider,
};
use jobrunr_core::{JobContext, JobHandler, JobRequest, JobResult, JobScheduler, StateName};
use jobrunr_server::BackgroundJobServer;
use jobrunr_storage_redis::RedisStorage;
use serde::{Deserialize, Serialize};

use crate::support::PrivateServer;
use crate::{a_server_with_a_storage, an_enqueued_job, at, wait_until};

const JOBS: usize = 50_000;

/// How often it is tried.
const ATTEMPTS: usize = 3;

/// How many commands of one kind may be in the log. It tells by the clock on the wall: a command is in it also if the kernel
/// gave the processor to another process in the middle of it. One that is slow by itself is slow nearly each time, and the
/// scripts run a thousand times.
const MISHAPS: usize = 25;

/// With a payload as large as is usual.
#[derive(Clone, Serialize, Deserialize)]
struct Small {
    text: String,
}

impl JobRequest for Small {
    const JOB_TYPE: &'static str = "small";
}

struct Nothing;

impl JobHandler<Small> for Nothing {
    type Output = ();

    async fn run(&self, _: Small, _: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Many jobs at once, a server at its default options that runs them all, and releases of many that are due.
async fn enqueue_and_drain(storage: &Arc<RedisStorage>) {
    let provider: Arc<dyn StorageProvider> = Arc::<RedisStorage>::clone(storage);
    let scheduler = JobScheduler::new(Arc::clone(&provider));
    let job = Small { text: "x".repeat(389) };
    scheduler.enqueue_all((0..JOBS).map(|_| job.clone())).await.unwrap();
    let server = BackgroundJobServer::builder(provider).handle::<Small, _>(Nothing);
    let server = server.start().await.unwrap();
    let all = u64::try_from(JOBS).unwrap();
    wait_until("all have succeeded", async || storage.job_counts().await.unwrap().succeeded_all_time == all)
        .await;
    server.stop().await;

    let scheduled = (0..2_000).map(|second| {
        let mut job = an_enqueued_job();
        job.schedule(at(second), None, at(0)).unwrap();
        job
    });
    storage.insert_jobs(&scheduled.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(storage.enqueue_due_jobs(at(3_000), 2_000).await.unwrap().released.len(), 2_000);
}

/// What a dashboard asks of many jobs, also what no index answers.
async fn search(storage: &RedisStorage) {
    let succeeded = JobQuery::in_state(StateName::Succeeded);
    let fitting = storage.count_jobs(&succeeded.clone().name_contains("SMALL")).await.unwrap();
    assert_eq!(fitting, u64::try_from(JOBS).unwrap());
    let none = storage.list_jobs(&JobQuery::all().name_contains("nowhere").limit(50)).await.unwrap();
    assert!(none.is_empty());
    let deep = storage.list_jobs(&succeeded.clone().offset(JOBS - 20).limit(500)).await.unwrap();
    assert_eq!(deep.len(), 20);
    assert_eq!(storage.list_jobs(&succeeded.newest_first().limit(500)).await.unwrap().len(), 500);
    storage.list_signatures(&[StateName::Succeeded]).await.unwrap();
}

async fn remove(storage: &RedisStorage) {
    let old = JobSelection::Aged {
        state: StateName::Succeeded,
        updated_before: chrono::DateTime::<chrono::Utc>::MAX_UTC,
        signatures: SignatureSelection::All,
        limit: JOBS,
    };
    assert_eq!(storage.delete_jobs(&old).await.unwrap(), u64::try_from(JOBS).unwrap());
}

/// An entry of the log: number, time, microseconds, words, client, its name.
type Entry = (i64, i64, i64, Vec<String>, String, String);

/// The kinds of commands that were slow more often than mishaps are, with how often.
async fn slow_kinds(server: &PrivateServer) -> Vec<(String, usize)> {
    let mut connection = server.connection().await.unwrap();
    let log: Vec<Entry> =
        redis::cmd("SLOWLOG").arg("GET").arg(10_000).query_async(&mut connection).await.unwrap();
    let stats = server.ask(&["INFO", "commandstats"]).await.unwrap();
    let mut kinds: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for (_, _, _, words, ..) in log {
        // A script is one kind; of it the second word is the hash.
        let is_script = words[0].starts_with("EVAL");
        let kind = if is_script { words[..2].join(" ") } else { words[0].clone() };
        kinds.entry(kind).or_insert((words[0].to_lowercase(), 0)).1 += 1;
    }
    let is_more_than_mishaps =
        |(_, (name, slow)): &(String, (String, usize))| *slow > MISHAPS.min(calls_of(name, &stats) / 10);
    kinds.into_iter().filter(is_more_than_mishaps).map(|(kind, (_, slow))| (kind, slow)).collect()
}

/// How often a command was called.
fn calls_of(name: &str, stats: &str) -> usize {
    let rest = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    let rest = rest.unwrap_or_else(|| panic!("{name} is in the statistics"));
    rest.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kind_of_command_of_bulk_insert_drain_search_and_purge_of_50_000_jobs_takes_5_ms() {
    let mut slow = Vec::new();
    for _ in 0..ATTEMPTS {
        let settings = ["appendonly yes", "slowlog-log-slower-than 5000", "slowlog-max-len 10000"];
        let Some((server, storage)) = a_server_with_a_storage(&settings).await else { return };
        let storage = Arc::new(storage);

        enqueue_and_drain(&storage).await;
        search(&storage).await;
        remove(&storage).await;

        let kinds = slow_kinds(&server).await;
        storage.close().await;
        if kinds.is_empty() {
            return;
        }
        slow.push(kinds);
    }
    panic!("in each of {ATTEMPTS} runs commands took 5 ms or more: {slow:#?}");
}
