//! The handlers of a server, found by job type.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jobrunr_core::handler::{Dependency, Provided};
use jobrunr_core::recurring::RecurringJobDraft;
use jobrunr_core::results::encode_result;
use jobrunr_core::{
    Failure, FailureKind, JobContext, JobError, JobFunction, JobHandler, JobRequest, JobSignature, JsonText,
    SchedulerError,
};
use serde_json::error::Category;

use crate::error::ServerError;

/// A handler whose types are out of sight.
pub(crate) trait ErasedHandler: Send + Sync {
    /// Decodes the payload, runs the handler and encodes what it gives.
    fn run<'a>(&'a self, context: &'a JobContext) -> BoxFuture<'a, Result<Option<JsonText>, RunError>>;
}

/// Why a run that did not panic gave no result.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The handler returned an error.
    Handler(JobError),
    /// The handler was not reached, or what it returned cannot be kept.
    Unfit(Failure),
}

/// A handler as the builder was given it, before anything is checked.
pub(crate) struct Registration {
    /// Which function it is, if it is one.
    #[cfg_attr(not(feature = "register-all"), expect(dead_code, reason = "only a collection has doubles"))]
    function: Option<TypeId>,
    job_types: Vec<&'static str>,
    dependencies: Vec<Dependency>,
    /// What is to be saved when the server starts.
    recurring_jobs: Vec<Result<RecurringJobDraft<'static>, SchedulerError>>,
    build: BuildHandler,
}

/// Makes the handler once everything that was provided is there.
type BuildHandler = Box<dyn FnOnce(&Arc<Provided>) -> Arc<dyn ErasedHandler> + Send>;

impl Registration {
    /// Of a value that handles `R`.
    pub(crate) fn of_handler<R: JobRequest, H: JobHandler<R>>(handler: H) -> Self {
        let handler = HandlerOf { handler, request: PhantomData::<fn(R)> };
        Self {
            function: None,
            job_types: job_types::<R>(),
            dependencies: Vec::new(),
            recurring_jobs: Vec::new(),
            build: Box::new(|_| Arc::new(handler)),
        }
    }

    /// Of a function.
    pub(crate) fn of_function<F: JobFunction>(function: F) -> Self {
        Self {
            function: Some(TypeId::of::<F>()),
            job_types: job_types::<F::Request>(),
            dependencies: function.dependencies(),
            recurring_jobs: function.recurring_jobs(),
            build: Box::new(|provided| Arc::new(FunctionOf { function, provided: Arc::clone(provided) })),
        }
    }

    /// The names of the type, the present one first.
    #[cfg(feature = "register-all")]
    pub(crate) fn job_types(&self) -> &[&'static str] {
        &self.job_types
    }

    /// Whether both are of the same function.
    #[cfg(feature = "register-all")]
    pub(crate) fn is_same_function(&self, other: &Self) -> bool {
        self.function.is_some() && self.function == other.function
    }

    /// Takes out the recurring jobs that are to be saved.
    pub(crate) fn take_recurring_jobs(&mut self) -> Result<Vec<RecurringJobDraft<'static>>, SchedulerError> {
        std::mem::take(&mut self.recurring_jobs).into_iter().collect()
    }
}

fn job_types<R: JobRequest>() -> Vec<&'static str> {
    let mut names = vec![R::JOB_TYPE];
    names.extend(R::ALIASES);
    names
}

/// The handlers of a server, found by job type.
#[derive(Default)]
pub(crate) struct Registry(HashMap<JobSignature, Arc<dyn ErasedHandler>>);

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Registry {
    /// Checks the registrations and takes them over.
    pub(crate) fn new(
        registrations: Vec<Registration>,
        provided: &Arc<Provided>,
    ) -> Result<Self, ServerError> {
        let mut registry = Self::default();
        for registration in registrations {
            registry.add(registration, provided)?;
        }
        if registry.0.is_empty() { Err(ServerError::NoHandlers) } else { Ok(registry) }
    }

    fn add(&mut self, registration: Registration, provided: &Arc<Provided>) -> Result<(), ServerError> {
        let Registration { job_types, dependencies, build, function: _, recurring_jobs: _ } = registration;
        let job_type = || job_types.first().copied().unwrap_or_default().to_owned();
        if let Some(missing) = dependencies.iter().find(|dependency| !dependency.is_in(provided)) {
            return Err(ServerError::MissingDependency {
                job_type: job_type(),
                type_name: missing.type_name,
            });
        }
        let handler = build(provided);
        for name in &job_types {
            let signature = JobSignature::new(name)
                .map_err(|source| ServerError::InvalidName { option: "handle", source })?;
            match self.0.entry(signature) {
                Entry::Vacant(place) => drop(place.insert(Arc::clone(&handler))),
                Entry::Occupied(_) => {
                    return Err(ServerError::DuplicateHandler { job_type: (*name).to_owned() });
                }
            }
        }
        Ok(())
    }

    /// The handler of this type.
    pub(crate) fn find(&self, signature: &JobSignature) -> Option<&dyn ErasedHandler> {
        self.0.get(signature).map(AsRef::as_ref)
    }

    /// All types there are handlers for, sorted.
    pub(crate) fn signatures(&self) -> Vec<JobSignature> {
        let mut signatures: Vec<_> = self.0.keys().cloned().collect();
        signatures.sort();
        signatures
    }
}

struct HandlerOf<R, H> {
    handler: H,
    request: PhantomData<fn(R)>,
}

impl<R: JobRequest, H: JobHandler<R>> ErasedHandler for HandlerOf<R, H> {
    fn run<'a>(&'a self, context: &'a JobContext) -> BoxFuture<'a, Result<Option<JsonText>, RunError>> {
        Box::pin(async move {
            let request = decode::<R>(context.job().payload())?;
            let output = self.handler.run(request, context).await.map_err(RunError::Handler)?;
            encode(&output)
        })
    }
}

struct FunctionOf<F> {
    function: F,
    provided: Arc<Provided>,
}

impl<F: JobFunction> ErasedHandler for FunctionOf<F> {
    fn run<'a>(&'a self, context: &'a JobContext) -> BoxFuture<'a, Result<Option<JsonText>, RunError>> {
        Box::pin(async move {
            let request = decode::<F::Request>(context.job().payload())?;
            let run = self.function.run(request, context.clone(), Arc::clone(&self.provided));
            encode(&run.await.map_err(RunError::Handler)?)
        })
    }
}

fn decode<R: JobRequest>(payload: &JsonText) -> Result<R, RunError> {
    payload.decode().map_err(|error: serde_json::Error| {
        let what = match error.classify() {
            Category::Data => "does not fit the job type any more",
            Category::Syntax | Category::Eof | Category::Io => "is not JSON",
        };
        let message =
            format!("the payload {what}, it was kept: mend {} and requeue the job", type_name::<R>());
        let failure = Failure::new(FailureKind::Undecodable, message).with_causes([error.to_string()]);
        RunError::Unfit(failure.do_not_retry())
    })
}

/// The result as it is kept.
fn encode<T: serde::Serialize>(output: &T) -> Result<Option<JsonText>, RunError> {
    encode_result(output).map_err(|error| {
        let failure = Failure::new(FailureKind::Error, format!("the handler has run, but {error}"));
        let causes = std::error::Error::source(&error).map(ToString::to_string);
        RunError::Unfit(failure.with_causes(causes).do_not_retry())
    })
}
