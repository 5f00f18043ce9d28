#![doc = include_str!("../README.md")]

mod calls;
mod changes;
mod durability;
mod encoding;
mod error;
mod head;
mod jobs;
mod keys;
mod lanes;
mod link;
mod listener;
mod metadata;
mod options;
mod recurring;
mod schema;
mod scripts;
mod search;
mod servers;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jobrunr_core::storage::{AwaitedJobs, ChangeFeed, SetUp, StorageError, StorageProvider};
use tokio_util::task::TaskTracker;

use changes::{Feed, Outbox};
use durability::Barrier;
use error::classify;
use jobs::{Gatherer, Uncertain};
use keys::Keys;
use lanes::LaneCache;
use link::{Link, Timeouts, Way};
pub use options::{Durability, RedisOptions};

const PROVIDER: &str = "redis";

/// Keeps everything in a Redis or Valkey server, or in a cluster of them.
///
/// A clone is the same handle: closing it closes both.
///
/// # Examples
///
/// ```no_run
/// use jobrunr_core::storage::{SetUp, StorageProvider};
/// use jobrunr_storage_redis::{RedisOptions, RedisStorage};
///
/// # async fn run() -> Result<(), jobrunr_core::storage::StorageError> {
/// let options = RedisOptions::default().key_prefix("app_");
/// let storage = RedisStorage::connect_with("redis://:password@localhost:6379/0", options).await?;
/// storage.set_up(SetUp::Migrate).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStorage {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {
    link: Arc<Link>,
    keys: Keys,
    options: RedisOptions,
    lanes: LaneCache,
    gatherer: Gatherer,
    uncertain: Uncertain,
    barrier: Barrier,
    outbox: Outbox,
    awaited: AwaitedJobs,
    feed: Feed,
    /// Calls and tasks under way; closed when the storage is.
    under_way: TaskTracker,
}

impl RedisStorage {
    /// Opens the server that the URL names, with default options.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it cannot be reached, [`StorageError::Backend`] if it refuses the user,
    /// [`StorageError::Unsupported`] if the URL cannot be read. No error shows the URL.
    pub async fn connect(url: &str) -> Result<Self, StorageError> {
        Self::connect_with(url, RedisOptions::default()).await
    }

    /// Opens the server that the URL names: `redis://user:password@host:6379/0`, of a cluster any node. TLS is not built in.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and [`StorageError::Unsupported`] if the options are not possible.
    pub async fn connect_with(url: &str, options: RedisOptions) -> Result<Self, StorageError> {
        let keys = Keys::new(&options.key_prefix)?;
        let unsupported =
            |what: &str| StorageError::Unsupported { provider: PROVIDER, what: what.to_owned() };
        let info = link::parse_url(url).ok_or_else(|| {
            unsupported(
                "the URL cannot be read; write redis://user:password@host:6379/0. TLS (rediss://) is not built in: connect \
                 to a proxy on this machine that speaks it",
            )
        })?;
        let timeouts = Timeouts {
            connect: options.connect_timeout,
            call: options.call_timeout,
            wait: options.durability.within(),
        };
        let link = Link::new(info, &options.more_nodes, keys.base(), timeouts)
            .ok_or_else(|| unsupported("a node of a cluster is written host:port"))?;
        let link = Arc::new(link);
        link.connected(Way::Plain).await.map_err(|error| classify(&error, "connect"))?;
        let under_way = TaskTracker::new();
        let feed = Feed::new(&link, keys.changes(link.database()), under_way.clone());
        let inner = Inner {
            lanes: LaneCache::default(),
            gatherer: Gatherer::default(),
            uncertain: Uncertain::default(),
            barrier: Barrier::default(),
            outbox: Outbox::default(),
            awaited: AwaitedJobs::default(),
            link,
            keys,
            options,
            feed,
            under_way,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for RedisStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStorage").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageProvider for RedisStorage {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    async fn set_up(&self, set_up: SetUp) -> Result<(), StorageError> {
        self.set_up_schema(set_up).await
    }

    fn changes(&self) -> Option<&dyn ChangeFeed> {
        Some(self)
    }

    fn awaited_jobs(&self) -> &AwaitedJobs {
        &self.inner.awaited
    }

    async fn close(&self) {
        let Inner { under_way, feed, link, .. } = &*self.inner;
        under_way.close();
        feed.close();
        under_way.wait().await;
        link.close();
    }
}
