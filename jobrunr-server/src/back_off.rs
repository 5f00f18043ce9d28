//! Trying again: how long to wait after a storage error, and who is told that it began and ended.

use std::time::Duration;

use jobrunr_core::storage::StorageError;

use crate::health::HealthMonitor;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// The failures in a row of one sort of attempt.
#[derive(Debug)]
pub(crate) struct BackOff<'a> {
    attempt: &'static str,
    health: &'a HealthMonitor,
    longest: Duration,
    failures: u32,
}

impl<'a> BackOff<'a> {
    /// For attempts that are described like this: `claim jobs`.
    pub(crate) const fn new(attempt: &'static str, health: &'a HealthMonitor) -> Self {
        Self { attempt, health, longest: LONGEST, failures: 0 }
    }

    /// With this longest delay, if it is shorter than the usual one.
    pub(crate) fn at_most(mut self, longest: Duration) -> Self {
        self.longest = longest.min(LONGEST);
        self
    }

    /// Notes a failure; returns how long to wait before the next attempt.
    pub(crate) fn failed(&mut self, error: &StorageError) -> Duration {
        self.health.failed(self.attempt, error);
        let delay = delay_after(self.failures).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        // Between half and all of it, so that servers do not come back together.
        delay.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Notes that what failed is not attempted any more.
    pub(crate) fn gave_up(&mut self) {
        if self.failures > 0 {
            self.failures = 0;
            self.health.gave_up(self.attempt);
        }
    }

    /// Notes a success.
    pub(crate) fn succeeded(&mut self) {
        if self.failures > 0 {
            self.failures = 0;
            self.health.recovered(self.attempt);
        }
    }
}

impl Drop for BackOff<'_> {
    fn drop(&mut self) {
        self.gave_up();
    }
}

fn delay_after(failures: u32) -> Duration {
    SHORTEST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_from_a_tenth_of_a_second_to_half_a_minute() {
        let delays: Vec<u128> = (0..11).map(|failures| delay_after(failures).as_millis()).collect();

        assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(delay_after(u32::MAX), LONGEST);
    }
}
