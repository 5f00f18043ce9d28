//! How many jobs to claim ahead of a free worker: as many as the workers will have started in a moment.

use std::time::Duration;

use tokio::time::Instant;

use crate::options::MAX_BATCH;

/// Jobs are claimed ahead for so long, at the pace of late.
const AHEAD: Duration = Duration::from_millis(100);
/// The most jobs that are claimed ahead, unless there are more workers: while one batch is worked off the next one is on its way.
const MOST_AHEAD: usize = 2 * MAX_BATCH;
/// A pace that was measured over less says nothing.
const LEAST_MEASURED: Duration = Duration::from_millis(1);
/// Jobs that were claimed ahead because others were short go back when they have waited for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How many jobs a server claims ahead of a free worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefetch {
    /// So many, whatever the jobs are like.
    Fixed(usize),
    /// At least so many; up to two whole batches while jobs are so short that claims would not keep up.
    Adaptive { least: usize },
}

impl Prefetch {
    /// The most jobs that are ever claimed ahead.
    pub(crate) const fn most(self) -> usize {
        match self {
            Self::Fixed(jobs) => jobs,
            Self::Adaptive { least } if least > MOST_AHEAD => least,
            Self::Adaptive { .. } => MOST_AHEAD,
        }
    }

    /// The jobs that may wait here for as long as they have to.
    pub(crate) const fn least(self) -> usize {
        match self {
            Self::Fixed(jobs) | Self::Adaptive { least: jobs } => jobs,
        }
    }
}

/// Measures how fast the workers start jobs, from claim to claim.
#[derive(Debug)]
pub(crate) struct Pace {
    prefetch: Prefetch,
    ahead: usize,
    started: u32,
    since: Instant,
}

impl Pace {
    pub(crate) fn new(prefetch: Prefetch) -> Self {
        Self { prefetch, ahead: prefetch.least(), started: 0, since: Instant::now() }
    }

    /// How many jobs to claim ahead now.
    pub(crate) const fn ahead(&self) -> usize {
        self.ahead
    }

    /// Notes that a worker has started a job.
    pub(crate) const fn job_started(&mut self) {
        self.started = self.started.saturating_add(1);
    }

    /// Notes that jobs turned out to take longer than those before.
    pub(crate) const fn slow_down(&mut self) {
        self.ahead = self.prefetch.least();
    }

    /// Notes that a claim has come back, and decides on the next ones.
    pub(crate) fn claimed(&mut self, now: Instant) {
        let Prefetch::Adaptive { least } = self.prefetch else { return };
        let measured = now.saturating_duration_since(self.since);
        if measured < LEAST_MEASURED {
            return;
        }
        let ahead = u128::from(self.started) * AHEAD.as_micros() / measured.as_micros();
        self.ahead = usize::try_from(ahead).unwrap_or(usize::MAX).clamp(least, self.prefetch.most());
        self.started = 0;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAPTIVE: Prefetch = Prefetch::Adaptive { least: 32 };

    /// What is claimed ahead after workers have started so many jobs in so many milliseconds.
    fn after(prefetch: Prefetch, jobs: u32, millis: u64) -> usize {
        let mut pace = Pace::new(prefetch);
        let begin = pace.since;
        (0..jobs).for_each(|_| pace.job_started());
        pace.claimed(begin + Duration::from_millis(millis));
        pace.ahead()
    }

    #[test]
    fn as_many_are_claimed_ahead_as_were_started_in_100_milliseconds() {
        for (jobs, millis, expected) in
            [(0, 1_000, 32), (64, 200, 32), (64, 40, 160), (64, 5, 1_000), (100_000, 1, 1_000)]
        {
            assert_eq!(after(ADAPTIVE, jobs, millis), expected, "{jobs} jobs in {millis} ms");
        }
    }

    #[test]
    fn a_pace_is_measured_over_a_millisecond_at_least() {
        let mut pace = Pace::new(ADAPTIVE);
        let begin = pace.since;

        for micros in [100, 200, 999] {
            (0..10).for_each(|_| pace.job_started());
            pace.claimed(begin + Duration::from_micros(micros));
            assert_eq!(pace.ahead(), 32);
        }
        pace.claimed(begin + Duration::from_millis(20));

        assert_eq!(pace.ahead(), 150, "the jobs that were too few to tell count all the same");
    }

    #[test]
    fn a_number_that_was_asked_for_is_kept_to() {
        for jobs in [0, 7, 100_000] {
            assert_eq!(after(Prefetch::Fixed(jobs), 1_000, 1), jobs);
        }
    }

    #[test]
    fn more_workers_than_two_batches_hold_have_as_many_jobs_ahead_as_before() {
        let prefetch = Prefetch::Adaptive { least: 2_000 };

        assert_eq!(prefetch.most(), 2_000);
        assert_eq!(after(prefetch, 100_000, 1), 2_000);
    }
}
