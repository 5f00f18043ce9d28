//! Storing, claiming, releasing and removing jobs. Each step is in a file of its own below `jobs/`.

mod archive;
mod claim;
mod delete;
mod due;
mod insert;
mod merge;
mod park;
mod save;

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::storage::{
    ClaimRequest, DueReport, InsertReport, JobSelection, JobStore, SaveReport, StorageError,
    check_payload_sizes,
};
use jobrunr_core::{Job, JobId, JobMetadata, Version};
use rusqlite::{OptionalExtension, Transaction};

use self::insert::NewJob;
use self::save::SavedJob;
use crate::error::Outcome;
use crate::rows::read_job;
use crate::session::{Memory, Session, View};
use crate::{PROVIDER, SqliteStorage};

/// Most jobs in one piece of work, so that a large batch does not hold up the calls of others for long.
const BATCH: usize = 1_000;

#[async_trait]
impl JobStore for SqliteStorage {
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        check_payload_sizes(PROVIDER, jobs, self.options().max_payload_bytes)?;
        self.check_open("insert jobs")?;
        let mut report = InsertReport::default();
        for batch in jobs.chunks(BATCH) {
            let batch: Vec<NewJob> = batch.iter().map(NewJob::of).collect();
            let present = self.write("insert jobs", move |session| session.insert_jobs(&batch)).await?;
            report.already_present.extend(present);
        }
        Ok(report)
    }

    async fn save_jobs(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        self.check_open("save jobs")?;
        let mut report = SaveReport::default();
        let mut seen = HashSet::with_capacity(jobs.len());
        for batch in jobs.chunks(BATCH) {
            let batch: Vec<SavedJob> =
                batch.iter().map(|job| SavedJob::of(job, seen.insert(job.id()))).collect();
            let conflicts = self.write("save jobs", move |session| session.save_jobs(&batch)).await?;
            report.conflicts.extend(conflicts);
        }
        Ok(report)
    }

    async fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        self.check_open("claim jobs")?;
        if request.limit == 0 {
            return Ok(Vec::new());
        }
        let request = request.clone();
        let claimed = self.write_lightly("claim jobs", move |session| session.claim_jobs(&request)).await?;
        for (id, unreadable) in &claimed.parked {
            self.report_unreadable(*id, unreadable);
        }
        Ok(claimed.jobs)
    }

    async fn enqueue_due_jobs(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError> {
        self.write_lightly("release due jobs", move |session| session.enqueue_due_jobs(now, limit)).await
    }

    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError> {
        let operation = "find a job";
        let found = self
            .read(operation, move |view| read_job(view, &view.statements.find_job, id.as_bytes(), true))
            .await?;
        let Some(found) = found else { return Ok(None) };
        let job = found.job.map_err(|unreadable| {
            self.report_unreadable(Some(id), &unreadable);
            unreadable.into_error(PROVIDER, operation, format_args!("job {id}"))
        })?;
        Ok(Some(job))
    }

    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        self.check_open("delete jobs")?;
        let mut deleted = 0;
        match selection {
            JobSelection::Ids(ids) => {
                for batch in ids.chunks(BATCH) {
                    let batch = batch.to_vec();
                    deleted += self.write("delete jobs", move |session| session.delete_jobs(&batch)).await?;
                }
            }
            JobSelection::Aged { state, updated_before, signatures, limit } => {
                let (state, updated_before, limit) = (*state, *updated_before, *limit);
                while deleted < limit {
                    let (signatures, batch) = (signatures.clone(), (limit - deleted).min(BATCH));
                    let now_deleted = self
                        .write("delete jobs", move |session| {
                            session.delete_aged_jobs(state, updated_before, &signatures, batch)
                        })
                        .await?;
                    deleted += now_deleted;
                    if now_deleted < batch {
                        break;
                    }
                }
            }
        }
        Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
    }

    async fn save_job_metadata(&self, id: JobId, entries: &JobMetadata) -> Result<bool, StorageError> {
        let entries = insert::encode_metadata(entries);
        self.write("save the metadata of a job", move |session| session.save_job_metadata(id, &entries)).await
    }
}

impl SqliteStorage {
    /// Inserts jobs in a transaction of the caller's: they are there once it commits, and never were if it does not.
    ///
    /// The transaction may be of any connection to the same file; the tables must have been set up.
    ///
    /// # Errors
    /// As [`insert_jobs`](JobStore::insert_jobs). After an error the transaction may hold some of the jobs: roll it back.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use jobrunr_core::Job;
    /// # fn order(storage: &jobrunr_storage_sqlite::SqliteStorage, job: Job) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut connection = rusqlite::Connection::open("jobs.db")?;
    /// let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    /// transaction.execute("INSERT INTO orders (item) VALUES ('book')", [])?;
    /// storage.insert_in(&transaction, &[job])?;
    /// transaction.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn insert_in(
        &self,
        transaction: &Transaction<'_>,
        jobs: &[Job],
    ) -> Result<InsertReport, StorageError> {
        check_payload_sizes(PROVIDER, jobs, self.options().max_payload_bytes)?;
        let jobs: Vec<NewJob> = jobs.iter().map(NewJob::of).collect();
        let mut memory = Memory::new();
        let view = View { connection: transaction, statements: self.statements() };
        let mut session = Session::new(view, &mut memory);
        let inserted =
            session.insert_jobs(&jobs).and_then(|present| session.write_counts().map(|()| present));
        let already_present = inserted.map_err(|failure| failure.into_error("insert jobs"))?;
        Ok(InsertReport { already_present })
    }
}

impl Session<'_> {
    fn save_job_metadata(&mut self, id: JobId, entries: &[(String, String)]) -> Outcome<bool> {
        let statements = self.view.statements;
        let Some(place) = self.find_place(id)? else { return Ok(false) };
        let mut save = self.view.prepare(&statements.save_job_metadata)?;
        for (name, value) in entries {
            save.execute(rusqlite::params![place.seq, name, value])?;
        }
        if !entries.is_empty() {
            self.view.prepare(&statements.note_job_metadata)?.execute([place.seq])?;
        }
        Ok(true)
    }

    /// Where a job is and what must be known to change it.
    fn find_place(&self, id: JobId) -> Outcome<Option<Place>> {
        let mut statement = self.view.prepare(&self.view.statements.find_place)?;
        Ok(statement.query_row([id.as_bytes()], Place::read).optional()?)
    }
}

/// Where a job is and what must be known to change it.
#[derive(Debug, Clone, Copy)]
struct Place {
    seq: i64,
    lane: i64,
    state: i64,
    version: i64,
    archived_entries: i64,
    updated_at: i64,
}

impl Place {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            lane: row.get(1)?,
            state: row.get(2)?,
            version: row.get(3)?,
            archived_entries: row.get(4)?,
            updated_at: row.get(5)?,
        })
    }

    fn state(&self) -> Option<jobrunr_core::StateName> {
        u8::try_from(self.state).ok().and_then(jobrunr_core::StateName::from_index)
    }
}

/// A number of things as a column holds it.
fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A version as its column holds it.
fn version_column(version: Version) -> i64 {
    i64::try_from(version.number()).unwrap_or(i64::MAX)
}
