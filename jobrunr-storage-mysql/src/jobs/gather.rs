//! Many single inserts at once become one statement; each caller is answered after the commit that holds its job.
//!
//! A caller that is alone waits for nobody: its job goes at once, and whoever comes meanwhile goes together after it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobrunr_core::JobId;
use jobrunr_core::storage::{InsertReport, StorageError};
use sqlx::MySql;
use sqlx::pool::PoolConnection;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::archive::rows_that_fit;
use super::insert::{InsertJobs, NewJob};
use crate::PROVIDER;
use crate::error::{Failure, Outcome};
use crate::session::Session;
use crate::shared::Shared;
use crate::statements::RowSizes;
use crate::work::settle;

const OPERATION: &str = "insert jobs";

/// How long the connection is kept for more jobs to come.
const KEEP: Duration = Duration::from_millis(200);

/// The single inserts that wait to be gathered.
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<Call>,
    /// Whether a task is there that will see to them.
    has_task: bool,
}

/// One call that inserts one job.
#[derive(Debug)]
struct Call {
    job: NewJob,
    answer: oneshot::Sender<Result<InsertReport, StorageError>>,
}

impl Gatherer {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what goes into one statement.
    fn next(&self, max_bytes: usize) -> Vec<Call> {
        let mut waiting = self.waiting();
        let calls = waiting.calls.make_contiguous();
        let fitting = rows_that_fit(calls, max_bytes, |call| call.job.bytes());
        let count = RowSizes::size_at_most(fitting);
        waiting.calls.drain(..count).collect()
    }

    /// Whether the task may end because nobody waits.
    fn end(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.has_task = !waiting.calls.is_empty();
        !waiting.has_task
    }
}

impl Shared {
    /// Inserts a job that is a row alone, together with whatever others are inserted at the moment.
    pub(super) async fn gather(self: &Arc<Self>, job: NewJob) -> Result<InsertReport, StorageError> {
        let (answer, answered) = oneshot::channel();
        let has_task = {
            let mut waiting = self.gatherer.waiting();
            waiting.calls.push_back(Call { job, answer });
            std::mem::replace(&mut waiting.has_task, true)
        };
        if has_task {
            self.gatherer.more.notify_one();
        } else {
            self.tasks.spawn(Arc::clone(self).insert_gathered());
        }
        answered.await.unwrap_or(Err(StorageError::Closed { provider: PROVIDER, operation: OPERATION }))
    }

    async fn insert_gathered(self: Arc<Self>) {
        let mut kept = None;
        loop {
            let calls = self.gatherer.next(self.max_statement_bytes);
            if !calls.is_empty() {
                self.insert_calls(calls, &mut kept).await;
                continue;
            }
            let more = async {
                tokio::select! {
                    () = self.gatherer.more.notified() => {}
                    () = self.closing.cancelled() => {}
                }
            };
            let is_idle = timeout(KEEP, more).await.is_err() || self.closing.is_cancelled();
            if is_idle && self.gatherer.end() {
                return;
            }
        }
    }

    async fn insert_calls(self: &Arc<Self>, calls: Vec<Call>, kept: &mut Option<PoolConnection<MySql>>) {
        let failure = match self.insert_at_once(&calls, kept).await {
            Ok(()) => return answer_all(calls, || Ok(InsertReport::default())),
            Err(failure) => failure,
        };
        if let Some(connection) = kept.take() {
            settle(connection, Some(&failure));
        }
        if !(failure.is_duplicate() || failure.is_conflict() || failure.is_lost_connection()) {
            return answer_all(calls, || Err(failure.to_error(OPERATION)));
        }
        // What is not quite so simple is done apart, so that others need not wait for it.
        let shared = Arc::clone(self);
        self.tasks.spawn(async move { shared.insert_with_care(calls, &failure).await });
    }

    async fn insert_at_once(&self, calls: &[Call], kept: &mut Option<PoolConnection<MySql>>) -> Outcome<()> {
        let connection = match kept {
            Some(connection) => connection,
            None => kept.insert(self.connection().await?),
        };
        let jobs: Vec<&NewJob> = calls.iter().map(|call| &call.job).collect();
        Session { connection, shared: self }.insert_absent(&jobs).await
    }

    /// Inserts what could not be inserted at once: some may be there already, of others it must be found out.
    async fn insert_with_care(self: Arc<Self>, calls: Vec<Call>, failure: &Failure) {
        let (jobs, answers): (Vec<_>, Vec<_>) = calls.into_iter().map(|call| (call.job, call.answer)).unzip();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let mut work = InsertJobs { jobs, some_are_present: failure.is_duplicate() };
        let mut already_present = Vec::new();
        let mut error = None;
        let found = if failure.is_lost_connection() { self.find_out(&mut work).await } else { Some(false) };
        match found {
            Some(true) => {}
            Some(false) => match self.write(OPERATION, work).await {
                Ok(present) => already_present = present,
                Err(failed) => error = Some(Failure::Storage(failed)),
            },
            None => error = Some(Failure::Sqlx(sqlx::Error::PoolTimedOut)),
        }
        // Of several mentions of a job the last ones are those that were there already.
        for (id, answer) in ids.into_iter().zip(answers).rev() {
            let result = match &error {
                Some(error) => Err(error.to_error(OPERATION)),
                None => {
                    let index = already_present.iter().position(|present| *present == id);
                    let already_present = index.map(|index| already_present.swap_remove(index));
                    Ok(InsertReport { already_present: already_present.into_iter().collect() })
                }
            };
            // Whoever asked may have gone.
            let _ = answer.send(result);
        }
    }
}

fn answer_all(calls: Vec<Call>, result: impl Fn() -> Result<InsertReport, StorageError>) {
    for Call { job: _, answer } in calls {
        // Whoever asked may have gone.
        let _ = answer.send(result());
    }
}
