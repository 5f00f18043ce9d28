//! The raw limit of MongoDB: commands on the least documents a job queue needs, nothing else.
//!
//! A claim finds the first documents in line, marks those that are still there with a token, and asks which they are only
//! if others were faster. Beside it stands what most queues on MongoDB do: `findAndModify`, a job a command.

use std::time::{Duration, Instant};

use jobrunr_storage_mongo::mongodb::bson::{Document, RawDocumentBuf, Uuid, doc};
use jobrunr_storage_mongo::mongodb::options::{ClientOptions, Hint, IndexOptions, WriteConcern};
use jobrunr_storage_mongo::mongodb::{Client, Collection, IndexModel};
use tokio::task::JoinSet;

use crate::database::SingleInsert;
use crate::report::per_second;
use crate::workload::Noop;

const ENQUEUED: i32 = 2;
const PROCESSING: i32 = 3;
const SUCCEEDED: i32 = 5;

/// Tasks that claim and complete at once. They lose candidates to each other, and are faster than one all the same.
const TASKS: usize = 4;

/// What a job is claimed by.
const READY: &str = "ready";

/// The jobs of a database, as raw documents: nothing is decoded that is not looked at.
type Jobs = Collection<RawDocumentBuf>;

async fn open(url: &str) -> anyhow::Result<Jobs> {
    let mut options = ClientOptions::parse(url).await?;
    options.write_concern = Some(WriteConcern::majority());
    let client = Client::with_options(options)?;
    let database = client.default_database().ok_or_else(|| anyhow::anyhow!("the URL names no database"))?;
    Ok(database.collection("jobs"))
}

pub(crate) async fn create(url: &str) -> anyhow::Result<Jobs> {
    let jobs = open(url).await?;
    let only_enqueued = IndexOptions::builder()
        .name(READY.to_owned())
        .partial_filter_expression(doc! { "state": ENQUEUED })
        .build();
    let in_line = doc! { "state": 1, "lane": 1, "rank": 1, "queued": 1, "_id": 1 };
    let ready = IndexModel::builder().keys(in_line).options(only_enqueued).build();
    let of_state = IndexModel::builder().keys(doc! { "state": 1, "updated": 1 }).build();
    jobs.create_indexes([ready, of_state]).await?;
    Ok(jobs)
}

fn payload() -> anyhow::Result<String> {
    Ok(serde_json::to_string(&Noop::new())?)
}

fn job(at: i64, payload: &str) -> anyhow::Result<RawDocumentBuf> {
    let id = Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes());
    let document = doc! {
        "_id": id, "version": 1_i64, "state": ENQUEUED, "updated": at,
        "lane": "default noop", "rank": 0_i64, "queued": at, "payload": payload,
    };
    Ok(RawDocumentBuf::from_document(&document)?)
}

fn some_jobs(count: usize, payload: &str) -> anyhow::Result<Vec<RawDocumentBuf>> {
    (0_i64..).take(count).map(|at| job(at, payload)).collect()
}

async fn fill(jobs: &Jobs, count: usize, batch: usize) -> anyhow::Result<()> {
    let payload = payload()?;
    let mut left = count;
    while left > 0 {
        let some = some_jobs(left.min(batch), &payload)?;
        jobs.insert_many(&some).ordered(false).await?;
        left -= some.len();
    }
    Ok(())
}

/// Inserts jobs, `batch` a command; returns jobs a second.
pub(crate) async fn insert(url: &str, count: usize, batch: usize) -> anyhow::Result<f64> {
    let jobs = create(url).await?;
    let started = Instant::now();
    fill(&jobs, count, batch).await?;
    Ok(per_second(count, started.elapsed()))
}

/// Inserts jobs for a while; returns jobs a second.
pub(crate) async fn insert_for(url: &str, how: SingleInsert, how_long: Duration) -> anyhow::Result<f64> {
    let jobs = open(url).await?;
    let (tasks, rows) = match how {
        SingleInsert::OneByOne { connections } => (connections, 1),
        SingleInsert::Together { rows } => (1, rows),
    };
    let payload = payload()?;
    let started = Instant::now();
    let mut inserting = JoinSet::new();
    for _ in 0..tasks {
        let (jobs, payload) = (jobs.clone(), payload.clone());
        inserting.spawn(async move {
            let mut inserted = 0;
            while started.elapsed() < how_long {
                jobs.insert_many(some_jobs(rows, &payload)?).ordered(false).await?;
                inserted += rows;
            }
            anyhow::Ok(inserted)
        });
    }
    Ok(per_second(sum(inserting).await?, started.elapsed()))
}

/// Fills a collection, then claims and completes all of it, `batch` jobs a command; returns jobs a second.
pub(crate) async fn drain(url: &str, count: usize, batch: usize) -> anyhow::Result<f64> {
    let jobs = create(url).await?;
    fill(&jobs, count, 1_000).await?;
    let started = Instant::now();
    let mut draining = JoinSet::new();
    for _ in 0..TASKS {
        let jobs = jobs.clone();
        draining.spawn(async move {
            let mut done = 0;
            while let Some(claimed) = claim(&jobs, batch, micros_since(started)).await? {
                done += complete(&jobs, claimed, micros_since(started)).await?;
            }
            anyhow::Ok(done)
        });
    }
    let done = sum(draining).await?;
    let rate = per_second(count, started.elapsed());
    anyhow::ensure!(done == count, "{done} of {count} jobs were completed");
    Ok(rate)
}

fn micros_since(started: Instant) -> i64 {
    i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX)
}

/// Jobs that a task holds, by their ids, and what they are marked with.
struct Claimed {
    token: i64,
    ids: Vec<Uuid>,
}

async fn claim(jobs: &Jobs, batch: usize, now: i64) -> anyhow::Result<Option<Claimed>> {
    let in_line = doc! { "state": ENQUEUED, "lane": "default noop" };
    let mut found = jobs
        .find(in_line)
        .sort(doc! { "rank": 1, "queued": 1, "_id": 1 })
        .hint(Hint::Name(READY.to_owned()))
        .limit(i64::try_from(batch)?)
        .batch_size(u32::try_from(batch)?)
        .await?;
    let mut ids = Vec::with_capacity(batch);
    while found.advance().await? {
        let _data = found.current().get_str("payload")?;
        ids.push(Uuid::from_bytes(found.current().get_binary("_id")?.bytes.try_into()?));
    }
    if ids.is_empty() {
        return Ok(None);
    }
    let token = fastrand::i64(..);
    let still_in_line = doc! { "_id": { "$in": &ids }, "state": ENQUEUED };
    let change = doc! {
        "$set": { "state": PROCESSING, "updated": now, "server": 1, "claim": token },
        "$inc": { "version": 1_i64 },
    };
    let marked = jobs.update_many(still_in_line, change).await?.modified_count;
    if marked == u64::try_from(ids.len())? {
        return Ok(Some(Claimed { token, ids }));
    }
    let ours = doc! { "_id": { "$in": &ids }, "claim": token };
    let mut found = jobs.clone_with_type::<Document>().find(ours).projection(doc! { "_id": 1 }).await?;
    ids.clear();
    while found.advance().await? {
        ids.push(Uuid::from_bytes(found.current().get_binary("_id")?.bytes.try_into()?));
    }
    Ok(Some(Claimed { token, ids }))
}

async fn complete(jobs: &Jobs, claimed: Claimed, now: i64) -> anyhow::Result<usize> {
    let held = doc! { "_id": { "$in": claimed.ids }, "state": PROCESSING, "claim": claimed.token };
    let change = doc! {
        "$set": { "state": SUCCEEDED, "updated": now },
        "$inc": { "version": 1_i64 },
    };
    Ok(usize::try_from(jobs.update_many(held, change).await?.modified_count)?)
}

/// Fills a collection, then claims and completes all of it, each job by two commands of its own, one after the other; returns
/// jobs a second.
pub(crate) async fn find_and_modify(url: &str, count: usize) -> anyhow::Result<f64> {
    let jobs = create(url).await?;
    fill(&jobs, count, 1_000).await?;
    let started = Instant::now();
    let mut done = 0;
    loop {
        let change = doc! {
            "$set": { "state": PROCESSING, "updated": 1_i64, "server": 1 },
            "$inc": { "version": 1_i64 },
        };
        let claimed = jobs
            .find_one_and_update(doc! { "state": ENQUEUED, "lane": "default noop" }, change)
            .sort(doc! { "rank": 1, "queued": 1, "_id": 1 })
            .hint(Hint::Name(READY.to_owned()))
            .await?;
        let Some(claimed) = claimed else { break };
        let _data = claimed.get_str("payload")?;
        let id = Uuid::from_bytes(claimed.get_binary("_id")?.bytes.try_into()?);
        let change = doc! {
            "$set": { "state": SUCCEEDED, "updated": 2_i64 },
            "$inc": { "version": 1_i64 },
        };
        let completed = jobs.update_one(doc! { "_id": id, "state": PROCESSING }, change).await?;
        done += usize::try_from(completed.modified_count)?;
    }
    let rate = per_second(count, started.elapsed());
    anyhow::ensure!(done == count, "{done} of {count} jobs were completed");
    Ok(rate)
}

async fn sum(mut tasks: JoinSet<anyhow::Result<usize>>) -> anyhow::Result<usize> {
    let mut sum = 0;
    while let Some(task) = tasks.join_next().await {
        sum += task??;
    }
    Ok(sum)
}
