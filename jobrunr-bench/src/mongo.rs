//! MongoDB as a database to be measured: a database each on the replica set of `cargo xtask databases`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use jobrunr_core::storage::{SetUp, StorageProvider};
use jobrunr_storage_mongo::MongoStorage;
use jobrunr_storage_mongo::mongodb::Client;
use jobrunr_storage_mongo::mongodb::bson::{Bson, Document, doc};

use crate::database::{Counters, Database, FreshDatabase, RawDatabase, SingleInsert, url_of_database};
use crate::raw_mongo;

/// MongoDB, one database a measurement.
#[derive(Debug)]
pub(crate) struct Mongo {
    server: String,
    admin: Client,
    databases: AtomicUsize,
}

/// The commands that the counts of statements are made of; what drivers send by themselves is none.
const COMMANDS: [&str; 10] = [
    "abortTransaction",
    "aggregate",
    "commitTransaction",
    "delete",
    "distinct",
    "find",
    "findAndModify",
    "getMore",
    "insert",
    "update",
];

impl Mongo {
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        let server = std::env::var("JOBRUNR_TEST_MONGO_URL")
            .context("JOBRUNR_TEST_MONGO_URL names the server; `cargo xtask bench mongo` sets it")?;
        let admin = Client::with_uri_str(&server).await?;
        Ok(Self { server, admin, databases: AtomicUsize::new(0) })
    }

    /// The URL of a database that is not there yet.
    async fn create(&self) -> anyhow::Result<String> {
        // Each database begins when nothing of the last one is to be written any more.
        self.admin.database("admin").run_command(doc! { "fsync": 1 }).await?;
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("jobrunr_bench_{}_{number}", std::process::id());
        Ok(url_of_database(&self.server, &name))
    }

    async fn remove(&self, url: &str) -> anyhow::Result<()> {
        let address = url.split_once('?').map_or(url, |(address, _)| address);
        let name = address.rsplit_once('/').context("the URL names a database")?.1;
        Ok(self.admin.database(name).drop().await?)
    }
}

/// A number below these names, however it is stored.
fn number(document: &Document, path: &[&str]) -> Option<u64> {
    let (last, names) = path.split_last()?;
    let mut document = document;
    for name in names {
        document = document.get_document(name).ok()?;
    }
    match document.get(last)? {
        Bson::Int32(number) => u64::try_from(*number).ok(),
        Bson::Int64(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

#[async_trait]
impl Database for Mongo {
    fn name(&self) -> &'static str {
        "mongo"
    }

    async fn fresh(&self) -> anyhow::Result<FreshDatabase> {
        self.open(self.create().await?).await
    }

    async fn open(&self, url: String) -> anyhow::Result<FreshDatabase> {
        let storage = MongoStorage::connect(&url).await?;
        storage.set_up(SetUp::Migrate).await?;
        Ok(FreshDatabase::new(url, storage))
    }

    async fn discard(&self, fresh: FreshDatabase) -> anyhow::Result<()> {
        fresh.close().await;
        self.remove(&fresh.url).await
    }

    async fn raw_drain(&self, jobs: usize, batch: usize) -> anyhow::Result<f64> {
        let url = self.create().await?;
        let rate = raw_mongo::drain(&url, jobs, batch).await?;
        self.remove(&url).await?;
        Ok(rate)
    }

    async fn raw_drain_by_find_and_modify(&self, jobs: usize) -> anyhow::Result<Option<f64>> {
        let url = self.create().await?;
        let rate = raw_mongo::find_and_modify(&url, jobs).await?;
        self.remove(&url).await?;
        Ok(Some(rate))
    }

    async fn raw_bulk_insert(&self, jobs: usize, batch: usize) -> anyhow::Result<f64> {
        let url = self.create().await?;
        let rate = raw_mongo::insert(&url, jobs, batch).await?;
        self.remove(&url).await?;
        Ok(rate)
    }

    async fn raw_database(&self) -> anyhow::Result<Option<RawDatabase>> {
        let url = self.create().await?;
        raw_mongo::create(&url).await?;
        Ok(Some(RawDatabase { url }))
    }

    async fn discard_raw(&self, raw: RawDatabase) -> anyhow::Result<()> {
        self.remove(&raw.url).await
    }

    async fn raw_single_insert(
        &self,
        raw: &RawDatabase,
        how: SingleInsert,
        how_long: Duration,
    ) -> anyhow::Result<f64> {
        raw_mongo::insert_for(&raw.url, how, how_long).await
    }

    /// The server counts for all of its databases together.
    async fn counters(&self, _: &FreshDatabase) -> anyhow::Result<Counters> {
        let status = self.admin.database("admin").run_command(doc! { "serverStatus": 1 }).await?;
        let commands =
            COMMANDS.iter().filter_map(|name| number(&status, &["metrics", "commands", name, "total"]));
        Ok(Counters {
            statements: Some(commands.sum()),
            transactions: number(&status, &["transactions", "totalCommitted"]),
            log_bytes: number(&status, &["wiredTiger", "log", "log bytes written"]),
        })
    }

    fn drain_jobs(&self) -> usize {
        30_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_below_their_names() {
        let status = doc! { "a": { "b": { "c": 7_i64 }, "d": 3 }, "e": "none" };

        assert_eq!(number(&status, &["a", "b", "c"]), Some(7));
        assert_eq!(number(&status, &["a", "d"]), Some(3));
        assert_eq!(number(&status, &["a", "x", "c"]), None);
        assert_eq!(number(&status, &["e"]), None);
    }
}
