//! Reading jobs: from a row of SQLite, of which any column may hold anything, to a [`JobRow`].

use jobrunr_core::{Job, JobId, JsonText, ServerId, ServerRef, StateName, Version};
use jobrunr_storage_sql::{HotColumns, JobRow, Lane, StoredDefinition, Tail, Unreadable};
use rusqlite::Row;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use crate::error::Outcome;
use crate::session::View;

/// A row read by one of the `load…job` statements, still without its archive and metadata.
pub(crate) struct ReadRow {
    pub(crate) seq: i64,
    pub(crate) has_metadata: bool,
    pub(crate) id: JobId,
    pub(crate) version: Version,
    pub(crate) priority: i32,
    pub(crate) columns: HotColumns,
    pub(crate) definition: Result<StoredDefinition, Unreadable>,
}

/// Reads the columns of `select_job!`.
pub(crate) fn read_row(row: &Row<'_>) -> Result<ReadRow, Unreadable> {
    let state = u8::try_from(integer(row, 2)?).ok().and_then(StateName::from_index);
    let priority = integer(row, 5)?.checked_neg().and_then(|priority| i32::try_from(priority).ok());
    let number = |value: i64, what| u64::try_from(value).map_err(|_| Unreadable::because(what));
    let archived_entries = usize::try_from(integer(row, 9)?);
    Ok(ReadRow {
        seq: integer(row, 0)?,
        has_metadata: integer(row, 10)? != 0,
        id: id(row, 1)?.ok_or_else(|| Unreadable::because("the id is missing"))?.into(),
        version: Version::new(number(integer(row, 3)?, "the version is negative")?),
        priority: priority.ok_or_else(|| Unreadable::because("the priority is out of range"))?,
        columns: HotColumns {
            state: state.ok_or_else(|| Unreadable::because("the state is not known"))?,
            queued_at: optional_integer(row, 6)?,
            created_at: integer(row, 7)?,
            updated_at: integer(row, 8)?,
            scheduled_at: optional_integer(row, 12)?,
            awaited_job_id: id(row, 13)?.map(JobId::from),
            archived_entries: archived_entries.map_err(|_| Unreadable::because("a length is negative"))?,
            tail: Tail {
                scheduled_entry_at: optional_integer(row, 14)?,
                enqueued_entry_at: optional_integer(row, 15)?,
                claimed_at: optional_integer(row, 16)?,
                finished_at: optional_integer(row, 17)?,
                deleted_at: optional_integer(row, 18)?,
                deleted_reason: optional_text(row, 19)?,
            },
        },
        definition: read_definition(row),
    })
}

fn read_definition(row: &Row<'_>) -> Result<StoredDefinition, Unreadable> {
    Ok(StoredDefinition {
        name: text(row, 20)?,
        labels: optional_text(row, 21)?,
        settings: optional_text(row, 22)?,
        payload: optional_str(row, 23)?
            .map(JsonText::from_stored)
            .ok_or_else(|| Unreadable::because("the payload is missing"))?,
    })
}

impl ReadRow {
    /// Puts the job together with what it refers to, reading its archive and metadata if it has any.
    pub(crate) fn complete(
        self,
        view: View<'_>,
        lane: Lane,
        server: Option<ServerRef>,
        result: Option<JsonText>,
        with_metadata: bool,
    ) -> Outcome<JobRow> {
        let archive =
            if self.columns.archived_entries == 0 { Vec::new() } else { read_archive(view, self.seq)? };
        let metadata =
            if with_metadata && self.has_metadata { read_metadata(view, self.seq)? } else { Vec::new() };
        Ok(JobRow {
            id: self.id,
            version: self.version,
            lane,
            priority: self.priority,
            columns: self.columns,
            definition: self.definition,
            server,
            result,
            archive,
            metadata,
        })
    }
}

/// What came of reading a whole job.
pub(crate) struct WholeJob {
    pub(crate) id: Option<JobId>,
    /// The job; of one that was parked what can be shown of it.
    pub(crate) job: Result<Job, Unreadable>,
    /// Whether all of it could be read.
    pub(crate) is_intact: bool,
}

/// Reads one job by `find_job` (with its id) or `load_job` (with its row number).
pub(crate) fn read_job(
    view: View<'_>,
    sql: &str,
    key: impl rusqlite::ToSql,
    with_metadata: bool,
) -> Outcome<Option<WholeJob>> {
    let mut statement = view.prepare(sql)?;
    let mut rows = statement.query([key])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let id = id(row, 1).ok().flatten().map(JobId::from);
    let parts = read_whole(row);
    drop(rows);
    drop(statement);
    let (read, lane, server, result) = match parts {
        Ok(parts) => parts,
        Err(unreadable) => return Ok(Some(WholeJob { id, job: Err(unreadable), is_intact: false })),
    };
    let row = read.complete(view, lane, server, result, with_metadata)?;
    let decoded = row.decode();
    let is_intact = decoded.is_ok();
    let job = decoded.or_else(|unreadable| row.salvage().ok_or(unreadable));
    Ok(Some(WholeJob { id, job, is_intact }))
}

type Parts = (ReadRow, Lane, Option<ServerRef>, Option<JsonText>);

fn read_whole(row: &Row<'_>) -> Result<Parts, Unreadable> {
    let read = read_row(row)?;
    let invalid = |_| Unreadable::because("the queue or type of the job is not valid");
    let lane = Lane {
        queue: text(row, 24)?.parse().map_err(invalid)?,
        signature: text(row, 25)?.parse().map_err(invalid)?,
    };
    let server = match (id(row, 26)?, optional_text(row, 27)?) {
        (Some(id), Some(name)) => Some(ServerRef { id: ServerId::from(id), name }),
        _ => None,
    };
    Ok((read, lane, server, optional_text(row, 28)?.map(JsonText::from_stored)))
}

fn read_archive(view: View<'_>, seq: i64) -> Outcome<Vec<Result<String, Unreadable>>> {
    let mut statement = view.prepare(&view.statements.load_history)?;
    let rows = statement.query_map([seq], |row| Ok(text(row, 0)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read_metadata(view: View<'_>, seq: i64) -> Outcome<Vec<(String, String)>> {
    let mut statement = view.prepare(&view.statements.load_metadata)?;
    let rows = statement.query_map([seq], |row| {
        // What cannot be read becomes text that is no JSON, which is reported where it is decoded.
        Ok((text(row, 0).unwrap_or_default(), text(row, 1).unwrap_or_default()))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn column<'r>(row: &'r Row<'_>, index: usize) -> Result<ValueRef<'r>, Unreadable> {
    row.get_ref(index).map_err(|_| Unreadable::because("a column is missing"))
}

fn optional_integer(row: &Row<'_>, index: usize) -> Result<Option<i64>, Unreadable> {
    match column(row, index)? {
        ValueRef::Integer(value) => Ok(Some(value)),
        ValueRef::Null => Ok(None),
        _ => Err(Unreadable::because("a number is no number")),
    }
}

fn integer(row: &Row<'_>, index: usize) -> Result<i64, Unreadable> {
    optional_integer(row, index)?.ok_or_else(|| Unreadable::because("a number is missing"))
}

fn optional_text(row: &Row<'_>, index: usize) -> Result<Option<String>, Unreadable> {
    Ok(optional_str(row, index)?.map(str::to_owned))
}

fn optional_str<'r>(row: &'r Row<'_>, index: usize) -> Result<Option<&'r str>, Unreadable> {
    match column(row, index)? {
        ValueRef::Text(bytes) => {
            std::str::from_utf8(bytes).map(Some).map_err(|_| Unreadable::because("a text is not UTF-8"))
        }
        ValueRef::Null => Ok(None),
        _ => Err(Unreadable::because("a text is no text")),
    }
}

fn text(row: &Row<'_>, index: usize) -> Result<String, Unreadable> {
    optional_text(row, index)?.ok_or_else(|| Unreadable::because("a text is missing"))
}

fn id(row: &Row<'_>, index: usize) -> Result<Option<Uuid>, Unreadable> {
    match column(row, index)? {
        ValueRef::Blob(bytes) => {
            let id = Uuid::from_slice(bytes).map_err(|_| Unreadable::because("an id has not 16 bytes"))?;
            Ok(Some(id))
        }
        ValueRef::Null => Ok(None),
        _ => Err(Unreadable::because("an id is no blob")),
    }
}
