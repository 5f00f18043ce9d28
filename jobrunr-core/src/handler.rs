//! Who does the work: handlers, what they return, and what functions are given.

use std::any::{Any, TypeId, type_name};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::context::JobContext;
use crate::recurring::RecurringJobDraft;
use crate::request::JobRequest;
use crate::scheduler::SchedulerError;
use crate::state::{Failure, FailureKind};
use crate::storage::BoxError;

/// What a handler returns: a value that is kept as the job's result, or why the run failed.
pub type JobResult<T = ()> = Result<T, JobError>;

/// Runs jobs of one type. Any value can be one; its fields are its dependencies.
///
/// A run may happen more than once (delivery is at least once), so what it does should bear repeating.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle jobs of type `{R}`",
    note = "write `impl JobHandler<{R}> for {Self} {{ type Output = (); async fn run(&self, request: {R}, context: &JobContext) -> JobResult {{ … }} }}`"
)]
pub trait JobHandler<R: JobRequest>: Send + Sync + 'static {
    /// What a successful run gives; kept with the job unless it is `()`.
    type Output: Serialize + Send;

    /// Does what the request says.
    ///
    /// An error fails the run, and the job is retried as its policy says. A panic is a failure like any other.
    fn run(&self, request: R, context: &JobContext) -> impl Future<Output = JobResult<Self::Output>> + Send;
}

/// A handler that is a function; `#[job]` writes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job function",
    note = "put `#[job]` on the function, and pass its name without calling it"
)]
pub trait JobFunction: Send + Sync + 'static {
    /// The request that carries the function's arguments.
    type Request: JobRequest;
    /// What a successful run gives; kept with the job unless it is `()`.
    type Output: Serialize + Send;

    /// What the function needs besides the request and the context.
    fn dependencies(&self) -> Vec<Dependency>;

    /// The recurring jobs that `#[recurring]` asks for; a server saves them when it starts.
    fn recurring_jobs(&self) -> Vec<Result<RecurringJobDraft<'static>, SchedulerError>> {
        Vec::new()
    }

    /// Calls the function.
    fn run(
        &self,
        request: Self::Request,
        context: JobContext,
        provided: Arc<Provided>,
    ) -> impl Future<Output = JobResult<Self::Output>> + Send;
}

/// Runs code that blocks on the threads that are there for it; `#[job] fn` does this.
///
/// # Errors
/// What the code returns.
///
/// # Panics
/// If the code does, with the same payload.
pub async fn run_blocking<T: Send + 'static>(
    code: impl FnOnce() -> JobResult<T> + Send + 'static,
) -> JobResult<T> {
    match tokio::task::spawn_blocking(code).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(cancelled.into()),
        },
    }
}

/// Something of the server's that a job function uses: a parameter of type `Inject<T>` gets what `provide(T)` gave.
#[derive(Debug)]
pub struct Inject<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Inject<T> {
    /// Wraps a value, to call a job function directly.
    #[must_use]
    pub const fn new(value: Arc<T>) -> Self {
        Self(value)
    }
}

impl<T: ?Sized> Clone for Inject<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Deref for Inject<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The values that job functions can be given, one a type.
#[derive(Default)]
pub struct Provided(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Provided {
    /// Adds a value, in place of any other of its type.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of this type, if there is one.
    #[must_use]
    pub fn find<T: Send + Sync + 'static>(&self) -> Option<Inject<T>> {
        let value = Arc::clone(self.0.get(&TypeId::of::<T>())?);
        value.downcast().ok().map(Inject)
    }

    /// The value of this type.
    ///
    /// # Errors
    /// If there is none. A server checks that before it starts.
    pub fn inject<T: Send + Sync + 'static>(&self) -> JobResult<Inject<T>> {
        self.find().ok_or_else(|| {
            JobError::do_not_retry(format!("no {} was provided to the server", type_name::<T>()))
        })
    }
}

impl fmt::Debug for Provided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Provided({} values)", self.0.len())
    }
}

/// A type that a job function needs a value of.
#[derive(Clone, Copy)]
pub struct Dependency {
    /// The name of the type.
    pub type_name: &'static str,
    is_provided: fn(&Provided) -> bool,
}

impl Dependency {
    /// The dependency on a `T`.
    #[must_use]
    pub fn of<T: Send + Sync + 'static>() -> Self {
        Self { type_name: type_name::<T>(), is_provided: |provided| provided.find::<T>().is_some() }
    }

    /// Whether a value of the type is there.
    #[must_use]
    pub fn is_in(&self, provided: &Provided) -> bool {
        (self.is_provided)(provided)
    }
}

impl fmt::Debug for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dependency({})", self.type_name)
    }
}

/// Why a run did not end well, and what the handler wants done about it.
///
/// `?` makes one of any error, `anyhow` and `eyre` included, and of a text; such a run is retried as the job's policy says.
#[derive(Debug)]
pub struct JobError {
    wish: Wish,
    cause: Option<BoxError>,
    error_type: Option<&'static str>,
    backtrace: Option<Backtrace>,
}

/// What a handler wants done about a run that did not end well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wish {
    /// What the job's retry policy says.
    #[default]
    Retry,
    /// Leave the job FAILED.
    DoNotRetry,
    /// Retry after this much time, if retries are left.
    RetryIn(Duration),
    /// Run again after this much time; it did not fail.
    Snooze(Duration),
}

impl<E: Into<BoxError>> From<E> for JobError {
    fn from(error: E) -> Self {
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
        Self { wish: Wish::Retry, cause: Some(error.into()), error_type: Some(type_name::<E>()), backtrace }
    }
}

impl JobError {
    const fn wishing(wish: Wish) -> Self {
        Self { wish, cause: None, error_type: None, backtrace: None }
    }

    /// A failure that another try would not mend.
    #[must_use]
    pub fn do_not_retry(error: impl Into<BoxError>) -> Self {
        Self { wish: Wish::DoNotRetry, ..Self::from(error) }
    }

    /// A failure after which the job is to be tried again in this much time, if retries are left.
    #[must_use]
    pub const fn retry_in(delay: Duration) -> Self {
        Self::wishing(Wish::RetryIn(delay))
    }

    /// No failure: the job is to run again in this much time, however often that was said before.
    #[must_use]
    pub const fn snooze(delay: Duration) -> Self {
        Self::wishing(Wish::Snooze(delay))
    }

    /// The same wish, with the error behind it.
    #[must_use]
    pub fn caused_by(self, error: impl Into<BoxError>) -> Self {
        Self { wish: self.wish, ..Self::from(error) }
    }

    /// What the handler wants done.
    #[must_use]
    pub const fn wish(&self) -> Wish {
        self.wish
    }

    /// The failure that goes into the job's history.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        let message = match (&self.cause, self.wish) {
            (Some(cause), _) => cause.to_string(),
            (None, Wish::RetryIn(delay)) => format!("the handler asked to be run again in {delay:?}"),
            (None, _) => "the handler gave no reason".to_owned(),
        };
        let first_cause = self.cause.as_deref().and_then(std::error::Error::source);
        let causes = std::iter::successors(first_cause, |error| error.source()).map(ToString::to_string);
        let mut failure = Failure::new(FailureKind::Error, message).with_causes(causes);
        failure.do_not_retry = self.wish == Wish::DoNotRetry;
        failure.error_type = self.error_type.map(str::to_owned);
        match self.backtrace {
            Some(backtrace) => failure.with_backtrace(backtrace.to_string()),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the letter was not sent")]
    struct NotSent(#[source] std::num::ParseIntError);

    fn fails() -> JobResult {
        let parsed: Result<u8, _> = "x".parse();
        parsed.map_err(NotSent)?;
        Ok(())
    }

    #[test]
    fn any_error_becomes_a_failure_with_its_type_and_causes() {
        let failure = fails().unwrap_err().into_failure();

        assert_eq!(failure.message, "the letter was not sent");
        assert_eq!(failure.causes, ["invalid digit found in string"]);
        assert!(failure.error_type.unwrap().ends_with("NotSent"));
        assert!(!failure.do_not_retry);
    }

    #[test]
    fn an_error_of_anyhow_becomes_a_failure_with_its_context_and_causes() {
        use anyhow::Context;
        fn parses() -> anyhow::Result<u8> {
            let parsed: Result<u8, _> = "x".parse();
            parsed.context("the page number was not read")
        }
        fn fails() -> JobResult {
            parses()?;
            Ok(())
        }

        let failure = fails().unwrap_err().into_failure();

        assert_eq!(failure.message, "the page number was not read");
        assert_eq!(failure.causes, ["invalid digit found in string"]);
        assert!(failure.error_type.unwrap().ends_with("anyhow::Error"));
    }

    #[test]
    fn a_text_is_an_error_too() {
        assert_eq!(JobError::from("no paper").into_failure().message, "no paper");
    }

    #[test]
    fn do_not_retry_is_kept_in_the_failure() {
        assert!(JobError::do_not_retry("no such address").into_failure().do_not_retry);
    }

    #[test]
    fn a_wish_keeps_its_cause() {
        let error = JobError::retry_in(Duration::from_secs(5)).caused_by("busy");

        assert_eq!(error.wish(), Wish::RetryIn(Duration::from_secs(5)));
        assert_eq!(error.into_failure().message, "busy");
    }

    #[test]
    fn what_was_provided_is_found_by_its_type() {
        let mut provided = Provided::default();
        provided.insert(7_u32);

        assert_eq!(*provided.inject::<u32>().unwrap(), 7);
        assert!(provided.find::<u64>().is_none());
        assert!(Dependency::of::<u32>().is_in(&provided) && !Dependency::of::<u64>().is_in(&provided));
    }

    #[tokio::test]
    async fn a_panic_on_a_blocking_thread_stays_a_panic() {
        let run = tokio::spawn(run_blocking::<()>(|| panic!("boom")));

        assert!(run.await.unwrap_err().is_panic());
    }
}
