//! What can be wrong with a schedule, each time with what to write instead.

use std::error::Error;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// Why a schedule cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The text is not a cron expression.
    #[error("the cron expression \"{expression}\" is not valid: {problem}; {advice}")]
    InvalidExpression {
        /// The expression as it was given.
        expression: String,
        /// What is wrong with it.
        problem: String,
        /// What to write instead.
        advice: String,
    },
    /// The schedule has no tick at all, such as a cron expression for 30 February.
    #[error(
        "the schedule {schedule} never fires; choose days that exist, or an instant that is still to come"
    )]
    NeverFires {
        /// The schedule as text.
        schedule: String,
    },
    /// The time zone is not in the IANA database.
    #[error("the time zone \"{zone}\" is not known; {advice}")]
    UnknownZone {
        /// The name as it was given.
        zone: String,
        /// What to write instead.
        advice: String,
    },
    /// The interval is shorter than a second or longer than a century.
    #[error("an interval of {every:?} is out of range; choose one from 1 second to 36525 days")]
    IntervalOutOfRange {
        /// The interval as it was given.
        every: Duration,
    },
    /// Two ticks are less than a second apart.
    #[error(
        "the schedule {schedule} fires at {first} and again at {second}; keep ticks at least 1 second apart"
    )]
    TooFrequent {
        /// The schedule as text.
        schedule: String,
        /// The earlier tick of the pair.
        first: DateTime<Utc>,
        /// The later tick of the pair.
        second: DateTime<Utc>,
    },
    /// A schedule answered with a tick that is not later than the instant it was asked about.
    #[error(
        "the schedule {schedule} was asked for a tick after {after} and answered {tick}; \
         make `next_after` return a later instant, or `None`"
    )]
    NotLater {
        /// The schedule as text.
        schedule: String,
        /// The instant asked about.
        after: DateTime<Utc>,
        /// The answer.
        tick: DateTime<Utc>,
    },
    /// A stored custom schedule has a name that nobody registered.
    #[error(
        "no custom schedule is registered as \"{name}\" ({}); register it before jobs are scheduled",
        registered_names(registered)
    )]
    UnknownCustomSchedule {
        /// The name that was looked up.
        name: String,
        /// The names that are registered, in order.
        registered: Vec<String>,
    },
    /// A registered custom schedule could not be built from its data.
    #[error("the custom schedule \"{name}\" cannot be built from its data")]
    InvalidCustomSchedule {
        /// The name it is registered as.
        name: String,
        /// What its factory reported.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ScheduleError {
    /// Wraps the reason why the custom schedule `name` cannot be built from its data.
    pub fn invalid_custom(name: impl Into<String>, reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::InvalidCustomSchedule { name: name.into(), source: reason.into() }
    }
}

fn registered_names(names: &[String]) -> String {
    if names.is_empty() { "none is".to_owned() } else { format!("known: {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_custom_schedule_names_what_is_registered() {
        let nothing = ScheduleError::UnknownCustomSchedule { name: "tides".into(), registered: vec![] };
        let others = ScheduleError::UnknownCustomSchedule {
            name: "tides".into(),
            registered: vec!["moon".into(), "sun".into()],
        };

        assert!(nothing.to_string().contains("\"tides\" (none is)"), "{nothing}");
        assert!(others.to_string().contains("known: moon, sun"), "{others}");
    }
}
