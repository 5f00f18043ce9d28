//! Finding jobs by what they are.

use async_trait::async_trait;
use jobrunr_core::storage::{JobCounts, JobQuery, JobSearch, StorageError};
use jobrunr_core::{Job, JobSignature, StateName};
use jobrunr_storage_sql::{Dialect, ListKind, Search, Value, render_count, render_list};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, ToSql};

use crate::SqliteStorage;
use crate::error::Outcome;
use crate::rows::{WholeJob, read_job};
use crate::session::View;

#[async_trait]
impl JobSearch for SqliteStorage {
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StorageError> {
        let search = render_list(query, &Sqlite, self.prefix());
        let found = self.read("list jobs", move |view| list_jobs(view, &search)).await?;
        let mut jobs = Vec::with_capacity(found.len());
        for WholeJob { id, job, is_intact: _ } in found {
            match job {
                Ok(job) => jobs.push(job),
                Err(unreadable) => self.report_unreadable(id, &unreadable),
            }
        }
        Ok(jobs)
    }

    async fn count_jobs(&self, query: &JobQuery) -> Result<u64, StorageError> {
        let search = render_count(query, &Sqlite, self.prefix());
        self.read("count jobs", move |view| {
            let count: i64 = bind(view, &search)?.raw_query().next()?.map_or(Ok(0), |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or(0))
        })
        .await
    }

    async fn job_counts(&self) -> Result<JobCounts, StorageError> {
        self.read("count jobs", |view| {
            let mut statement = view.prepare(&view.statements.count_jobs)?;
            let counts = statement.query_row([], |row| {
                let number = |index| row.get::<_, i64>(index).map(|count| u64::try_from(count).unwrap_or(0));
                let mut counts = JobCounts::default();
                for state in StateName::ALL {
                    counts.set(state, number(usize::from(state.index()))?);
                }
                counts.succeeded_all_time = number(StateName::ALL.len())?;
                Ok(counts)
            })?;
            Ok(counts)
        })
        .await
    }

    async fn list_signatures(&self, states: &[StateName]) -> Result<Vec<JobSignature>, StorageError> {
        let states = states.to_vec();
        self.read("list job types", move |view| list_signatures(view, &states)).await
    }
}

fn list_jobs(view: View<'_>, search: &Search) -> Outcome<Vec<WholeJob>> {
    let mut statement = bind(view, search)?;
    let mut rows = statement.raw_query();
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        jobs.extend(read_job(view, &view.statements.load_job, seq, false)?);
    }
    Ok(jobs)
}

fn list_signatures(view: View<'_>, states: &[StateName]) -> Outcome<Vec<JobSignature>> {
    let mut statement = view.prepare(&view.statements.lane_counts)?;
    let mut rows = statement.query([])?;
    let mut signatures = std::collections::BTreeSet::new();
    while let Some(row) = rows.next()? {
        for state in states {
            if row.get::<_, i64>(usize::from(state.index()) + 1)? > 0 {
                signatures.extend(row.get::<_, String>(0)?.parse());
            }
        }
    }
    Ok(signatures.into_iter().collect())
}

/// Prepares a search and binds its values; lists become JSON, which SQLite takes apart again.
fn bind<'c>(view: View<'c>, search: &Search) -> Outcome<CachedStatement<'c>> {
    let mut statement = view.prepare(&search.sql)?;
    for (index, value) in search.values.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, Bound(value))?;
    }
    Ok(statement)
}

struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let json = |list: serde_json::Value| ToSqlOutput::from(list.to_string());
        Ok(match self.0 {
            Value::Integer(number) => ToSqlOutput::from(*number),
            Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Value::Id(id) => ToSqlOutput::Borrowed(ValueRef::Blob(id.as_bytes())),
            Value::Integers(numbers) => json(numbers.iter().copied().collect()),
            Value::Texts(texts) => json(texts.iter().map(String::as_str).collect()),
            Value::Ids(ids) => json(ids.iter().map(|id| id.simple().to_string()).collect()),
        })
    }
}

/// What SQLite spells its own way.
pub(crate) struct Sqlite;

impl Dialect for Sqlite {
    fn placeholder(&self, number: usize) -> String {
        format!("?{number}")
    }

    fn job_key(&self) -> &'static str {
        "seq"
    }

    /// Differs because LIKE has special characters; `lower` knows ASCII letters only, which is what is promised.
    fn contains(&self, text: &str, placeholder: &str) -> String {
        format!("instr(lower({text}), lower({placeholder})) > 0")
    }

    fn is_one_of(&self, column: &str, placeholder: &str, kind: ListKind) -> String {
        match kind {
            ListKind::Integers | ListKind::Texts => {
                format!("{column} IN (SELECT value FROM json_each({placeholder}))")
            }
            ListKind::Ids => format!("{column} IN (SELECT unhex(value) FROM json_each({placeholder}))"),
        }
    }
}
