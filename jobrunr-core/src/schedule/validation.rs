//! Checks that a schedule moves forward, and never fires twice within a second.

use std::fmt::Display;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Schedule, ScheduleError};
use crate::clock::to_micros;

/// The smallest distance between two ticks: one second.
pub const SHORTEST_DISTANCE: TimeDelta = TimeDelta::seconds(1);
/// How many ticks [`validate`] looks at.
pub const CHECKED_TICKS: usize = 1_000;

/// Checks the next [`CHECKED_TICKS`] ticks of `schedule` after `from`.
///
/// # Errors
///
/// [`ScheduleError::NeverFires`] if there is no tick at all, [`ScheduleError::TooFrequent`] if two are less than
/// [`SHORTEST_DISTANCE`] apart, [`ScheduleError::NotLater`] if it does not move forward.
///
/// # Examples
///
/// ```
/// use chrono::DateTime;
/// use jobrunr_core::schedule::{Cron, Tz, validate};
///
/// validate(&Cron::every_minute().in_zone(Tz::Europe__Brussels), DateTime::UNIX_EPOCH)?;
/// # Ok::<(), jobrunr_core::schedule::ScheduleError>(())
/// ```
pub fn validate(schedule: &dyn Schedule, from: DateTime<Utc>) -> Result<(), ScheduleError> {
    validate_described(schedule, &format_args!("{schedule:?}"), from)
}

/// As [`validate`], naming the schedule in errors as `description`.
pub(super) fn validate_described(
    schedule: &dyn Schedule,
    description: &dyn Display,
    from: DateTime<Utc>,
) -> Result<(), ScheduleError> {
    let Some(mut previous) = next_tick(schedule, description, from)? else {
        return Err(ScheduleError::NeverFires { schedule: description.to_string() });
    };
    for _ in 1..CHECKED_TICKS {
        let Some(tick) = next_tick(schedule, description, previous)? else {
            return Ok(());
        };
        if tick - previous < SHORTEST_DISTANCE {
            return Err(ScheduleError::TooFrequent {
                schedule: description.to_string(),
                first: previous,
                second: tick,
            });
        }
        previous = tick;
    }
    Ok(())
}

/// Asks for the next tick in whole microseconds, and refuses one that is not later.
pub(crate) fn next_tick(
    schedule: &dyn Schedule,
    description: &dyn Display,
    after: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, ScheduleError> {
    let after = to_micros(after);
    match schedule.next_after(after).map(to_micros) {
        Some(tick) if tick <= after => {
            Err(ScheduleError::NotLater { schedule: description.to_string(), after, tick })
        }
        next => Ok(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Cron, Tz};

    #[derive(Debug)]
    struct Steps {
        step: TimeDelta,
        until: DateTime<Utc>,
    }

    impl Schedule for Steps {
        fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
            (after < self.until).then(|| after + self.step)
        }
    }

    fn from() -> DateTime<Utc> {
        "2026-03-01T00:00:00Z".parse().unwrap()
    }

    fn steps(step: TimeDelta) -> Steps {
        Steps { step, until: DateTime::<Utc>::MAX_UTC }
    }

    #[test]
    fn ticks_a_second_apart_are_accepted() {
        validate(&steps(SHORTEST_DISTANCE), from()).unwrap();
        validate(&Cron::parse("* * * * * *").unwrap().in_zone(Tz::UTC), from()).unwrap();
    }

    #[test]
    fn ticks_closer_than_a_second_are_refused() {
        let error = validate(&steps(TimeDelta::microseconds(999_999)), from()).unwrap_err();

        assert!(matches!(error, ScheduleError::TooFrequent { .. }), "{error}");
        assert!(error.to_string().contains("Steps"), "{error}");
    }

    #[test]
    fn a_schedule_that_stands_still_is_refused() {
        for step in [TimeDelta::zero(), TimeDelta::seconds(-1), TimeDelta::nanoseconds(999)] {
            let error = validate(&steps(step), from()).unwrap_err();

            assert!(matches!(error, ScheduleError::NotLater { .. }), "{error}");
        }
    }

    #[test]
    fn a_schedule_may_end_but_not_before_it_began() {
        let brief = Steps { step: TimeDelta::hours(1), until: from() + TimeDelta::hours(3) };
        let over = Steps { step: TimeDelta::hours(1), until: from() };

        validate(&brief, from()).unwrap();
        assert!(matches!(validate(&over, from()), Err(ScheduleError::NeverFires { .. })));
    }
}
