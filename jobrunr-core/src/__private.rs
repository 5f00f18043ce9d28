//! What the code that `jobrunr-macros` writes refers to. Not part of the public interface: it may change in any release.

use std::marker::PhantomData;

pub use serde;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::handler::{Dependency, Inject, JobError, JobFunction, JobResult, Provided, run_blocking};
pub use crate::{JobContext, JobOptions, JobRequest};

/// What can be an argument of a job function.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a job function",
    label = "cannot be stored with the job",
    note = "derive `Serialize` and `Deserialize` for it, or have the server give it to the function: `Inject<{Self}>`"
)]
pub trait Argument {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Argument for T {}

/// A type that is there only if `T` can be an argument: naming it is the check.
#[derive(Debug)]
pub struct IsArgument<T: Argument>(PhantomData<T>);

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

#[diagnostic::do_not_recommend]
impl IntoJobResult for () {
    type Output = ();

    fn into_job_result(self) -> JobResult {
        Ok(())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + Send, E: Into<JobError>> IntoJobResult for Result<T, E> {
    type Output = T;

    fn into_job_result(self) -> JobResult<T> {
        self.map_err(Into::into)
    }
}
