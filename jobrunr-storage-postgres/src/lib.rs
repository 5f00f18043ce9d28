#![doc = include_str!("../README.md")]

mod changes;
mod connection;
mod error;
mod jobs;
mod lent;
mod listener;
mod metadata;
mod migrations;
mod names;
mod options;
mod outcomes;
mod recurring;
mod rows;
mod search;
mod servers;
mod statements;
mod transactions;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::JobId;
use jobrunr_core::storage::{AwaitedJobs, ChangeFeed, SetUp, StorageError, StorageProvider};
use jobrunr_storage_sql::{Gatherer, TablePrefix, Unreadable};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Row};
use tokio_util::task::TaskTracker;

use changes::{Feed, Outbox};
use error::classify;
use jobs::{Shards, SmallInserts, Uncertain};
use names::Names;
pub use options::PostgresOptions;
use statements::Statements;
pub use transactions::EnqueueIn;

const PROVIDER: &str = "postgres";

/// The oldest version of PostgreSQL that has all that is needed, as the server numbers it.
const OLDEST_VERSION: i32 = 130_000;

/// Keeps everything in a PostgreSQL database.
///
/// A clone is the same handle: closing it closes both.
///
/// # Examples
///
/// With a pool that the application has anyway, in a schema of its own:
///
/// ```no_run
/// use jobrunr_core::storage::{SetUp, StorageProvider};
/// use jobrunr_storage_postgres::{PostgresOptions, PostgresStorage};
///
/// # async fn run(pool: sqlx::PgPool) -> Result<(), jobrunr_core::storage::StorageError> {
/// let storage = PostgresStorage::with_pool(pool, PostgresOptions::default().schema("jobs"))?;
/// storage.set_up(SetUp::Migrate).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStorage {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {
    pool: PgPool,
    owns_pool: bool,
    options: PostgresOptions,
    prefix: TablePrefix,
    statements: Statements,
    names: Names,
    shards: Shards,
    gatherer: Gatherer<SmallInserts>,
    uncertain: Uncertain,
    outbox: Outbox,
    awaited: AwaitedJobs,
    feed: Option<Feed>,
    /// Calls and tasks under way; closed when the storage is.
    under_way: TaskTracker,
}

impl PostgresStorage {
    /// Opens the database that the URL names, with a pool of its own and default options.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it cannot be reached, [`StorageError::Backend`] if it refuses the user,
    /// [`StorageError::Unsupported`] if the URL cannot be read or the server is too old. No error shows the URL.
    pub async fn connect(url: &str) -> Result<Self, StorageError> {
        Self::connect_with(url, PostgresOptions::default()).await
    }

    /// Opens the database that the URL names, with a pool of its own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and [`StorageError::Unsupported`] if the options are not possible.
    pub async fn connect_with(url: &str, options: PostgresOptions) -> Result<Self, StorageError> {
        let prefix = options.prefix()?;
        let connect = connect_options(url, &options)?;
        check_server(&connect, options.connect_timeout).await?;
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.connect_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    // A connection that has just been in use is not asked whether it still works.
                    if about.idle_for > Duration::from_secs(1) {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(connect);
        Self::on(pool, true, options, prefix)
    }

    /// Uses a pool that belongs to the application; closing the storage leaves it open.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if the options are not possible.
    pub fn with_pool(pool: PgPool, options: PostgresOptions) -> Result<Self, StorageError> {
        let prefix = options.prefix()?;
        Self::on(pool, false, options, prefix)
    }

    fn on(
        pool: PgPool,
        owns_pool: bool,
        options: PostgresOptions,
        prefix: TablePrefix,
    ) -> Result<Self, StorageError> {
        let listen_at = match &options.listen_url {
            Some(url) => connect_options(url, &options)?,
            None => (*pool.connect_options()).clone(),
        };
        let under_way = TaskTracker::new();
        let listens = options.has_listener();
        let feed = listens.then(|| Feed::new(listen_at, options.connect_timeout, under_way.clone()));
        let inner = Inner {
            statements: Statements::render(&prefix),
            names: Names::default(),
            shards: Shards::default(),
            gatherer: Gatherer::default(),
            uncertain: Uncertain::default(),
            outbox: Outbox::default(),
            awaited: AwaitedJobs::default(),
            feed,
            under_way,
            pool,
            owns_pool,
            options,
            prefix,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn report_unreadable(&self, id: Option<JobId>, unreadable: &Unreadable) {
        match id {
            Some(id) => tracing::error!("job {id} cannot be read: {unreadable}"),
            None => tracing::error!("a job cannot be read: {unreadable}"),
        }
    }
}

/// Reads a URL; the error never shows it.
fn connect_options(url: &str, options: &PostgresOptions) -> Result<PgConnectOptions, StorageError> {
    let unsupported = |what: &str| StorageError::Unsupported { provider: PROVIDER, what: what.to_owned() };
    let is_ours = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let connect = PgConnectOptions::from_str(url).ok().filter(|_| is_ours).ok_or_else(|| {
        unsupported("the URL cannot be read; write postgres://user:password@host:5432/database")
    })?;
    let connect =
        if connect.get_application_name().is_none() { connect.application_name("jobrunr") } else { connect };
    // Poolers refuse this setting of sqlx's, which is of use to nobody here: no column is a float.
    let connect = connect.extra_float_digits(None);
    Ok(if options.statement_cache { connect } else { connect.statement_cache_capacity(0) })
}

/// Connects once, so that what is wrong is told at once and clearly, and looks at the version.
async fn check_server(connect: &PgConnectOptions, timeout: Duration) -> Result<(), StorageError> {
    const OPERATION: &str = "connect";
    let version = async {
        let mut connection = PgConnection::connect_with(connect).await?;
        // As one message, since a pooler may give each message of a prepared statement another server.
        let row = sqlx::raw_sql("SHOW server_version_num").fetch_one(&mut connection).await?;
        let version: String = row.try_get(0)?;
        connection.close().await?;
        Ok(version)
    };
    let version = match tokio::time::timeout(timeout, version).await {
        Ok(version) => version.map_err(|error| classify(&error, OPERATION))?,
        Err(_) => {
            let source = format!("the server did not answer within {timeout:?}").into();
            return Err(StorageError::Unavailable { provider: PROVIDER, operation: OPERATION, source });
        }
    };
    check_version(&version)
}

/// Refuses a server that is too old, by its version as it says it itself.
pub(crate) fn check_version(version: &str) -> Result<(), StorageError> {
    if version.parse::<i32>().is_ok_and(|version| version < OLDEST_VERSION) {
        let what = format!("PostgreSQL {version} is too old; version 13 or later is needed");
        return Err(StorageError::Unsupported { provider: PROVIDER, what });
    }
    Ok(())
}

impl fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStorage").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageProvider for PostgresStorage {
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
        let Inner { under_way, feed, gatherer, pool, owns_pool, .. } = &*self.inner;
        under_way.close();
        gatherer.close();
        if let Some(feed) = feed {
            feed.close();
        }
        under_way.wait().await;
        if *owns_pool {
            pool.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_read_is_refused_without_being_shown() {
        for url in ["mysql://u:secret@h/d", "postgres://u:secret@h:port/d", "secret"] {
            let refused = connect_options(url, &PostgresOptions::default()).unwrap_err();

            assert!(matches!(refused, StorageError::Unsupported { .. }), "{url}");
            assert!(!format!("{refused} {refused:?}").contains("secret"), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn debug_shows_no_password() {
        let pool = PgPool::connect_lazy("postgres://u:secret@h/d").unwrap();
        let options = PostgresOptions::default().listen_url("postgres://u:secret@h/d");
        let storage = PostgresStorage::with_pool(pool, options).unwrap();

        assert!(!format!("{storage:?}").contains("secret"));
    }
}
