//! Releasing jobs whose time has come: the master by a precise timer, every server at its poll.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use jobrunr_core::storage::StorageError;
use jobrunr_core::{JobId, StateName};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::back_off::BackOff;
use crate::completer::Saved;
use crate::engine::Engine;
use crate::options::HOUSEKEEPING_PAGE;

/// Jobs that are due within this time of each other may be released together.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// When the next job is due, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct DueTimes {
    next: Mutex<Option<DateTime<Utc>>>,
    changed: Notify,
}

impl DueTimes {
    /// Notes that a job is due then.
    pub(crate) fn note(&self, due_at: DateTime<Utc>) {
        let mut next = self.lock();
        if next.is_none_or(|next| due_at < next) {
            *next = Some(due_at);
            self.changed.notify_one();
        }
    }

    /// Forgets what was noted, because all that is due is about to be released.
    fn forget(&self) {
        *self.lock() = None;
    }

    /// Waits until a job is due.
    async fn reached(&self, engine: &Engine) {
        loop {
            let next = *self.lock();
            let Some(next) = next else {
                self.changed.notified().await;
                continue;
            };
            let wait = (next - engine.now()).to_std().unwrap_or_default();
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                // No longer than the offset to the storage's clock is good for.
                () = tokio::time::sleep(wait.min(engine.settings.poll_interval)) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<DateTime<Utc>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Releases due jobs until the server stops.
pub(crate) async fn keep_releasing(engine: Arc<Engine>) {
    let mut back_off = BackOff::new("release scheduled jobs", &engine.health);
    let (mut ready_at, mut poll_at) = (Instant::now(), Instant::now());
    loop {
        let next_due = async {
            tokio::time::sleep_until(ready_at).await;
            engine.due_times.reached(&engine).await;
        };
        tokio::select! {
            () = engine.phases.stopping.cancelled() => return,
            () = next_due => {}
            () = tokio::time::sleep_until(poll_at) => {}
        }
        match release(&engine).await {
            Ok(()) => {
                back_off.succeeded();
                ready_at = Instant::now() + LEAST_PAUSE;
                poll_at = Instant::now() + poll_interval(&engine);
            }
            Err(error) => {
                ready_at = Instant::now() + back_off.failed(&error);
                poll_at = ready_at;
            }
        }
    }
}

/// The master alone has to learn of new jobs early.
fn poll_interval(engine: &Engine) -> Duration {
    let settings = &engine.settings;
    if engine.membership.is_master() { settings.look_interval() } else { settings.poll_interval }
}

pub(super) async fn release(engine: &Engine) -> Result<(), StorageError> {
    loop {
        // Race: a job that is scheduled from here on is noted anew, whether or not the storage sees it yet.
        engine.due_times.forget();
        let report = engine.storage.enqueue_due_jobs(engine.now(), HOUSEKEEPING_PAGE).await?;
        if !report.released.is_empty() {
            engine.expect_work();
            tell_filters(engine, &report.released).await?;
        }
        if let Some(next_due_at) = report.next_due_at {
            engine.job_is_due_at(next_due_at);
        }
        if report.released.len() < HOUSEKEEPING_PAGE {
            return Ok(());
        }
    }
}

async fn tell_filters(engine: &Engine, released: &[JobId]) -> Result<(), StorageError> {
    if engine.filters.is_empty() {
        return Ok(());
    }
    for id in released {
        let Some(job) = engine.storage.find_job(*id).await? else { continue };
        let release = job.history().iter().rfind(|entry| entry.state.name() == StateName::Enqueued).cloned();
        engine.tell_filters(Saved::of(job, release.into_iter().collect()));
    }
    Ok(())
}
