//! The cron expression: parsed, checked, and kept as it was written. Its grammar is in `expression`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use chrono::{Datelike, Month, NaiveDate, NaiveDateTime, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::expression::{self, RepeatedHour};
use super::{CronSchedule, ScheduleError};

/// The Gregorian calendar repeats after 400 years, weekdays included.
const CALENDAR_CYCLE: std::ops::Range<i32> = 2000..2400;

/// A valid cron expression that fires at least once in a while.
///
/// Five fields, or six with seconds in front:
///
/// | field | values | also |
/// |---|---|---|
/// | second | 0–59 | |
/// | minute | 0–59 | |
/// | hour | 0–23 | |
/// | day of month | 1–31 | `L` last day, `15W` weekday nearest to the 15th, `LW` last weekday, `?` = `*` |
/// | month | 1–12, `JAN`, `January` | |
/// | day of week | 0–7, `SUN`, `Sunday` (0 and 7 are Sunday) | `5L` last Friday, `MON#1` first Monday, `?` = `*` |
///
/// Each takes `*`, lists `1,15`, ranges `9-17`, and steps: `*/15`, `9-17/2`, and `5/15`, which is from 5 to the
/// field's maximum (Saturday for weekdays). Names are read in any case. If the day of month and the day of week
/// are both restricted, a day matches when either does. `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`,
/// `@midnight` and `@hourly` are short for the usual five fields.
///
/// An expression has no time zone: [`Cron::in_zone`] gives it one, and without it is read in UTC.
/// Two expressions are equal when they are written alike. Serialised as text.
///
/// # Examples
///
/// ```
/// use jobrunr_core::schedule::Cron;
///
/// let weekday_mornings: Cron = "30 8 * * MON-FRI".parse()?;
/// assert_eq!(weekday_mornings.to_string(), "30 8 * * MON-FRI");
///
/// let error = "30 24 * * *".parse::<Cron>().unwrap_err();
/// assert!(error.to_string().contains("the hour field has 24, and allows 0 to 23"));
/// # Ok::<(), jobrunr_core::schedule::ScheduleError>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: Arc<str>,
    pattern: Arc<croner::Cron>,
    repeated_hour: RepeatedHour,
}

impl Cron {
    /// Reads `text` as a cron expression; blanks around it are dropped.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::InvalidExpression`] if it is none, [`ScheduleError::NeverFires`] if no day of the
    /// calendar matches it, such as 30 February.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        let expression::Expression { pattern, repeated_hour } = expression::parse(text)?;
        if !has_a_day(&pattern) {
            return Err(ScheduleError::NeverFires { schedule: format!("\"{text}\"") });
        }
        Ok(Self { text: text.into(), pattern: Arc::new(pattern), repeated_hour })
    }

    /// Fires every `seconds` seconds: one of the divisors of 60 below 60.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::InvalidExpression`] for any other number, whose steps would be uneven: take an
    /// [`Interval`](super::Interval).
    pub fn every_n_seconds(seconds: u32) -> Result<Self, ScheduleError> {
        check_even_step(seconds, &format!("*/{seconds} * * * * *"))?;
        Self::parse(&format!("*/{seconds} * * * * *"))
    }

    /// Fires at the start of every minute.
    pub fn every_minute() -> Self {
        Self::known("* * * * *")
    }

    /// Fires every `minutes` minutes: one of the divisors of 60 below 60.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::InvalidExpression`] for any other number, whose steps would be uneven: take an
    /// [`Interval`](super::Interval).
    pub fn every_n_minutes(minutes: u32) -> Result<Self, ScheduleError> {
        check_even_step(minutes, &format!("*/{minutes} * * * *"))?;
        Self::parse(&format!("*/{minutes} * * * *"))
    }

    /// Fires at the start of every hour.
    pub fn hourly() -> Self {
        Self::known("0 * * * *")
    }

    /// Fires every hour at this minute (0–59).
    ///
    /// # Errors
    ///
    /// [`ScheduleError::InvalidExpression`] if there is no such minute.
    pub fn hourly_at(minute: u32) -> Result<Self, ScheduleError> {
        Self::parse(&format!("{minute} * * * *"))
    }

    /// Fires every day at midnight.
    pub fn daily() -> Self {
        Self::known("0 0 * * *")
    }

    /// Fires every day at this hour (0–23) and minute (0–59).
    ///
    /// # Errors
    ///
    /// [`ScheduleError::InvalidExpression`] if there is no such time.
    pub fn daily_at(hour: u32, minute: u32) -> Result<Self, ScheduleError> {
        Self::daily().at(hour, minute)
    }

    /// Fires from Monday to Friday at midnight.
    pub fn weekdays() -> Self {
        Self::known("0 0 * * MON-FRI")
    }

    /// Fires every Monday at midnight. The macro `@weekly` means Sunday.
    pub fn weekly() -> Self {
        Self::weekly_on(Weekday::Mon)
    }

    /// Fires on this day of the week at midnight.
    pub fn weekly_on(day: Weekday) -> Self {
        Self::known(&format!("0 0 * * {}", day.to_string().to_uppercase()))
    }

    /// Fires on the first day of every month at midnight.
    pub fn monthly() -> Self {
        Self::known("0 0 1 * *")
    }

    /// Fires on this day (1–31) of every month that has it, at midnight.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::InvalidExpression`] if no month has such a day.
    pub fn monthly_on(day: u32) -> Result<Self, ScheduleError> {
        Self::parse(&format!("0 0 {day} * *"))
    }

    /// Fires on the last day of every month at midnight.
    pub fn monthly_on_last_day() -> Self {
        Self::known("0 0 L * *")
    }

    /// Fires on the first of January at midnight.
    pub fn yearly() -> Self {
        Self::known("0 0 1 1 *")
    }

    /// Fires on this day of the year at midnight; 29 February only in leap years.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::InvalidExpression`] or [`ScheduleError::NeverFires`] if the month has no such day.
    pub fn yearly_on(month: Month, day: u32) -> Result<Self, ScheduleError> {
        Self::parse(&format!("0 0 {day} {} *", month.number_from_month()))
    }

    /// Keeps the days of this expression, and fires once on each, at this hour (0–23) and minute (0–59).
    ///
    /// # Errors
    ///
    /// [`ScheduleError::InvalidExpression`] if there is no such time.
    ///
    /// # Examples
    ///
    /// ```
    /// use chrono::Weekday;
    /// use jobrunr_core::schedule::Cron;
    ///
    /// assert_eq!(Cron::weekly_on(Weekday::Fri).at(17, 30)?, "30 17 * * FRI".parse()?);
    /// # Ok::<(), jobrunr_core::schedule::ScheduleError>(())
    /// ```
    pub fn at(&self, hour: u32, minute: u32) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = expression::fields(&self.text).collect();
        let days = fields[fields.len() - 3..].join(" ");
        Self::parse(&format!("{minute} {hour} {days}"))
    }

    /// Reads the expression in this time zone.
    pub fn in_zone(self, zone: Tz) -> CronSchedule {
        CronSchedule::new(self, zone)
    }

    /// Returns the expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn repeated_hour(&self) -> RepeatedHour {
        self.repeated_hour
    }

    /// The first matching local time strictly later than `local`.
    pub(super) fn next_local_after(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        // The only way to fail is to reach the end of croner's calendar, the year 5000.
        self.pattern.find_next_occurrence(&local, false).ok()
    }

    /// The first matching local time that is `local`, a whole second, or later.
    pub(super) fn next_local_from(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        self.pattern.find_next_occurrence(&local, true).ok()
    }

    fn known(text: &str) -> Self {
        Self::parse(text).expect("an expression written in this file is valid")
    }
}

/// Whether the calendar has a day that matches; every hour, minute and second field has a value.
fn has_a_day(pattern: &croner::Cron) -> bool {
    let months: Vec<u32> = pattern.pattern.months.values().into_iter().map(u32::from).collect();
    CALENDAR_CYCLE
        .flat_map(|year| months.iter().map(move |month| (year, *month)))
        .flat_map(|(year, month)| (1..=31).filter_map(move |day| NaiveDate::from_ymd_opt(year, month, day)))
        .any(|date| matches_day(pattern, date))
}

fn matches_day(pattern: &croner::Cron, date: NaiveDate) -> bool {
    let weekday = croner::Weekday::from_days_from_sunday(date.weekday().num_days_from_sunday());
    pattern
        .pattern
        .day_match(date.year(), date.month(), date.day(), weekday)
        .expect("a date of the calendar is one that croner knows")
}

fn check_even_step(step: u32, expression: &str) -> Result<(), ScheduleError> {
    if step != 0 && step < 60 && 60 % step == 0 {
        return Ok(());
    }
    Err(ScheduleError::InvalidExpression {
        expression: expression.to_owned(),
        problem: format!("steps of {step} do not divide 60 evenly"),
        advice: "choose 1, 2, 3, 4, 5, 6, 10, 12, 15, 20 or 30, or use an interval".to_owned(),
    })
}

impl FromStr for Cron {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Cron {
    type Error = ScheduleError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Cron {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text.as_ref().to_owned()
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Cron").field(&self.text).finish()
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl Hash for Cron {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.text.hash(hasher);
    }
}
