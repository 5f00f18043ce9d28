//! The storage contract: what a database must be able to do so that JobRunr can run on it.
//!
//! It is made of five role traits, [`JobStore`], [`JobSearch`], [`RecurringJobStore`], [`ServerStore`] and
//! [`MetadataStore`], and of [`StorageProvider`], which is all of them with set-up and end. Each promise is held by named scenarios
//! of `storage-conformance-tests`; a storage that passes the suite can be used wherever another one can.
//!
//! What holds for every method:
//!
//! - **Each call is atomic** unless its documentation says otherwise, also when its future is dropped midway: what it
//!   does happens whole or not at all (a batch may be split to a database's limits, then each part is).
//! - **Time is an argument.** No method reads a clock but [`ServerStore::storage_time`],
//!   [`ServerStore::announce_server`] and [`ServerStore::heartbeat`], which tell the storage's own.
//! - **Times have microseconds**, no more and no less; everything comes back as it was given. Callers pass whole
//!   microseconds ([`to_micros`](crate::clock::to_micros)); what becomes of finer ones is not promised.
//! - **States are decided elsewhere.** A storage writes the entries it is given; only
//!   [`JobStore::claim_jobs`] and [`JobStore::enqueue_due_jobs`] move jobs, each along one legal move.
//! - **Batches of any size are accepted**, the empty one included; what is named twice in a list (a queue, a type, an
//!   id to delete) counts once.
//! - **After [`StorageError::Unavailable`] the outcome is not known**: the call may have taken effect, whole or, for a
//!   batch that was split, in part. Inserting again is safe; after a save, read back before concluding that it lost.
//! - **Errors** are [`StorageError`]s: what the caller can do about them is their variant.
//!
//! Read next: `docs/writing-a-storage-provider.md`, then [`memory`](crate::memory) as the smallest whole example.

mod awaited;
mod changes;
mod error;
mod extension;
mod jobs;
mod metadata;
mod query;
mod recurring;
mod servers;

use async_trait::async_trait;

pub use awaited::{AwaitedJobs, JobWait};
pub use changes::{Change, ChangeFeed, ChangeHub, ChangeStream};
pub use error::{BoxError, StorageError};
pub use extension::{SaveConflict, StorageExt};
pub use jobs::{
    ClaimRequest, DueReport, InsertReport, JobSelection, JobStore, QueueSelection, SaveReport,
    SignatureSelection, check_payload_sizes,
};
pub use metadata::{CompareAndSet, Metadata, MetadataStore};
pub use query::{
    DEFAULT_LIST_LIMIT, JobCounts, JobCursor, JobOrder, JobQuery, JobSearch, OrderField, TimeWindow,
};
pub use recurring::{RecurringJobQuery, RecurringJobStore, RecurringSave};
pub use servers::{Heartbeat, HeartbeatReport, ServerAnnouncement, ServerLoad, ServerRecord, ServerStore};

/// A database that JobRunr can run on: the whole contract.
///
/// Shared as `Arc<dyn StorageProvider>` between schedulers, servers and dashboards; every method may be called from many
/// tasks at once.
#[async_trait]
pub trait StorageProvider:
    JobStore + JobSearch + RecurringJobStore + ServerStore + MetadataStore + std::fmt::Debug + std::any::Any
{
    /// What kind of storage this is, in lower case, for people: `sqlite`, `postgres`, …
    fn name(&self) -> &'static str;

    /// Makes the storage ready for use: every other method may count on it, and may fail in any way before it.
    ///
    /// *Promises:* may be called any number of times and by many processes at once; data of an older schema is kept and
    /// brought up to date by [`SetUp::Migrate`]; a newer schema is never touched.
    ///
    /// # Errors
    /// [`StorageError::SchemaMismatch`] saying what is missing or too new; nothing was changed then.
    async fn set_up(&self, set_up: SetUp) -> Result<(), StorageError>;

    /// The feed of hints about changes, if this storage has one.
    fn changes(&self) -> Option<&dyn ChangeFeed>;

    /// The jobs whose end is waited for on this storage in this process: a field of it, the same for all its clones.
    ///
    /// The storage has nothing more to do with it: servers and schedulers note here whom they wait for, and tell what they
    /// have saved.
    ///
    /// *Held by* the scenario `who_waits_beside_the_one_that_ends_a_job_is_told`.
    fn awaited_jobs(&self) -> &AwaitedJobs;

    /// Ends the use of this storage in this process: waits for what is under way, lets go of connections and files.
    ///
    /// *Promises:* every later call fails with [`StorageError::Closed`]; closing twice is fine; a call that races with it
    /// ends in its result or in that error, never in a hang.
    async fn close(&self);
}

/// How far [`StorageProvider::set_up`] may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SetUp {
    /// Creates what is missing and migrates what is old.
    #[default]
    Migrate,
    /// Changes nothing; fails unless everything is as this version needs it.
    Validate,
    /// Neither changes nor looks.
    Nothing,
}
