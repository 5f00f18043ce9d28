//! How a [`JobQuery`] becomes SQL: one condition each, values bound in the order in which their places stand in the text.

use jobrunr_core::StateName;
use jobrunr_core::storage::{JobQuery, OrderField, SignatureSelection, TimeWindow};
use uuid::Uuid;

use crate::dialect::{CursorPart, Dialect, ListKind, Value};
use crate::prefix::TablePrefix;
use crate::times::micros;

/// A statement and what is to be bound to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The text; it depends on which conditions are set and how far a page reaches, never on values.
    pub sql: String,
    /// The values, in the order of their places.
    pub values: Vec<Value>,
}

/// How many jobs a page by update may reach to for the states to be merged. Beyond, all jobs are sorted: a database that reads
/// the whole table for so many would do it for each state.
const FARTHEST: usize = 10_000;

/// The statement that gives the [keys](Dialect::job_key) of the jobs that fit, in the order asked for.
///
/// An index has the jobs of each state in the order of their updates, but none has all jobs in that order. So a page by update
/// of several states is merged from the pages of each, unless there are conditions for which another way may be shorter.
#[must_use]
pub fn render_list(query: &JobQuery, dialect: &dyn Dialect, prefix: &TablePrefix) -> Search {
    let mut search = Builder::new(dialect);
    let states = states_to_merge(query, dialect);
    let page = if states.is_empty() { search.page(query) } else { search.merged_page(query, &states) };
    let limit = search.bind(Value::Integer(saturating(query.effective_limit())));
    let offset = search.bind(Value::Integer(saturating(query.offset)));
    Search { sql: prefix.render(&format!("{page} LIMIT {limit} OFFSET {offset}")), values: search.values }
}

/// How far a page reaches, with what it passes over.
fn reach(query: &JobQuery) -> usize {
    query.offset.saturating_add(query.effective_limit())
}

/// The states to merge a page from; none if it is found otherwise.
fn states_to_merge(query: &JobQuery, dialect: &dyn Dialect) -> Vec<StateName> {
    let mut plain =
        JobQuery::in_states(query.states.iter().copied()).updated(query.updated).order(query.order);
    (plain.after, plain.limit, plain.offset) = (query.after, query.limit, query.offset);
    if *query != plain || query.order.field != OrderField::UpdatedAt || reach(query) > FARTHEST {
        return Vec::new();
    }
    let is_asked_for = |state: &StateName| query.states.is_empty() || query.states.contains(state);
    let states: Vec<StateName> = StateName::ALL.into_iter().filter(is_asked_for).collect();
    if states.len() > 1 && states.iter().all(|state| dialect.is_short_by_update(*state)) {
        states
    } else {
        Vec::new()
    }
}

/// The statement that counts the jobs that fit.
#[must_use]
pub fn render_count(query: &JobQuery, dialect: &dyn Dialect, prefix: &TablePrefix) -> Search {
    let mut search = Builder::new(dialect);
    search.conditions_of(query);
    let conditions = search.where_clause();
    let sql = prefix.render(&format!("SELECT count(*) FROM {{p}}jobrunr_job j{conditions}"));
    Search { sql, values: search.values }
}

/// The conditions alone, joined by `AND`, of a table of jobs called `j`; empty if there are none. The cursor is not one of them,
/// and the prefix is left as `{p}`.
#[must_use]
pub fn render_conditions(query: &JobQuery, dialect: &dyn Dialect) -> Search {
    let mut search = Builder::new(dialect);
    search.conditions_of(query);
    Search { sql: search.conditions.join(" AND "), values: search.values }
}

const fn direction(query: &JobQuery) -> &'static str {
    if query.order.descending { " DESC" } else { "" }
}

fn saturating(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

struct Builder<'a> {
    dialect: &'a dyn Dialect,
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl<'a> Builder<'a> {
    const fn new(dialect: &'a dyn Dialect) -> Self {
        Self { dialect, conditions: Vec::new(), values: Vec::new() }
    }

    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        self.dialect.placeholder(self.values.len())
    }

    fn require(&mut self, condition: String) {
        self.conditions.push(condition);
    }

    /// The conditions until now; those to come are of another table.
    fn where_clause(&mut self) -> String {
        if self.conditions.is_empty() {
            return String::new();
        }
        format!(" WHERE {}", std::mem::take(&mut self.conditions).join(" AND "))
    }

    /// The keys of all jobs that fit, in order.
    fn page(&mut self, query: &JobQuery) -> String {
        format!("SELECT j.{} {}", self.dialect.job_key(), self.jobs_in_order(query))
    }

    /// The same, where only so many of each of these states are read as the page may need.
    fn merged_page(&mut self, query: &JobQuery, states: &[StateName]) -> String {
        let key = self.dialect.job_key();
        let mut pages = Vec::with_capacity(states.len());
        for state in states {
            let mut of_state = query.clone();
            of_state.states = vec![*state];
            let instant = self.dialect.order_column(query.order.field, &of_state.states);
            let jobs = self.jobs_in_order(&of_state);
            let reach = self.bind(Value::Integer(saturating(reach(query))));
            // SQLite takes no ORDER BY of a part but in a table of its own.
            pages.push(format!(
                "SELECT * FROM (SELECT j.{key} AS job, {instant} AS instant, j.id AS id {jobs} LIMIT {reach}) s"
            ));
        }
        let direction = direction(query);
        format!(
            "SELECT m.job FROM ({}) m ORDER BY m.instant{direction}, m.id{direction}",
            pages.join(" UNION ALL ")
        )
    }

    /// All jobs that fit, as `j`, in order.
    fn jobs_in_order(&mut self, query: &JobQuery) -> String {
        self.conditions_of(query);
        let column = self.dialect.order_column(query.order.field, &query.states);
        if let Some(cursor) = query.after {
            let dialect = self.dialect;
            let mut bind = |part| {
                self.bind(match part {
                    CursorPart::Instant => Value::Integer(micros(cursor.instant)),
                    CursorPart::Id => Value::Id(cursor.id.into()),
                })
            };
            let beyond = if query.order.descending { "<" } else { ">" };
            let condition = dialect.beyond_cursor(column, beyond, &mut bind);
            self.require(condition);
        }
        let direction = direction(query);
        let conditions = self.where_clause();
        format!("FROM {{p}}jobrunr_job j{conditions} ORDER BY {column}{direction}, j.id{direction}")
    }

    fn equals(&mut self, column: &str, value: Value) -> String {
        let place = self.bind(value);
        format!("{column} = {place}")
    }

    fn one_of(&mut self, column: &str, values: Value) -> String {
        let kind = match values {
            Value::Texts(_) => ListKind::Texts,
            Value::Ids(_) => ListKind::Ids,
            _ => ListKind::Integers,
        };
        let place = self.bind(values);
        self.dialect.is_one_of(column, &place, kind)
    }

    fn contains(&mut self, text: &str, needle: &str) -> String {
        let place = self.bind(Value::Text(needle.to_owned()));
        self.dialect.contains(text, &place)
    }

    fn conditions_of(&mut self, query: &JobQuery) {
        self.states(&query.states);
        self.lane(query);
        for label in &query.labels {
            let is_label = self.equals("x.label", Value::Text(label.clone()));
            let key = self.dialect.job_key();
            self.require(format!("j.{key} IN (SELECT x.job FROM {{p}}jobrunr_job_label x WHERE {is_label})"));
        }
        if let Some(id) = &query.recurring_job_id {
            let is_id = self.equals("r.recurring_job_id", Value::Text(id.as_str().to_owned()));
            let key = self.dialect.job_key();
            self.require(format!(
                "j.{key} IN (SELECT r.job FROM {{p}}jobrunr_recurring_run r WHERE {is_id})"
            ));
        }
        self.servers(query);
        if let Some(id) = query.awaited_job_id {
            let place = self.bind(Value::Id(id.into()));
            self.require(self.dialect.awaits(&place));
        }
        for (field, window) in [
            (OrderField::CreatedAt, query.created),
            (OrderField::UpdatedAt, query.updated),
            (OrderField::ScheduledAt, query.scheduled),
        ] {
            self.window(self.dialect.window_column(field, &query.states), window);
        }
        if let Some(needle) = &query.name_contains {
            let condition = match self.dialect.table_of_names() {
                None => self.contains("j.name", needle),
                Some(table) => {
                    let fits = self.contains("d.name", needle);
                    let key = self.dialect.job_key();
                    format!("EXISTS (SELECT 1 FROM {table} d WHERE d.job = j.{key} AND {fits})")
                }
            };
            self.require(condition);
        }
        if let Some(needle) = &query.error_contains {
            let key = self.dialect.job_key();
            let last_error = format!(
                "(SELECT h.last_error FROM {{p}}jobrunr_job_history h WHERE h.job = j.{key} \
                 AND h.last_error IS NOT NULL ORDER BY h.first_entry DESC LIMIT 1)"
            );
            let condition = self.contains(&last_error, needle);
            self.require(condition);
        }
    }

    fn states(&mut self, states: &[StateName]) {
        if let Some(condition) = (!states.is_empty()).then(|| self.dialect.in_states(states)).flatten() {
            self.require(condition);
            return;
        }
        let number = |state: &StateName| i64::from(state.index());
        let condition = match states {
            [] => return,
            [state] => self.equals("j.state", Value::Integer(number(state))),
            states => self.one_of("j.state", Value::Integers(states.iter().map(number).collect())),
        };
        self.require(condition);
    }

    fn lane(&mut self, query: &JobQuery) {
        let texts = |signatures: &[jobrunr_core::JobSignature]| {
            Value::Texts(signatures.iter().map(|signature| signature.as_str().to_owned()).collect())
        };
        let mut of_lane = Vec::new();
        if let Some(queue) = &query.queue {
            of_lane.push(self.equals("l.queue", Value::Text(queue.as_str().to_owned())));
        }
        match &query.signatures {
            SignatureSelection::All => {}
            SignatureSelection::Only(wanted) => of_lane.push(self.one_of("l.signature", texts(wanted))),
            SignatureSelection::Except(unwanted) => {
                let is_unwanted = self.one_of("l.signature", texts(unwanted));
                of_lane.push(format!("NOT ({is_unwanted})"));
            }
        }
        if !of_lane.is_empty() {
            let of_lane = of_lane.join(" AND ");
            self.require(format!("j.lane IN (SELECT l.id FROM {{p}}jobrunr_lane l WHERE {of_lane})"));
        }
    }

    fn servers(&mut self, query: &JobQuery) {
        if let Some(id) = query.server_id {
            let is_server = self.equals("s.server_id", Value::Id(id.into()));
            self.require(format!(
                "j.server IN (SELECT s.id FROM {{p}}jobrunr_server_name s WHERE {is_server})"
            ));
        }
        if let Some(live) = &query.server_not_in {
            let ids = live.iter().map(|id| Uuid::from(*id)).collect();
            let is_live = self.one_of("s.server_id", Value::Ids(ids));
            self.require(format!(
                "j.server IN (SELECT s.id FROM {{p}}jobrunr_server_name s WHERE NOT ({is_live}))"
            ));
        }
    }

    fn window(&mut self, column: &str, window: TimeWindow) {
        if let Some(from) = window.from {
            let place = self.bind(Value::Integer(micros(from)));
            self.require(format!("{column} >= {place}"));
        }
        if let Some(before) = window.before {
            let place = self.bind(Value::Integer(micros(before)));
            self.require(format!("{column} < {place}"));
        }
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
