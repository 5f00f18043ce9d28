//! A call on its way: a time limit, the end of the storage, tasks that outlive their callers, transactions.

use std::time::Duration;

use jobrunr_core::storage::StorageError;
use mongodb::ClientSession;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::error::{DUPLICATE_KEY, Failed, code_of, is_uncertain};
use crate::jobs::Deltas;
use crate::{MongoStorage, PROVIDER};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Why the work of a transaction ended badly.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The driver or the server said so.
    Driver(Error),
    /// A document was refused, with this code.
    Write(i32),
    /// A call within it failed.
    Call(Failed),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl Broken {
    fn is_transient(&self) -> bool {
        let is_transient = match self {
            Self::Driver(error) => error.contains_label(TRANSIENT_TRANSACTION_ERROR),
            Self::Write(_) | Self::Call(_) => false,
        };
        // Race: what was not there a moment ago was inserted meanwhile, and will be seen next time.
        is_transient || self.is_duplicate()
    }

    /// Whether something was there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        match self {
            Self::Driver(error) => code_of(error) == Some(DUPLICATE_KEY),
            Self::Write(code) => *code == DUPLICATE_KEY,
            Self::Call(_) => false,
        }
    }

    /// Whether the command may have taken effect all the same.
    pub(crate) fn is_uncertain(&self) -> bool {
        match self {
            Self::Driver(error) => is_uncertain(error),
            Self::Write(_) => true,
            Self::Call(failed) => failed.is_uncertain,
        }
    }

    /// The same where something was written before, in no transaction.
    pub(crate) fn after_a_write(self, operation: &'static str) -> Self {
        Self::Call(Failed { is_uncertain: true, ..self.failed(operation) })
    }

    pub(crate) fn failed(self, operation: &'static str) -> Failed {
        match self {
            Self::Driver(error) => Failed::of(&error, operation),
            Self::Write(code) => Failed::of_write(code, operation),
            Self::Call(failed) => failed,
        }
    }
}

/// Some commands that take effect together where there are transactions, and one after the other elsewhere.
pub(crate) trait Work: Sync {
    type Output: Send;

    /// What is attempted.
    const OPERATION: &'static str;

    /// Does it, and notes by how much counts change; it may be done several times, but only once for good.
    ///
    /// Where there are no transactions, what is noted is counted also if the rest fails.
    fn run(
        &self,
        commands: &mut Commands<'_>,
        counts: &mut Deltas,
    ) -> impl Future<Output = Result<Self::Output, Broken>> + Send;
}

/// A way to send commands, in a transaction or not.
pub(crate) struct Commands<'s> {
    pub(crate) storage: &'s MongoStorage,
    pub(crate) session: Option<&'s mut ClientSession>,
}

impl Commands<'_> {
    /// Reads with one answer.
    pub(crate) async fn read(&mut self, command: Document) -> Result<Document, Broken> {
        let mut run = self.storage.inner.database.run_command(command);
        run = match &mut self.session {
            Some(session) => run.session(&mut **session),
            None => run.selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary)),
        };
        Ok(run.await?)
    }

    /// Writes; what is refused of it is an error.
    pub(crate) async fn write(&mut self, mut command: Document) -> Result<Document, Broken> {
        if self.session.is_none() {
            command.insert("writeConcern", self.storage.write_concern());
        }
        let answer = self.read(command).await?;
        let first_of = |name| {
            let errors = answer.get_array(name).ok()?;
            errors.first()?.as_document()?.get_i32("code").ok()
        };
        let confirmed = answer.get_document("writeConcernError").ok();
        let refused = first_of("writeErrors")
            .or_else(|| confirmed.and_then(|confirmed| confirmed.get_i32("code").ok()));
        refused.map_or(Ok(answer), |code| Err(Broken::Write(code)))
    }

    /// Finds documents, by their ids, whose answer fits one message.
    pub(crate) async fn find_by_id(
        &mut self,
        collection: &str,
        filter: Document,
        projection: Document,
        limit: usize,
    ) -> Result<Vec<Document>, Broken> {
        let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
        let answer = self
            .read(doc! {
                "find": collection,
                "filter": filter,
                "projection": projection,
                "limit": limit,
                "batchSize": limit,
                "singleBatch": true,
                // The planner might think of others.
                "hint": "_id_",
            })
            .await?;
        let batch = answer.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let documents = batch.into_iter().flatten().filter_map(|found| found.as_document().cloned());
        Ok(documents.collect())
    }
}

impl MongoStorage {
    /// Notes that a call begins, unless the storage was closed.
    pub(crate) fn begin(&self, operation: &'static str) -> Result<TaskTrackerToken, StorageError> {
        // Race: the token is taken before the look at the door, so that closing waits for whoever still gets in.
        let token = self.inner.under_way.token();
        if self.inner.under_way.is_closed() {
            return Err(StorageError::Closed { provider: PROVIDER, operation });
        }
        Ok(token)
    }

    /// Does something within the time limit of a command.
    pub(crate) async fn limited<T>(
        &self,
        operation: &'static str,
        command: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Result<T, Failed> {
        let command = async { command.await.map_err(|error| Failed::of(&error, operation)) };
        self.limited_work(operation, command).await
    }

    /// Does some commands, one after the other and in no transaction, within the time limit of one.
    pub(crate) async fn limited_work<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        let limit = self.inner.options.call_timeout;
        let work = async {
            // Nobody closes it.
            let _connection = self.inner.for_commands.acquire().await;
            work.await
        };
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(Failed::timed_out(operation, limit)))
    }

    /// A whole call that is one command.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        command: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Result<T, StorageError> {
        let _open = self.begin(operation)?;
        Ok(self.limited(operation, command).await?)
    }

    /// Does something to its end, also if whoever asked for it has gone.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StorageError>> + Send + 'static,
    ) -> Result<T, StorageError> {
        let open = self.begin(operation)?;
        let task = self.inner.under_way.spawn(async move {
            let _open = open;
            work.await
        });
        task.await.unwrap_or_else(|_| {
            let source = "the runtime that did it was shut down".into();
            Err(StorageError::Unavailable { provider: PROVIDER, operation, source })
        })
    }

    /// Safe on most servers, or an error in time.
    pub(crate) fn write_concern(&self) -> Document {
        let limit = i64::try_from(self.inner.options.call_timeout.as_millis()).unwrap_or(i64::MAX);
        doc! { "w": "majority", "wtimeout": limit }
    }

    /// Does work in a transaction where there are any, again and again while others are in its way.
    pub(crate) async fn transact<W: Work>(&self, work: &W) -> Result<W::Output, Failed> {
        let limit = self.inner.options.call_timeout;
        let until = Instant::now() + limit;
        let mut counts = Deltas::default();
        let done = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let broken = match self.attempt(work, until, &mut counts).await {
                    Ok(output) => return Ok(output),
                    Err(broken) => broken,
                };
                if !broken.is_transient() || Instant::now() >= until {
                    return Err(broken.failed(W::OPERATION));
                }
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        let done = tokio::time::timeout(limit, done).await;
        self.count_surely(counts).await;
        done.unwrap_or_else(|_| Err(Failed::timed_out(W::OPERATION, limit)))
    }

    /// One attempt; what is left to be counted when it has ended is noted.
    async fn attempt<W: Work>(
        &self,
        work: &W,
        until: Instant,
        left_to_count: &mut Deltas,
    ) -> Result<W::Output, Broken> {
        // Nobody closes it.
        let _connection = self.inner.for_transactions.acquire().await;
        if !self.inner.has_transactions {
            return work.run(&mut Commands { storage: self, session: None }, left_to_count).await;
        }
        // Held until the transaction has ended: of two that write to one shard the second must begin anew.
        let shard = self.inner.shards.take();
        let mut session = self.inner.client.start_session().await?;
        let majority = WriteConcern::builder()
            .w(mongodb::options::Acknowledgment::Majority)
            .w_timeout(self.inner.options.call_timeout)
            .build();
        session
            .start_transaction()
            .read_concern(ReadConcern::local())
            .write_concern(majority)
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .await?;
        let done = async {
            let mut commands = Commands { storage: self, session: Some(&mut session) };
            let mut counts = Deltas::default();
            let output = work.run(&mut commands, &mut counts).await?;
            counts.write(&mut commands, shard.number()).await?;
            Ok(output)
        };
        match done.await {
            Ok(output) => {
                commit(&mut session, until).await?;
                Ok(output)
            }
            Err(broken) => {
                // Where this fails the server does it by itself.
                let _ = session.abort_transaction().await;
                Err(broken)
            }
        }
    }
}

/// Commits; asks again as long as it is not known what came of it.
async fn commit(session: &mut ClientSession, until: Instant) -> Result<(), Broken> {
    loop {
        match session.commit_transaction().await {
            Err(error)
                if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) && Instant::now() < until =>
            {
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
            committed => return Ok(committed?),
        }
    }
}
