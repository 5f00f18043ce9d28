//! When a recurring job runs: cron expressions in a time zone, intervals, and schedules of the user's own.
//!
//! A schedule answers one question, [`Schedule::next_after`], and is stored as a [`RecurringSchedule`].
//! Nothing here reads the system clock: every instant is an argument, every tick is exact to the microsecond.
//! What happens to missed or overlapping ticks is not decided here. Start reading at [`RecurringSchedule`].

mod cron;
mod cron_schedule;
mod custom;
mod error;
mod expression;
mod interval;
mod into_schedule;
mod local_time;
mod recurring;
mod validation;
mod zone;

#[cfg(test)]
mod daylight_saving_tests;
#[cfg(test)]
mod grammar_tests;
#[cfg(test)]
mod oracle_tests;

use std::fmt::Debug;

use chrono::{DateTime, Utc};

pub use chrono_tz::Tz;

pub use cron::Cron;
pub use cron_schedule::CronSchedule;
pub use custom::{CustomSchedule, CustomSchedules};
pub use error::ScheduleError;
pub use interval::Interval;
pub use into_schedule::IntoSchedule;
pub use recurring::RecurringSchedule;
pub use validation::{CHECKED_TICKS, SHORTEST_DISTANCE, validate};
pub use zone::{IntoZone, find_zone};

pub(crate) use validation::next_tick;

/// Tells the instants at which a recurring job runs.
///
/// *Promises* of an implementation: the answer depends on `after` and the schedule's own data only, never on
/// the clock, so that two servers agree on every tick; it is later than `after`; ticks are at least
/// [`SHORTEST_DISTANCE`] apart. [`validate`] checks the last two.
///
/// *Does not promise* to be called for every tick: a server that was down asks from a later instant.
///
/// # Examples
///
/// ```
/// use chrono::{DateTime, TimeDelta, Utc};
/// use jobrunr_core::schedule::Schedule;
///
/// /// Once, and never again.
/// #[derive(Debug)]
/// struct Once(DateTime<Utc>);
///
/// impl Schedule for Once {
///     fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
///         (after < self.0).then_some(self.0)
///     }
/// }
///
/// let launch = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
/// assert_eq!(Once(launch).next_after(DateTime::UNIX_EPOCH), Some(launch));
/// assert_eq!(Once(launch).next_after(launch), None);
/// ```
pub trait Schedule: Debug + Send + Sync {
    /// Returns the first tick strictly later than `after`; `None` means never again.
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>>;
}
