//! Running recurring jobs: the master deals with each tick by a precise timer, every server with those that it left undone.
//!
//! A look is one query of the storage: now and then for all ticks up to the next such look, in between, when the timer of one
//! of these has run out, for those that are due. What is due is dealt with from what the look has just read, so that a
//! schedule that was changed meanwhile counts at once. What becomes of it is in `ticks`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::RecurringJobId;
use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{RecurringJobQuery, StorageError};
use tokio::time::Instant;

use super::ticks;
use crate::back_off::BackOff;
use crate::engine::Engine;
use crate::options::HOUSEKEEPING_PAGE;

/// Ticks within this time of each other may be dealt with together.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// How much further than the next look a look ahead goes.
const SLACK: Duration = Duration::from_secs(2);
/// Looks that hints ask for are at least so far apart, and take up a small part of the time only.
const LEAST_REST: Duration = Duration::from_millis(50);
const REST_FACTOR: u32 = 20;
/// What has been due for longer than this the master has left undone.
const PATIENCE: TimeDelta = TimeDelta::seconds(1);
/// How often all recurring jobs are looked through for those that are over, the first time when the server has become the
/// master; only paused ones are not noticed in time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Runs recurring jobs at their ticks until the server stops.
pub(crate) async fn keep_ticking(engine: Arc<Engine>) {
    let mut ticker = Ticker::new(&engine);
    while ticker.next().await {
        let result = ticker.look().await;
        ticker.note(result);
    }
}

struct Ticker<'a> {
    engine: &'a Arc<Engine>,
    back_off: BackOff<'a>,
    /// The ticks that are known to come until the horizon.
    upcoming: BTreeSet<DateTime<Utc>>,
    horizon: DateTime<Utc>,
    /// When the next look ahead is due that sets the horizon anew.
    look_ahead_at: Instant,
    /// When a look ahead up to the present horizon is due, because a hint said so.
    hinted_at: Option<Instant>,
    /// Before this instant no hint counts.
    rested_at: Instant,
    /// Before this instant no timer counts.
    ready_at: Instant,
    sweep_at: Instant,
    complaints: Complaints,
}

impl<'a> Ticker<'a> {
    fn new(engine: &'a Arc<Engine>) -> Self {
        let now = Instant::now();
        Self {
            engine,
            back_off: BackOff::new("run recurring jobs", &engine.health),
            upcoming: BTreeSet::new(),
            horizon: engine.now(),
            look_ahead_at: now,
            hinted_at: None,
            rested_at: now,
            ready_at: now,
            sweep_at: now,
            complaints: Complaints::default(),
        }
    }

    /// Waits until there is something to look for; `false` = the server stops.
    async fn next(&mut self) -> bool {
        loop {
            let next_look_at = self.hinted_at.map_or(self.look_ahead_at, |at| at.min(self.look_ahead_at));
            let tick = async {
                tokio::time::sleep_until(self.ready_at).await;
                match self.upcoming.first() {
                    Some(tick) => reached(self.engine, *tick).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.engine.phases.stopping.cancelled() => return false,
                () = tokio::time::sleep_until(next_look_at) => return true,
                () = tick => return true,
                () = self.engine.recurring_jobs_changed.notified() => {
                    if self.engine.membership.is_master() {
                        self.hinted_at.get_or_insert(self.rested_at.max(Instant::now()));
                    }
                }
            }
        }
    }

    /// Notes how a look went.
    fn note(&mut self, result: Result<(), StorageError>) {
        self.ready_at = Instant::now() + LEAST_PAUSE;
        match result {
            Ok(()) => self.back_off.succeeded(),
            Err(error) => {
                self.look_ahead_at = Instant::now() + self.back_off.failed(&error);
                self.hinted_at = None;
                self.rested_at = self.look_ahead_at;
                self.ready_at = self.look_ahead_at;
            }
        }
    }

    async fn look(&mut self) -> Result<(), StorageError> {
        let now = self.engine.now();
        if !self.engine.membership.is_master() {
            return self.look_behind(now).await;
        }
        let begun_at = Instant::now();
        let is_cycle_over = begun_at >= self.look_ahead_at;
        if is_cycle_over {
            let interval = self.engine.settings.look_interval();
            self.look_ahead_at = begun_at + interval;
            // Further than the next look, which may be late.
            self.horizon = now + TimeDelta::from_std(interval + SLACK).unwrap_or(TimeDelta::MAX);
        }
        let looks_ahead = is_cycle_over || self.hinted_at.take_if(|at| begun_at >= *at).is_some();
        let found = self.list(if looks_ahead { self.horizon } else { now }).await?;
        let (due, coming): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|job| job.next_run_at.is_some_and(|next| next <= now));
        if looks_ahead {
            self.hinted_at = None;
            self.upcoming = coming.iter().filter_map(|job| job.next_run_at).collect();
            self.rested_at = Instant::now() + LEAST_REST.max(begun_at.elapsed() * REST_FACTOR);
        } else {
            self.upcoming = self.upcoming.split_off(&(now + TimeDelta::microseconds(1)));
        }
        self.deal_with(due, now).await?;
        if is_cycle_over && begun_at >= self.sweep_at {
            self.remove_what_is_over(now).await?;
            self.sweep_at = begun_at + SWEEP_INTERVAL;
        }
        Ok(())
    }

    /// Deals with what the master has not, because there is none at the moment or it does not know how.
    async fn look_behind(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        self.upcoming.clear();
        self.hinted_at = None;
        self.look_ahead_at = Instant::now() + self.engine.settings.poll_interval;
        self.rested_at = Instant::now();
        let due = self.list(now - PATIENCE).await?;
        self.deal_with(due, now).await
    }

    async fn list(&self, due_at: DateTime<Utc>) -> Result<Vec<RecurringJob>, StorageError> {
        let query = RecurringJobQuery { due_at: Some(due_at), ..RecurringJobQuery::default() };
        self.engine.storage.list_recurring_jobs(&query).await
    }

    async fn deal_with(&mut self, due: Vec<RecurringJob>, now: DateTime<Utc>) -> Result<(), StorageError> {
        if due.is_empty() {
            return Ok(());
        }
        let next_runs = ticks::deal_with(self.engine, due, now, &mut self.complaints).await?;
        if self.engine.membership.is_master() {
            self.upcoming.extend(next_runs.into_iter().filter(|next| *next <= self.horizon));
        }
        Ok(())
    }

    /// Removes those that are over and were not due, because they are paused.
    async fn remove_what_is_over(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        let mut query = RecurringJobQuery { limit: Some(HOUSEKEEPING_PAGE), ..RecurringJobQuery::default() };
        loop {
            let page = self.engine.storage.list_recurring_jobs(&query).await?;
            query.after = page.last().map(|job| job.id.clone());
            let is_last_page = page.len() < HOUSEKEEPING_PAGE;
            for job in page.iter().filter(|job| job.is_over(now)) {
                ticks::remove(self.engine, &job.id).await?;
            }
            if is_last_page {
                return Ok(());
            }
        }
    }
}

/// Waits for an instant of the storage's clock, never longer at a time than its offset is good for.
async fn reached(engine: &Engine, instant: DateTime<Utc>) {
    while let Ok(wait) = (instant - engine.now()).to_std()
        && !wait.is_zero()
    {
        tokio::time::sleep(wait.min(engine.settings.poll_interval)).await;
    }
}

/// What was said about recurring jobs that cannot be dealt with, so that it is said once.
#[derive(Default)]
pub(super) struct Complaints(HashMap<RecurringJobId, String>);

impl Complaints {
    /// Logs what is wrong with a recurring job unless that was said of it last.
    pub(super) fn say(&mut self, id: &RecurringJobId, complaint: String) {
        let known = self.0.get(id).is_some_and(|known| *known == complaint);
        if !known {
            tracing::error!(recurring_job.id = %id, "{complaint}");
            self.0.insert(id.clone(), complaint);
        }
    }

    /// Notes that all went well with a recurring job.
    pub(super) fn withdraw(&mut self, id: &RecurringJobId) {
        self.0.remove(id);
    }
}
