//! What goes wrong in PostgreSQL, sorted by SQLSTATE, never by message.

use std::fmt;
use std::io;

use jobrunr_core::storage::StorageError;

use crate::PROVIDER;

/// What PostgreSQL or the driver said, without any text of a statement's values, and what to do about it.
#[derive(Debug)]
struct Cause {
    said: String,
    advice: &'static str,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

impl std::error::Error for Cause {}

/// The one place that decides what an error means for the caller.
pub(crate) fn classify(error: &sqlx::Error, operation: &'static str) -> StorageError {
    let provider = PROVIDER;
    let unavailable = |said: String, advice| StorageError::Unavailable {
        provider,
        operation,
        source: Box::new(Cause { said, advice }),
    };
    match error {
        sqlx::Error::Database(error) => classify_state(error.as_ref(), operation),
        sqlx::Error::PoolClosed => StorageError::Closed { provider, operation },
        sqlx::Error::PoolTimedOut => unavailable(
            "no connection of the pool came free in time".to_owned(),
            "the database is away or overloaded, or the pool is too small",
        ),
        sqlx::Error::Io(error) => unavailable(format!("the connection failed: {error}"), ""),
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            unavailable("the connection broke down".to_owned(), "")
        }
        sqlx::Error::Tls(error) => StorageError::Backend {
            provider,
            operation,
            source: Box::new(Cause {
                said: format!("the connection cannot be encrypted: {error}"),
                advice: "switch on a `tls-…` feature of the crate sqlx, or set sslmode in the URL",
            }),
        },
        sqlx::Error::ColumnDecode { index, .. } => StorageError::Corrupt {
            provider,
            operation,
            what: format!("column {index} of a row holds a value of another type"),
        },
        other => StorageError::Backend {
            provider,
            operation,
            source: Box::new(Cause { said: kind_of(other).to_owned(), advice: "" }),
        },
    }
}

/// What sort of error of the driver's this is; its own text may show what was bound.
fn kind_of(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Configuration(_) => "the connection is not configured rightly",
        sqlx::Error::Encode(_) => "a value cannot be sent",
        sqlx::Error::Decode(_) => "a value cannot be read",
        sqlx::Error::RowNotFound => "a row is missing",
        sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => "a column is missing",
        sqlx::Error::TypeNotFound { .. } => "a type is missing",
        _ => "the driver failed",
    }
}

fn classify_state(error: &dyn sqlx::error::DatabaseError, operation: &'static str) -> StorageError {
    let provider = PROVIDER;
    let state = error.code().unwrap_or_default().into_owned();
    let class = state.get(..2).unwrap_or_default();
    // Data and constraint errors quote values.
    let message = if matches!(class, "22" | "23") { "a value was refused" } else { error.message() };
    let cause = |advice| Box::new(Cause { said: format!("{message} (SQLSTATE {state})"), advice });
    match (class, state.as_str()) {
        ("08" | "40" | "53" | "58", _) | (_, "55P03" | "57014" | "57P01" | "57P02" | "57P03" | "57P05") => {
            StorageError::Unavailable { provider, operation, source: cause("") }
        }
        (_, "25006") => StorageError::Unavailable {
            provider,
            operation,
            source: cause("this server may only be read: connect to the primary, or wait until it is one"),
        },
        (_, "42P01" | "42883" | "42703" | "3F000") => StorageError::SchemaMismatch {
            provider,
            what: format!("{message}; set the storage up, with the schema and prefix it is used with"),
        },
        (_, "22021") => StorageError::Unsupported {
            provider,
            what: "PostgreSQL cannot store the character U+0000 in a text; leave it out".to_owned(),
        },
        (_, "XX001" | "XX002") => StorageError::Corrupt {
            provider,
            operation,
            what: "PostgreSQL reports damaged data; look at its log".to_owned(),
        },
        ("28", _) => StorageError::Backend {
            provider,
            operation,
            source: cause("look at user and password in the URL"),
        },
        (_, "42501") => StorageError::Backend {
            provider,
            operation,
            source: cause("grant the user what is missing, or set the storage up as another user"),
        },
        _ => StorageError::Backend { provider, operation, source: cause("") },
    }
}

/// Whether a statement may have taken effect although it came to this error.
pub(crate) fn is_uncertain(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != io::ErrorKind::ConnectionRefused,
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|state| state.starts_with("08") || state.starts_with("57P"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_retryable_and_the_end_of_the_pool_is_the_end() {
        let io = sqlx::Error::Io(io::ErrorKind::ConnectionReset.into());

        assert!(classify(&io, "claim jobs").is_retryable());
        assert!(classify(&sqlx::Error::PoolTimedOut, "claim jobs").is_retryable());
        assert!(matches!(classify(&sqlx::Error::PoolClosed, "claim jobs"), StorageError::Closed { .. }));
    }

    #[test]
    fn only_what_was_sent_can_have_taken_effect() {
        assert!(is_uncertain(&sqlx::Error::Io(io::ErrorKind::ConnectionReset.into())));
        assert!(!is_uncertain(&sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into())));
        assert!(!is_uncertain(&sqlx::Error::PoolTimedOut));
    }

    #[test]
    fn what_the_driver_quotes_is_not_passed_on() {
        let error = classify(&sqlx::Error::Encode("secret".into()), "insert jobs");

        assert!(!format!("{error:?} {}", std::error::Error::source(&error).unwrap()).contains("secret"));
    }
}
