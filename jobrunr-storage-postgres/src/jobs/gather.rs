//! Small inserts at once are gathered into one; the order of that is `jobrunr-storage-sql`'s, the writing is done here.

use std::collections::HashSet;

use jobrunr_core::storage::StorageError;
use jobrunr_core::{Job, JobId};
use jobrunr_storage_sql::{Call, Gatherer, Gathering, Part};

use super::CHUNK;
use super::insert::OPERATION;
use crate::connection::Failed;
use crate::lent::Lent;
use crate::{PROVIDER, PostgresStorage};

/// A connection that the last writer used, for the next.
pub(super) type Spare = Option<Lent>;

/// A pool with fewer connections has none to spare.
const POOL_WITH_SPARE: u32 = 4;

/// The small inserts of a storage.
#[derive(Clone)]
pub(crate) struct SmallInserts(PostgresStorage);

impl Gathering for SmallInserts {
    type Jobs = Vec<Job>;
    /// The jobs that were there already.
    type Answer = Result<HashSet<JobId>, StorageError>;
    type Connection = Lent;

    fn gatherer(&self) -> &Gatherer<Self> {
        &self.0.inner.gatherer
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.inner.under_way.spawn(task);
    }

    fn keeps_connections(&self) -> bool {
        self.0.may_keep_connections()
    }

    fn fitting(&self, calls: &[Call<Self>]) -> usize {
        let mut jobs = 0;
        let fits = |call: &Call<Self>| {
            jobs += call.jobs.len();
            jobs <= CHUNK
        };
        calls.iter().map(fits).take_while(|fits| *fits).count()
    }

    async fn write(&self, calls: Vec<Call<Self>>, kept: &mut Spare) {
        self.0.write_calls(calls, kept).await;
    }
}

impl PostgresStorage {
    /// Inserts jobs of different ids together with those of other callers; returns those that were there already.
    pub(super) async fn insert_gathered(&self, jobs: &[&Job]) -> Result<HashSet<JobId>, StorageError> {
        let to_wait = |jobs: &[&Job]| jobs.iter().map(|job| (*job).clone()).collect();
        match Gatherer::join(SmallInserts(self.clone()), jobs, to_wait) {
            Part::Writes(mut turn, jobs) => {
                let mut spare = turn.take_connection();
                // Boxed for those that wait, who need no room for it.
                let written = Box::pin(self.insert_chunk(jobs, &mut spare)).await;
                turn.end(spare);
                written.map_err(StorageError::from)
            }
            Part::IsWritten(answered) => answered.await.unwrap_or_else(|_| {
                let source = "the runtime that wrote it was shut down".into();
                Err(StorageError::Unavailable { provider: PROVIDER, operation: OPERATION, source })
            }),
        }
    }

    /// Whether the pool is large enough that connections may be kept out of it.
    pub(crate) fn may_keep_connections(&self) -> bool {
        self.inner.pool.options().get_max_connections() >= POOL_WITH_SPARE
    }

    async fn write_calls(&self, calls: Vec<Call<SmallInserts>>, spare: &mut Spare) {
        let jobs = calls.iter().flat_map(|call| &call.jobs);
        let mut seen = HashSet::new();
        let first_mentions: Vec<&Job> = jobs.filter(|job| seen.insert(job.id())).collect();
        match self.insert_chunk(&first_mentions, spare).await {
            Ok(present) => {
                let mut mentioned = HashSet::new();
                for call in calls {
                    let ids = call.jobs.iter().map(Job::id);
                    let not_new = ids.filter(|id| !mentioned.insert(*id) || present.contains(id)).collect();
                    call.answer(Ok(not_new));
                }
            }
            Err(failed) if calls.len() == 1 || failed.is_uncertain || failed.error.is_retryable() => {
                let mut calls = calls.into_iter();
                let first = calls.next();
                for call in calls {
                    call.answer(Err(same_as(&failed)));
                }
                if let Some(call) = first {
                    call.answer(Err(failed.error));
                }
            }
            // One of them is to blame, and the others shall not suffer for it.
            Err(_) => {
                for call in calls {
                    let jobs: Vec<&Job> = call.jobs.iter().collect();
                    let written = self.insert_chunk(&jobs, spare).await;
                    call.answer(written.map_err(StorageError::from));
                }
            }
        }
    }
}

/// The same error for another caller of the same group; it can only be one that may pass.
fn same_as(failed: &Failed) -> StorageError {
    let said = std::error::Error::source(&failed.error).map(ToString::to_string).unwrap_or_default();
    StorageError::Unavailable { provider: PROVIDER, operation: OPERATION, source: said.into() }
}
