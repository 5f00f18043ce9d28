//! Storing recurring jobs.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::StorageError;
use crate::ids::Version;
use crate::names::RecurringJobId;
use crate::recurring::RecurringJob;

/// Keeps recurring jobs.
#[async_trait]
pub trait RecurringJobStore: Send + Sync {
    /// Saves a recurring job by id.
    ///
    /// *Promises:* at [`Version::UNSAVED`] it is created, or replaces what is stored whatever
    /// its version; at any other version it is saved only if that is the stored one. What is stored then is the job
    /// given, at a version one greater than what was stored before, or at [`Version::FIRST`].
    ///
    /// *Held by* scenarios 47, 49 and 50.
    async fn save_recurring_job(&self, job: &RecurringJob) -> Result<RecurringSave, StorageError>;

    /// Finds one recurring job.
    async fn find_recurring_job(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError>;

    /// Lists recurring jobs by id; those that are due are found by an index, not one by one.
    ///
    /// *Held by* scenarios 47 and 48.
    async fn list_recurring_jobs(&self, query: &RecurringJobQuery)
    -> Result<Vec<RecurringJob>, StorageError>;

    /// Removes a recurring job; tells whether it did.
    ///
    /// *Promises:* with a version it is removed only if that is the stored one, so that nobody removes what was saved anew
    /// since it was looked at; with `None` it is removed at any version.
    ///
    /// *Held by* scenarios 47 and 50.
    async fn delete_recurring_job(
        &self,
        id: &RecurringJobId,
        version: Option<Version>,
    ) -> Result<bool, StorageError>;
}

/// What came of [`RecurringJobStore::save_recurring_job`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecurringSave {
    /// It is stored, at this version.
    Saved(Version),
    /// Somebody saved or deleted it since it was loaded; nothing was changed.
    Conflict,
}

/// Which recurring jobs to list; every condition that is set must hold. The order is that of their ids, by bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecurringJobQuery {
    /// Only those not paused whose `next_run_at` is this instant or earlier.
    pub due_at: Option<DateTime<Utc>>,
    /// Only those whose id follows this one.
    pub after: Option<RecurringJobId>,
    /// At most so many; all of them if `None`.
    pub limit: Option<usize>,
}
