//! What goes wrong in SQLite, sorted by its numbers, never by its texts.

use std::fmt;

use jobrunr_core::storage::StorageError;
use jobrunr_storage_sql::Unreadable;
use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::PROVIDER;

/// What a piece of work on a connection comes to.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// Why a piece of work on a connection failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Sqlite(rusqlite::Error),
    Storage(StorageError),
    Unreadable(Unreadable),
    Panicked,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
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

impl Failure {
    /// The error of the call that met it.
    pub(crate) fn into_error(self, operation: &'static str) -> StorageError {
        match self {
            Self::Sqlite(error) => classify(&error, operation),
            Self::Storage(error) => error,
            Self::Unreadable(unreadable) => unreadable.into_error(PROVIDER, operation, "a row"),
            Self::Panicked => {
                StorageError::Backend { provider: PROVIDER, operation, source: PANICKED.into() }
            }
        }
    }
}

const PANICKED: &str = "the storage panicked; nothing of this call was done";

/// What SQLite itself said, if it was SQLite that said something.
pub(crate) fn sqlite_error(error: &rusqlite::Error) -> Option<ffi::Error> {
    match error {
        rusqlite::Error::SqliteFailure(error, _) | rusqlite::Error::SqlInputError { error, .. } => {
            Some(*error)
        }
        _ => None,
    }
}

pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// What SQLite said, without any of the texts it was given, and what to do about it.
#[derive(Debug, Clone, Copy)]
struct Cause {
    extended_code: i32,
    advice: &'static str,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLite error {})", ffi::code_to_str(self.extended_code), self.extended_code)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, ": {}", self.advice) }
    }
}

impl std::error::Error for Cause {}

/// The one place that decides what an error of SQLite means for the caller.
pub(crate) fn classify(error: &rusqlite::Error, operation: &'static str) -> StorageError {
    let provider = PROVIDER;
    let unavailable =
        |cause: Cause| StorageError::Unavailable { provider, operation, source: Box::new(cause) };
    let backend = |cause: Cause| StorageError::Backend { provider, operation, source: Box::new(cause) };
    let Some(error) = sqlite_error(error) else { return classify_own(error, operation) };
    let cause = |advice| Cause { extended_code: error.extended_code, advice };
    match error.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => unavailable(cause(
            "another process or connection holds the lock for longer than the busy timeout; end its transaction or try again",
        )),
        ErrorCode::DiskFull => unavailable(cause(
            "the disk is full or the file has reached its size limit; free some space, nothing of this was written",
        )),
        ErrorCode::SystemIoFailure => {
            unavailable(cause("the disk could not be read or written; look at the disk and its file system"))
        }
        ErrorCode::OutOfMemory | ErrorCode::OperationInterrupted | ErrorCode::FileLockingProtocolFailed => {
            unavailable(cause(""))
        }
        ErrorCode::ReadOnly => backend(cause(
            "the file, or its folder, may only be read; give this user the right to write both, nothing was written",
        )),
        ErrorCode::CannotOpen => backend(cause(
            "the file cannot be opened or created; look whether its folder exists and may be written by this user",
        )),
        ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            backend(cause("this user may not do that with the file"))
        }
        ErrorCode::DatabaseCorrupt => StorageError::Corrupt {
            provider,
            operation,
            what: "the database file is damaged; restore it from a backup or try `sqlite3 FILE .recover`"
                .to_owned(),
        },
        ErrorCode::NotADatabase => StorageError::Corrupt {
            provider,
            operation,
            what: "the file is no SQLite database; it was not changed".to_owned(),
        },
        ErrorCode::TooBig => backend(cause("a value is larger than SQLite takes")),
        ErrorCode::Unknown if error.extended_code == ffi::SQLITE_ERROR => {
            backend(cause("a table or column is missing; set the storage up first"))
        }
        _ => backend(cause("")),
    }
}

/// Errors that rusqlite itself raises; those about types mean that a column holds what it never should.
fn classify_own(error: &rusqlite::Error, operation: &'static str) -> StorageError {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    match error {
        FromSqlConversionFailure(column, ..)
        | IntegralValueOutOfRange(column, _)
        | InvalidColumnType(column, ..) => {
            let what = format!("column {column} of a row holds a value of another type");
            StorageError::Corrupt { provider: PROVIDER, operation, what }
        }
        other => StorageError::Backend { provider: PROVIDER, operation, source: other.to_string().into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(code: i32) -> StorageError {
        classify(
            &rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("secret".to_owned())),
            "claim jobs",
        )
    }

    #[test]
    fn what_may_pass_is_retryable_and_what_needs_a_person_is_not() {
        for code in
            [ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED, ffi::SQLITE_FULL, ffi::SQLITE_IOERR, ffi::SQLITE_NOMEM]
        {
            assert!(classified(code).is_retryable(), "{code}");
        }
        for code in [ffi::SQLITE_READONLY, ffi::SQLITE_CANTOPEN, ffi::SQLITE_CONSTRAINT, ffi::SQLITE_PERM] {
            assert!(matches!(classified(code), StorageError::Backend { .. }), "{code}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
            assert!(matches!(classified(code), StorageError::Corrupt { .. }), "{code}");
        }
    }

    #[test]
    fn the_texts_of_sqlite_are_not_passed_on() {
        let error = classified(ffi::SQLITE_CONSTRAINT);

        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(!source.contains("secret"), "{source}");
    }
}
