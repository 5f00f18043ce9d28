//! Pages in the order of creation, which the table of payloads has an index of: jobs are gone through from one end, or from
//! the cursor, until the page is full.
//!
//! Where the jobs that fit are far from that end, all others would be gone through first. So it is asked before whether
//! their states have so few jobs that sorting them is the shorter way, and not more than [`FARTHEST`] are gone through.

use jobrunr_core::storage::{JobQuery, OrderField, TimeWindow};
use jobrunr_storage_sql::{Dialect, Search, Value, micros, render_conditions};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::Postgres;
use crate::PostgresStorage;
use crate::connection::{Call, Failed, Statement};
use crate::error::classify;
use crate::jobs::signed;

/// How many jobs are gone through for one page at most, where there are conditions; a part of the text of statements.
const FARTHEST: usize = 20_000;

impl PostgresStorage {
    /// The rows of a page, if the order of creation is a short way to them.
    pub(super) async fn page_by_creation(
        &self,
        call: &mut Call<'_>,
        query: &JobQuery,
    ) -> Result<Option<Vec<PgRow>>, Failed> {
        if !may_go_by_creation(query) || self.are_few(call, query).await? {
            return Ok(None);
        }
        let conditions = render_conditions(&query.clone().created(TimeWindow::default()), &Postgres);
        let has_conditions = !conditions.sql.is_empty();
        let page = self.page_of(self.rendered(render_page(query, conditions)));
        let rows = call.rows(self.search(page)).await?;
        if !has_conditions || rows.len() >= query.effective_limit() {
            return Ok(Some(rows));
        }
        let has_more = self.is_true(call, self.search(self.rendered(render_has_more(query)))).await?;
        Ok((!has_more).then_some(rows))
    }

    /// Whether states are asked for that have few jobs.
    async fn are_few(&self, call: &mut Call<'_>, query: &JobQuery) -> Result<bool, Failed> {
        if query.states.is_empty() {
            return Ok(false);
        }
        let states: Vec<i16> = query.states.iter().map(|state| i16::from(state.index())).collect();
        self.is_true(call, self.statement(&self.inner.statements.are_few).bind(states)).await
    }

    async fn is_true(&self, call: &mut Call<'_>, question: Statement) -> Result<bool, Failed> {
        let operation = call.operation();
        let answer = call.row(question).await?.map(|row| row.try_get(0)).transpose();
        Ok(answer.map_err(|error| classify(&error, operation))?.unwrap_or(false))
    }

    fn rendered(&self, search: Search) -> Search {
        Search { sql: self.inner.prefix.render(&search.sql), ..search }
    }
}

/// Labels, runs of a recurring job, jobs that wait for one and times of updates have indexes of their own, which find few jobs
/// faster than any order does.
fn may_go_by_creation(query: &JobQuery) -> bool {
    query.order.field == OrderField::CreatedAt
        && query.labels.is_empty()
        && query.recurring_job_id.is_none()
        && query.awaited_job_id.is_none()
        && !query.updated.is_bounded()
        && !query.scheduled.is_bounded()
}

/// The statement that gives the ids of a page.
fn render_page(query: &JobQuery, conditions: Search) -> Search {
    let Search { sql: conditions, mut values } = conditions;
    let jobs = jobs_in_order(query, &mut values);
    let jobs = if conditions.is_empty() {
        format!("SELECT c.job {jobs}")
    } else {
        // Each job is looked up by itself, in order: whatever the statistics say, they are not read as a whole.
        format!(
            "SELECT c.job FROM (SELECT c.created_at, c.job {jobs} LIMIT {FARTHEST}) c CROSS JOIN LATERAL \
             (SELECT FROM {{p}}jobrunr_job j WHERE j.id = c.job AND {conditions} OFFSET 0) j {}",
            order(query)
        )
    };
    let limit = bind(&mut values, Value::Integer(signed(query.effective_limit())));
    let offset = bind(&mut values, Value::Integer(signed(query.offset)));
    Search { sql: format!("{jobs} LIMIT {limit} OFFSET {offset}"), values }
}

/// The statement that tells whether there are jobs beyond those that were gone through.
fn render_has_more(query: &JobQuery) -> Search {
    let mut values = Vec::new();
    let jobs = jobs_in_order(query, &mut values);
    Search { sql: format!("SELECT EXISTS (SELECT {jobs} OFFSET {FARTHEST})"), values }
}

/// All jobs of the window and beyond the cursor, in order, as `c`.
fn jobs_in_order(query: &JobQuery, values: &mut Vec<Value>) -> String {
    let mut conditions = Vec::new();
    for (beyond, bound) in [(">=", query.created.from), ("<", query.created.before)] {
        if let Some(bound) = bound {
            conditions.push(format!("c.created_at {beyond} {}", bind(values, Value::Integer(micros(bound)))));
        }
    }
    if let Some(cursor) = query.after {
        let beyond = if query.order.descending { "<" } else { ">" };
        let instant = bind(values, Value::Integer(micros(cursor.instant)));
        let id = bind(values, Value::Id(cursor.id.into()));
        conditions.push(format!("(c.created_at, c.job) {beyond} ({instant}, {id})"));
    }
    let conditions =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("FROM {{p}}jobrunr_job_data c{conditions} {}", order(query))
}

fn order(query: &JobQuery) -> &'static str {
    if query.order.descending {
        "ORDER BY c.created_at DESC, c.job DESC"
    } else {
        "ORDER BY c.created_at, c.job"
    }
}

/// Adds a value and tells its place.
fn bind(values: &mut Vec<Value>, value: Value) -> String {
    values.push(value);
    Postgres.placeholder(values.len())
}
