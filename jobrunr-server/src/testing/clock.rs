//! A clock that stands still until a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::clock::Clock;

/// A clock that stands still until it is moved. A clone is the same clock.
///
/// ```
/// # use std::time::Duration;
/// use jobrunr_core::clock::Clock;
/// use jobrunr_server::testing::TestClock;
///
/// let clock = TestClock::starting_at("2030-01-01T12:00:00Z".parse().unwrap());
/// clock.advance(Duration::from_secs(90));
///
/// assert_eq!(clock.now().to_string(), "2030-01-01 12:01:30 UTC");
/// ```
#[derive(Debug, Clone)]
pub struct TestClock {
    micros: Arc<AtomicI64>,
}

impl TestClock {
    /// A clock that shows this instant, in whole microseconds.
    #[must_use]
    pub fn starting_at(instant: DateTime<Utc>) -> Self {
        Self { micros: Arc::new(AtomicI64::new(instant.timestamp_micros())) }
    }

    /// Moves it on by this much.
    ///
    /// # Panics
    /// If it would show an instant that is too far away to be one.
    pub fn advance(&self, time: Duration) {
        let now = TimeDelta::from_std(time).ok().and_then(|time| self.now().checked_add_signed(time));
        self.set(now.expect("a clock is not moved on by hundreds of thousands of years"));
    }

    /// Makes it show this instant, earlier ones included: what jobs do when a clock is set back can be tested too.
    pub fn set(&self, instant: DateTime<Utc>) {
        self.micros.store(instant.timestamp_micros(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        let micros = self.micros.load(Ordering::SeqCst);
        DateTime::from_timestamp_micros(micros).expect("it was made of an instant")
    }
}
