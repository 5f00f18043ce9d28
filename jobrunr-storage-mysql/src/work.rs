//! How work gets done: on a task of its own, so that dropping a call cuts nothing in half; tried again when other
//! transactions are in the way; and when the answer to a commit is lost, not before it is known what became of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use jobrunr_core::storage::StorageError;
use sqlx::Connection;
use sqlx::mysql::MySqlConnection;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::PROVIDER;
use crate::error::{Failure, Outcome};
use crate::session::Session;
use crate::shared::{Counters, Shared};

/// How often work is tried again while other transactions are in its way.
const MAX_CONFLICTS: u32 = 12;

/// How often work is tried again that was not answered in time: each try may take as long.
const MAX_TIME_OUTS: u32 = 1;

/// How long the outcome of a commit is looked for while the database is away.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something to be done in one transaction.
#[async_trait]
pub(crate) trait Work: Send + 'static {
    /// What comes of it; the default is what comes of a [single statement](Self::is_single_statement) that was done.
    type Output: Default + Send + 'static;

    /// Does it. If the transaction does not happen, it is done once more, from the beginning.
    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<Self::Output>;

    /// Looks, in a transaction of its own, whether the transaction of the last [`run`](Self::run) happened.
    ///
    /// It must read what that transaction wrote with locks: the database may still be about to commit it.
    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool>;

    /// Whether giving up without knowing would leave something undone that nobody else would do.
    fn must_be_known(&self) -> bool {
        false
    }

    /// Whether the next try will not meet the duplicate key that this one met.
    fn retries_duplicates(&self) -> bool {
        false
    }

    /// Whether all of it is one statement, which is committed by itself.
    fn is_single_statement(&self) -> bool {
        false
    }
}

/// What became of one try.
enum Try<T> {
    Done(T),
    /// Nothing was done.
    Failed(Failure),
    /// The answer to the commit was lost.
    Unknown(T, Failure),
}

impl Shared {
    /// Has work done that writes.
    pub(crate) async fn write<W: Work>(
        self: &Arc<Self>,
        operation: &'static str,
        work: W,
    ) -> Result<W::Output, StorageError> {
        self.check_open(operation)?;
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let result = shared.write_to_end(operation, work, &sender).await;
            // Whoever asked may have gone; what was done stays done.
            let _ = sender.send(result);
        });
        receiver.await.unwrap_or_else(|_| Err(panicked(operation)))
    }

    /// Has something done that may be done twice without harm, each statement of it committed by itself or in a
    /// transaction that it begins.
    pub(crate) async fn call<T, F>(
        self: &Arc<Self>,
        operation: &'static str,
        mut work: F,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: for<'a, 'c> FnMut(&'a mut Session<'c>) -> BoxFuture<'a, Outcome<T>> + Send + 'static,
    {
        self.check_open(operation)?;
        let shared = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let mut tries = Tries::default();
            loop {
                let result = async {
                    let mut connection = shared.connection().await?;
                    let result = work(&mut Session::new(&mut connection, &shared)).await;
                    shared.settle(connection, result.as_ref().err());
                    result
                };
                match result.await {
                    Ok(done) => return Ok(done),
                    Err(failure) if tries.are_left(&shared, &failure).await => {}
                    Err(failure) => return Err(failure.to_error(operation)),
                }
            }
        });
        task.await.unwrap_or_else(|_| Err(panicked(operation)))
    }

    /// Has something read by statements that all see the same instant.
    pub(crate) async fn read<T, F>(
        self: &Arc<Self>,
        operation: &'static str,
        work: F,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: for<'a, 'c> FnMut(&'a mut Session<'c>) -> BoxFuture<'a, Outcome<T>> + Send + 'static,
    {
        // Whichever try it is, none is under way at the same time.
        let work = Arc::new(tokio::sync::Mutex::new(work));
        self.call(operation, move |session| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let shared = session.shared;
                let begun = session.connection.begin_with(shared.begin_snapshot.text());
                let mut transaction = shared.in_time(begun).await?;
                let result = (work.lock().await)(&mut Session::new(&mut transaction, shared)).await;
                if !result.as_ref().is_err_and(Failure::is_lost_connection) {
                    shared.in_time(transaction.rollback()).await?;
                }
                result
            })
        })
        .await
    }

    async fn write_to_end<W: Work>(
        &self,
        operation: &'static str,
        mut work: W,
        caller: &oneshot::Sender<Result<W::Output, StorageError>>,
    ) -> Result<W::Output, StorageError> {
        let mut tries = Tries::default();
        loop {
            let failure = match self.try_once(&mut work, || caller.is_closed()).await {
                Try::Done(output) => return Ok(output),
                Try::Failed(failure) => failure,
                Try::Unknown(output, failure) => match self.find_out(&mut work).await {
                    Some(true) => return Ok(output),
                    Some(false) => failure,
                    None => return Err(failure.to_error(operation)),
                },
            };
            let is_retried = if failure.is_duplicate() {
                work.retries_duplicates() && tries.after_duplicate()
            } else {
                tries.are_left(self, &failure).await
            };
            if !is_retried {
                return Err(failure.to_error(operation));
            }
        }
    }

    async fn try_once<W: Work>(&self, work: &mut W, is_abandoned: impl Fn() -> bool) -> Try<W::Output> {
        let mut connection = match self.connection().await {
            Ok(connection) => connection,
            Err(failure) => return Try::Failed(failure),
        };
        if work.is_single_statement() {
            let result = work.run(&mut Session::new(&mut connection, self)).await;
            self.settle(connection, result.as_ref().err());
            return match result {
                Ok(output) => Try::Done(output),
                Err(failure) if failure.is_lost_connection() => Try::Unknown(W::Output::default(), failure),
                Err(failure) => Try::Failed(failure),
            };
        }
        let result = self.run_in_transaction(&mut connection, work, is_abandoned).await;
        let outcome = match result {
            Ok((output, Ok(()))) => {
                Counters::add(&self.statistics.transactions);
                Try::Done(output)
            }
            Ok((output, Err(failure))) if failure.is_lost_connection() => Try::Unknown(output, failure),
            Ok((_, Err(failure))) | Err(failure) => Try::Failed(failure),
        };
        self.settle(connection, outcome.failure());
        outcome
    }

    /// Runs work in a transaction; what came of the commit is apart from what came of the work.
    async fn run_in_transaction<W: Work>(
        &self,
        connection: &mut MySqlConnection,
        work: &mut W,
        is_abandoned: impl Fn() -> bool,
    ) -> Outcome<(W::Output, Outcome<()>)> {
        let mut transaction = self.in_time(connection.begin_with(self.begin.text())).await?;
        let output = work.run(&mut Session::new(&mut transaction, self)).await;
        let output = match output {
            Ok(output) if !is_abandoned() => output,
            other => {
                let failure = other.err().unwrap_or(Failure::Abandoned);
                if !failure.is_lost_connection() {
                    // Where this fails the connection is gone, and the transaction with it.
                    self.in_time(transaction.rollback()).await?;
                }
                return Err(failure);
            }
        };
        Ok((output, self.in_time(transaction.commit()).await))
    }

    /// Finds out whether the last transaction of `work` happened; `None` if that cannot be found out.
    pub(crate) async fn find_out<W: Work>(&self, work: &mut W) -> Option<bool> {
        Counters::add(&self.statistics.outcomes_found_out);
        let until = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(20);
        loop {
            match self.look(work).await {
                Ok(happened) => return Some(happened),
                Err(_) if self.closing.is_cancelled() => return None,
                Err(_) if Instant::now() < until || work.must_be_known() => {}
                Err(_) => return None,
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
                () = self.closing.cancelled() => {}
            }
        }
    }

    async fn look<W: Work>(&self, work: &mut W) -> Outcome<bool> {
        let mut connection = self.connection().await?;
        let result = async {
            let mut transaction = self.in_time(connection.begin_with(self.begin.text())).await?;
            let happened = work.happened(&mut Session::new(&mut transaction, self)).await?;
            self.in_time(transaction.rollback()).await?;
            Ok(happened)
        };
        let result = result.await;
        self.settle(connection, result.as_ref().err());
        result
    }
}

impl<T> Try<T> {
    const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Done(_) => None,
            Self::Failed(failure) | Self::Unknown(_, failure) => Some(failure),
        }
    }
}

/// How often something was tried, and why not more often.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    conflicts: u32,
    duplicates: u32,
    time_outs: u32,
    lost_connections: u32,
}

impl Tries {
    /// Whether trying again may help where a key was there already: others may go on adding the same keys, but not for ever.
    pub(crate) const fn after_duplicate(&mut self) -> bool {
        self.duplicates += 1;
        self.duplicates <= MAX_CONFLICTS
    }

    /// Whether trying again may help; if so, it is time to do so when this returns.
    pub(crate) async fn are_left(&mut self, shared: &Shared, failure: &Failure) -> bool {
        if shared.closing.is_cancelled() {
            return false;
        }
        if matches!(failure, Failure::OnceMore) {
            return true;
        }
        if failure.is_conflict() {
            Counters::add(&shared.statistics.conflicts);
            self.conflicts += 1;
            if self.conflicts > MAX_CONFLICTS {
                return false;
            }
            // Spread, so that those that met do not meet again.
            let longest = 1_u64 << self.conflicts.min(7);
            sleep(Duration::from_millis(fastrand::u64(0..longest))).await;
            return true;
        }
        if failure.is_time_out() {
            self.time_outs += 1;
            return self.time_outs <= MAX_TIME_OUTS;
        }
        // When the server restarts, every connection of the pool is lost; each of them is found out by using it.
        self.lost_connections += 1;
        failure.is_lost_connection()
            && self.lost_connections <= shared.pool.options().get_max_connections() + 1
    }
}

fn panicked(operation: &'static str) -> StorageError {
    let source = "the storage panicked; nothing of this call was done".into();
    StorageError::Backend { provider: PROVIDER, operation, source }
}
