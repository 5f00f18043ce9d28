//! The life of one run on a worker: open, supervise, judge, elect, hand over to the completer.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use jobrunr_core::handler::Wish;
use jobrunr_core::trace::TraceParent;
use jobrunr_core::{Failure, FailureKind, Job, JobContext, JobError, JobRun, JobState, JsonText, StateName};
use tracing::Instrument;

use crate::completer::{Outcome, tell_in_time};
use crate::desk::Claimed;
use crate::engine::Engine;
use crate::holdings::{Interruption, Run, claim_of};
use crate::lease::Lease;
use crate::membership::Life;
use crate::options::STOP_GRACE;
use crate::outcome::{Ending, elect};
use crate::registry::{ErasedHandler, RunError};

/// What came of calling the handler: `Err` is the payload of a panic.
type CallResult = Result<Result<Option<JsonText>, RunError>, Box<dyn Any + Send>>;

/// How long the last log lines of a run may take to be stored, before they are given up.
const LAST_LINES_LIMIT: Duration = Duration::from_secs(10);

/// A worker: runs one waiting job after the other and ends when there is none.
pub(crate) async fn work(engine: Arc<Engine>) {
    while let Some(claimed) = engine.desk.take(|| engine.may_start()) {
        if claimed.life.is_over() {
            engine.tell_claimed(&claimed.job);
            engine.holdings.remove([claim_of(&claimed.job)]);
            continue;
        }
        run(&engine, claimed).await;
        // A run may end without ever waiting for anything: leave room for others on this thread.
        tokio::task::consume_budget().await;
    }
}

async fn run(engine: &Arc<Engine>, Claimed { job, life }: Claimed) {
    let claim = claim_of(&job);
    let run = engine.holdings.start_run(claim);
    let span = tracing::info_span!(
        "job",
        id = %job.id(),
        r#type = %job.signature(),
        attempt = job.failures().saturating_add(1),
        queue = %job.queue(),
        server = %life.server().name,
        traceparent = tracing::field::Empty,
    );
    follow_creator(engine, &span, &job);
    let context = open(engine, &run, &job, &life);
    #[cfg(feature = "metrics")]
    let running = crate::metrics::Running::start(&job, engine.now());
    let ending = supervise(engine, &run, context).instrument(span.clone()).await;
    #[cfg(feature = "metrics")]
    drop(running);
    engine.holdings.end_run(claim);

    let elected = span.in_scope(|| {
        let elected = elect(engine, job, ending);
        log(elected.as_ref());
        elected
    });
    match elected {
        Some(job) => engine.complete(Outcome { job, claim, life }),
        None => engine.holdings.remove([claim]),
    }
}

/// Tells the span of a run in which trace its job was created, if the job carries that along.
fn follow_creator(engine: &Engine, span: &tracing::Span, job: &Job) {
    let Some(creator) = TraceParent::of(job) else { return };
    span.record("traceparent", tracing::field::display(creator));
    if let Some(traces) = &engine.traces {
        traces.link(span, &creator);
    }
}

/// Tells how a run ended; of a failure only the message, its causes may hold parts of the payload.
fn log(job: Option<&Job>) {
    let Some(job) = job else {
        tracing::debug!("the run has ended, its job was taken away meanwhile");
        return;
    };
    let new = job.new_entries();
    let failure = new.iter().find_map(|entry| match &entry.state {
        JobState::Failed(failure) => Some(failure),
        _ => None,
    });
    match failure {
        Some(failure) if job.state_name() == StateName::Failed => {
            tracing::warn!(kind = ?failure.kind, "the job failed and is not retried: {}", failure.message);
        }
        Some(failure) => tracing::info!(kind = ?failure.kind, "the run failed: {}", failure.message),
        None => tracing::debug!(state = %job.state_name(), "the run has ended"),
    }
}

/// What the handler is told of its run.
fn open(engine: &Arc<Engine>, run: &Arc<Run>, job: &Job, life: &Arc<Life>) -> JobContext {
    let server = job.server().expect("a claimed job has been given to a server");
    JobContext::from(JobRun {
        retries: engine.retries.retries_of(job),
        job: job.clone(),
        server,
        cancellation: run.token().clone(),
        scheduler: engine.scheduler.clone(),
        lease: Arc::new(Lease::new(engine, run, life)),
    })
}

/// Calls the handler and sees to it that it ends: by itself, or some time after it was asked to, or by force.
async fn supervise(engine: &Engine, run: &Run, context: JobContext) -> Ending {
    let Some(handler) = engine.registry.find(context.signature()) else {
        tracing::error!("there is no handler for the type of a claimed job, so it is given back");
        engine.tell_claimed(context.job());
        return Ending::GivenBack;
    };
    let mut call = Box::pin(AssertUnwindSafe(call(engine, handler, &context)).catch_unwind());
    let timeout = context.job().definition().settings.timeout;
    let ending = async {
        tokio::select! {
            biased;
            result = &mut call => Some(result),
            why = interruption(run, timeout) => last_chance(engine, &mut call, why).await,
        }
    };
    let result = beside(engine, &context, ending).await;
    if result.is_none() {
        drop_caught(call);
    }
    judge(result, run.interruption(), timeout)
}

/// Stores what the run logs while it goes on, and what is left when it has ended.
async fn beside<T>(engine: &Engine, context: &JobContext, ending: impl Future<Output = T>) -> T {
    match select(pin!(ending), pin!(context.keep_flushing())).await {
        Either::Left((ended, flushing)) => {
            if context.close() {
                tokio::select! {
                    biased;
                    () = flushing => {}
                    () = time_for_last_lines(engine) => {
                        tracing::warn!(job.id = %context.job_id(), "the last log lines of a run were not stored in time");
                    }
                }
            }
            ended
        }
        // Nothing is stored any more; the handler goes on all the same.
        Either::Right(((), ending)) => ending.await,
    }
}

async fn time_for_last_lines(engine: &Engine) {
    let stops = async {
        engine.phases.aborting.cancelled().await;
        tokio::time::sleep(STOP_GRACE / 2).await;
    };
    let _ = tokio::time::timeout(LAST_LINES_LIMIT, stops).await;
}

async fn call(
    engine: &Engine,
    handler: &dyn ErasedHandler,
    context: &JobContext,
) -> Result<Option<JsonText>, RunError> {
    if !engine.filters.is_empty() {
        // Here and not where jobs are claimed, so that a slow filter holds up this run and no claim.
        tell_in_time(context.job(), engine.filters.claimed(context.job())).await;
        engine.filters.processing(context.job()).await;
    }
    handler.run(context).await
}

/// Waits until the run is asked to end; asks it itself when its time is up.
async fn interruption(run: &Run, timeout: Option<Duration>) -> Interruption {
    let time_is_up = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = run.interrupted() => {}
        () = time_is_up => run.interrupt(Interruption::TimedOut),
    }
    run.interruption().unwrap_or(Interruption::TakenAway)
}

/// Lets a run that was asked to end go on for the grace it is due; `None` = it did not end.
async fn last_chance(
    engine: &Engine,
    call: &mut (impl Future<Output = CallResult> + Unpin),
    why: Interruption,
) -> Option<CallResult> {
    let grace = match why {
        Interruption::TakenAway | Interruption::TimedOut => engine.settings.cancellation_grace,
        Interruption::ServerStops => STOP_GRACE,
        Interruption::ServerGone => return None,
    };
    tokio::select! {
        biased;
        result = call => Some(result),
        () = tokio::time::sleep(grace) => None,
        () = engine.phases.aborting.cancelled() => None,
    }
}

/// Drops what is left of a handler that is aborted; a panic on the way is its own business.
fn drop_caught<F>(call: Pin<Box<F>>) {
    if std::panic::catch_unwind(AssertUnwindSafe(|| drop(call))).is_err() {
        tracing::error!("a handler panicked while it was aborted");
    }
}

fn judge(result: Option<CallResult>, why: Option<Interruption>, timeout: Option<Duration>) -> Ending {
    match (why, result) {
        (Some(Interruption::TakenAway | Interruption::ServerGone), _) => Ending::Dropped,
        (Some(Interruption::TimedOut), _) => timed_out(timeout.unwrap_or_default()),
        (Some(Interruption::ServerStops), Some(Ok(Err(RunError::Handler(error)))))
            if error.wish() == Wish::Retry =>
        {
            // A handler that listens to its token ends with an error; that is no failure of the job.
            Ending::GivenBack
        }
        (_, Some(Ok(Ok(result)))) => Ending::Succeeded(result),
        (_, Some(Ok(Err(RunError::Handler(error))))) => failed(error),
        (_, Some(Ok(Err(RunError::Unfit(failure))))) => Ending::Failed(failure, Wish::DoNotRetry),
        (_, Some(Err(panic))) => panicked(panic.as_ref()),
        (_, None) => Ending::GivenBack,
    }
}

fn failed(error: JobError) -> Ending {
    match error.wish() {
        Wish::Snooze(delay) => Ending::Snoozed(delay),
        wish @ (Wish::Retry | Wish::DoNotRetry | Wish::RetryIn(_)) => {
            Ending::Failed(error.into_failure(), wish)
        }
    }
}

fn timed_out(timeout: Duration) -> Ending {
    let message = format!("the run took longer than its timeout of {timeout:?}");
    Ending::Failed(Failure::new(FailureKind::TimedOut, message), Wish::Retry)
}

fn panicked(panic: &(dyn Any + Send)) -> Ending {
    let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "the handler panicked with a value that is no text".to_owned(),
    };
    Ending::Failed(Failure::new(FailureKind::Panicked, message), Wish::Retry)
}
