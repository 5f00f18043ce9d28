//! What the code that `jobrunr-macros` writes refers to. Not part of the public interface: it may change in any release.

pub use serde;

use serde::Serialize;

pub use crate::handler::{Dependency, Inject, JobError, JobFunction, JobResult, Provided, run_blocking};
pub use crate::{JobContext, JobOptions, JobRequest};

/// What a job function may return: nothing, or a result with any error that `?` takes in a handler.
#[diagnostic::on_unimplemented(
    message = "a job function cannot return `{Self}`",
    label = "return `JobResult<T>` instead",
    note = "a job function returns nothing, `JobResult`, or a `Result` whose value is `Serialize` and whose error becomes a `JobError`"
)]
pub trait IntoJobResult {
    /// What a successful run gives.
    type Output: Serialize + Send;

    /// The same as every handler says it.
    ///
    /// # Errors
    /// The error of the function.
    fn into_job_result(self) -> JobResult<Self::Output>;
}

impl IntoJobResult for () {
    type Output = ();

    fn into_job_result(self) -> JobResult {
        Ok(())
    }
}

impl<T: Serialize + Send, E: Into<JobError>> IntoJobResult for Result<T, E> {
    type Output = T;

    fn into_job_result(self) -> JobResult<T> {
        self.map_err(Into::into)
    }
}
