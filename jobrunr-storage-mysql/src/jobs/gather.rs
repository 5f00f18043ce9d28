//! Single inserts at once are gathered into one; the order of that is `jobrunr-storage-sql`'s, the writing is done here.

use std::sync::Arc;

use jobrunr_core::JobId;
use jobrunr_core::storage::{InsertReport, StorageError};
use jobrunr_storage_sql::{CallersTurn, Gatherer, Gathering, Part};
use tokio::sync::oneshot;

use super::archive::rows_that_fit;
use super::insert::{InsertJobs, NewJob};
use crate::PROVIDER;
use crate::error::{Failure, Outcome};
use crate::lent::Lent;
use crate::session::Session;
use crate::shared::Shared;
use crate::statements::RowSizes;

const OPERATION: &str = "insert jobs";

/// A pool with fewer connections has none to keep for the next writer.
const POOL_THAT_KEEPS: u32 = 4;

/// The single inserts of a storage.
#[derive(Clone)]
pub(crate) struct SingleInserts(Arc<Shared>);

/// One call that inserts one job.
type Call = jobrunr_storage_sql::Call<SingleInserts>;

impl Gathering for SingleInserts {
    type Jobs = NewJob;
    type Answer = Result<InsertReport, StorageError>;
    type Connection = Lent;

    fn gatherer(&self) -> &Gatherer<Self> {
        &self.0.gatherer
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(task);
    }

    fn keeps_connections(&self) -> bool {
        self.0.pool.options().get_max_connections() >= POOL_THAT_KEEPS
    }

    fn fitting(&self, calls: &[Call]) -> usize {
        RowSizes::size_at_most(rows_that_fit(calls, self.0.max_statement_bytes, |call| call.jobs.bytes()))
    }

    async fn write(&self, calls: Vec<Call>, kept: &mut Option<Lent>) {
        let jobs: Vec<&NewJob> = calls.iter().map(|call| &call.jobs).collect();
        let failure = match self.0.insert_at_once(&jobs, kept).await {
            Ok(()) => return calls.into_iter().for_each(|call| call.answer(Ok(InsertReport::default()))),
            Err(failure) => failure,
        };
        if needs_care(&failure) {
            // What is not quite so simple is done apart, so that others need not wait for it.
            let shared = Arc::clone(&self.0);
            self.0.tasks.spawn(async move { shared.insert_with_care(calls, &failure).await });
        } else {
            calls.into_iter().for_each(|call| call.answer(Err(failure.to_error(OPERATION))));
        }
    }
}

impl Shared {
    /// Inserts a job that is a row alone, together with whatever others are inserted at the moment.
    pub(super) async fn gather(self: &Arc<Self>, job: NewJob) -> Result<InsertReport, StorageError> {
        // Race: taken before the look at the door, so that closing waits for whoever still gets in.
        let _under_way = self.tasks.token();
        self.check_open(OPERATION)?;
        match Gatherer::join(SingleInserts(Arc::clone(self)), job, |job| job) {
            // Boxed for those that wait, who need no room for it.
            Part::Writes(turn, job) => Box::pin(self.insert_alone(turn, job)).await,
            Part::IsWritten(answered) => answered.await.unwrap_or_else(|_| Err(closed())),
        }
    }

    /// Inserts the job of a caller that is alone. It may go away at any moment: then the statement is done or not, as
    /// a whole, and its connection is not used any more.
    async fn insert_alone(
        self: &Arc<Self>,
        mut turn: CallersTurn<SingleInserts>,
        job: NewJob,
    ) -> Result<InsertReport, StorageError> {
        let mut connection = InUse(turn.take_connection());
        let inserted = self.insert_at_once(&[&job], &mut connection.0).await;
        turn.end(connection.0.take());
        match inserted {
            Ok(()) => Ok(InsertReport::default()),
            Err(failure) if needs_care(&failure) => {
                let (answer, answered) = oneshot::channel();
                let shared = Arc::clone(self);
                let calls = vec![Call { jobs: job, answer }];
                self.tasks.spawn(async move { shared.insert_with_care(calls, &failure).await });
                answered.await.unwrap_or_else(|_| Err(closed()))
            }
            Err(failure) => Err(failure.to_error(OPERATION)),
        }
    }

    /// Inserts jobs by one statement; leaves a connection that can be used for more.
    async fn insert_at_once(&self, jobs: &[&NewJob], kept: &mut Option<Lent>) -> Outcome<()> {
        let connection = match kept {
            Some(connection) => connection,
            None => kept.insert(self.connection().await?),
        };
        let inserted = Session::new(connection, self).insert_absent(jobs).await;
        if let Err(failure) = &inserted
            && let Some(connection) = kept.take()
        {
            self.settle(connection, Some(failure));
        }
        inserted
    }

    /// Inserts what could not be inserted at once: some may be there already, of others it must be found out.
    async fn insert_with_care(self: Arc<Self>, calls: Vec<Call>, failure: &Failure) {
        let (jobs, answers): (Vec<_>, Vec<_>) =
            calls.into_iter().map(|call| (call.jobs, call.answer)).unzip();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let mut work = InsertJobs::new(jobs, failure.is_duplicate());
        let mut already_present = Vec::new();
        let mut error = None;
        // A statement that names a job twice was turned down, whether that was heard or not.
        let may_have_happened = failure.is_lost_connection() && !work.has_repeated_ids();
        let found = if may_have_happened { self.find_out(&mut work).await } else { Some(false) };
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

/// Whether a failure says that some jobs are there already, that others were in the way, or nothing certain.
fn needs_care(failure: &Failure) -> bool {
    failure.is_duplicate() || failure.is_conflict() || failure.is_lost_connection()
}

fn closed() -> StorageError {
    StorageError::Closed { provider: PROVIDER, operation: OPERATION }
}

/// The connection of a caller that may go away at any moment. Where that leaves a statement on its way nobody can use the
/// connection: the driver would take the rest of one answer for another.
struct InUse(Option<Lent>);

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.give_up();
        }
    }
}
