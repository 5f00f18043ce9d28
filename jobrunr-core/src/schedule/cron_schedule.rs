//! A cron expression in a time zone, and what becomes of it when clocks are changed.

use std::fmt;

use chrono::{DateTime, Datelike, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::expression::RepeatedHour;
use super::local_time::{RepeatedTime, first_instant_of, local_time};
use super::{Cron, Schedule, zone};

/// Instants before 1900 are taken as 1900, which keeps clear of where calendars begin.
const FIRST_SECOND: i64 = -2_208_988_800;
/// There are no ticks from this year on.
const END_OF_TIME: i32 = 5000;

/// Fires whenever the wall clock of a time zone matches a cron expression.
///
/// Where clocks are changed, three rules decide:
///
/// - **A skipped local time runs once, right after the gap**, at the first instant that exists. Several skipped
///   times, and one that is due at that instant anyway, are one tick. In Brussels `30 2 * * *` runs at 03:00 on
///   the day the clock goes from 02:00 to 03:00.
/// - **A repeated local time of a schedule that names times runs once**, in the first pass: `30 2 * * *`,
///   `0,30 2 * * *`, `0 */2 * * *`.
/// - **A schedule that beats time runs through both passes**, so that there is no hole. It does so if its hour
///   field allows every hour (`0 * * * *`, `15,45 * * * *`), or if its minute or second field is written with
///   `*`, a range or a step (`*/15 * * * *`, `*/15 0-6 * * *`).
///
/// Ticks are whole seconds, at least one second apart, and end with the year 4999.
///
/// # Examples
///
/// ```
/// use chrono::{DateTime, Utc};
/// use jobrunr_core::schedule::{Cron, Schedule, Tz};
///
/// let report = Cron::daily_at(8, 0)?.in_zone(Tz::Europe__Brussels);
///
/// let friday: DateTime<Utc> = "2026-03-27T12:00:00Z".parse()?;
/// let saturday = report.next_after(friday).expect("a daily schedule does not end");
/// let sunday = report.next_after(saturday).expect("a daily schedule does not end");
///
/// assert_eq!(saturday.to_rfc3339(), "2026-03-28T07:00:00+00:00");
/// assert_eq!(sunday.to_rfc3339(), "2026-03-29T06:00:00+00:00"); // summer time has begun
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CronSchedule {
    expression: Cron,
    #[serde(default = "zone::utc", with = "zone")]
    zone: Tz,
}

impl CronSchedule {
    pub(super) fn new(expression: Cron, zone: Tz) -> Self {
        Self { expression, zone }
    }

    /// Returns the cron expression.
    pub fn expression(&self) -> &Cron {
        &self.expression
    }

    /// Returns the time zone whose wall clock decides.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    fn next_in_repeated_time(&self, repeated: &RepeatedTime, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = local_time(self.zone, after);
        let runs_twice = self.expression.repeated_hour() == RepeatedHour::RunsTwice;

        if after < repeated.second_pass_at {
            let next = self.expression.next_local_after(local)?;
            if next < repeated.ends {
                return Some(repeated.in_first_pass(next));
            }
            if runs_twice {
                let again = self.expression.next_local_from(repeated.starts)?;
                if again < repeated.ends {
                    return Some(repeated.in_second_pass(again));
                }
            }
            return Some(first_instant_of(self.zone, next));
        }

        let next = if runs_twice {
            self.expression.next_local_after(local)?
        } else {
            self.expression.next_local_from(repeated.ends)?
        };
        if next < repeated.ends {
            Some(repeated.in_second_pass(next))
        } else {
            Some(first_instant_of(self.zone, next))
        }
    }
}

impl Schedule for CronSchedule {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after.year() >= END_OF_TIME {
            return None;
        }
        let after = DateTime::from_timestamp(FIRST_SECOND, 0).map_or(after, |first| after.max(first));
        let next = match RepeatedTime::find_around(self.zone, after) {
            Some(repeated) => self.next_in_repeated_time(&repeated, after)?,
            None => {
                let next = self.expression.next_local_after(local_time(self.zone, after))?;
                first_instant_of(self.zone, next)
            }
        };
        (next.year() < END_OF_TIME).then_some(next)
    }
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\" in {}", self.expression, self.zone.name())
    }
}
