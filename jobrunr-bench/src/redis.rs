//! Redis as a database to be measured: numbered databases of the server of `cargo xtask databases`, those that are empty.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use jobrunr_core::storage::{SetUp, StorageProvider};
use jobrunr_storage_redis::RedisStorage;
use redis::aio::MultiplexedConnection;
use redis::cmd;

use crate::database::{Counters, Database, FreshDatabase, RawWork, SingleInsert, url_of_database};
use crate::raw_redis;

/// Redis, one numbered database a measurement.
#[derive(Debug)]
pub(crate) struct Redis {
    server: String,
    admin: MultiplexedConnection,
    /// The numbers of those that are in use.
    taken: Mutex<BTreeSet<u32>>,
}

/// How many databases a server has by default.
const DATABASES: u32 = 16;

impl Redis {
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        let server = std::env::var("JOBRUNR_TEST_REDIS_URL")
            .context("JOBRUNR_TEST_REDIS_URL names the server; `cargo xtask bench redis` sets it")?;
        let mut admin = raw_redis::connect(&server).await?;
        let slow = ["slowlog-log-slower-than", "5000", "slowlog-max-len", "10000"];
        cmd("CONFIG").arg("SET").arg(&slow).exec_async(&mut admin).await?;
        Ok(Self { server, admin, taken: Mutex::default() })
    }

    /// How many commands were slow since the server began: they are numbered from 0.
    async fn slow_commands(&self) -> anyhow::Result<u64> {
        type Entry = (u64, i64, i64, Vec<String>, String, String);
        let mut admin = self.admin.clone();
        let last: Vec<Entry> = cmd("SLOWLOG").arg("GET").arg(1).query_async(&mut admin).await?;
        Ok(last.first().map_or(0, |(number, ..)| number + 1))
    }

    /// What `INFO` says of one thing.
    async fn info(&self, section: &str) -> anyhow::Result<String> {
        Ok(cmd("INFO").arg(section).query_async(&mut self.admin.clone()).await?)
    }
}

/// The number after a name in what `INFO` says.
fn number_after(info: &str, name: &str) -> Option<u64> {
    let rest = info.lines().find_map(|line| line.strip_prefix(name))?;
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[async_trait]
impl Database for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn create(&self) -> anyhow::Result<String> {
        for number in 1..DATABASES {
            if !self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(number) {
                continue;
            }
            let url = url_of_database(&self.server, &number.to_string());
            let mut connection = raw_redis::connect(&url).await?;
            // What others keep there stays, and its number taken.
            if cmd("DBSIZE").query_async::<u64>(&mut connection).await? == 0 {
                return Ok(url);
            }
        }
        anyhow::bail!("no database of the server from 1 to {} is empty", DATABASES - 1)
    }

    async fn remove(&self, url: &str) -> anyhow::Result<()> {
        let mut connection = raw_redis::connect(url).await?;
        // At once and not on a thread of its own, which the next measurement would feel.
        cmd("FLUSHDB").arg("SYNC").exec_async(&mut connection).await?;
        let number = url.rsplit_once('/').context("the URL has a number")?.1.parse()?;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        Ok(())
    }

    async fn open(&self, url: String) -> anyhow::Result<FreshDatabase> {
        let storage = RedisStorage::connect(&url).await?;
        storage.set_up(SetUp::Migrate).await?;
        Ok(FreshDatabase::new(url, storage))
    }

    async fn run_raw(&self, url: &str, work: RawWork) -> anyhow::Result<f64> {
        match work {
            RawWork::Drain { jobs, batch } => raw_redis::drain(url, jobs, batch).await,
            RawWork::BulkInsert { jobs, batch } => raw_redis::insert(url, jobs, batch).await,
            RawWork::DrainByFindAndModify { .. } => anyhow::bail!("there is no such command"),
        }
    }

    async fn prepare_raw_single_inserts(&self, _: &str) -> anyhow::Result<bool> {
        Ok(true)
    }

    async fn raw_single_insert(
        &self,
        url: &str,
        how: SingleInsert,
        how_long: Duration,
    ) -> anyhow::Result<f64> {
        raw_redis::insert_for(url, how, how_long).await
    }

    /// The server counts for all of its databases together. Commands of scripts are statements; a script is a transaction.
    async fn counters(&self, _: &FreshDatabase) -> anyhow::Result<Counters> {
        let stats = self.info("stats").await?;
        let commands = self.info("commandstats").await?;
        let scripts = ["cmdstat_evalsha:calls=", "cmdstat_eval:calls="];
        let scripts = scripts.iter().filter_map(|name| number_after(&commands, name)).sum();
        let persistence = self.info("persistence").await?;
        Ok(Counters {
            statements: number_after(&stats, "total_commands_processed:"),
            transactions: Some(scripts),
            log_bytes: number_after(&persistence, "aof_current_size:"),
            slow_commands: Some(self.slow_commands().await?),
        })
    }

    /// All of it is in memory.
    fn many_jobs(&self) -> usize {
        200_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_what_stands_before_them() {
        let info = "# Stats\r\ntotal_commands_processed:17\r\ncmdstat_evalsha:calls=3,usec=9\r\n";

        assert_eq!(number_after(info, "total_commands_processed:"), Some(17));
        assert_eq!(number_after(info, "cmdstat_evalsha:calls="), Some(3));
        assert_eq!(number_after(info, "aof_current_size:"), None);
    }
}
