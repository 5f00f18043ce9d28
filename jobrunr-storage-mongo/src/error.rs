//! What goes wrong in MongoDB, sorted by kind and code, never by message.

use std::fmt;

use jobrunr_core::storage::StorageError;
use mongodb::error::{
    Error, ErrorKind, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT,
    WriteFailure,
};

use crate::PROVIDER;

/// Something was there already.
pub(crate) const DUPLICATE_KEY: i32 = 11_000;

/// A collection is there already.
pub(crate) const NAMESPACE_EXISTS: i32 = 48;

/// An index of this name, or with these keys, is there already and different.
pub(crate) const INDEX_CONFLICTS: [i32; 2] = [85, 86];

/// Codes that pass: another server becomes the primary, this one goes or comes back, it took too long, others wrote.
const PASSING: [i32; 27] = [
    6, 7, 24, 46, 50, 64, 79, 89, 91, 112, 117, 134, 189, 251, 262, 9_001, 10_058, 10_107, 11_600, 11_602,
    13_435, 13_436, 100, 225, 239, 246, 290,
];
const WRITE_CONFLICT: i32 = 112;

/// What MongoDB or the driver said, without any value of a document, and what to do about it.
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

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: StorageError,
    /// Whether it may have taken effect all the same.
    pub(crate) is_uncertain: bool,
}

impl Failed {
    pub(crate) fn of(error: &Error, operation: &'static str) -> Self {
        Self { error: classify(error, operation), is_uncertain: is_uncertain(error) }
    }

    pub(crate) fn timed_out(operation: &'static str, limit: std::time::Duration) -> Self {
        let source = format!("the database did not answer within {limit:?}").into();
        let error = StorageError::Unavailable { provider: PROVIDER, operation, source };
        Self { error, is_uncertain: true }
    }

    /// A command of which some documents were written and others refused.
    pub(crate) fn of_write(code: i32, operation: &'static str) -> Self {
        Self { error: classify_code(code, "", operation), is_uncertain: true }
    }
}

impl From<Failed> for StorageError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        Self { error, is_uncertain: false }
    }
}

/// The number of an error of the server's.
pub(crate) fn code_of(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        ErrorKind::InsertMany(error) => {
            let written = error.write_errors.iter().flatten().map(|error| error.code);
            let confirmed = error.write_concern_error.iter().map(|error| error.code);
            // What was there already matters least.
            let mut codes: Vec<i32> = confirmed.chain(written).collect();
            codes.sort_by_key(|code| *code == DUPLICATE_KEY);
            codes.first().copied()
        }
        _ => None,
    }
}

/// The one place that decides what an error means for the caller.
pub(crate) fn classify(error: &Error, operation: &'static str) -> StorageError {
    let provider = PROVIDER;
    let unavailable = |said: String, advice| StorageError::Unavailable {
        provider,
        operation,
        source: Box::new(Cause { said, advice }),
    };
    let backend = |said: &str, advice| StorageError::Backend {
        provider,
        operation,
        source: Box::new(Cause { said: said.to_owned(), advice }),
    };
    if let Some(code) = code_of(error) {
        let name = match &*error.kind {
            ErrorKind::Command(error) => error.code_name.as_str(),
            _ => "",
        };
        let passes = error.contains_label(TRANSIENT_TRANSACTION_ERROR)
            || error.contains_label(RETRYABLE_WRITE_ERROR)
            || error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT);
        return if passes { unavailable(said(code, name), "") } else { classify_code(code, name, operation) };
    }
    match &*error.kind {
        ErrorKind::Io(error) => unavailable(format!("the connection failed: {error}"), ""),
        ErrorKind::ConnectionPoolCleared { .. } => unavailable("the connection broke down".to_owned(), ""),
        ErrorKind::ServerSelection { .. } => unavailable(
            "no server that takes the call was found in time".to_owned(),
            "the database is away, has no primary, or its address is wrong",
        ),
        ErrorKind::DnsResolve { .. } => {
            unavailable("the name of the server is not known".to_owned(), "look at the host in the URL")
        }
        ErrorKind::Authentication { .. } => {
            backend("the server refused the user", "look at user and password in the URL")
        }
        ErrorKind::Shutdown => StorageError::Closed { provider, operation },
        ErrorKind::BsonDeserialization(_) | ErrorKind::InvalidResponse { .. } => StorageError::Corrupt {
            provider,
            operation,
            what: "a document is not what it should be".to_owned(),
        },
        ErrorKind::InvalidTlsConfig { .. } => {
            backend("the connection cannot be encrypted", "look at the tls options in the URL")
        }
        ErrorKind::IncompatibleServer { .. } | ErrorKind::SessionsNotSupported => StorageError::Unsupported {
            provider,
            what: "this server lacks what is needed; use MongoDB 5.0 or later".to_owned(),
        },
        ErrorKind::InvalidArgument { .. } => backend("the driver refused what was asked", ""),
        ErrorKind::BsonSerialization(_) => backend("a value cannot be sent", ""),
        ErrorKind::Transaction { .. } => backend("the transaction cannot be used like this", ""),
        _ => backend("the driver failed", ""),
    }
}

fn said(code: i32, name: &str) -> String {
    if name.is_empty() {
        format!("MongoDB refused it (error {code})")
    } else {
        format!("MongoDB refused it: {name} (error {code})")
    }
}

fn classify_code(code: i32, name: &str, operation: &'static str) -> StorageError {
    let provider = PROVIDER;
    let cause = |advice| Box::new(Cause { said: said(code, name), advice });
    if PASSING.contains(&code) {
        return StorageError::Unavailable { provider, operation, source: cause("") };
    }
    match code {
        13 => StorageError::Backend {
            provider,
            operation,
            source: cause("grant the user the role readWrite on the database"),
        },
        18 => StorageError::Backend {
            provider,
            operation,
            source: cause("look at user and password in the URL"),
        },
        20 | 40_573 => StorageError::Unsupported {
            provider,
            what: "transactions and change streams need a replica set; this server is none".to_owned(),
        },
        26 => StorageError::SchemaMismatch {
            provider,
            what: "a collection is missing; set the storage up, with the prefix it is used with".to_owned(),
        },
        10_334 | 17_419 | 17_420 => StorageError::Backend {
            provider,
            operation,
            source: cause(
                "the document of a job or value would be larger than the 16 MiB that MongoDB takes",
            ),
        },
        _ => StorageError::Backend { provider, operation, source: cause("") },
    }
}

/// Whether a command may have taken effect although it came to this error.
pub(crate) fn is_uncertain(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Io(error) => error.kind() != std::io::ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionPoolCleared { .. } => true,
        ErrorKind::InsertMany(_) => true,
        _ => code_of(error).is_some_and(|code| code != WRITE_CONFLICT && PASSING.contains(&code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_retryable() {
        let io = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let refused = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));

        assert!(classify(&io, "claim jobs").is_retryable());
        assert!(is_uncertain(&io), "what was sent may have taken effect");
        assert!(classify(&refused, "claim jobs").is_retryable());
        assert!(!is_uncertain(&refused), "nothing was sent");
        for code in [10_107, 11_600, 91, 112] {
            assert!(classify_code(code, "", "claim jobs").is_retryable(), "{code}");
        }
    }

    #[test]
    fn what_a_person_must_mend_is_not_retryable() {
        for code in [13, 18, 20, 26, 10_334, DUPLICATE_KEY, 1] {
            assert!(!classify_code(code, "", "claim jobs").is_retryable(), "{code}");
        }
    }
}
