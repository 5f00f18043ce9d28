#![doc = include_str!("../README.md")]

mod call;
mod changes;
mod documents;
mod error;
mod indexes;
mod jobs;
mod listener;
mod marks;
mod metadata;
mod options;
mod recurring;
mod search;
mod servers;
mod transactions;

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::JobId;
use jobrunr_core::storage::{AwaitedJobs, ChangeFeed, SetUp, StorageError, StorageProvider};
use mongodb::bson::{Document, doc};
use mongodb::options::{
    ClientOptions, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Database};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// The driver, for [`MongoStorage::insert_in`] and [`MongoStorage::with_client`].
pub use mongodb;

use changes::{Feed, Outbox};
use documents::Unreadable;
use error::classify;
use jobs::{Gatherer, Shards, Uncertain};
pub use options::MongoOptions;
pub use transactions::EnqueueIn;

const PROVIDER: &str = "mongo";

/// MongoDB 5.0, as servers number it for drivers.
const OLDEST_WIRE_VERSION: i32 = 13;

/// How many unreadable jobs are remembered as reported.
const REMEMBERED_REPORTS: usize = 10_000;

/// Keeps everything in a MongoDB database.
///
/// A clone is the same handle: closing it closes both.
///
/// # Examples
///
/// With a client that the application has anyway:
///
/// ```no_run
/// use jobrunr_core::storage::{SetUp, StorageProvider};
/// use jobrunr_storage_mongo::{MongoOptions, MongoStorage, mongodb::Client};
///
/// # async fn run(client: Client) -> Result<(), jobrunr_core::storage::StorageError> {
/// let storage = MongoStorage::with_client(client, MongoOptions::default().database("app")).await?;
/// storage.set_up(SetUp::Migrate).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MongoStorage {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {
    client: Client,
    owns_client: bool,
    options: MongoOptions,
    /// Whether there are transactions and change streams.
    has_transactions: bool,
    database: Database,
    collections: Collections,
    shards: Shards,
    /// Whoever finds and takes jobs in line.
    claim_turn: tokio::sync::Mutex<()>,
    gatherer: Gatherer,
    uncertain: Uncertain,
    outbox: Outbox,
    awaited: AwaitedJobs,
    feed: Option<Feed>,
    /// How many single commands, and how many transactions, may have a connection. A command that waits for a document
    /// of a transaction must not have the connection that the transaction needs to go on.
    for_commands: Semaphore,
    for_transactions: Semaphore,
    /// Calls and tasks under way; closed when the storage is.
    under_way: TaskTracker,
    /// The latest time told, in microseconds.
    latest_time: AtomicI64,
    /// The unreadable jobs that were logged, so that each is logged once.
    reported: Mutex<std::collections::HashSet<JobId>>,
}

/// The names of the collections, with the prefix.
#[derive(Debug, Clone)]
pub(crate) struct Collections {
    pub(crate) schema: String,
    pub(crate) jobs: String,
    pub(crate) counts: String,
    pub(crate) recurring: String,
    pub(crate) servers: String,
    pub(crate) metadata: String,
    pub(crate) hints: String,
}

impl Collections {
    fn with_prefix(prefix: &str) -> Self {
        let name = |name: &str| format!("{prefix}jobrunr_{name}");
        Self {
            schema: name("schema"),
            jobs: name("jobs"),
            counts: name("counts"),
            recurring: name("recurring_jobs"),
            servers: name("servers"),
            metadata: name("metadata"),
            hints: name("hints"),
        }
    }
}

impl MongoStorage {
    /// Opens the database that the URL names, with a client of its own and default options.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it cannot be reached, [`StorageError::Backend`] if it refuses the user,
    /// [`StorageError::Unsupported`] if the URL cannot be read or the server is too old. No error shows the URL.
    pub async fn connect(url: &str) -> Result<Self, StorageError> {
        Self::connect_with(url, MongoOptions::default()).await
    }

    /// Opens the database that the URL names, with a client of its own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and [`StorageError::Unsupported`] if the options are not possible.
    pub async fn connect_with(url: &str, options: MongoOptions) -> Result<Self, StorageError> {
        options.prefix()?;
        let mut connect = client_options(url).await?;
        let name = options.database_name(connect.default_database.as_deref())?;
        connect.app_name.get_or_insert_with(|| "jobrunr".to_owned());
        connect.max_pool_size = Some(options.max_connections);
        connect.server_selection_timeout.get_or_insert(options.connect_timeout);
        connect.connect_timeout.get_or_insert(options.connect_timeout);
        let client = Client::with_options(connect).map_err(|error| classify(&error, "connect"))?;
        Self::on(client, true, options, &name).await
    }

    /// Uses a client that belongs to the application; closing the storage leaves it open.
    ///
    /// The database is the one of the options, else the one of the client's URL.
    ///
    /// # Errors
    /// As [`connect_with`](Self::connect_with).
    pub async fn with_client(client: Client, options: MongoOptions) -> Result<Self, StorageError> {
        let from_url = client.default_database().map(|database| database.name().to_owned());
        let name = options.database_name(from_url.as_deref())?;
        Self::on(client, false, options, &name).await
    }

    async fn on(
        client: Client,
        owns_client: bool,
        options: MongoOptions,
        database: &str,
    ) -> Result<Self, StorageError> {
        let collections = Collections::with_prefix(options.prefix()?);
        let database = client.database(database);
        let has_transactions = check_server(&database, options.call_timeout).await?;
        let under_way = TaskTracker::new();
        let feed = (options.listens && has_transactions).then(Feed::default);
        let (for_commands, for_transactions) = options.connections();
        let inner = Inner {
            for_commands: Semaphore::new(for_commands),
            for_transactions: Semaphore::new(for_transactions),
            shards: Shards::default(),
            claim_turn: tokio::sync::Mutex::default(),
            gatherer: Gatherer::default(),
            uncertain: Uncertain::default(),
            outbox: Outbox::default(),
            awaited: AwaitedJobs::default(),
            latest_time: AtomicI64::new(i64::MIN),
            reported: Mutex::default(),
            has_transactions,
            feed,
            under_way,
            client,
            owns_client,
            options,
            database,
            collections,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A collection whose writes are safe when they are answered, and which is read where they are made.
    fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let options = CollectionOptions::builder()
            .read_concern(ReadConcern::local())
            .write_concern(WriteConcern::majority())
            .selection_criteria(primary)
            .build();
        self.inner.database.collection_with_options(name, options)
    }

    fn jobs<T: Send + Sync>(&self) -> Collection<T> {
        self.collection(&self.inner.collections.jobs)
    }

    /// Logs that a job cannot be read, once.
    fn report_unreadable(&self, id: Option<JobId>, why: &Unreadable) {
        let mut reported = self.inner.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() >= REMEMBERED_REPORTS {
            reported.clear();
        }
        if id.is_none_or(|id| reported.insert(id)) {
            let id = id.map_or_else(|| "of unknown id".to_owned(), |id| id.to_string());
            tracing::error!("job {id} cannot be read and is passed over: {why}");
        }
    }
}

/// Reads a URL; the error never shows it.
async fn client_options(url: &str) -> Result<ClientOptions, StorageError> {
    let unsupported = |what: &str| StorageError::Unsupported { provider: PROVIDER, what: what.to_owned() };
    let is_ours = url.starts_with("mongodb://") || url.starts_with("mongodb+srv://");
    if !is_ours {
        return Err(unsupported("the URL cannot be read; write mongodb://user:password@host:27017/database"));
    }
    ClientOptions::parse(url).await.map_err(|error| match &*error.kind {
        mongodb::error::ErrorKind::DnsResolve { .. } => classify(&error, "connect"),
        _ if url.starts_with("mongodb+srv:") => unsupported(
            "mongodb+srv:// URLs need the feature `dns-resolver` of the crate mongodb, or the URL is not right",
        ),
        _ => unsupported("the URL cannot be read; write mongodb://user:password@host:27017/database"),
    })
}

/// Asks the server what it is, so that what is wrong is told at once and clearly; tells whether it has transactions.
async fn check_server(database: &Database, limit: Duration) -> Result<bool, StorageError> {
    const OPERATION: &str = "connect";
    // A command that needs the right to do anything at all, so that a wrong password shows here.
    let asked = async {
        let hello = database.run_command(doc! { "hello": 1 }).await?;
        database
            .run_command(doc! { "listCollections": 1, "nameOnly": true, "authorizedCollections": true })
            .await?;
        Ok::<Document, mongodb::error::Error>(hello)
    };
    let hello = match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer.map_err(|error| classify(&error, OPERATION))?,
        Err(_) => return Err(error::Failed::timed_out(OPERATION, limit).error),
    };
    if hello.get_i32("maxWireVersion").unwrap_or(0) < OLDEST_WIRE_VERSION {
        let what = "this MongoDB is too old; version 5.0 or later is needed".to_owned();
        return Err(StorageError::Unsupported { provider: PROVIDER, what });
    }
    Ok(hello.contains_key("setName") || hello.get_str("msg").is_ok_and(|message| message == "isdbgrid"))
}

impl fmt::Debug for MongoStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStorage").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageProvider for MongoStorage {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    async fn set_up(&self, set_up: SetUp) -> Result<(), StorageError> {
        match set_up {
            SetUp::Migrate => self.migrate().await,
            SetUp::Validate => self.validate().await,
            SetUp::Nothing => self.begin("set up").map(drop),
        }
    }

    fn changes(&self) -> Option<&dyn ChangeFeed> {
        self.inner.feed.is_some().then_some(self as &dyn ChangeFeed)
    }

    fn awaited_jobs(&self) -> &AwaitedJobs {
        &self.inner.awaited
    }

    async fn close(&self) {
        let Inner { under_way, feed, client, owns_client, .. } = &*self.inner;
        under_way.close();
        if let Some(feed) = feed {
            feed.close();
        }
        under_way.wait().await;
        if *owns_client {
            client.clone().shutdown().immediate(true).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_cannot_be_read_is_refused_without_being_shown() {
        for url in ["mysql://u:secret@h/d", "mongodb://u:secret@h:port/d", "secret", "mongodb://u:se/cret@h"]
        {
            let refused = client_options(url).await.unwrap_err();

            assert!(matches!(refused, StorageError::Unsupported { .. }), "{url}");
            assert!(!format!("{refused} {refused:?}").contains("cret"), "{refused:?}");
        }
    }
}
