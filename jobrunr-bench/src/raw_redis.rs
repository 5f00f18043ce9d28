//! The raw limit of Redis: scripts on the least keys a job queue needs, nothing else.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Script};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::database::SingleInsert;
use crate::report::per_second;
use crate::workload::Noop;

/// A job is one hash: state, version, last update, payload. It stands in its line and among those of its state.
const INSERT: &str = "local ready = {}
    for at = 2, #ARGV, 2 do
        local id = ARGV[at]
        redis.call('HSET', 'job:' .. id, 's', '2', 'v', '1', 'u', ARGV[1], 'p', ARGV[at + 1])
        ready[#ready + 1] = ARGV[1]
        ready[#ready + 1] = id
    end
    redis.call('ZADD', 'ready', unpack(ready))
    redis.call('ZADD', 'state:2', unpack(ready))
    return #ready / 2";
const CLAIM: &str = "local first, claimed, of_state = redis.call('ZPOPMIN', 'ready', ARGV[2]), {}, {}
    if #first == 0 then
        return claimed
    end
    local ids = {}
    for at = 1, #first, 2 do
        local id = first[at]
        local job = redis.call('HMGET', 'job:' .. id, 'v', 'p')
        local version = string.format('%d', job[1] + 1)
        redis.call('HSET', 'job:' .. id, 's', '3', 'v', version, 'u', ARGV[1])
        ids[#ids + 1] = id
        of_state[#of_state + 1] = ARGV[1]
        of_state[#of_state + 1] = id
        claimed[#claimed + 1] = id
        claimed[#claimed + 1] = version
        claimed[#claimed + 1] = job[2]
    end
    redis.call('ZREM', 'state:2', unpack(ids))
    redis.call('ZADD', 'state:3', unpack(of_state))
    return claimed";
const COMPLETE: &str = "local ids, of_state = {}, {}
    for at = 2, #ARGV, 2 do
        local id = ARGV[at]
        local job = redis.call('HMGET', 'job:' .. id, 's', 'v')
        if job[1] == '3' and job[2] == ARGV[at + 1] then
            redis.call('HSET', 'job:' .. id, 's', '5', 'v', string.format('%d', job[2] + 1), 'u', ARGV[1])
            ids[#ids + 1] = id
            of_state[#of_state + 1] = ARGV[1]
            of_state[#of_state + 1] = id
        end
    end
    redis.call('ZREM', 'state:3', unpack(ids))
    redis.call('ZADD', 'state:5', unpack(of_state))
    return #ids";

/// Connections that claim and complete at once: two cores are busy then, the server's and the client's.
const CONNECTIONS: usize = 4;

/// A script that the server knows, named by its hash.
#[derive(Clone)]
struct Known(String);

impl Known {
    async fn load(code: &str, connection: &mut MultiplexedConnection) -> anyhow::Result<Self> {
        Ok(Self(Script::new(code).prepare_invoke().load_async(connection).await?))
    }

    fn call(&self) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.0).arg(0);
        call
    }
}

async fn run<T: FromRedisValue>(call: &Cmd, connection: &mut MultiplexedConnection) -> anyhow::Result<T> {
    Ok(call.query_async(connection).await?)
}

/// Connects; answers may take as long as they do.
pub(crate) async fn connect(url: &str) -> anyhow::Result<MultiplexedConnection> {
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(Client::open(url)?.get_multiplexed_async_connection_with_config(&patient).await?)
}

fn payload() -> anyhow::Result<String> {
    Ok(serde_json::to_string(&Noop::new())?)
}

async fn insert_jobs(
    connection: &mut MultiplexedConnection,
    insert: &Known,
    jobs: usize,
    data: &str,
) -> anyhow::Result<()> {
    let mut call = insert.call();
    call.arg(1);
    for _ in 0..jobs {
        call.arg(Uuid::now_v7().simple().to_string()).arg(data);
    }
    run(&call, connection).await
}

async fn fill(connection: &mut MultiplexedConnection, jobs: usize, batch: usize) -> anyhow::Result<()> {
    let data = payload()?;
    let insert = Known::load(INSERT, connection).await?;
    let mut left = jobs;
    while left > 0 {
        let count = left.min(batch);
        insert_jobs(connection, &insert, count, &data).await?;
        left -= count;
    }
    Ok(())
}

/// Inserts jobs in scripts of `batch`; returns jobs a second.
pub(crate) async fn insert(url: &str, jobs: usize, batch: usize) -> anyhow::Result<f64> {
    let mut connection = connect(url).await?;
    let started = Instant::now();
    fill(&mut connection, jobs, batch).await?;
    Ok(per_second(jobs, started.elapsed()))
}

/// Inserts jobs for a while; returns jobs a second.
///
/// Callers whose jobs go together share a connection, which sends what they ask without waiting for answers, and ask
/// one by one: that is faster than gathering them in scripts, since the server need not wait for a group.
pub(crate) async fn insert_for(url: &str, how: SingleInsert, how_long: Duration) -> anyhow::Result<f64> {
    let mut first = connect(url).await?;
    let insert = Known::load(INSERT, &mut first).await?;
    let mut callers = vec![];
    match how {
        SingleInsert::Together { rows } => callers.extend(std::iter::repeat_n(first, rows)),
        SingleInsert::OneByOne { connections } => {
            for _ in 0..connections {
                callers.push(connect(url).await?);
            }
        }
    }
    let data = payload()?;
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in callers {
        let (insert, data) = (insert.clone(), data.clone());
        tasks.spawn(async move {
            let mut inserted = 0;
            while started.elapsed() < how_long {
                insert_jobs(&mut connection, &insert, 1, &data).await?;
                inserted += 1;
            }
            anyhow::Ok(inserted)
        });
    }
    let mut inserted = 0;
    while let Some(task) = tasks.join_next().await {
        inserted += task??;
    }
    Ok(per_second(inserted, started.elapsed()))
}

/// Fills the server, then claims and completes all of it, `batch` jobs a script; returns jobs a second.
pub(crate) async fn drain(url: &str, jobs: usize, batch: usize) -> anyhow::Result<f64> {
    let mut connection = connect(url).await?;
    fill(&mut connection, jobs, 500).await?;
    let claim = Known::load(CLAIM, &mut connection).await?;
    let complete = Known::load(COMPLETE, &mut connection).await?;
    let mut tasks = JoinSet::new();
    let mut connections = vec![connection];
    while connections.len() < CONNECTIONS {
        connections.push(connect(url).await?);
    }

    let started = Instant::now();
    for mut connection in connections {
        let (claim, complete) = (claim.clone(), complete.clone());
        tasks.spawn(async move {
            let (mut done, mut now) = (0, 1_000_000_000_i64);
            loop {
                now += 1;
                let mut call = claim.call();
                call.arg(now).arg(batch);
                let claimed: Vec<(String, String, Vec<u8>)> = run(&call, &mut connection).await?;
                if claimed.is_empty() {
                    return anyhow::Ok(done);
                }
                let mut call = complete.call();
                call.arg(now);
                for (id, version, _data) in &claimed {
                    call.arg(id).arg(version);
                }
                done += run::<usize>(&call, &mut connection).await?;
            }
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    let rate = per_second(jobs, started.elapsed());
    anyhow::ensure!(done == jobs, "{done} of {jobs} jobs were completed");
    Ok(rate)
}
