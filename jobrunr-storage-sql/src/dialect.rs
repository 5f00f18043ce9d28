//! What the SQL databases spell differently, and the values that go into their statements.

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
}
