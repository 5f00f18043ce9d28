//! Storing, claiming, releasing and removing jobs. Each step is in a file of its own below `jobs/`.

mod archive;
mod claim;
mod delete;
mod due;
mod ended;
mod gather;
mod insert;
mod line;
mod park;
mod save;

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use jobrunr_core::storage::{
    ClaimRequest, DueReport, InsertReport, JobSelection, JobStore, SaveReport, StorageError,
    check_payload_sizes,
};
use jobrunr_core::{Job, JobId, JobMetadata, Version};
use jobrunr_storage_sql::{Lane, micros};
use sqlx::mysql::{MySqlConnection, MySqlRow};

use self::delete::{Aged, DeleteJobs, Doomed};
pub(crate) use self::gather::SingleInserts;
use self::insert::{InsertJobs, NewJob, encode_metadata};
use self::save::{SaveJobs, SavedJob};
use crate::columns::Columns;
use crate::error::{Failure, Outcome};
use crate::rows::{WholeJob, WithMetadata, is_row_alone};
use crate::session::Session;
use crate::statements::RowSizes;
use crate::values::Values;
use crate::work::Work;
use crate::{MySqlStorage, PROVIDER};

/// How many parts of a large batch are inserted at the same time: while one is on its way the next is written.
const PARTS_AT_ONCE: usize = 2;

fn has_repeated_ids(jobs: &[Job]) -> bool {
    let mut seen = HashSet::with_capacity(jobs.len());
    !jobs.iter().all(|job| seen.insert(job.id()))
}

/// Most jobs in one transaction, so that a large batch does not hold locks for long.
const BATCH: usize = 1_000;

#[async_trait]
impl JobStore for MySqlStorage {
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        const OPERATION: &str = "insert jobs";
        check_payload_sizes(PROVIDER, jobs, self.shared.options.max_payload_bytes)?;
        self.shared.check_open(OPERATION)?;
        if let [job] = jobs {
            let mut new = NewJob::of(job);
            self.shared.number_jobs(std::slice::from_mut(&mut new)).await?;
            if new.is_row_alone() {
                return self.shared.gather(new).await;
            }
        }
        // Where an id comes twice the first has to be first.
        let at_once = if has_repeated_ids(jobs) { 1 } else { PARTS_AT_ONCE };
        let mut parts = Vec::new();
        for part in jobs.chunks(RowSizes::LARGEST) {
            parts.push(self.insert_part(part));
        }
        let already_present: Vec<Vec<JobId>> = stream::iter(parts).buffered(at_once).try_collect().await?;
        Ok(InsertReport { already_present: already_present.concat() })
    }

    async fn save_jobs(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        const OPERATION: &str = "save jobs";
        self.shared.check_open(OPERATION)?;
        let mut report = SaveReport::default();
        let mut seen = HashSet::with_capacity(jobs.len());
        for batch in jobs.chunks(BATCH) {
            let mut batch: Vec<SavedJob> =
                batch.iter().map(|job| SavedJob::of(job, seen.insert(job.id()))).collect();
            self.number_saved(&mut batch).await?;
            report.conflicts.extend(self.shared.write(OPERATION, SaveJobs::new(batch)).await?);
        }
        Ok(report)
    }

    async fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        self.shared.check_open("claim jobs")?;
        if request.limit == 0 {
            return Ok(Vec::new());
        }
        let claimed = self.shared.claim(request).await?;
        for (id, unreadable) in &claimed.parked {
            self.shared.report_unreadable(*id, unreadable);
        }
        Ok(claimed.jobs)
    }

    async fn enqueue_due_jobs(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError> {
        self.shared.release(micros(now), limit).await
    }

    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError> {
        const OPERATION: &str = "find a job";
        let alone = self.shared.call(OPERATION, move |session| Box::pin(find_if_alone(session, id))).await?;
        let found = match alone {
            Found::Alone(found) => found,
            Found::WithMore => {
                self.shared
                    .read(OPERATION, move |session| {
                        Box::pin(async move {
                            let rows = find_row(session, id).await?;
                            Ok(session.whole_jobs(rows, WithMetadata::Yes).await?.pop())
                        })
                    })
                    .await?
            }
        };
        let Some(found) = found else { return Ok(None) };
        let job = found.job.map_err(|unreadable| {
            self.shared.report_unreadable(Some(id), &unreadable);
            unreadable.into_error(PROVIDER, OPERATION, format_args!("job {id}"))
        })?;
        Ok(Some(job))
    }

    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        const OPERATION: &str = "delete jobs";
        self.shared.check_open(OPERATION)?;
        let mut deleted = 0;
        match selection {
            JobSelection::Ids(ids) => {
                for batch in ids.chunks(BATCH) {
                    let work = DeleteJobs { doomed: Doomed::Ids(batch.to_vec()), deleted: Vec::new() };
                    deleted += self.shared.write(OPERATION, work).await?;
                }
            }
            JobSelection::Aged { state, updated_before, signatures, limit } => {
                while deleted < *limit {
                    let batch = (limit - deleted).min(BATCH);
                    let doomed = Doomed::Aged(Aged {
                        state: *state,
                        updated_before: micros(*updated_before),
                        signatures: signatures.clone(),
                        limit: batch,
                    });
                    let now_deleted =
                        self.shared.write(OPERATION, DeleteJobs { doomed, deleted: Vec::new() }).await?;
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
        let entries = encode_metadata(entries);
        self.shared.write("save the metadata of a job", SaveMetadata { id, entries }).await
    }
}

impl MySqlStorage {
    /// Finds the numbers of what saves name.
    async fn number_saved(&self, jobs: &mut [SavedJob]) -> Result<(), StorageError> {
        let mut known: Option<(Lane, i32)> = None;
        for job in jobs {
            let definition = job.definition();
            let is_known = known
                .as_ref()
                .filter(|(lane, _)| lane.queue == definition.queue && lane.signature == definition.signature);
            job.lane = match is_known {
                Some((_, number)) => *number,
                None => {
                    let lane =
                        Lane { queue: definition.queue.clone(), signature: definition.signature.clone() };
                    let number = self.shared.lane_number(&lane).await?;
                    known = Some((lane, number));
                    number
                }
            };
            if let Some(server) = job.server().cloned() {
                job.server_number = self.shared.server_number(&server).await?;
            }
        }
        Ok(())
    }

    /// Inserts a part of a large batch. It is encoded when its turn has come: the database works on the part before
    /// meanwhile.
    async fn insert_part(&self, part: &[Job]) -> Result<Vec<JobId>, StorageError> {
        let mut new: Vec<NewJob> = part.iter().map(NewJob::of).collect();
        self.shared.number_jobs(&mut new).await?;
        let mut already_present = Vec::new();
        while let Some(work) = InsertJobs::next(&mut new, self.shared.max_statement_bytes) {
            already_present.extend(self.shared.write("insert jobs", work).await?);
        }
        Ok(already_present)
    }

    /// Inserts jobs on a connection of the caller's, within whatever transaction it is in.
    pub(crate) async fn insert_on(
        &self,
        connection: &mut MySqlConnection,
        jobs: &[Job],
    ) -> Result<InsertReport, StorageError> {
        const OPERATION: &str = "insert jobs in a transaction";
        check_payload_sizes(PROVIDER, jobs, self.shared.options.max_payload_bytes)?;
        self.shared.check_open(OPERATION)?;
        let mut session = Session::of_caller(connection, &self.shared);
        let mut new: Vec<NewJob> = jobs.iter().map(NewJob::of).collect();
        let inserted = async {
            session.number_jobs(&mut new).await?;
            let mut already_present = Vec::new();
            while let Some(mut work) = InsertJobs::next(&mut new, session.shared.max_statement_bytes) {
                already_present.extend(insert_or_look(&mut work, &mut session).await?);
            }
            Ok(already_present)
        };
        let already_present = inserted.await.map_err(|failure: Failure| failure.to_error(OPERATION))?;
        Ok(InsertReport { already_present })
    }
}

/// What came of reading the row of a job.
enum Found {
    /// The job, if there is one: its row is all there is of it.
    Alone(Option<WholeJob>),
    /// It has a history or metadata in tables of their own, which must be read at the same instant.
    WithMore,
}

async fn find_row(session: &mut Session<'_>, id: JobId) -> Outcome<Vec<MySqlRow>> {
    session.rows(&session.shared.statements.find_job, Values::new().bytes(id.as_bytes())).await
}

async fn find_if_alone(session: &mut Session<'_>, id: JobId) -> Outcome<Found> {
    let rows = find_row(session, id).await?;
    if !rows.iter().all(is_row_alone) {
        return Ok(Found::WithMore);
    }
    Ok(Found::Alone(session.whole_jobs(rows, WithMetadata::No).await?.pop()))
}

/// Inserts jobs within a transaction; if some turn out to be there, undoes what the try did and looks which.
async fn insert_or_look(work: &mut InsertJobs, session: &mut Session<'_>) -> Outcome<Vec<JobId>> {
    const MAX_LOOKS: usize = 3;
    for _ in 0..MAX_LOOKS {
        // A statement that is turned down has done nothing.
        let is_single = work.is_single_statement();
        if !is_single {
            session.command(&session.shared.savepoint).await?;
        }
        match work.run(session).await {
            Err(failure) if failure.is_duplicate() && is_single => {}
            Err(failure) if failure.is_duplicate() => {
                session.command(&session.shared.rollback_to_savepoint).await?;
            }
            result => return result,
        }
    }
    work.run(session).await
}

/// Saves what running code wants to keep with its job. Doing it twice does no harm.
struct SaveMetadata {
    id: JobId,
    entries: Vec<(String, String)>,
}

#[async_trait]
impl Work for SaveMetadata {
    type Output = bool;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let statements = session.statements();
        let id = || Values::new().bytes(self.id.as_bytes());
        let Some(row) = session.row(&statements.lock_job, id()).await? else { return Ok(false) };
        if self.entries.is_empty() {
            return Ok(true);
        }
        let length = |(name, value): &(String, String)| name.len() + value.len();
        session
            .insert_rows(&statements.save_job_metadata, &self.entries, length, |values, (name, value)| {
                values.push_bytes(Some(self.id.as_bytes()));
                values.push_bytes(Some(name.as_bytes()));
                values.push_text(Some(value));
            })
            .await?;
        if row.number(0)? == 0 {
            session.execute(&statements.note_job_metadata, id()).await?;
        }
        Ok(true)
    }

    async fn happened(&mut self, _session: &mut Session<'_>) -> Outcome<bool> {
        Ok(false)
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
