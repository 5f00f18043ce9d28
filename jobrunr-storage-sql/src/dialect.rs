//! What the SQL databases spell differently, and the values that go into their statements.

use jobrunr_core::StateName;
use jobrunr_core::storage::OrderField;
use uuid::Uuid;

/// A value to be bound to a statement; never a part of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number, a state, an instant in microseconds.
    Integer(i64),
    /// A text.
    Text(String),
    /// An id, as the database keeps ids.
    Id(Uuid),
    /// Any number of numbers, bound as one value.
    Integers(Vec<i64>),
    /// Any number of texts, bound as one value.
    Texts(Vec<String>),
    /// Any number of ids, bound as one value.
    Ids(Vec<Uuid>),
}

/// What a list that is bound as one value consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// Numbers.
    Integers,
    /// Texts.
    Texts,
    /// Ids.
    Ids,
}

/// What the place of a job in an ordered list consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorPart {
    /// The instant that the list is ordered by.
    Instant,
    /// The id that decides between equal instants.
    Id,
}

/// How one database spells what has no common spelling.
///
/// The text a dialect gives depends on its arguments only, never on the data, so that the same question is always the same
/// statement.
pub trait Dialect {
    /// The place of the value with this number, counted from 1: `?1`, `$1`, …
    fn placeholder(&self, number: usize) -> String;

    /// The column of the table of jobs that the other tables refer to as `job`.
    fn job_key(&self) -> &'static str;

    /// A condition: `text` contains what is bound at `placeholder`, ASCII letters in either case, nothing else special.
    fn contains(&self, text: &str, placeholder: &str) -> String;

    /// A condition: `column` is one of the list bound as one value at `placeholder`.
    fn is_one_of(&self, column: &str, placeholder: &str, kind: ListKind) -> String;

    /// The column that this order means, for a search among these states (among all if there are none).
    fn order_column(&self, field: OrderField, _states: &[StateName]) -> &'static str {
        match field {
            OrderField::CreatedAt => "j.created_at",
            OrderField::UpdatedAt => "j.updated_at",
            OrderField::ScheduledAt => "coalesce(j.scheduled_at, 0)",
        }
    }

    /// The column that a window of this instant looks at, for a search among these states (among all if there are none).
    fn window_column(&self, field: OrderField, _states: &[StateName]) -> &'static str {
        match field {
            OrderField::CreatedAt => "j.created_at",
            OrderField::UpdatedAt => "j.updated_at",
            OrderField::ScheduledAt => "j.scheduled_at",
        }
    }

    /// Whether the first jobs in this state in the order of their updates are found without going through many others.
    fn is_short_by_update(&self, _state: StateName) -> bool {
        true
    }

    /// A condition: the job is in one of these states, of which there is at least one; `None` leaves it to a comparison
    /// with a column `state`.
    fn in_states(&self, _states: &[StateName]) -> Option<String> {
        None
    }

    /// A condition: (`column`, id) is `beyond` the cursor; `bind` binds a part of it and tells its place.
    fn beyond_cursor(
        &self,
        column: &str,
        beyond: &str,
        bind: &mut dyn FnMut(CursorPart) -> String,
    ) -> String {
        let (instant, id) = (bind(CursorPart::Instant), bind(CursorPart::Id));
        format!("({column}, j.id) {beyond} ({instant}, {id})")
    }

    /// A condition: the job waits for the one that is bound at `placeholder`.
    fn awaits(&self, placeholder: &str) -> String {
        format!("j.awaited_job_id = {placeholder}")
    }

    /// The table, with the prefix as `{p}`, that has the name of a job; `None` if the table of jobs itself has it.
    fn table_of_names(&self) -> Option<&'static str> {
        Some("{p}jobrunr_job_data")
    }
}
