//! Time: the clocks of this process and of the storage. Nothing outside this module reads the system clock.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use crate::storage::{ServerStore, StorageError};

/// Cuts an instant to whole microseconds, the resolution that every storage keeps.
#[must_use]
pub fn to_micros(instant: DateTime<Utc>) -> DateTime<Utc> {
    instant.trunc_subsecs(6)
}

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present instant, in whole microseconds.
    fn now(&self) -> DateTime<Utc>;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
    fn now(&self) -> DateTime<Utc> {
        to_micros(Utc::now())
    }
}

/// A clock that follows tokio's, for tests: it stands still and jumps as `tokio::time::pause` and `advance` say.
///
/// With a paused runtime a retry that is due in an hour runs at once, and still an hour later by this clock.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    started_at: DateTime<Utc>,
    start: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `started_at` now and goes on with tokio's time.
    #[must_use]
    pub fn starting_at(started_at: DateTime<Utc>) -> Self {
        Self { started_at: to_micros(started_at), start: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> DateTime<Utc> {
        let elapsed = TimeDelta::from_std(self.start.elapsed()).unwrap_or(TimeDelta::MAX);
        to_micros(self.started_at + elapsed)
    }
}

/// The storage's time, as well as this process knows it: a local clock plus the offset last measured.
///
/// All nodes of a cluster pass times of this clock to the storage, so their own clocks need not agree. Cloning shares
/// the offset.
#[derive(Debug, Clone)]
pub struct StorageClock {
    local: Arc<dyn Clock>,
    measured: Arc<Measured>,
}

/// How far two clocks may drift apart, in microseconds a second: 100 ppm, more than the crystals of computers differ.
const DRIFT: i64 = 100;

#[derive(Debug)]
struct Measured {
    offset_micros: AtomicI64,
    /// When it was last asked for, by the local clock; the minimum if never.
    asked_at_micros: AtomicI64,
    /// What the offset comes from.
    best: Mutex<Option<Measurement>>,
}

/// What one call has told of the storage's clock.
#[derive(Debug, Clone, Copy)]
struct Measurement {
    offset_micros: i64,
    /// How far off the offset may be, either way: half the round trip.
    error_micros: i64,
    /// By the local clock.
    at_micros: i64,
}

impl Measurement {
    /// How far off it may be by now.
    const fn error_at(&self, now_micros: i64) -> i64 {
        let age = now_micros.saturating_sub(self.at_micros).saturating_abs();
        self.error_micros.saturating_add(age / 1_000_000 * DRIFT)
    }

    /// Whether a later one is to be believed instead: it is as exact, or it shows that a clock was set.
    fn gives_way_to(&self, later: &Self) -> bool {
        let error = self.error_at(later.at_micros);
        let apart = later.offset_micros.abs_diff(self.offset_micros);
        later.error_micros <= error || i128::from(apart) > i128::from(error) + i128::from(later.error_micros)
    }
}

impl StorageClock {
    /// A storage clock over `local`, with no offset until one is [measured](Self::adjust).
    #[must_use]
    pub fn new(local: Arc<dyn Clock>) -> Self {
        let measured = Measured {
            offset_micros: AtomicI64::new(0),
            asked_at_micros: AtomicI64::new(i64::MIN),
            best: Mutex::new(None),
        };
        Self { local, measured: Arc::new(measured) }
    }

    /// The storage's present instant, estimated.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.local.now() + self.offset()
    }

    /// The local clock without the offset; take it before and after a call that tells the storage's time.
    #[must_use]
    pub fn local_now(&self) -> DateTime<Utc> {
        self.local.now()
    }

    /// Takes over the storage's time as told by a call that was sent and answered at these local instants.
    ///
    /// The storage is taken to have read its clock halfway, so the error is at most half the round trip. A call that took
    /// longer than one before says less and changes nothing, until clocks may have drifted by the difference, 100 µs a
    /// second; unless the two cannot both be right: then a clock was set, and the later one counts.
    pub fn adjust(&self, sent_at: DateTime<Utc>, storage_time: DateTime<Utc>, answered_at: DateTime<Utc>) {
        let error = (answered_at - sent_at) / 2;
        let offset = storage_time - (sent_at + error);
        let later = Measurement {
            offset_micros: offset.num_microseconds().unwrap_or(0),
            error_micros: error.num_microseconds().unwrap_or(i64::MAX).max(0),
            at_micros: answered_at.timestamp_micros(),
        };
        self.measured.asked_at_micros.store(later.at_micros, Ordering::Relaxed);
        let mut best = self.measured.best.lock().unwrap_or_else(PoisonError::into_inner);
        if best.is_none_or(|best| best.gives_way_to(&later)) {
            self.measured.offset_micros.store(later.offset_micros, Ordering::Relaxed);
            *best = Some(later);
        }
    }

    /// Asks the storage for its time and takes it over.
    ///
    /// # Errors
    /// What the storage says; the offset stays as it was then.
    pub async fn synchronise<S: ServerStore + ?Sized>(&self, storage: &S) -> Result<(), StorageError> {
        let sent_at = self.local_now();
        let storage_time = storage.storage_time().await?;
        self.adjust(sent_at, storage_time, self.local_now());
        Ok(())
    }

    /// Whether the storage was asked for its time longer ago than `age`, or never, or the local clock was set back since.
    #[must_use]
    pub fn is_older_than(&self, age: Duration) -> bool {
        let asked_at = self.measured.asked_at_micros.load(Ordering::Relaxed);
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let elapsed = self.local_now().timestamp_micros().checked_sub(asked_at);
        elapsed.is_none_or(|elapsed| elapsed < 0 || elapsed > age)
    }

    /// How far the storage's clock is ahead of the local one; negative if it is behind.
    #[must_use]
    pub fn offset(&self) -> TimeDelta {
        TimeDelta::microseconds(self.measured.offset_micros.load(Ordering::Relaxed))
    }
}

impl Default for StorageClock {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(DateTime<Utc>);

    impl Clock for Fixed {
        fn now(&self) -> DateTime<Utc> {
            self.0
        }
    }

    fn second(number: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(number, 0).unwrap()
    }

    #[test]
    fn half_the_round_trip_is_taken_off() {
        let clock = StorageClock::new(Arc::new(Fixed(second(104))));

        clock.adjust(second(100), second(3_602), second(104));

        assert_eq!(clock.offset(), TimeDelta::seconds(3_500));
        assert_eq!(clock.now(), second(3_604));
    }

    fn millisecond(number: i64) -> DateTime<Utc> {
        second(0) + TimeDelta::milliseconds(number)
    }

    #[test]
    fn what_took_longer_changes_nothing_until_the_clocks_may_have_drifted_as_far() {
        let clock = StorageClock::new(Arc::new(Fixed(millisecond(2))));
        clock.adjust(millisecond(0), millisecond(1), millisecond(2));

        // Read at the end of a call that had to connect first.
        clock.adjust(millisecond(1_000), millisecond(1_020), millisecond(1_020));
        assert_eq!(clock.offset(), TimeDelta::zero());

        // Ten milliseconds off at most; after 100 s the first may be eleven off.
        clock.adjust(millisecond(99_982), millisecond(99_995), millisecond(100_002));
        assert_eq!(clock.offset(), TimeDelta::milliseconds(3));
    }

    #[test]
    fn what_is_as_exact_counts_and_so_does_what_shows_that_a_clock_was_set() {
        let clock = StorageClock::new(Arc::new(Fixed(second(0))));
        clock.adjust(millisecond(0), millisecond(10), millisecond(20));

        clock.adjust(millisecond(30), millisecond(48), millisecond(50));
        assert_eq!(clock.offset(), TimeDelta::milliseconds(8));

        // It took longer, but the storage's clock cannot show this unless it was set.
        clock.adjust(millisecond(100), millisecond(5_200), millisecond(300));
        assert_eq!(clock.offset(), TimeDelta::milliseconds(5_000));
        clock.adjust(millisecond(400), millisecond(-60_000), millisecond(700));
        assert_eq!(clock.offset(), TimeDelta::milliseconds(-60_550));
    }

    #[test]
    fn an_offset_is_old_when_its_age_is_over_and_when_the_local_clock_was_set_back() {
        let clock = StorageClock::new(Arc::new(Fixed(second(100))));
        let age = Duration::from_secs(50);
        assert!(clock.is_older_than(age), "never measured");

        clock.adjust(second(50), second(50), second(50));
        assert!(!clock.is_older_than(age));
        clock.adjust(second(49), second(49), second(49));
        assert!(clock.is_older_than(age));
        clock.adjust(second(101), second(101), second(101));
        assert!(clock.is_older_than(age), "measured later than now");
    }

    #[test]
    fn a_storage_that_answers_slowly_is_not_asked_again_at_once() {
        let clock = StorageClock::new(Arc::new(Fixed(second(400))));
        clock.adjust(second(0), second(0), second(0));
        assert!(clock.is_older_than(Duration::from_secs(300)));

        clock.adjust(second(398), second(399), second(400));

        assert_eq!(clock.offset(), TimeDelta::zero(), "it says less than the first");
        assert!(!clock.is_older_than(Duration::from_secs(300)));
    }

    #[test]
    fn a_clone_follows_the_measured_offset() {
        let clock = StorageClock::new(Arc::new(Fixed(second(0))));
        let clone = clock.clone();

        clock.adjust(second(0), second(60), second(0));

        assert_eq!(clone.now(), second(60));
    }

    #[tokio::test(start_paused = true)]
    async fn the_tokio_clock_moves_with_tokio() {
        let clock = TokioClock::starting_at(second(1));

        tokio::time::advance(std::time::Duration::from_secs(3_600)).await;

        assert_eq!(clock.now(), second(3_601));
    }
}
