//! What all handles of one storage share: the pool, the statements, what is known of the database, the tasks under way.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jobrunr_core::JobId;
use jobrunr_core::storage::{AwaitedJobs, StorageError};
use jobrunr_storage_sql::{Gatherer, TablePrefix};
use sqlx::mysql::MySqlPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::PROVIDER;
use crate::dialect::ServerVersion;
use crate::dictionary::Dictionary;
use crate::error::{Failure, Outcome};
use crate::jobs::SingleInserts;
use crate::lent::Lent;
use crate::options::{MySqlOptions, Source};
use crate::statements::{Statement, Statements};

/// What all handles of one storage share.
pub(crate) struct Shared {
    pub(crate) options: MySqlOptions,
    pub(crate) prefix: TablePrefix,
    pub(crate) version: ServerVersion,
    pub(crate) statements: Statements,
    pub(crate) pool: MySqlPool,
    /// Begins a transaction that reads what is committed.
    pub(crate) begin: Statement,
    /// Begins a transaction whose statements all read the same instant.
    pub(crate) begin_snapshot: Statement,
    /// Marks a point in a transaction of the caller's, and goes back to it.
    pub(crate) savepoint: Statement,
    pub(crate) rollback_to_savepoint: Statement,
    pub(crate) dictionary: Dictionary,
    pub(crate) gatherer: Gatherer<SingleInserts>,
    pub(crate) awaited: AwaitedJobs,
    /// The row among those of [`count_ended`](Statements::count_ended) that this storage adds to.
    pub(crate) shard: i64,
    /// Most bytes in one statement.
    pub(crate) max_statement_bytes: usize,
    pub(crate) tasks: TaskTracker,
    pub(crate) closing: CancellationToken,
    pub(crate) statistics: Counters,
    latest_time: AtomicI64,
    /// The unreadable jobs that were logged, so that each is logged once.
    reported: Mutex<HashSet<JobId>>,
}

/// What was done since the storage was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) transactions: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) outcomes_found_out: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many rows of counters writers spread over.
const SHARDS: i64 = 64;

/// How many unreadable jobs are remembered as reported.
const REMEMBERED_REPORTS: usize = 10_000;

impl Shared {
    pub(crate) fn new(
        options: MySqlOptions,
        prefix: TablePrefix,
        pool: MySqlPool,
        version: ServerVersion,
        max_packet_bytes: usize,
    ) -> Self {
        // Sessions of the caller's pool are left as they are: there each transaction says what it reads, and only it.
        let begin = match options.source {
            Source::Connect(_) => "START TRANSACTION",
            Source::Pool(_) => "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION",
        };
        Self {
            statements: Statements::render(&prefix),
            options,
            prefix,
            version,
            pool,
            begin: Statement::new(begin),
            begin_snapshot: Statement::new(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                 START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            ),
            savepoint: Statement::new("SAVEPOINT jobrunr"),
            rollback_to_savepoint: Statement::new("ROLLBACK TO SAVEPOINT jobrunr"),
            dictionary: Dictionary::default(),
            gatherer: Gatherer::default(),
            awaited: AwaitedJobs::default(),
            shard: fastrand::i64(0..SHARDS),
            // Half of what the server takes, since lengths and other values go along; no more than is good for it.
            max_statement_bytes: (max_packet_bytes / 2).min(4 * 1024 * 1024),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            statistics: Counters::default(),
            latest_time: AtomicI64::new(i64::MIN),
            reported: Mutex::default(),
        }
    }

    /// A call that turns out to have nothing to do still tells that the storage was closed.
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<(), StorageError> {
        if self.closing.is_cancelled() {
            return Err(StorageError::Closed { provider: PROVIDER, operation });
        }
        Ok(())
    }

    pub(crate) async fn connection(&self) -> Outcome<Lent> {
        // Boxed because it is large, and part of all that is done here.
        let connection = Box::pin(self.pool.acquire()).await.map_err(Failure::NoConnection)?;
        Ok(Lent::new(connection, self.options.call_timeout, self.tasks.clone()))
    }

    /// Gives a connection back to its pool, unless it is gone.
    pub(crate) fn settle(&self, mut connection: Lent, failure: Option<&Failure>) {
        let Some(failure) = failure.filter(|failure| failure.is_lost_connection()) else { return };
        connection.give_up();
        if failure.is_time_out() && matches!(self.options.source, Source::Connect(_)) {
            // Whatever swallowed the answer may have swallowed the idle connections as well, and each would take as long.
            while let Some(mut idle) = self.pool.try_acquire() {
                idle.close_on_drop();
            }
        }
    }

    /// The storage's time, given what its clock shows: never earlier than what was told before.
    pub(crate) fn tell_time(&self, now: i64) -> i64 {
        self.latest_time.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// Logs that a job cannot be read, once.
    pub(crate) fn report_unreadable(&self, id: Option<JobId>, why: &dyn fmt::Display) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() >= REMEMBERED_REPORTS {
            reported.clear();
        }
        if id.is_none_or(|id| reported.insert(id)) {
            let id = id.map_or_else(|| "of unknown id".to_owned(), |id| id.to_string());
            tracing::error!("job {id} cannot be read and is passed over: {why}");
        }
    }
}
