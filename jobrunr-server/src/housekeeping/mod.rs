//! What keeps the jobs of the cluster in order. Each chore is a task of its own with its own back-off: none can stop another.

mod due;
#[cfg(feature = "testing")]
mod inline;
mod orphans;
mod overlap;
mod problems;
mod recurring;
mod retention;
mod signals;
mod ticks;
mod waiters;

use std::collections::HashSet;
use std::time::Duration;

use jobrunr_core::Job;
use jobrunr_core::storage::StorageError;
use tokio::sync::Notify;

pub(crate) use due::{DueTimes, keep_releasing};
#[cfg(feature = "testing")]
pub(crate) use inline::Chores;
pub(crate) use orphans::keep_rescuing;
pub(crate) use problems::keep_looking;
pub(crate) use recurring::keep_ticking;
pub(crate) use retention::keep_clearing;
pub(crate) use signals::keep_timing_out;
pub(crate) use waiters::keep_releasing_waiters;

use crate::back_off::BackOff;
use crate::completer::Saved;
use crate::engine::Engine;

/// When a chore is done the next time: at the next poll, sooner after a failure or when it is woken.
struct Rounds<'a> {
    engine: &'a Engine,
    back_off: BackOff<'a>,
    pause: Duration,
}

impl<'a> Rounds<'a> {
    fn new(engine: &'a Engine, attempt: &'static str) -> Self {
        let back_off = BackOff::new(attempt, &engine.health);
        Self { engine, back_off, pause: Duration::ZERO }
    }

    /// Waits for the next round; `false` = the server stops.
    async fn next(&mut self, wake: &Notify) -> bool {
        tokio::select! {
            biased;
            () = self.engine.phases.stopping.cancelled() => false,
            () = wake.notified() => true,
            () = tokio::time::sleep(self.pause) => true,
        }
    }

    /// Notes how a round went.
    fn note(&mut self, result: Result<(), StorageError>) {
        self.pause = match result {
            Ok(()) => {
                self.back_off.succeeded();
                self.engine.settings.poll_interval
            }
            Err(error) => self.back_off.failed(&error),
        };
    }
}

/// Saves jobs and has the filters told of those that were not changed by somebody else meanwhile; returns how many.
async fn save(engine: &Engine, jobs: Vec<Job>) -> Result<usize, StorageError> {
    save_noting(engine, jobs, |_| {}).await
}

/// The same for jobs whose run, or whose wait for a signal, ends with it: for the metrics that is an outcome.
async fn save_ends(engine: &Engine, jobs: Vec<Job>) -> Result<usize, StorageError> {
    #[cfg(feature = "metrics")]
    let note = |job: &Job| jobrunr_core::metrics::count_saved(job, job.new_entries());
    #[cfg(not(feature = "metrics"))]
    let note = |_: &Job| {};
    save_noting(engine, jobs, note).await
}

/// Saves jobs, notes those that were not changed by somebody else meanwhile and has the filters told of them.
async fn save_noting(engine: &Engine, jobs: Vec<Job>, note: impl Fn(&Job)) -> Result<usize, StorageError> {
    if jobs.is_empty() {
        return Ok(0);
    }
    let conflicts = engine.storage.save_jobs(&jobs).await?.conflicts;
    engine.storage.tell_ended(&jobs);
    let saved = jobs.len() - conflicts.len();
    let conflicts: HashSet<_> = conflicts.into_iter().collect();
    for job in jobs.into_iter().filter(|job| !conflicts.contains(&job.id())) {
        note(&job);
        if !engine.filters.is_empty() {
            engine.tell_filters(Saved::now(job));
        }
    }
    Ok(saved)
}
