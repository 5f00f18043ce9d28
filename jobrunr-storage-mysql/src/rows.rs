//! Reading jobs: from a row of MySQL, of which any column may hold anything, to a [`JobRow`].

use std::collections::HashMap;

use jobrunr_core::{Job, JobId, JsonText, ServerId, ServerRef, Version};
use jobrunr_storage_sql::{HotColumns, JobRow, Lane, StoredDefinition, Tail, Unreadable};
use sqlx::mysql::MySqlRow;

use crate::columns::Columns;
use crate::error::Outcome;
use crate::place::{NEVER, state_of_place};
use crate::session::Session;
use crate::values::{Rows, Values};

/// A row read by one of the statements that begin with `select_job!`, still without what it refers to.
pub(crate) struct ReadRow {
    pub(crate) id: JobId,
    pub(crate) version: Version,
    pub(crate) lane: i32,
    pub(crate) priority: i32,
    pub(crate) has_metadata: bool,
    pub(crate) columns: HotColumns,
    pub(crate) definition: Result<StoredDefinition, Unreadable>,
}

/// Reads the columns of `select_job!`.
pub(crate) fn read_row(row: &MySqlRow) -> Result<ReadRow, Unreadable> {
    let version =
        u64::try_from(row.number_or(1)?).map_err(|_| Unreadable::because("the version is negative"))?;
    let archived_entries = usize::try_from(row.number_or(11)?);
    let instant = |index| row.number_or(index).map(|at| (at != NEVER).then_some(at));
    Ok(ReadRow {
        id: row.id_or(0)?.into(),
        version: Version::new(version),
        lane: row.small_or(2)?,
        priority: row.small_or(4)?,
        has_metadata: row.number_or(12)? != 0,
        columns: HotColumns {
            state: state_of_place(row.number_or(3)?)
                .ok_or_else(|| Unreadable::because("the state is not known"))?,
            queued_at: row.optional_number(5)?,
            created_at: row.number_or(6)?,
            updated_at: row.number_or(7)?,
            scheduled_at: row.optional_number(13)?,
            // Only an AWAITING entry says it, and those are archived.
            awaited_job_id: None,
            archived_entries: archived_entries.map_err(|_| Unreadable::because("a length is negative"))?,
            tail: Tail {
                scheduled_entry_at: row.optional_number(14)?,
                enqueued_entry_at: row.optional_number(15)?,
                claimed_at: instant(8)?,
                finished_at: instant(9)?,
                deleted_at: row.optional_number(16)?,
                deleted_reason: row.optional_text(17)?,
            },
        },
        definition: read_definition(row),
    })
}

fn read_definition(row: &MySqlRow) -> Result<StoredDefinition, Unreadable> {
    Ok(StoredDefinition {
        name: row.text_or(18)?.to_owned(),
        labels: row.optional_text(19)?,
        settings: row.optional_text(20)?,
        payload: JsonText::from_stored(row.text_or(21)?),
    })
}

impl ReadRow {
    /// The job without its archive and metadata.
    pub(crate) fn with(self, lane: Lane, server: Option<ServerRef>, result: Option<JsonText>) -> JobRow {
        JobRow {
            id: self.id,
            version: self.version,
            lane,
            priority: self.priority,
            columns: self.columns,
            definition: self.definition,
            server,
            result,
            archive: Vec::new(),
            metadata: Vec::new(),
        }
    }
}

/// Whether a row that was read by itself is all there is of a job, so that no other statement has to see the same instant.
pub(crate) fn is_row_alone(row: &MySqlRow) -> bool {
    read_row(row).is_ok_and(|row| row.columns.archived_entries == 0 && !row.has_metadata)
}

/// What came of reading a whole job.
pub(crate) struct WholeJob {
    pub(crate) id: Option<JobId>,
    /// The job; of one that was parked what can be shown of it.
    pub(crate) job: Result<Job, Unreadable>,
    /// Whether all of it could be read.
    pub(crate) is_intact: bool,
}

/// Whether the metadata of jobs is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithMetadata {
    Yes,
    No,
}

/// What jobs have in tables of their own, by job.
#[derive(Default)]
pub(crate) struct Beside {
    archives: HashMap<JobId, Vec<Result<String, Unreadable>>>,
    metadata: HashMap<JobId, Vec<(String, String)>>,
}

impl Beside {
    /// Gives a job what is its own.
    pub(crate) fn add_to(&mut self, row: &mut JobRow) {
        row.archive = self.archives.remove(&row.id).unwrap_or_default();
        row.metadata = self.metadata.remove(&row.id).unwrap_or_default();
    }
}

impl Session<'_> {
    /// Reads what these rows have in tables of their own; nothing is asked if none has anything.
    pub(crate) async fn beside<'r>(
        &mut self,
        rows: impl Iterator<Item = &'r ReadRow> + Clone,
        with_metadata: WithMetadata,
    ) -> Outcome<Beside> {
        let mut beside = Beside::default();
        let archived: Vec<JobId> =
            rows.clone().filter(|row| row.columns.archived_entries > 0).map(|row| row.id).collect();
        if !archived.is_empty() {
            let values = Values::new().text(&Rows::of_ids(&archived));
            for row in self.rows(&self.shared.statements.load_histories, values).await? {
                let entries = row.text_or(1).map(str::to_owned);
                beside.archives.entry(row.id(0)?.into()).or_default().push(entries);
            }
        }
        let noted: Vec<JobId> = rows
            .filter(|row| with_metadata == WithMetadata::Yes && row.has_metadata)
            .map(|row| row.id)
            .collect();
        if !noted.is_empty() {
            let values = Values::new().text(&Rows::of_ids(&noted));
            for row in self.rows(&self.shared.statements.load_metadata, values).await? {
                // What cannot be read becomes text that is no JSON, which is reported where it is decoded.
                let text = |index| row.optional_text(index).ok().flatten().unwrap_or_default();
                beside.metadata.entry(row.id(0)?.into()).or_default().push((text(1), text(2)));
            }
        }
        Ok(beside)
    }

    /// Makes jobs of rows read by one of the statements that begin with `select_whole_job!`.
    pub(crate) async fn whole_jobs(
        &mut self,
        rows: Vec<MySqlRow>,
        with_metadata: WithMetadata,
    ) -> Outcome<Vec<WholeJob>> {
        let read: Vec<_> = rows.iter().map(read_row).collect();
        let lanes = self.lanes_with(read.iter().flatten().map(|row| row.lane)).await?;
        let mut beside = self.beside(read.iter().flatten(), with_metadata).await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for (row, read) in rows.iter().zip(read) {
            let id = row.id_or(0).ok().map(JobId::from);
            let whole = read.and_then(|read| {
                let lane = lanes.get(read.lane).cloned();
                let lane =
                    lane.ok_or_else(|| Unreadable::because("the queue or type of the job is not known"))?;
                Ok(read.with(lane, server(row)?, row.optional_str(24)?.map(JsonText::from_stored)))
            });
            jobs.push(match whole {
                Ok(mut row) => {
                    beside.add_to(&mut row);
                    let decoded = row.decode();
                    let is_intact = decoded.is_ok();
                    let job = decoded.or_else(|unreadable| row.salvage().ok_or(unreadable));
                    WholeJob { id, job, is_intact }
                }
                Err(unreadable) => WholeJob { id, job: Err(unreadable), is_intact: false },
            });
        }
        Ok(jobs)
    }
}

fn server(row: &MySqlRow) -> Result<Option<ServerRef>, Unreadable> {
    let (id, name) = (row.optional_id(22)?, row.optional_text(23)?);
    Ok(id.zip(name).map(|(id, name)| ServerRef { id: ServerId::from(id), name }))
}
