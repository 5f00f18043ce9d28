#![doc = include_str!("../README.md")]

mod columns;
mod dialect;
mod dictionary;
mod error;
mod jobs;
mod lent;
mod metadata;
mod migrations;
mod options;
mod place;
#[cfg(test)]
mod plan_tests;
mod recurring;
mod rows;
mod search;
mod servers;
mod session;
mod shared;
mod statements;
mod transactions;
mod values;
mod work;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::storage::{AwaitedJobs, ChangeFeed, SetUp, StorageError, StorageProvider};
use jobrunr_storage_sql::TablePrefix;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use tokio::time::timeout;

pub use dialect::{Flavor, ServerVersion};
pub use options::MySqlOptions;
/// The driver, for [`MySqlStorage::insert_in`] and [`MySqlOptions::with_pool`].
pub use sqlx;
pub use transactions::EnqueueIn;

use crate::error::classify;
use crate::options::Source;
use crate::shared::Shared;

const PROVIDER: &str = "mysql";

/// Keeps everything in one database of a MySQL or MariaDB server.
///
/// Cloning gives another handle on the same connections; closing one closes all of them.
#[derive(Clone)]
pub struct MySqlStorage {
    shared: Arc<Shared>,
}

/// What a storage has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteStatistics {
    /// Transactions committed; single statements that were committed by themselves are not among them.
    pub transactions: u64,
    /// Tries that were given up because of a deadlock or a lock time-out, and made again.
    pub conflicts: u64,
    /// Commits whose answer was lost, so that their outcome had to be found out.
    pub outcomes_found_out: u64,
}

impl MySqlStorage {
    /// Connects to what a URL names, with default options: `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
    ///
    /// Call [`set_up`](StorageProvider::set_up) before anything else.
    ///
    /// # Errors
    /// As of [`open`](Self::open); [`StorageError::Unsupported`] if the URL cannot be understood.
    pub async fn connect(url: &str) -> Result<Self, StorageError> {
        Self::open(MySqlOptions::parse(url)?).await
    }

    /// Connects to a database and finds out which one it is.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if the table prefix is not one, the server is too old, or takes no statement as large
    /// as a payload may be; [`StorageError::Unavailable`] if it cannot be reached; [`StorageError::Backend`] if it refuses
    /// the user.
    pub async fn open(options: MySqlOptions) -> Result<Self, StorageError> {
        let prefix = parse_prefix(&options.table_prefix)?;
        let server = match &options.source {
            Source::Connect(connect) => {
                // Not by way of the pool, which would hide why it fails.
                let connecting = timeout(options.connect_timeout, connect.connect());
                let mut connection =
                    connecting.await.map_err(|_| timed_out())?.map_err(|error| classify(&error, OPEN))?;
                let server = Server::ask(&mut connection, options.call_timeout).await?;
                // The server is told, but whether it hears it is of no account.
                let _ = timeout(options.connect_timeout, connection.close()).await;
                server
            }
            Source::Pool(pool) => {
                let mut connection = pool.acquire().await.map_err(|error| classify(&error, OPEN))?;
                Server::ask(&mut connection, options.call_timeout).await?
            }
        };
        let version = ServerVersion::parse(&server.version)?;
        let pool = match &options.source {
            Source::Connect(connect) => own_pool(connect, &options, version.flavor),
            Source::Pool(pool) => pool.clone(),
        };
        if server.max_packet_bytes / 2 < options.max_payload_bytes {
            return Err(StorageError::Unsupported {
                provider: PROVIDER,
                what: format!(
                    "payloads of up to {} bytes with a max_allowed_packet of {}; make that at least twice as large",
                    options.max_payload_bytes, server.max_packet_bytes
                ),
            });
        }
        let shared = Shared::new(options, prefix, pool, version, server.max_packet_bytes);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The schema as SQL text, for those who create it by hand (`mysql shop < schema.sql`) and only
    /// [validate](SetUp::Validate) it here.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if the table prefix is not one.
    pub fn export_schema(table_prefix: &str) -> Result<String, StorageError> {
        Ok(migrations::export(&parse_prefix(table_prefix)?))
    }

    /// Which database it is.
    #[must_use]
    pub fn server_version(&self) -> ServerVersion {
        self.shared.version
    }

    /// What was written since the storage was opened.
    #[must_use]
    pub fn write_statistics(&self) -> WriteStatistics {
        let statistics = &self.shared.statistics;
        WriteStatistics {
            transactions: statistics.transactions.load(Ordering::Relaxed),
            conflicts: statistics.conflicts.load(Ordering::Relaxed),
            outcomes_found_out: statistics.outcomes_found_out.load(Ordering::Relaxed),
        }
    }
}

const OPEN: &str = "connect";

fn parse_prefix(text: &str) -> Result<TablePrefix, StorageError> {
    TablePrefix::new(text)
        .map_err(|invalid| StorageError::Unsupported { provider: PROVIDER, what: invalid.to_string() })
}

fn timed_out() -> StorageError {
    let source = "the server did not answer in time; look whether it runs and can be reached".into();
    StorageError::Unavailable { provider: PROVIDER, operation: OPEN, source }
}

fn own_pool(connect: &MySqlConnectOptions, options: &MySqlOptions, flavor: Flavor) -> MySqlPool {
    let seconds = |duration: Duration| duration.as_secs().max(1);
    let mut session = format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION innodb_lock_wait_timeout = {}",
        seconds(options.lock_timeout)
    );
    if flavor == Flavor::MariaDb {
        // Where the way between the two was cut in silence, nobody else would let go of the locks. MySQL has no such limit.
        session
            .push_str(&format!("; SET SESSION idle_transaction_timeout = {}", seconds(options.call_timeout)));
    }
    let session: Arc<str> = session.into();
    MySqlPoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.connect_timeout)
        // A connection that is gone is found out by its first use, which costs nothing as long as none is.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let session = AssertSqlSafe(Arc::clone(&session));
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(session)).await?;
                Ok(())
            })
        })
        .connect_lazy_with(connect.clone())
}

/// What a server says of itself.
struct Server {
    version: String,
    max_packet_bytes: usize,
}

impl Server {
    async fn ask(connection: &mut MySqlConnection, limit: Duration) -> Result<Self, StorageError> {
        let asked = async {
            let query = sqlx::raw_sql("SELECT version(), CAST(@@max_allowed_packet AS SIGNED)");
            let row = connection.fetch_one(query).await?;
            let version: &[u8] = row.try_get_unchecked(0)?;
            let max_packet_bytes: i64 = row.try_get(1)?;
            Ok(Self {
                version: String::from_utf8_lossy(version).into_owned(),
                max_packet_bytes: usize::try_from(max_packet_bytes).unwrap_or(0),
            })
        };
        let answered = timeout(limit, asked).await.map_err(|_| timed_out())?;
        answered.map_err(|error: sqlx::Error| classify(&error, OPEN))
    }
}

impl fmt::Debug for MySqlStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStorage")
            .field("options", &self.shared.options)
            .field("server_version", &self.shared.version)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageProvider for MySqlStorage {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    async fn set_up(&self, set_up: SetUp) -> Result<(), StorageError> {
        self.shared.call("set up", move |session| Box::pin(session.set_up(set_up))).await
    }

    /// Neither MySQL nor MariaDB tells anybody that something changed: servers look for themselves.
    fn changes(&self) -> Option<&dyn ChangeFeed> {
        None
    }

    fn awaited_jobs(&self) -> &AwaitedJobs {
        &self.shared.awaited
    }

    async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.gatherer.close();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        if matches!(self.shared.options.source, Source::Connect(_)) {
            // What does not answer any more is left behind.
            let _ = timeout(self.shared.options.call_timeout, self.shared.pool.close()).await;
        }
    }
}
