//! Why a storage call failed, sorted by what the caller can do about it.

/// The error of a driver or of anything else underneath.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a storage call failed, sorted by what the caller can do about it.
///
/// No variant ever holds a connection string or a payload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The database cannot be reached or is overloaded. Retrying may help; whether the call took effect is not known.
    #[error("{provider} is not available while trying to {operation}")]
    Unavailable {
        /// The storage.
        provider: &'static str,
        /// What was attempted.
        operation: &'static str,
        /// What the driver said.
        source: BoxError,
    },
    /// The storage was closed in this process. Nothing helps but opening it again.
    #[error("{provider} was closed, it cannot {operation} any more")]
    Closed {
        /// The storage.
        provider: &'static str,
        /// What was attempted.
        operation: &'static str,
    },
    /// What is stored cannot be read. A person must look.
    #[error("{provider} holds something unreadable, found while trying to {operation}: {what}")]
    Corrupt {
        /// The storage.
        provider: &'static str,
        /// What was attempted.
        operation: &'static str,
        /// What cannot be read, and where it is.
        what: String,
    },
    /// Something is larger than the storage takes; nothing of its batch was written.
    #[error("{what} has {actual_bytes} bytes, {provider} accepts at most {max_bytes}")]
    TooLarge {
        /// The storage.
        provider: &'static str,
        /// What is too large.
        what: String,
        /// How large it is.
        actual_bytes: usize,
        /// How large it may be.
        max_bytes: usize,
    },
    /// What was asked for is not possible with this storage or these options; the message says what to do instead.
    #[error("{provider} cannot do this: {what}")]
    Unsupported {
        /// The storage.
        provider: &'static str,
        /// What is not possible and what to do instead.
        what: String,
    },
    /// The schema is not the one this version needs; the message says what is missing or too new.
    #[error("the schema of {provider} does not fit this version: {what}")]
    SchemaMismatch {
        /// The storage.
        provider: &'static str,
        /// What is missing, changed or too new, and what to do.
        what: String,
    },
    /// The database refused for another reason. Retrying does not help.
    #[error("{provider} failed to {operation}")]
    Backend {
        /// The storage.
        provider: &'static str,
        /// What was attempted.
        operation: &'static str,
        /// What the driver said.
        source: BoxError,
    },
}

impl StorageError {
    /// Whether the same call may succeed if it is made again later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
