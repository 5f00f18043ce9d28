//! What the code that `jobrunr-macros` writes refers to. Not part of the public interface: it may change in any release.

use std::marker::PhantomData;

pub use serde;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::schedule::IntoSchedule;

pub use crate::__do_not_collect_job as collect_job;
pub use crate::handler::{Dependency, Inject, JobError, JobFunction, JobResult, Provided, run_blocking};
pub use crate::recurring::{MisfirePolicy, OverlapPolicy, RecurringJobBuilder, RecurringJobDraft};
pub use crate::schedule::Tz;
pub use crate::{JobContext, JobOptions, JobRequest, SchedulerError};

/// Checks what `#[recurring]` says as far as a program that runs can.
///
/// # Errors
/// [`SchedulerError::InvalidRecurring`], naming it.
pub fn recurring_job<R: JobRequest, S: IntoSchedule + Send + 'static>(
    builder: RecurringJobBuilder<R, S>,
) -> Result<RecurringJobDraft<'static>, SchedulerError> {
    builder.labelled_draft()
}

/// What `#[job]` does about collecting the functions of the program: nothing, unless the crate that it names knows better.
#[doc(hidden)]
#[macro_export]
macro_rules! __do_not_collect_job {
    ($function:ident) => {};
}

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
