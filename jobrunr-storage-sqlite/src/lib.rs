#![doc = include_str!("../README.md")]

mod changes;
mod connection;
mod error;
mod jobs;
mod metadata;
mod migrations;
mod options;
mod readers;
mod recurring;
mod rows;
mod search;
mod servers;
mod session;
mod statements;
mod writer;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jobrunr_core::JobId;
use jobrunr_core::storage::{AwaitedJobs, ChangeFeed, ChangeHub, SetUp, StorageError, StorageProvider};
use jobrunr_storage_sql::TablePrefix;

pub use options::{Durability, SqliteOptions};
/// The driver, for [`SqliteStorage::insert_in`].
pub use rusqlite;

use crate::error::Outcome;
use crate::options::Location;
use crate::readers::Readers;
use crate::session::{Session, View};
use crate::statements::Statements;
use crate::writer::{Keeping, Setting, Writer};

const PROVIDER: &str = "sqlite";

/// Keeps everything in one SQLite file, or in memory.
///
/// Cloning gives another handle on the same connections; closing one closes all of them. Other processes, and other
/// storages in this one, may use the same file.
#[derive(Clone)]
pub struct SqliteStorage {
    shared: Arc<Shared>,
}

struct Shared {
    options: Arc<SqliteOptions>,
    prefix: TablePrefix,
    statements: Arc<Statements>,
    hub: Arc<ChangeHub>,
    awaited: AwaitedJobs,
    writer: Writer,
    /// `None` where the database is in memory: there the writer's is the only connection.
    readers: Option<Readers>,
    latest_time: AtomicI64,
    /// The unreadable jobs that were logged, so that each is logged once.
    reported: Mutex<HashSet<JobId>>,
}

/// How much a storage has written since it was opened, and by how many statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteStatistics {
    /// Transactions committed.
    pub commits: u64,
    /// Calls, or parts of large calls, that were committed with them.
    pub calls: u64,
    /// Statements run, those that only read included; the latest run of each may not be counted yet.
    pub statements: u64,
}

/// How many unreadable jobs are remembered as reported.
const REMEMBERED_REPORTS: usize = 10_000;

impl SqliteStorage {
    /// Opens what a URL names, with default options: `sqlite:PATH` or `sqlite::memory:`.
    ///
    /// Call [`set_up`](StorageProvider::set_up) before anything else.
    ///
    /// # Errors
    /// As of [`open`](Self::open); [`StorageError::Unsupported`] if the URL cannot be understood.
    pub async fn connect(url: &str) -> Result<Self, StorageError> {
        Self::open(SqliteOptions::parse(url)?).await
    }

    /// Opens a database; the file is created if it is not there, and not changed if it is.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if the table prefix is not one; [`StorageError::Backend`] if the file cannot be
    /// opened; [`StorageError::Corrupt`] if it is no database; [`StorageError::Unavailable`] if it is locked.
    pub async fn open(options: SqliteOptions) -> Result<Self, StorageError> {
        let prefix = TablePrefix::new(&options.table_prefix)
            .map_err(|invalid| StorageError::Unsupported { provider: PROVIDER, what: invalid.to_string() })?;
        let options = Arc::new(options);
        let statements = Arc::new(Statements::render(&prefix));
        let hub = Arc::new(ChangeHub::new());
        let writer = Writer::start(Setting {
            options: Arc::clone(&options),
            prefix: prefix.clone(),
            statements: Arc::clone(&statements),
            hub: Arc::clone(&hub),
        })
        .await?;
        let readers = match &options.location {
            Location::File(path) => Some(Readers::start(path.clone(), &options, &statements)?),
            Location::Memory => None,
        };
        let shared = Shared {
            options,
            prefix,
            statements,
            hub,
            awaited: AwaitedJobs::default(),
            writer,
            readers,
            latest_time: AtomicI64::new(i64::MIN),
            reported: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The schema as SQL text, for those who create it by hand (`sqlite3 jobs.db < schema.sql`) and only
    /// [validate](SetUp::Validate) it here.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if the table prefix is not one.
    pub fn export_schema(table_prefix: &str) -> Result<String, StorageError> {
        let prefix = TablePrefix::new(table_prefix)
            .map_err(|invalid| StorageError::Unsupported { provider: PROVIDER, what: invalid.to_string() })?;
        Ok(migrations::export(&prefix))
    }

    /// How much was written since the storage was opened, and in how many transactions.
    #[must_use]
    pub fn write_statistics(&self) -> WriteStatistics {
        let statistics = &self.shared.writer.statistics;
        WriteStatistics {
            commits: statistics.commits.load(Ordering::Relaxed),
            calls: statistics.calls.load(Ordering::Relaxed),
            statements: self.shared.statements.runs.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn hub(&self) -> &ChangeHub {
        &self.shared.hub
    }

    pub(crate) fn watch(&self) {
        self.shared.writer.watch();
    }

    pub(crate) fn options(&self) -> &SqliteOptions {
        &self.shared.options
    }

    pub(crate) fn prefix(&self) -> &TablePrefix {
        &self.shared.prefix
    }

    pub(crate) fn statements(&self) -> &Statements {
        &self.shared.statements
    }

    /// A call that turns out to have nothing to do still tells that the storage was closed.
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<(), StorageError> {
        if self.shared.writer.is_open() { Ok(()) } else { Err(writer::closed(operation)) }
    }

    /// Has something done by the writer; it may be done more than once, but only once for good.
    pub(crate) async fn write<T, F>(&self, operation: &'static str, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnMut(&mut Session<'_>) -> Outcome<T> + Send + 'static,
    {
        self.shared.writer.call(operation, Keeping::Surely, work).await
    }

    /// The same for what may be undone if the machine loses power, as whoever asked for it is gone then.
    pub(crate) async fn write_lightly<T, F>(
        &self,
        operation: &'static str,
        work: F,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnMut(&mut Session<'_>) -> Outcome<T> + Send + 'static,
    {
        self.shared.writer.call(operation, Keeping::WhileThereIsPower, work).await
    }

    /// Has something read.
    pub(crate) async fn read<T, F>(&self, operation: &'static str, mut work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnMut(View<'_>) -> Outcome<T> + Send + 'static,
    {
        match &self.shared.readers {
            Some(readers) => readers.call(operation, work).await,
            None => self.write(operation, move |session| work(session.view)).await,
        }
    }

    /// Logs that a job cannot be read, once.
    pub(crate) fn report_unreadable(&self, id: Option<JobId>, why: &dyn fmt::Display) {
        let mut reported = self.shared.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() >= REMEMBERED_REPORTS {
            reported.clear();
        }
        if id.is_none_or(|id| reported.insert(id)) {
            let id = id.map_or_else(|| "of unknown id".to_owned(), |id| id.to_string());
            tracing::error!("job {id} cannot be read and is passed over: {why}");
        }
    }

    /// The storage's time in microseconds, never earlier than what was told before.
    pub(crate) fn now(&self) -> i64 {
        let now = jobrunr_storage_sql::micros(self.options().clock.now());
        self.shared.latest_time.fetch_max(now, Ordering::Relaxed).max(now)
    }
}

impl fmt::Debug for SqliteStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStorage").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageProvider for SqliteStorage {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    async fn set_up(&self, set_up: SetUp) -> Result<(), StorageError> {
        self.shared.writer.set_up(set_up).await
    }

    fn changes(&self) -> Option<&dyn ChangeFeed> {
        Some(self)
    }

    fn awaited_jobs(&self) -> &AwaitedJobs {
        &self.shared.awaited
    }

    async fn close(&self) {
        if let Some(readers) = &self.shared.readers {
            readers.close().await;
        }
        self.shared.writer.close().await;
        self.hub().close();
    }
}
