//! The desk between claimer and workers: jobs that wait for a free worker, and how many workers are busy.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jobrunr_core::Job;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::membership::Life;
use crate::options::Settings;
use crate::prefetch::{PATIENCE, Pace, Prefetch};

/// A claimed job, and the life of the server that claimed it.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) job: Job,
    pub(crate) life: Arc<Life>,
}

/// Jobs that wait for a free worker.
#[derive(Debug)]
pub(crate) struct Desk {
    workers: usize,
    prefetch: Prefetch,
    places: Mutex<Places>,
    /// Tells the claimer that it may be time to claim.
    changed: Notify,
}

#[derive(Debug)]
struct Places {
    waiting: VecDeque<Claimed>,
    busy: usize,
    /// How many jobs claims on their way may bring.
    coming: usize,
    pace: Pace,
    /// When jobs were last claimed.
    claimed_at: Instant,
}

impl Desk {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self::with(settings.workers, settings.prefetch)
    }

    fn with(workers: usize, prefetch: Prefetch) -> Self {
        let places = Places {
            waiting: VecDeque::new(),
            busy: 0,
            coming: 0,
            pace: Pace::new(prefetch),
            claimed_at: Instant::now(),
        };
        Self { workers, prefetch, places: Mutex::new(places), changed: Notify::new() }
    }

    /// Puts jobs at the end of the line; returns how many more workers must start, which count as busy from now on.
    pub(crate) fn put(&self, jobs: Vec<Claimed>) -> usize {
        let mut places = self.lock();
        if !jobs.is_empty() {
            places.claimed_at = Instant::now();
            let now = places.claimed_at;
            places.pace.claimed(now);
        }
        places.waiting.extend(jobs);
        let starting = places.waiting.len().min(self.workers.saturating_sub(places.busy));
        places.busy += starting;
        starting
    }

    /// Notes that so many jobs are being claimed.
    pub(crate) fn claim_begins(&self, jobs: usize) {
        self.lock().coming += jobs;
    }

    /// Notes that a claim of so many jobs has ended; what it brought is still to be [put](Self::put) here.
    pub(crate) fn claim_ends(&self, jobs: usize) {
        self.lock().coming -= jobs;
    }

    /// The next job for a worker, or `None` to end that worker: there is none, or none may start.
    ///
    /// Race: whether one may start is asked under the lock, so that whoever allows it again, and then calls
    /// [`put`](Self::put), cannot miss a worker that is just about to end.
    pub(crate) fn take(&self, may_start: impl FnOnce() -> bool) -> Option<Claimed> {
        let mut places = self.lock();
        let next = if may_start() { places.waiting.pop_front() } else { None };
        match next {
            Some(_) => places.pace.job_started(),
            None => places.busy -= 1,
        }
        if self.wanted_by(&places) > 0 {
            self.changed.notify_one();
        }
        next
    }

    /// Takes away all jobs that have not been started.
    pub(crate) fn clear(&self) -> Vec<Claimed> {
        self.lock().waiting.drain(..).collect()
    }

    /// When to look for [jobs that wait too long](Self::take_overdue), if any could.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        let places = self.lock();
        (places.waiting.len() > self.prefetch.least()).then(|| places.claimed_at + PATIENCE)
    }

    /// Takes away the jobs that were claimed ahead because others were short, if these turn out not to be.
    pub(crate) fn take_overdue(&self) -> Vec<Claimed> {
        let mut places = self.lock();
        let least = self.prefetch.least();
        if places.waiting.len() <= least || places.claimed_at.elapsed() < PATIENCE {
            return Vec::new();
        }
        places.pace.slow_down();
        places.waiting.split_off(least).into()
    }

    /// How many jobs are worth a claim now.
    ///
    /// Any number where a worker is free; where all are busy, only once half of what may wait is gone, so that claims
    /// come in good batches.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted_by(&self.lock())
    }

    fn wanted_by(&self, places: &Places) -> usize {
        let held = places.waiting.len() + places.busy + places.coming;
        let ahead = places.pace.ahead();
        let room = self.workers.saturating_add(ahead).saturating_sub(held);
        let has_free_worker = held < self.workers;
        if has_free_worker || room >= ahead.div_ceil(2).max(1) { room } else { 0 }
    }

    /// How many workers are busy.
    pub(crate) fn busy(&self) -> usize {
        self.lock().busy
    }

    /// Makes the claimer look again.
    pub(crate) fn wake_claimer(&self) {
        self.changed.notify_one();
    }

    /// Waits until there may be something to claim for.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jobrunr_core::{JobDefinition, JobId, JobState, JsonText};

    use super::*;

    fn desk(workers: usize, prefetch: usize) -> Desk {
        Desk::with(workers, Prefetch::Fixed(prefetch))
    }

    fn jobs(count: usize) -> Vec<Claimed> {
        let life = Life::new("one");
        let definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
        let now = chrono::DateTime::UNIX_EPOCH;
        let job = || Job::new(JobId::new(), definition.clone(), JobState::enqueued(), now).unwrap();
        (0..count).map(|_| Claimed { job: job(), life: Arc::clone(&life) }).collect()
    }

    #[test]
    fn never_more_workers_start_than_there_are() {
        let desk = desk(3, 4);

        assert_eq!(desk.put(jobs(2)), 2);
        assert_eq!(desk.put(jobs(5)), 1);
        assert_eq!(desk.busy(), 3);
    }

    #[test]
    fn busy_workers_let_half_of_the_prefetched_jobs_go_before_more_are_wanted() {
        let desk = desk(1, 4);
        desk.put(jobs(5));

        let wanted: Vec<usize> = std::iter::from_fn(|| {
            desk.take(|| true)?;
            Some(desk.wanted())
        })
        .collect();

        assert_eq!(wanted, [0, 0, 2, 3, 4]);
    }

    #[test]
    fn a_server_without_prefetch_wants_as_many_jobs_as_it_has_free_workers() {
        let desk = desk(2, 0);
        assert_eq!(desk.wanted(), 2);
        desk.put(jobs(2));
        desk.take(|| true);
        desk.take(|| true);
        assert_eq!(desk.wanted(), 0);

        desk.take(|| true);

        assert_eq!(desk.wanted(), 1);
    }

    #[test]
    fn jobs_that_are_being_claimed_are_not_wanted_again() {
        let desk = desk(10, 1_000);
        desk.claim_begins(500);
        assert_eq!(desk.wanted(), 510);
        desk.claim_begins(500);
        assert_eq!(desk.wanted(), 0);

        desk.claim_ends(500);

        assert_eq!(desk.wanted(), 510);
    }

    #[test]
    fn where_no_job_may_start_the_worker_ends_and_the_job_waits() {
        let desk = desk(1, 0);
        desk.put(jobs(1));

        assert!(desk.take(|| false).is_none());

        assert_eq!(desk.busy(), 0);
        assert_eq!(desk.put(Vec::new()), 1, "whoever allows it again starts a worker for it");
    }
}
