//! The interval: ticks at an even distance from the instant the recurring job was created.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Schedule, ScheduleError};
use crate::clock::to_micros;

/// Fires at `created_at + k × every` for k = 1, 2, 3, …
///
/// Exact to the microsecond however late it is asked, and indifferent to time zones: every 24 hours stays 24
/// hours when clocks are changed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use chrono::{DateTime, TimeDelta};
/// use jobrunr_core::schedule::{Interval, Schedule};
///
/// let created_at = DateTime::UNIX_EPOCH;
/// let interval = Interval::new(Duration::from_secs(90), created_at)?;
///
/// assert_eq!(interval.next_after(created_at), Some(created_at + TimeDelta::seconds(90)));
/// # Ok::<(), jobrunr_core::schedule::ScheduleError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "StoredInterval", into = "StoredInterval")]
pub struct Interval {
    every_microseconds: i64,
    created_at: DateTime<Utc>,
}

impl Interval {
    /// The shortest interval: one second.
    pub const SHORTEST: Duration = Duration::from_secs(1);
    /// The longest interval: 36 525 days, a century.
    pub const LONGEST: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);

    /// Creates an interval whose ticks are counted from `created_at`; both are cut to whole microseconds.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::IntervalOutOfRange`] if `every` is not within [`Interval::SHORTEST`] and
    /// [`Interval::LONGEST`].
    pub fn new(every: Duration, created_at: DateTime<Utc>) -> Result<Self, ScheduleError> {
        if !(Self::SHORTEST..=Self::LONGEST).contains(&every) {
            return Err(ScheduleError::IntervalOutOfRange { every });
        }
        let every_microseconds =
            i64::try_from(every.as_micros()).expect("a century in microseconds fits into 64 bits");
        Ok(Self { every_microseconds, created_at: to_micros(created_at) })
    }

    /// Returns the distance between two ticks.
    pub fn every(&self) -> Duration {
        Duration::from_micros(self.every_microseconds.unsigned_abs())
    }

    /// Returns the instant that ticks are counted from; it is not a tick itself.
    pub fn created_at(&self) -> DateTime<Utc> {
        self.created_at
    }
}

impl Schedule for Interval {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let created_at = self.created_at.timestamp_micros();
        let elapsed = after.timestamp_micros().checked_sub(created_at)?;
        let handled_ticks = elapsed.max(0) / self.every_microseconds;
        let next =
            handled_ticks.checked_add(1)?.checked_mul(self.every_microseconds)?.checked_add(created_at)?;
        DateTime::from_timestamp_micros(next)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "every {:?}", self.every())
    }
}

/// An interval as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredInterval {
    every_microseconds: u64,
    created_at: DateTime<Utc>,
}

impl TryFrom<StoredInterval> for Interval {
    type Error = ScheduleError;

    fn try_from(stored: StoredInterval) -> Result<Self, Self::Error> {
        Self::new(Duration::from_micros(stored.every_microseconds), stored.created_at)
    }
}

impl From<Interval> for StoredInterval {
    fn from(interval: Interval) -> Self {
        Self {
            every_microseconds: interval.every_microseconds.unsigned_abs(),
            created_at: interval.created_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn created_at() -> DateTime<Utc> {
        "2026-01-31T10:00:00.123456Z".parse().unwrap()
    }

    #[test]
    fn ticks_are_counted_from_the_creation_without_drift() {
        let every = Duration::from_micros(1_000_001);
        let interval = Interval::new(every, created_at()).unwrap();

        let mut tick = created_at();
        for k in 1..=10_000 {
            tick = interval.next_after(tick).unwrap();
            assert_eq!(tick, created_at() + TimeDelta::microseconds(k * 1_000_001));
        }
        assert_eq!(interval.next_after(tick - TimeDelta::nanoseconds(1)), Some(tick));
        assert_eq!(interval.next_after(tick + TimeDelta::nanoseconds(1)), Some(tick + every));
    }

    #[test]
    fn the_first_tick_is_one_interval_after_the_creation() {
        let interval = Interval::new(Duration::from_secs(60), created_at()).unwrap();
        let first = created_at() + TimeDelta::seconds(60);

        assert_eq!(interval.next_after(created_at()), Some(first));
        assert_eq!(interval.next_after(created_at() - TimeDelta::days(400)), Some(first));
    }

    #[test]
    fn the_end_of_time_has_no_next_tick() {
        let interval = Interval::new(Interval::LONGEST, created_at()).unwrap();

        assert_eq!(interval.next_after(DateTime::<Utc>::MAX_UTC), None);
        assert!(interval.next_after(DateTime::<Utc>::MIN_UTC).is_some());
    }

    #[test]
    fn intervals_below_a_second_or_above_a_century_are_refused() {
        for every in [Duration::ZERO, Duration::from_micros(999_999), Duration::from_secs(u64::MAX)] {
            let error = Interval::new(every, created_at()).unwrap_err();
            assert!(matches!(error, ScheduleError::IntervalOutOfRange { every: e } if e == every), "{error}");
        }
        assert!(Interval::new(Interval::SHORTEST, created_at()).is_ok());
    }
}
