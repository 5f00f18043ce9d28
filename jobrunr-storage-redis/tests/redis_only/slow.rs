//! Nothing keeps the server from others for long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jobrunr_core::storage::{
    ClaimRequest, JobQuery, JobSearch, JobSelection, JobStore, SignatureSelection, StorageProvider,
};
use jobrunr_core::{JobContext, JobHandler, JobRequest, JobResult, JobScheduler, StateName};
use jobrunr_server::BackgroundJobServer;
use jobrunr_storage_redis::{RedisOptions, RedisStorage};
use serde::{Deserialize, Serialize};

use crate::support::{PrivateServer, Proxy};
use crate::{a_server, an_enqueued_job, an_enqueued_job_of, at, open, wait_until};

const JOBS: usize = 50_000;

/// How often it is tried. The log tells by the clock on the wall: a command is in it also if the kernel gave the processor to
/// another process in the middle of it. One that is slow by itself is slow nearly each time.
const ATTEMPTS: usize = 3;

/// What half of the commands of a kind stay under, and what nine of ten do.
const USUAL: Duration = Duration::from_micros(2_500);
const LIMIT: Duration = Duration::from_millis(5);

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
type Entry = (i64, i64, u64, Vec<String>, String, String);

/// A kind of command of which too many took too long.
#[derive(Debug)]
#[expect(dead_code, reason = "it is shown when the test fails")]
struct SlowKind {
    name: String,
    calls: u64,
    over_usual: u64,
    over_limit: u64,
}

/// The kinds of commands that are slow by themselves. Each script is a kind, named by its hash.
async fn slow_kinds(server: &PrivateServer, proxy: &Proxy) -> Vec<SlowKind> {
    let mut connection = server.connection().await.unwrap();
    let log: Vec<Entry> =
        redis::cmd("SLOWLOG").arg("GET").arg(-1).query_async(&mut connection).await.unwrap();
    let mut calls = server.command_counts().await.unwrap();
    calls.extend(proxy.script_calls());
    let mut kinds: BTreeMap<String, SlowKind> = BTreeMap::new();
    for (_, _, micros, words, ..) in log {
        let is_script = words[0].starts_with("EVAL");
        let name = if is_script { words[1].clone() } else { words[0].to_lowercase() };
        let calls = calls.get(&name).copied().unwrap_or_default();
        let kind =
            kinds.entry(name.clone()).or_insert(SlowKind { name, calls, over_usual: 0, over_limit: 0 });
        kind.over_usual += 1;
        kind.over_limit += u64::from(Duration::from_micros(micros) >= LIMIT);
    }
    let is_slow = |kind: &SlowKind| 2 * kind.over_usual > kind.calls || 10 * kind.over_limit > kind.calls;
    kinds.into_values().filter(is_slow).collect()
}

/// Tries this until no kind of command was slow.
async fn assert_that_nothing_is_slow(work: impl AsyncFn(&Arc<RedisStorage>)) {
    let mut slow = Vec::new();
    for _ in 0..ATTEMPTS {
        let threshold = format!("slowlog-log-slower-than {}", USUAL.as_micros());
        let settings = ["appendonly yes", "slowlog-max-len 100000", &threshold];
        let Some(server) = PrivateServer::start(&settings).await.unwrap() else { return };
        let proxy = Proxy::to(server.port).await.unwrap();
        let storage = Arc::new(open(&proxy.url_of(&server), RedisOptions::default()).await);

        work(&storage).await;

        let kinds = slow_kinds(&server, &proxy).await;
        storage.close().await;
        if kinds.is_empty() {
            return;
        }
        slow.push(kinds);
    }
    panic!("in each of {ATTEMPTS} runs commands took too long: {slow:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kind_of_command_of_bulk_insert_drain_search_and_purge_of_50_000_jobs_takes_5_ms() {
    assert_that_nothing_is_slow(async |storage| {
        enqueue_and_drain(storage).await;
        search(storage).await;
        remove(storage).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kind_of_command_of_claims_from_thousands_of_lanes_takes_5_ms() {
    assert_that_nothing_is_slow(async |storage| {
        // As many lanes as one script looks into, then more.
        for types in [450, 5_000] {
            let jobs =
                (0..10_000).map(|number| an_enqueued_job_of(&format!("type-{}", number % types), number));
            storage.insert_jobs(&jobs.collect::<Vec<_>>()).await.unwrap();
            for limit in [500; 21] {
                let claim = ClaimRequest::new(a_server(), limit, at(20_000));
                storage.claim_jobs(&claim).await.unwrap();
            }
            assert_eq!(storage.job_counts().await.unwrap().in_state(StateName::Enqueued), 0);
        }
    })
    .await;
}
