//! Why a server did not start, or ended without being asked to.

use jobrunr_core::storage::StorageError;
use jobrunr_core::{InvalidName, SchedulerError};

/// Why a server did not start, or ended without being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An option is out of its bounds.
    #[error("the option `{option}` is {value}, but it must be {bound}")]
    InvalidOption {
        /// The option, named as the method of the builder that sets it.
        option: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        bound: String,
    },
    /// A queue or a job type that was given has no valid name.
    #[error("the option `{option}` holds a name that is not valid")]
    InvalidName {
        /// The method of the builder that was given the name.
        option: &'static str,
        /// What is wrong with it.
        source: InvalidName,
    },
    /// There is no handler, so the server would never run a job.
    #[error(
        "the server has no handler and would never run a job; give it one with `.handle::<Request, _>(handler)` or \
         `.job(function)` before `.start()`"
    )]
    NoHandlers,
    /// Two handlers were given for one job type, or for one name it had before.
    #[error(
        "there are two handlers for the job type {job_type:?}; each type, aliases included, can have only one"
    )]
    DuplicateHandler {
        /// The job type.
        job_type: String,
    },
    /// A job function needs something that was not provided.
    #[error("the job type {job_type:?} needs a value of type `{type_name}`; give it with `.provide(value)`")]
    MissingDependency {
        /// The job type.
        job_type: String,
        /// The type of the value.
        type_name: &'static str,
    },
    /// A recurring job that `#[recurring]` asks for is not valid, or was not saved.
    #[error("a recurring job of the program was not saved")]
    Recurring(#[from] SchedulerError),
    /// The storage failed while the server announced itself.
    #[error("the server could not announce itself in the storage")]
    Storage(#[from] StorageError),
    /// The signals of the operating system cannot be listened to.
    #[error("cannot listen to the signals that end the process")]
    Signals(#[source] std::io::Error),
    /// A part of the server broke down, so it ended; its jobs are left to other servers.
    #[error("the server ended because its {part} broke down: {message}")]
    BrokeDown {
        /// The part.
        part: &'static str,
        /// What it said.
        message: String,
    },
}
