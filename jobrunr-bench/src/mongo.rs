//! MongoDB as a database to be measured: a database each on the replica set of `cargo xtask databases`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use jobrunr_core::storage::{SetUp, StorageProvider};
use jobrunr_storage_mongo::MongoStorage;
use jobrunr_storage_mongo::mongodb::Client;
use jobrunr_storage_mongo::mongodb::bson::{Bson, Document, doc};

use crate::database::{Counters, Database, FreshDatabase, RawWork, SingleInsert, url_of_database};
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

    async fn open(&self, url: String) -> anyhow::Result<FreshDatabase> {
        let storage = MongoStorage::connect(&url).await?;
        storage.set_up(SetUp::Migrate).await?;
        Ok(FreshDatabase::new(url, storage))
    }

    async fn run_raw(&self, url: &str, work: RawWork) -> anyhow::Result<f64> {
        match work {
            RawWork::Drain { jobs, batch } => raw_mongo::drain(url, jobs, batch).await,
            RawWork::BulkInsert { jobs, batch } => raw_mongo::insert(url, jobs, batch).await,
            RawWork::DrainByFindAndModify { jobs } => raw_mongo::find_and_modify(url, jobs).await,
        }
    }

    async fn prepare_raw_single_inserts(&self, url: &str) -> anyhow::Result<bool> {
        raw_mongo::create(url).await?;
        Ok(true)
    }

    async fn raw_single_insert(
        &self,
        url: &str,
        how: SingleInsert,
        how_long: Duration,
    ) -> anyhow::Result<f64> {
        raw_mongo::insert_for(url, how, how_long).await
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
            slow_commands: None,
        })
    }

    fn has_find_and_modify(&self) -> bool {
        true
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
