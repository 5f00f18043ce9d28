//! The schedule that a recurring job stores, and how it is read back.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::validation::{next_tick, validate_described};
use super::{Cron, CronSchedule, CustomSchedule, CustomSchedules, Interval, Schedule, ScheduleError, Tz};

/// When a recurring job runs, as data.
///
/// Its JSON is part of the storage contract: an object whose `kind` is `cron`, `interval` or `custom`.
///
/// # Examples
///
/// ```
/// use jobrunr_core::schedule::{Cron, RecurringSchedule};
///
/// let stored = serde_json::to_string(&RecurringSchedule::from(Cron::daily()))?;
/// assert_eq!(stored, r#"{"kind":"cron","expression":"0 0 * * *","zone":"UTC"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecurringSchedule {
    /// Whenever the wall clock of a time zone matches a cron expression.
    Cron(CronSchedule),
    /// At an even distance from the creation.
    Interval(Interval),
    /// As user code says.
    Custom(CustomSchedule),
}

impl RecurringSchedule {
    /// Returns the first tick strictly later than `after`, in whole microseconds; `None` means never again.
    ///
    /// # Errors
    ///
    /// Only for a custom schedule: [`ScheduleError::UnknownCustomSchedule`] if it is not registered, what its
    /// factory reports, and [`ScheduleError::NotLater`] if its answer is not later than `after`.
    pub fn next_after(
        &self,
        after: DateTime<Utc>,
        custom: &CustomSchedules,
    ) -> Result<Option<DateTime<Utc>>, ScheduleError> {
        match self {
            Self::Cron(schedule) => Ok(schedule.next_after(after)),
            Self::Interval(schedule) => Ok(schedule.next_after(after)),
            Self::Custom(schedule) => next_tick(custom.build(schedule)?.as_ref(), self, after),
        }
    }

    /// Checks the ticks after `from`, as [`validate`](super::validate) does.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](super::validate) and [`RecurringSchedule::resolve`].
    pub fn validate(&self, from: DateTime<Utc>, custom: &CustomSchedules) -> Result<(), ScheduleError> {
        validate_described(self.resolve(custom)?.as_ref(), self, from)
    }

    /// Returns the schedule behind this data, to ask it more than once.
    ///
    /// # Errors
    ///
    /// Only for a custom schedule: [`ScheduleError::UnknownCustomSchedule`] if it is not registered, or what its
    /// factory reports.
    pub fn resolve(&self, custom: &CustomSchedules) -> Result<Arc<dyn Schedule>, ScheduleError> {
        match self {
            Self::Cron(schedule) => Ok(Arc::new(schedule.clone())),
            Self::Interval(schedule) => Ok(Arc::new(*schedule)),
            Self::Custom(schedule) => custom.build(schedule),
        }
    }
}

impl From<Cron> for RecurringSchedule {
    fn from(cron: Cron) -> Self {
        Self::Cron(cron.in_zone(Tz::UTC))
    }
}

impl From<CronSchedule> for RecurringSchedule {
    fn from(schedule: CronSchedule) -> Self {
        Self::Cron(schedule)
    }
}

impl From<Interval> for RecurringSchedule {
    fn from(interval: Interval) -> Self {
        Self::Interval(interval)
    }
}

impl From<CustomSchedule> for RecurringSchedule {
    fn from(schedule: CustomSchedule) -> Self {
        Self::Custom(schedule)
    }
}

impl fmt::Display for RecurringSchedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(schedule) => schedule.fmt(formatter),
            Self::Interval(schedule) => schedule.fmt(formatter),
            Self::Custom(schedule) => schedule.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Steps {
        seconds: i64,
    }

    impl Schedule for Steps {
        fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
            Some(after + TimeDelta::seconds(self.seconds) + TimeDelta::nanoseconds(42))
        }
    }

    fn now() -> DateTime<Utc> {
        "2026-01-31T10:00:00.123456Z".parse().unwrap()
    }

    fn steps(data: serde_json::Value) -> RecurringSchedule {
        CustomSchedule::new("steps", data).into()
    }

    fn with_steps() -> CustomSchedules {
        let mut custom = CustomSchedules::new();
        custom.register_type::<Steps>("steps");
        custom
    }

    #[test]
    fn the_stored_form_is_stable_and_comes_back() {
        let table = [
            (
                Cron::parse("0 8 * * MON").unwrap().in_zone(Tz::Europe__Brussels).into(),
                r#"{"kind":"cron","expression":"0 8 * * MON","zone":"Europe/Brussels"}"#,
            ),
            (
                Interval::new(Duration::from_millis(1_500), now()).unwrap().into(),
                r#"{"kind":"interval","every_microseconds":1500000,"created_at":"2026-01-31T10:00:00.123456Z"}"#,
            ),
            (steps(json!({"seconds": 5})), r#"{"kind":"custom","name":"steps","data":{"seconds":5}}"#),
        ];

        for (schedule, text) in table {
            let schedule: RecurringSchedule = schedule;
            assert_eq!(serde_json::to_string(&schedule).unwrap(), text);
            assert_eq!(serde_json::from_str::<RecurringSchedule>(text).unwrap(), schedule);
        }
    }

    #[test]
    fn a_stored_schedule_is_checked_when_it_is_read() {
        let table = [
            (json!({"kind": "cron", "expression": "61 * * * *"}), "the minute field has 61"),
            (json!({"kind": "cron", "expression": "0 0 30 2 *"}), "never fires"),
            (json!({"kind": "cron", "expression": "* * * * *", "zone": "Mars"}), "time zone \"Mars\""),
            (
                json!({"kind": "interval", "every_microseconds": 5, "created_at": "2026-01-01T00:00:00Z"}),
                "out of range",
            ),
        ];

        for (stored, problem) in table {
            let error = serde_json::from_value::<RecurringSchedule>(stored).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_custom_schedule_is_built_from_its_data() {
        let schedule = steps(json!({"seconds": 5}));

        schedule.validate(now(), &with_steps()).unwrap();
        let next = schedule.next_after(now(), &with_steps()).unwrap();

        assert_eq!(next, Some(now() + TimeDelta::seconds(5)), "cut to microseconds");
    }

    #[test]
    fn a_custom_schedule_that_cannot_be_used_says_why() {
        let unknown = steps(json!({})).next_after(now(), &CustomSchedules::new()).unwrap_err();
        let bad_data = steps(json!({"seconds": "five"})).next_after(now(), &with_steps()).unwrap_err();
        let stuck = steps(json!({"seconds": 0})).next_after(now(), &with_steps()).unwrap_err();

        assert!(matches!(unknown, ScheduleError::UnknownCustomSchedule { .. }), "{unknown}");
        assert!(matches!(bad_data, ScheduleError::InvalidCustomSchedule { .. }), "{bad_data}");
        assert!(stuck.to_string().starts_with("the schedule custom \"steps\" was asked"), "{stuck}");
    }

    #[test]
    fn the_data_of_a_custom_schedule_is_not_shown() {
        let schedule = steps(json!({"password": "hunter2"}));

        assert!(!format!("{schedule} {schedule:?}").contains("hunter2"));
    }

    #[test]
    fn every_kind_can_be_validated() {
        let none = CustomSchedules::new();

        RecurringSchedule::from(Cron::yearly()).validate(now(), &none).unwrap();
        RecurringSchedule::from(Interval::new(Interval::SHORTEST, now()).unwrap())
            .validate(now(), &none)
            .unwrap();
        assert!(steps(json!({})).validate(now(), &none).is_err());
    }
}
