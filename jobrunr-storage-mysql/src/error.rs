//! What goes wrong in MySQL, sorted by its numbers, never by its texts.

use std::fmt;
use std::io;
use std::time::Duration;

use jobrunr_core::storage::StorageError;
use jobrunr_storage_sql::Unreadable;
use sqlx::mysql::MySqlDatabaseError;

use crate::PROVIDER;

/// What a piece of work on a connection comes to.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// Why a piece of work on a connection failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There was no connection to work on.
    NoConnection(sqlx::Error),
    Sqlx(sqlx::Error),
    /// The database did not answer within this time.
    TimedOut(Duration),
    Storage(StorageError),
    Unreadable(Unreadable),
    /// Whoever asked for the work has gone.
    Abandoned,
    /// It has to be done again in another way, which was chosen by now.
    OnceMore,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

/// The numbers of errors that decide something here. MySQL and MariaDB agree on them unless said otherwise.
mod number {
    pub(super) const DUPLICATE_KEY: u16 = 1062;
    pub(super) const LOCK_WAIT_TIMEOUT: u16 = 1205;
    pub(super) const DEADLOCK: u16 = 1213;
    /// "Record has changed since last read": MariaDB, where snapshots are checked.
    pub(super) const CHANGED_SINCE_READ: u16 = 1020;
    pub(super) const SERVER_SHUTDOWN: u16 = 1053;
    /// MariaDB.
    pub(super) const CONNECTION_KILLED: u16 = 1927;
    /// MySQL: the connection was idle for longer than `wait_timeout`.
    pub(super) const IDLE_FOR_TOO_LONG: u16 = 4031;
    pub(super) const TABLE_EXISTS: u16 = 1050;
    pub(super) const DUPLICATE_COLUMN: u16 = 1060;
    pub(super) const DUPLICATE_INDEX: u16 = 1061;
    pub(super) const NO_SUCH_COLUMN_OR_INDEX: u16 = 1091;
}

impl Failure {
    /// The error of the call that met it.
    pub(crate) fn to_error(&self, operation: &'static str) -> StorageError {
        match self {
            Self::NoConnection(error) | Self::Sqlx(error) => classify(error, operation),
            Self::TimedOut(limit) => StorageError::Unavailable {
                provider: PROVIDER,
                operation,
                source: Box::new(Cause {
                    what: format!("the database did not answer within {limit:?}"),
                    advice: "look whether it can be reached, and for long transactions",
                }),
            },
            Self::Storage(error) => copy(error),
            Self::Unreadable(unreadable) => unreadable.clone().into_error(PROVIDER, operation, "a row"),
            Self::Abandoned | Self::OnceMore => StorageError::Unavailable {
                provider: PROVIDER,
                operation,
                source: "whoever asked for it has gone".into(),
            },
        }
    }

    fn number(&self) -> Option<u16> {
        match self {
            Self::Sqlx(error) => number_of(error),
            _ => None,
        }
    }

    /// Whether another transaction was in the way, so that trying again is all there is to do.
    pub(crate) fn is_conflict(&self) -> bool {
        let conflicts = [number::DEADLOCK, number::LOCK_WAIT_TIMEOUT, number::CHANGED_SINCE_READ];
        self.number().is_some_and(|number| conflicts.contains(&number))
    }

    /// Whether a row with that key is there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.number() == Some(number::DUPLICATE_KEY)
    }

    /// Whether a statement that changes the schema found its change made.
    pub(crate) fn is_change_made(&self) -> bool {
        let made = [
            number::TABLE_EXISTS,
            number::DUPLICATE_COLUMN,
            number::DUPLICATE_INDEX,
            number::NO_SUCH_COLUMN_OR_INDEX,
        ];
        self.number().is_some_and(|number| made.contains(&number))
    }

    /// Whether the database did not answer in time.
    pub(crate) const fn is_time_out(&self) -> bool {
        matches!(self, Self::TimedOut(_))
    }

    /// Whether the connection is gone, so that what was sent last may or may not have been done.
    pub(crate) fn is_lost_connection(&self) -> bool {
        let error = match self {
            Self::TimedOut(_) => return true,
            Self::Sqlx(error) => error,
            _ => return false,
        };
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::WorkerCrashed => true,
            error => number_of(error).is_some_and(|number| {
                let ends = [number::SERVER_SHUTDOWN, number::CONNECTION_KILLED, number::IDLE_FOR_TOO_LONG];
                ends.contains(&number)
            }),
        }
    }
}

fn number_of(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

/// The same error again, for one more caller. What is copied here is what this storage makes by itself.
fn copy(error: &StorageError) -> StorageError {
    match error {
        StorageError::Closed { provider, operation } => StorageError::Closed { provider, operation },
        StorageError::Corrupt { provider, operation, what } => {
            StorageError::Corrupt { provider, operation, what: what.clone() }
        }
        StorageError::TooLarge { provider, what, actual_bytes, max_bytes } => StorageError::TooLarge {
            provider,
            what: what.clone(),
            actual_bytes: *actual_bytes,
            max_bytes: *max_bytes,
        },
        StorageError::Unsupported { provider, what } => {
            StorageError::Unsupported { provider, what: what.clone() }
        }
        StorageError::SchemaMismatch { provider, what } => {
            StorageError::SchemaMismatch { provider, what: what.clone() }
        }
        StorageError::Unavailable { provider, operation, source } => {
            StorageError::Unavailable { provider, operation, source: source.to_string().into() }
        }
        other => StorageError::Backend {
            provider: PROVIDER,
            operation: "do what was asked",
            source: other.to_string().into(),
        },
    }
}

/// What MySQL said, without any of the texts it was given, and what to do about it.
#[derive(Debug, Clone)]
struct Cause {
    what: String,
    advice: &'static str,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, ": {}", self.advice) }
    }
}

impl std::error::Error for Cause {}

/// The one place that decides what an error of the driver means for the caller.
pub(crate) fn classify(error: &sqlx::Error, operation: &'static str) -> StorageError {
    let provider = PROVIDER;
    let unavailable = |what: String, advice| StorageError::Unavailable {
        provider,
        operation,
        source: Box::new(Cause { what, advice }),
    };
    let backend = |what: String, advice| StorageError::Backend {
        provider,
        operation,
        source: Box::new(Cause { what, advice }),
    };
    match error {
        sqlx::Error::Io(error) => {
            unavailable(io_error(error), "look whether the server runs and can be reached")
        }
        sqlx::Error::Tls(_) => {
            unavailable("the connection cannot be encrypted".to_owned(), "look at the TLS options")
        }
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => {
            unavailable("the connection has gone wrong".to_owned(), "")
        }
        sqlx::Error::PoolTimedOut => unavailable(
            "no connection was to be had in time".to_owned(),
            "the server is away, or all connections of the pool are busy",
        ),
        sqlx::Error::PoolClosed => StorageError::Closed { provider, operation },
        sqlx::Error::Configuration(_) => {
            StorageError::Unsupported { provider, what: "these connection options".to_owned() }
        }
        sqlx::Error::ColumnDecode { index, .. } => StorageError::Corrupt {
            provider,
            operation,
            what: format!("column {index} of a row holds a value of another type"),
        },
        error => {
            let Some(number) = number_of(error) else {
                return backend("the driver cannot do this".to_owned(), "");
            };
            let what = format!("MySQL error {number}");
            match by_number(number) {
                (Retry::Helps, advice) => unavailable(what, advice),
                (Retry::DoesNotHelp, advice) => backend(what, advice),
            }
        }
    }
}

fn io_error(error: &io::Error) -> String {
    format!("the connection failed ({})", error.kind())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    Helps,
    DoesNotHelp,
}

const fn by_number(number: u16) -> (Retry, &'static str) {
    use Retry::{DoesNotHelp, Helps};
    match number {
        number::DEADLOCK | number::LOCK_WAIT_TIMEOUT | number::CHANGED_SINCE_READ => {
            (Helps, "other transactions were in the way at every try; look for long ones")
        }
        1040 | 1203 | 1226 => (Helps, "the server has too many connections; allow more or use smaller pools"),
        number::SERVER_SHUTDOWN
        | number::CONNECTION_KILLED
        | number::IDLE_FOR_TOO_LONG
        | 1152
        | 1158..=1161
        | 1180 => (Helps, "the server ended the connection"),
        1317 | 1969 | 3024 => (Helps, "the statement was stopped, by a person or a time limit of the server"),
        1290 | 1792 | 1836 => (Helps, "the server, or the transaction, only reads; it may be a replica"),
        1047 | 3100 | 3101 => (Helps, "the node does not take part in its cluster, or the cluster refused"),
        1021 | 1114 => (Helps, "the disk or the table is full; nothing of this was written"),
        1037 | 1038 | 1041 => (Helps, "the server is out of memory"),
        1045 | 1698 | 1251 | 2054 | 2059 | 2061 => {
            (DoesNotHelp, "the server refused the user or the password; look at both")
        }
        1044 | 1142 | 1143 | 1227 | 1370 => (DoesNotHelp, "this user may not do that; grant it the right"),
        1049 => (DoesNotHelp, "there is no such database; create it first"),
        1146 | 1054 => (DoesNotHelp, "a table or column is missing; set the storage up first"),
        1305 => (DoesNotHelp, "jobs are inserted in a transaction of yours; begin it first"),
        1153 => (DoesNotHelp, "more was sent than max_allowed_packet of the server; raise that"),
        _ => (DoesNotHelp, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_retryable_and_what_needs_a_person_is_not() {
        for number in [1205, 1213, 1040, 1053, 1927, 4031, 1290, 1021] {
            assert_eq!(by_number(number).0, Retry::Helps, "{number}");
        }
        for number in [1045, 1049, 1142, 1146, 1153, 1064] {
            assert_eq!(by_number(number).0, Retry::DoesNotHelp, "{number}");
        }
    }

    #[test]
    fn a_connection_that_breaks_is_unavailable_and_one_that_was_closed_is_not() {
        let broken = sqlx::Error::Io(io::Error::from(io::ErrorKind::ConnectionReset));

        assert!(classify(&broken, "claim jobs").is_retryable());
        assert!(Failure::Sqlx(broken).is_lost_connection());
        assert!(matches!(classify(&sqlx::Error::PoolClosed, "claim jobs"), StorageError::Closed { .. }));
        assert!(!Failure::Sqlx(sqlx::Error::PoolTimedOut).is_lost_connection());
    }

    #[test]
    fn an_answer_that_takes_too_long_is_a_lost_connection() {
        let late = Failure::TimedOut(Duration::from_secs(30));

        assert!(
            late.is_lost_connection() && late.is_time_out() && late.to_error("claim jobs").is_retryable()
        );
    }
}
