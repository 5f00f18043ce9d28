//! Which database it is, and what it spells its own way.

use jobrunr_core::StateName;
use jobrunr_core::storage::{OrderField, StorageError};
use jobrunr_storage_sql::{CursorPart, Dialect, ListKind, Value};

use crate::PROVIDER;
use crate::place::{FIRST_LANE, place_of_state};
use crate::values::{Values, list_of_bytes};

/// Which of the two databases it is; found when the storage is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// MySQL, 8.0 or later.
    MySql,
    /// MariaDB, 10.6 or later.
    MariaDb,
}

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerVersion {
    /// Which database it is.
    pub flavor: Flavor,
    /// Its major version.
    pub major: u32,
    /// Its minor version.
    pub minor: u32,
}

impl ServerVersion {
    /// Understands what `SELECT version()` says: `8.0.36`, `10.11.6-MariaDB-…`.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if it is too old, or cannot be understood.
    pub(crate) fn parse(text: &str) -> Result<Self, StorageError> {
        let unsupported = |what: String| StorageError::Unsupported { provider: PROVIDER, what };
        let flavor =
            if text.to_ascii_lowercase().contains("mariadb") { Flavor::MariaDb } else { Flavor::MySql };
        // Replication once made MariaDB put 5.5.5- before its version; proxies still do.
        let number =
            if flavor == Flavor::MariaDb { text.strip_prefix("5.5.5-").unwrap_or(text) } else { text };
        let mut parts = number.split(|character: char| !character.is_ascii_digit()).map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            return Err(unsupported("the server's version cannot be understood".to_owned()));
        };
        let (name, least) = match flavor {
            Flavor::MySql => ("MySQL", (8, 0)),
            Flavor::MariaDb => ("MariaDB", (10, 6)),
        };
        if (major, minor) < least {
            let (least_major, least_minor) = least;
            return Err(unsupported(format!(
                "it needs {name} {least_major}.{least_minor} or later, this is {major}.{minor}"
            )));
        }
        Ok(Self { flavor, major, minor })
    }
}

/// How searches are spelled; the same for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MySql {
    /// Where any number of jobs may be ENQUEUED or SCHEDULED.
    ManyWait,
    /// Where so few are that they are sorted at once.
    FewWait,
}

impl Dialect for MySql {
    fn placeholder(&self, _number: usize) -> String {
        "?".to_owned()
    }

    fn job_key(&self) -> &'static str {
        "id"
    }

    /// Differs because LIKE has special characters, and the connection's collation may take é for e.
    fn contains(&self, text: &str, placeholder: &str) -> String {
        format!("LOCATE(LOWER(CONVERT({placeholder} USING utf8mb4)) COLLATE utf8mb4_bin, LOWER({text})) > 0")
    }

    fn is_one_of(&self, column: &str, placeholder: &str, kind: ListKind) -> String {
        let (value, sql_type) = match kind {
            ListKind::Integers => ("v.x", "BIGINT"),
            ListKind::Texts | ListKind::Ids => ("UNHEX(v.x)", "VARCHAR(4096)"),
        };
        format!(
            "{column} IN (SELECT {value} FROM JSON_TABLE({placeholder}, '$[*]' COLUMNS (x {sql_type} PATH '$')) v)"
        )
    }

    /// Differs because one index has everything by its place; of jobs in one state it is sorted by an instant.
    fn order_column(&self, field: OrderField, states: &[StateName]) -> &'static str {
        match (field, states) {
            (OrderField::CreatedAt, _) => "j.created_at",
            (OrderField::UpdatedAt, [state]) if is_sorted_by_updated_at(*state) => "j.place_at",
            (OrderField::UpdatedAt, _) => "j.updated_at",
            (OrderField::ScheduledAt, [StateName::Scheduled]) => "j.place_at",
            (OrderField::ScheduledAt, _) => "coalesce(j.scheduled_at, 0)",
        }
    }

    /// Differs for the same reason: what ended before an instant is a range of the index.
    fn window_column(&self, field: OrderField, states: &[StateName]) -> &'static str {
        match (field, states) {
            (OrderField::CreatedAt, _) => "j.created_at",
            (OrderField::UpdatedAt, [state]) if is_sorted_by_updated_at(*state) => "j.place_at",
            (OrderField::UpdatedAt, _) => "j.updated_at",
            (OrderField::ScheduledAt, [StateName::Scheduled]) => "j.place_at",
            (OrderField::ScheduledAt, _) => "j.scheduled_at",
        }
    }

    fn in_states(&self, states: &[StateName]) -> Option<String> {
        let place = |state: &StateName| place_of_state(*state);
        Some(match states {
            [StateName::Enqueued] => format!("j.place >= {FIRST_LANE}"),
            [state] => format!("j.place = {} AND j.place_rank = 0", place(state)),
            states => {
                let mut places: Vec<i32> =
                    states.iter().filter(|state| **state != StateName::Enqueued).map(place).collect();
                places.sort_unstable();
                places.dedup();
                let places: Vec<String> = places.iter().map(ToString::to_string).collect();
                let ended = format!("j.place IN ({})", places.join(", "));
                if states.contains(&StateName::Enqueued) {
                    if places.is_empty() {
                        format!("j.place >= {FIRST_LANE}")
                    } else {
                        format!("({ended} OR j.place >= {FIRST_LANE})")
                    }
                } else {
                    ended
                }
            }
        })
    }

    /// Differs because those that wait have other places in the index.
    fn is_short_by_update(&self, state: StateName) -> bool {
        *self == Self::FewWait || is_sorted_by_updated_at(state)
    }

    /// Differs because no index is used for a comparison of rows: its first half is said once more by itself.
    fn beyond_cursor(
        &self,
        column: &str,
        beyond: &str,
        bind: &mut dyn FnMut(CursorPart) -> String,
    ) -> String {
        let (outer, inner) = (bind(CursorPart::Instant), bind(CursorPart::Instant));
        let id = bind(CursorPart::Id);
        format!("({column} {beyond}= {outer} AND ({column} {beyond} {inner} OR j.id {beyond} {id}))")
    }

    /// Differs because the hot row does not say it: there is no partial index that would find it there.
    fn awaits(&self, placeholder: &str) -> String {
        format!(
            "j.id IN (SELECT a.job FROM {{p}}jobrunr_job_waiting a WHERE a.awaited_job_id = {placeholder})"
        )
    }

    /// Differs because a row that is changed costs no more for what it holds besides.
    fn table_of_names(&self) -> Option<&'static str> {
        None
    }
}

const fn is_sorted_by_updated_at(state: StateName) -> bool {
    !matches!(state, StateName::Enqueued | StateName::Scheduled)
}

/// The values of a search as they are bound.
pub(crate) fn bind(search: &[Value]) -> Values {
    let mut values = Values::new();
    for value in search {
        match value {
            Value::Integer(number) => values.push_number(*number),
            Value::Text(text) => values.push_text(Some(text)),
            Value::Id(id) => values.push_bytes(Some(id.as_bytes())),
            Value::Integers(numbers) => {
                values.push_text(Some(&serde_json::json!(numbers).to_string()));
            }
            Value::Texts(texts) => {
                values.push_text(Some(&list_of_bytes(texts.iter().map(|text| text.as_bytes()))))
            }
            Value::Ids(ids) => {
                values.push_text(Some(&list_of_bytes(ids.iter().map(|id| id.as_bytes().as_slice()))));
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_databases_are_told_apart() {
        let version = |text| ServerVersion::parse(text).map(|it| (it.flavor, it.major, it.minor)).ok();

        assert_eq!(version("8.0.36"), Some((Flavor::MySql, 8, 0)));
        assert_eq!(version("9.1.0-commercial"), Some((Flavor::MySql, 9, 1)));
        assert_eq!(version("10.11.6-MariaDB-0+deb12u1"), Some((Flavor::MariaDb, 10, 11)));
        assert_eq!(version("5.5.5-10.6.1-MariaDB-log"), Some((Flavor::MariaDb, 10, 6)));
        for too_old in ["5.7.44-log", "10.5.23-MariaDB", "unknown", ""] {
            assert_eq!(version(too_old), None, "{too_old}");
        }
    }

    #[test]
    fn states_become_places() {
        use StateName::{Deleted, Enqueued, Failed};

        let condition = |states: &[StateName]| MySql::ManyWait.in_states(states).unwrap();

        assert_eq!(condition(&[Failed]), "j.place = 6 AND j.place_rank = 0");
        assert_eq!(condition(&[Enqueued, Enqueued]), "j.place >= 16");
        assert_eq!(condition(&[Deleted, Failed, Deleted]), "j.place IN (6, 7)");
        assert_eq!(condition(&[Enqueued, Failed]), "(j.place IN (6) OR j.place >= 16)");
    }
}
