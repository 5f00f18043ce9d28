//! What goes wrong in Redis, sorted by the code of its answer, never by message.

use std::fmt;

use jobrunr_core::storage::StorageError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::PROVIDER;

/// A call that failed, and whether it may have taken effect all the same.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: StorageError,
    pub(crate) is_uncertain: bool,
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

/// What Redis or the driver said, and what to do about it.
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

/// What an answer that is an error says; never what was sent.
fn words(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, _) if error.is_io_error() => format!("the connection failed: {error}"),
        (None, _) => error.category().to_owned(),
    }
}

/// The one place that decides what an error means for the caller.
pub(crate) fn classify(error: &RedisError, operation: &'static str) -> StorageError {
    let provider = PROVIDER;
    let cause = |advice| Box::new(Cause { said: words(error), advice });
    let unavailable = |advice| StorageError::Unavailable { provider, operation, source: cause(advice) };
    let backend = |advice| StorageError::Backend { provider, operation, source: cause(advice) };
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => unavailable(""),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Ask
            | ServerErrorKind::Moved,
        ) => unavailable(""),
        ErrorKind::Server(ServerErrorKind::ClusterDown) => unavailable("look at CLUSTER INFO of its nodes"),
        ErrorKind::Server(ServerErrorKind::ReadOnly) => {
            unavailable("this server may only be read: connect to the primary, or wait until it is one")
        }
        ErrorKind::AuthenticationFailed => backend("look at user and password in the URL"),
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            backend("grant the user what is missing: scripts, pub/sub, and the keys of the prefix")
        }
        ErrorKind::InvalidClientConfig => StorageError::Unsupported {
            provider,
            what:
                "the connection is not configured rightly; look at the URL, and note that TLS is not built in"
                    .to_owned(),
        },
        ErrorKind::UnexpectedReturnType => StorageError::Corrupt {
            provider,
            operation,
            what: "an answer is not of the type expected".to_owned(),
        },
        _ => match error.code() {
            Some("OOM") => unavailable("its memory is full: raise maxmemory, or purge earlier"),
            Some("MISCONF") => unavailable("it cannot write its files; look at its log"),
            Some("BUSY" | "NOREPLICAS" | "UNBLOCKED") => unavailable(""),
            Some("WRONGPASS" | "NOAUTH") => backend("look at user and password in the URL"),
            Some("WRONGTYPE") => StorageError::Corrupt {
                provider,
                operation,
                what: "a key under the prefix holds something else; was it written by another program?"
                    .to_owned(),
            },
            _ => backend(""),
        },
    }
}

/// Whether what was sent may have taken effect although it came to this error.
pub(crate) fn is_uncertain(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse)
}

/// Whether a connection is of no use any more after this.
pub(crate) fn ends_connection(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::Server(
                ServerErrorKind::ReadOnly
                    | ServerErrorKind::Moved
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
            )
    )
}

/// Something stored that cannot be read.
pub(crate) fn corrupt(operation: &'static str, what: impl Into<String>) -> StorageError {
    StorageError::Corrupt { provider: PROVIDER, operation, what: what.into() }
}

/// What is wrong with the connection, though the driver did not say so.
pub(crate) fn unavailable(operation: &'static str, said: impl Into<String>) -> StorageError {
    let source = Box::new(Cause { said: said.into(), advice: "" });
    StorageError::Unavailable { provider: PROVIDER, operation, source }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn said(code: &str) -> RedisError {
        redis::make_extension_error(code.to_owned(), Some("words".to_owned()))
    }

    #[test]
    fn what_may_pass_is_retryable() {
        let io = RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));

        assert!(classify(&io, "claim jobs").is_retryable() && is_uncertain(&io));
        for code in ["OOM", "MISCONF", "BUSY", "NOREPLICAS"] {
            assert!(classify(&said(code), "claim jobs").is_retryable(), "{code}");
            assert!(!is_uncertain(&said(code)), "{code}");
        }
    }

    #[test]
    fn what_does_not_pass_is_not() {
        for code in ["WRONGPASS", "NOAUTH", "SOMETHING"] {
            assert!(matches!(classify(&said(code), "connect"), StorageError::Backend { .. }), "{code}");
        }
        assert!(matches!(classify(&said("WRONGTYPE"), "claim jobs"), StorageError::Corrupt { .. }));
    }
}
