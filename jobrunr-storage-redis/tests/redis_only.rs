//! What the suite cannot know: servers that are killed, answers that are lost, scripts that are forgotten, settings that
//! are refused. Each test has a server of its own.

#![expect(clippy::unwrap_used, reason = "what helps tests is part of them")]

mod support;

#[path = "redis_only/answers.rs"]
mod answers;
#[path = "redis_only/clock.rs"]
mod clock;
#[path = "redis_only/cluster.rs"]
mod cluster;
#[path = "redis_only/commands.rs"]
mod commands;
#[path = "redis_only/durability.rs"]
mod durability;
#[path = "redis_only/errors.rs"]
mod errors;
#[path = "redis_only/failover.rs"]
mod failover;
#[path = "redis_only/hints.rs"]
mod hints;
#[path = "redis_only/lanes.rs"]
mod lanes;
#[path = "redis_only/outage.rs"]
mod outage;
#[path = "redis_only/recurring.rs"]
mod recurring;
#[path = "redis_only/schema.rs"]
mod schema;
#[path = "redis_only/scripts.rs"]
mod scripts;
#[path = "redis_only/sizes.rs"]
mod sizes;
#[path = "redis_only/slow.rs"]
mod slow;

use std::time::Duration;

use chrono::{DateTime, Utc};
use jobrunr_core::storage::{SetUp, StorageProvider};
use jobrunr_core::{Job, JobDefinition, JobId, JobState, JsonText, ServerId, ServerRef};
use jobrunr_storage_redis::{RedisOptions, RedisStorage};

use support::PrivateServer;

const PATIENCE: Duration = Duration::from_secs(120);

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn an_enqueued_job() -> Job {
    an_enqueued_job_of("test", 0)
}

/// A job of this type, in line since this second.
fn an_enqueued_job_of(signature: &str, second: i64) -> Job {
    let definition = JobDefinition::new(signature.parse().unwrap(), JsonText::of(&"payload").unwrap());
    Job::new(JobId::new(), definition, JobState::enqueued(), at(second)).unwrap()
}

fn a_server() -> ServerRef {
    ServerRef { id: ServerId::new(), name: "one".to_owned() }
}

/// A storage that is set up.
async fn open(url: &str, options: RedisOptions) -> RedisStorage {
    let storage = RedisStorage::connect_with(url, options).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage
}

/// A server of the test's own, and a storage on it; none where Redis is not on this machine.
async fn a_server_with_a_storage(settings: &[&str]) -> Option<(PrivateServer, RedisStorage)> {
    let server = PrivateServer::start(settings).await.unwrap()?;
    let storage = open(&server.url(), RedisOptions::default()).await;
    Some((server, storage))
}

/// Asks until it is so; there is no other sign of it.
async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"));
}
