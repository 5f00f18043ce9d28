//! What may be written where a recurring job wants a schedule: text, an expression, a duration, …

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Cron, CronSchedule, CustomSchedule, Interval, RecurringSchedule, ScheduleError};

/// Becomes the schedule of a recurring job when that job is created.
///
/// A cron expression without a zone is read in UTC; a [`Duration`] counts its ticks from the creation. A
/// [`Result`] of any of these works too, so that fallible constructors need no `?` on the way.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use chrono::DateTime;
/// use jobrunr_core::schedule::{Cron, IntoSchedule, Tz};
///
/// let created_at = DateTime::UNIX_EPOCH;
/// let nightly = Cron::daily_at(3, 30).into_schedule(created_at)?;
/// let in_brussels = ("30 3 * * *", Tz::Europe__Brussels).into_schedule(created_at)?;
/// let often = Duration::from_secs(30).into_schedule(created_at)?;
///
/// assert_eq!(nightly.to_string(), "\"30 3 * * *\" in UTC");
/// assert_eq!(in_brussels.to_string(), "\"30 3 * * *\" in Europe/Brussels");
/// assert_eq!(often.to_string(), "every 30s");
/// # Ok::<(), jobrunr_core::schedule::ScheduleError>(())
/// ```
pub trait IntoSchedule {
    /// Turns this into a schedule; `created_at` is when the recurring job is created.
    ///
    /// # Errors
    ///
    /// A [`ScheduleError`] if it is not a valid schedule.
    fn into_schedule(self, created_at: DateTime<Utc>) -> Result<RecurringSchedule, ScheduleError>;
}

impl IntoSchedule for RecurringSchedule {
    fn into_schedule(self, _: DateTime<Utc>) -> Result<RecurringSchedule, ScheduleError> {
        Ok(self)
    }
}

impl IntoSchedule for &str {
    fn into_schedule(self, _: DateTime<Utc>) -> Result<RecurringSchedule, ScheduleError> {
        Ok(Cron::parse(self)?.into())
    }
}

impl IntoSchedule for Duration {
    fn into_schedule(self, created_at: DateTime<Utc>) -> Result<RecurringSchedule, ScheduleError> {
        Ok(Interval::new(self, created_at)?.into())
    }
}

impl IntoSchedule for (Cron, chrono_tz::Tz) {
    fn into_schedule(self, _: DateTime<Utc>) -> Result<RecurringSchedule, ScheduleError> {
        let (cron, zone) = self;
        Ok(cron.in_zone(zone).into())
    }
}

impl IntoSchedule for (&str, chrono_tz::Tz) {
    fn into_schedule(self, created_at: DateTime<Utc>) -> Result<RecurringSchedule, ScheduleError> {
        let (text, zone) = self;
        (Cron::parse(text)?, zone).into_schedule(created_at)
    }
}

impl<S: IntoSchedule> IntoSchedule for Result<S, ScheduleError> {
    fn into_schedule(self, created_at: DateTime<Utc>) -> Result<RecurringSchedule, ScheduleError> {
        self?.into_schedule(created_at)
    }
}

macro_rules! into_schedule_as_it_is {
    ($($schedule:ty),*) => {$(
        impl IntoSchedule for $schedule {
            fn into_schedule(self, _: DateTime<Utc>) -> Result<RecurringSchedule, ScheduleError> {
                Ok(self.into())
            }
        }
    )*};
}

into_schedule_as_it_is!(Cron, CronSchedule, Interval, CustomSchedule);
