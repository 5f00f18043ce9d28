//! Reading jobs: from rows of PostgreSQL to [`JobRow`]s.

use jobrunr_core::{Job, JobId, JsonText, ServerRef, StateName, Version};
use jobrunr_storage_sql::{HotColumns, JobRow, StoredDefinition, Tail, Unreadable};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresStorage;
use crate::connection::{Call, Failed};
use crate::error::classify;
use crate::names::Found;

/// A job as far as its row could be read.
pub(crate) struct ReadJob {
    pub(crate) id: JobId,
    pub(crate) version: Version,
    pub(crate) columns: HotColumns,
    pub(crate) server: Option<ServerRef>,
    /// The job, or why there is none.
    pub(crate) job: Result<Job, Unreadable>,
    /// What can be shown of a job that cannot be read, if it was parked.
    pub(crate) salvaged: Option<Job>,
}

impl PostgresStorage {
    /// Makes jobs of rows that have the columns of `select_job!`.
    pub(crate) async fn read_jobs(
        &self,
        call: &mut Call<'_>,
        rows: &[PgRow],
    ) -> Result<Vec<ReadJob>, Failed> {
        let operation = call.operation();
        let failed = |error| Failed::from(classify(&error, operation));
        let mut lanes = Vec::with_capacity(rows.len());
        let mut servers = Vec::new();
        for row in rows {
            lanes.push(row.try_get(3).map_err(failed)?);
            servers.extend(row.try_get::<Option<i32>, _>(16).map_err(failed)?);
        }
        let found = self.look_up(call, &lanes, &servers).await?;
        rows.iter().map(|row| read_job(row, &found)).collect::<Result<_, _>>().map_err(failed)
    }
}

/// An error means that the columns are not of the types they have: that is no single job's fault.
fn read_job(row: &PgRow, found: &Found) -> Result<ReadJob, sqlx::Error> {
    let id = JobId::from(row.try_get::<Uuid, _>(0)?);
    let version: i64 = row.try_get(1)?;
    let state: i16 = row.try_get(2)?;
    let lane: i32 = row.try_get(3)?;
    let server: Option<i32> = row.try_get(16)?;
    let archived: i32 = row.try_get(7)?;
    let known_state = u8::try_from(state).ok().and_then(StateName::from_index);
    let columns = HotColumns {
        state: known_state.unwrap_or(StateName::Failed),
        queued_at: None,
        created_at: row.try_get(5)?,
        updated_at: row.try_get(6)?,
        scheduled_at: row.try_get(8)?,
        awaited_job_id: row.try_get::<Option<Uuid>, _>(15)?.map(JobId::from),
        archived_entries: usize::try_from(archived).unwrap_or(usize::MAX),
        tail: Tail {
            scheduled_entry_at: row.try_get(9)?,
            enqueued_entry_at: row.try_get(10)?,
            claimed_at: row.try_get(11)?,
            finished_at: row.try_get(12)?,
            deleted_at: row.try_get(13)?,
            deleted_reason: row.try_get(14)?,
        },
    };
    let version = Version::new(u64::try_from(version).unwrap_or_default());
    let server = server.and_then(|number| found.server(number));
    let definition = match (row.try_get::<Option<String>, _>(18)?, row.try_get::<Option<&str>, _>(21)?) {
        (Some(name), Some(payload)) => Ok(StoredDefinition {
            name,
            labels: row.try_get(19)?,
            settings: row.try_get(20)?,
            payload: JsonText::from_stored(payload),
        }),
        _ => Err(Unreadable::because("what was written once of it is missing")),
    };
    let archive: Option<Vec<String>> = row.try_get(22)?;
    let result: Option<&str> = row.try_get(23)?;
    let names: Option<Vec<String>> = row.try_get(24)?;
    let values: Option<Vec<String>> = row.try_get(25)?;
    let lane = found.lane(lane).cloned();
    let priority = row.try_get(4)?;
    let Some(lane) = lane.filter(|_| known_state.is_some()) else {
        let why = Unreadable::because("its state, queue or type is not known");
        return Ok(ReadJob { id, version, columns, server, job: Err(why), salvaged: None });
    };
    let stored = JobRow {
        id,
        version,
        lane,
        priority,
        columns,
        definition,
        server,
        result: result.map(JsonText::from_stored),
        archive: archive.unwrap_or_default().into_iter().map(Ok).collect(),
        metadata: names.unwrap_or_default().into_iter().zip(values.unwrap_or_default()).collect(),
    };
    let job = stored.decode();
    let salvaged = if job.is_err() { stored.salvage() } else { None };
    Ok(ReadJob { id, version, columns: stored.columns, server: stored.server, job, salvaged })
}
