//! Finding jobs by what they are.

mod by_creation;

use std::sync::Arc;

use async_trait::async_trait;
use jobrunr_core::storage::{JobCounts, JobQuery, JobSearch, StorageError};
use jobrunr_core::{Job, JobSignature, StateName};
use jobrunr_storage_sql::{Dialect, ListKind, Search, Value, render_count, render_list};
use sqlx::Row;

use crate::PostgresStorage;
use crate::connection::Statement;
use crate::error::classify;

#[async_trait]
impl JobSearch for PostgresStorage {
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StorageError> {
        const OPERATION: &str = "list jobs";
        let mut call = self.call(OPERATION).await?;
        let rows = match self.page_by_creation(&mut call, query).await? {
            Some(rows) => rows,
            None => {
                let page = self.page_of(render_list(query, &Postgres, &self.inner.prefix));
                call.rows(self.search(page)).await?
            }
        };
        let read = self.read_jobs(&mut call, &rows).await?;
        call.finish().await?;
        let mut jobs = Vec::with_capacity(read.len());
        for read in read {
            match (read.job, read.salvaged) {
                (Ok(job), _) | (Err(_), Some(job)) => jobs.push(job),
                (Err(unreadable), None) => self.report_unreadable(Some(read.id), &unreadable),
            }
        }
        let field = query.order.field;
        jobs.sort_unstable_by(|one, other| {
            let order = (field.of(one), one.id()).cmp(&(field.of(other), other.id()));
            if query.order.descending { order.reverse() } else { order }
        });
        Ok(jobs)
    }

    async fn count_jobs(&self, query: &JobQuery) -> Result<u64, StorageError> {
        let search = render_count(query, &Postgres, &self.inner.prefix);
        self.count_of("count jobs", self.search(search)).await
    }

    async fn job_counts(&self) -> Result<JobCounts, StorageError> {
        const OPERATION: &str = "count jobs";
        let mut call = self.call(OPERATION).await?;
        let rows = call.rows(self.statement(&self.inner.statements.counts)).await?;
        call.finish().await?;
        let mut counts = JobCounts::default();
        for row in &rows {
            let number = || Ok((row.try_get::<i16, _>(0)?, row.try_get::<i64, _>(1)?));
            let (state, count) = number().map_err(|error| classify(&error, OPERATION))?;
            let count = u64::try_from(count).unwrap_or(0);
            match u8::try_from(state).ok().and_then(StateName::from_index) {
                Some(state) => counts.set(state, count),
                None => counts.succeeded_all_time = count,
            }
        }
        Ok(counts)
    }

    async fn list_signatures(&self, states: &[StateName]) -> Result<Vec<JobSignature>, StorageError> {
        const OPERATION: &str = "list job types";
        let states: Vec<i16> = states.iter().map(|state| i16::from(state.index())).collect();
        let mut call = self.call(OPERATION).await?;
        let rows = call.rows(self.statement(&self.inner.statements.list_signatures).bind(states)).await?;
        call.finish().await?;
        let texts = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>();
        let texts = texts.map_err(|error| classify(&error, OPERATION))?;
        let mut signatures: Vec<JobSignature> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        signatures.sort_unstable();
        Ok(signatures)
    }
}

impl PostgresStorage {
    /// The statement that gives the jobs whose ids a statement gives.
    fn page_of(&self, ids: Search) -> Search {
        Search { sql: format!("{}{}))", self.inner.statements.list_page, ids.sql), ..ids }
    }

    fn search(&self, search: Search) -> Statement {
        let statement = self.statement(&Arc::from(search.sql));
        search.values.into_iter().fold(statement, |statement, value| match value {
            Value::Integer(number) => statement.bind(number),
            Value::Text(text) => statement.bind(text),
            Value::Id(id) => statement.bind(id),
            Value::Integers(numbers) => statement.bind(numbers),
            Value::Texts(texts) => statement.bind(texts),
            Value::Ids(ids) => statement.bind(ids),
        })
    }
}

/// What PostgreSQL spells its own way.
struct Postgres;

impl Dialect for Postgres {
    fn placeholder(&self, number: usize) -> String {
        format!("${number}")
    }

    fn job_key(&self) -> &'static str {
        "id"
    }

    /// Differs because LIKE has special characters; in the collation "C" `lower` knows ASCII letters only.
    fn contains(&self, text: &str, placeholder: &str) -> String {
        format!("strpos(lower({text} COLLATE \"C\"), lower({placeholder} COLLATE \"C\")) > 0")
    }

    /// Differs because each question about states is a statement of its own then, with a plan that fits these states: rare
    /// ones are found by their index, though others were asked for before.
    fn in_states(&self, states: &[StateName]) -> Option<String> {
        let numbers: Vec<String> = states.iter().map(|state| state.index().to_string()).collect();
        Some(format!("j.state IN ({})", numbers.join(", ")))
    }

    fn is_one_of(&self, column: &str, placeholder: &str, _kind: ListKind) -> String {
        format!("{column} = ANY ({placeholder})")
    }
}
