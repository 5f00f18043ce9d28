//! Compares schedules with a walk through every minute of UTC, which knows nothing of cron or time zones but
//! how to convert an instant to local time.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Timelike, Utc};
use proptest::prelude::*;

use super::{Cron, Schedule, Tz};

/// A five-field expression beside what it means.
#[derive(Debug, Clone)]
struct Meaning {
    text: String,
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    days: BTreeSet<u32>,
    months: BTreeSet<u32>,
    weekdays: BTreeSet<u32>,
    any_day: bool,
    any_weekday: bool,
    runs_through_both_passes: bool,
}

impl Meaning {
    fn matches(&self, local: NaiveDateTime) -> bool {
        // Looked at first, for it spares a debug build most of the work.
        if !self.minutes.contains(&local.minute()) || !self.hours.contains(&local.hour()) {
            return false;
        }
        let in_days = self.days.contains(&local.day());
        let in_weekdays = self.weekdays.contains(&local.weekday().num_days_from_sunday());
        let day = match (self.any_day, self.any_weekday) {
            (true, true) => true,
            (true, false) => in_weekdays,
            (false, true) => in_days,
            (false, false) => in_days || in_weekdays,
        };
        day && self.months.contains(&local.month())
    }

    /// An expression that restricts no day.
    fn daily(text: &str, minutes: &[u32], hours: &[u32], runs_through_both_passes: bool) -> Self {
        Self {
            text: text.to_owned(),
            minutes: minutes.iter().copied().collect(),
            hours: hours.iter().copied().collect(),
            days: (1..=31).collect(),
            months: (1..=12).collect(),
            weekdays: (0..=6).collect(),
            any_day: true,
            any_weekday: true,
            runs_through_both_passes,
        }
    }
}

/// Every minute after `from` and before `to`, with its local time and that of the minute before.
fn walk(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<(DateTime<Utc>, NaiveDateTime)> {
    let minute = TimeDelta::minutes(1);
    std::iter::successors(Some(from), |instant| Some(*instant + minute))
        .take_while(|instant| *instant < to)
        .map(|instant| (instant, instant.with_timezone(&zone).naive_local()))
        .collect()
}

/// `minutes` must not begin in a second pass.
fn expected_ticks(meaning: &Meaning, minutes: &[(DateTime<Utc>, NaiveDateTime)]) -> Vec<DateTime<Utc>> {
    let minute = TimeDelta::minutes(1);
    let mut latest = minutes[0].1;
    let mut previous = minutes[0].1;
    let mut ticks = Vec::new();
    for &(instant, local) in &minutes[1..] {
        let is_repeated = local <= latest;
        let runs_now = meaning.matches(local) && (meaning.runs_through_both_passes || !is_repeated);
        let is_owed = || {
            std::iter::successors(Some(previous + minute), |time| Some(*time + minute))
                .take_while(|time| *time < local)
                .any(|time| meaning.matches(time))
        };
        if runs_now || is_owed() {
            ticks.push(instant);
        }
        latest = latest.max(local);
        previous = local;
    }
    ticks
}

fn ticks(meaning: &Meaning, zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let schedule = Cron::parse(&meaning.text).unwrap().in_zone(zone);
    std::iter::successors(schedule.next_after(from), |tick| schedule.next_after(*tick))
        .take_while(|tick| *tick < to)
        .collect()
}

fn start_of(year: i32) -> DateTime<Utc> {
    format!("{year}-01-01T00:00:00Z").parse().unwrap()
}

#[test]
fn a_year_of_ticks_agrees_with_the_walk() {
    let all_hours: Vec<u32> = (0..24).collect();
    let meanings = [
        Meaning::daily("0 2 * * *", &[0], &[2], false),
        Meaning::daily("30 2 * * *", &[30], &[2], false),
        Meaning::daily("*/15 * * * *", &[0, 15, 30, 45], &all_hours, true),
        Meaning::daily("*/15 1-3 * * *", &[0, 15, 30, 45], &[1, 2, 3], true),
        Meaning::daily("0 * * * *", &[0], &all_hours, true),
    ];
    let years = [
        (Tz::Europe__Brussels, 2026),
        (Tz::America__New_York, 2026),
        (Tz::Australia__Lord_Howe, 2026),
        (Tz::Pacific__Apia, 2011),
    ];

    for (zone, year) in years {
        let (from, to) = (start_of(year), start_of(year + 1));
        let minutes = walk(zone, from, to);
        for meaning in &meanings {
            let expected = expected_ticks(meaning, &minutes);
            assert_eq!(ticks(meaning, zone, from, to), expected, "{} in {zone}", meaning.text);
        }
    }
}

/// A field as text, its values, and whether it is `*`.
type Field = (String, BTreeSet<u32>, bool);

fn field(min: u32, max: u32) -> impl Strategy<Value = Field> {
    let any = Just(("*".to_owned(), (min..=max).collect(), true));
    let list = prop::collection::vec(min..=max, 1..4).prop_map(|values| {
        let texts: Vec<String> = values.iter().map(u32::to_string).collect();
        (texts.join(","), values.into_iter().collect(), false)
    });
    let range = (min..=max, min..=max, 1..=max - min).prop_map(|(one, other, step)| {
        let (first, last) = (one.min(other), one.max(other));
        let step_by = usize::try_from(step).unwrap();
        let text = if step == 1 { format!("{first}-{last}") } else { format!("{first}-{last}/{step}") };
        (text, (first..=last).step_by(step_by).collect(), false)
    });
    let from_value_on = (min..=max, 1..=max - min).prop_map(move |(first, step)| {
        let step_by = usize::try_from(step).unwrap();
        (format!("{first}/{step}"), (first..=max).step_by(step_by).collect(), false)
    });
    let from_start_on = (2..=max - min).prop_map(move |step| {
        (format!("*/{step}"), (min..=max).step_by(usize::try_from(step).unwrap()).collect(), false)
    });
    prop_oneof![3 => any, 3 => list, 1 => range, 1 => from_value_on, 1 => from_start_on]
}

fn meaning() -> impl Strategy<Value = Meaning> {
    let months = prop_oneof![4 => Just(("*".to_owned(), (1..=12).collect(), true)), 1 => field(1, 12)];
    (field(0, 59), field(0, 23), field(1, 31), months, field(0, 6)).prop_map(
        |(minutes, hours, days, months, weekdays): (Field, Field, Field, Field, Field)| Meaning {
            text: format!("{} {} {} {} {}", minutes.0, hours.0, days.0, months.0, weekdays.0),
            runs_through_both_passes: hours.1.len() == 24 || minutes.0.contains(['*', '-', '/']),
            minutes: minutes.1,
            hours: hours.1,
            days: days.1,
            months: months.1,
            weekdays: weekdays.1,
            any_day: days.2,
            any_weekday: weekdays.2,
        },
    )
}

/// Noon of a day shortly before clocks are changed, and how many days to look at.
fn stretch() -> impl Strategy<Value = (Tz, DateTime<Utc>, i64)> {
    let changes = prop::sample::select(vec![
        (Tz::Europe__Brussels, "2026-03-26T12:00:00Z"),
        (Tz::Europe__Brussels, "2026-10-22T12:00:00Z"),
        (Tz::America__New_York, "2026-03-06T12:00:00Z"),
        (Tz::America__New_York, "2026-10-30T12:00:00Z"),
        // Changes at midnight, so that the skipped or repeated time touches another day.
        (Tz::Africa__Cairo, "2026-04-22T12:00:00Z"),
        (Tz::Africa__Cairo, "2026-10-28T12:00:00Z"),
        (Tz::Australia__Lord_Howe, "2026-04-02T12:00:00Z"),
        (Tz::Australia__Lord_Howe, "2026-10-01T12:00:00Z"),
        (Tz::Pacific__Apia, "2011-12-28T12:00:00Z"),
        (Tz::Asia__Kathmandu, "2026-02-26T12:00:00Z"),
    ]);
    (changes, 3..12_i64).prop_map(|((zone, from), days)| (zone, from.parse().unwrap(), days))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_expression_agrees_with_the_walk(meaning in meaning(), (zone, from, days) in stretch()) {
        // A combination such as 31 February is refused, and has a test of its own.
        prop_assume!(Cron::parse(&meaning.text).is_ok());
        let to = from + TimeDelta::days(days);

        let found = ticks(&meaning, zone, from, to);

        let expected = expected_ticks(&meaning, &walk(zone, from, to));
        prop_assert_eq!(&found, &expected);
        prop_assert!(found.is_sorted_by(|earlier, later| earlier < later));
    }

    #[test]
    fn asking_from_any_instant_finds_the_first_tick_after_it(
        meaning in meaning(), (zone, from, days) in stretch(), second in 0..86_400_i64,
    ) {
        prop_assume!(Cron::parse(&meaning.text).is_ok());
        let to = from + TimeDelta::days(days);
        let after = from + TimeDelta::seconds(second) + TimeDelta::days(second % days.min(4));
        let schedule = Cron::parse(&meaning.text).unwrap().in_zone(zone);

        let next = schedule.next_after(after);

        prop_assert!(next.is_none_or(|next| next > after));
        let first = expected_ticks(&meaning, &walk(zone, from, to)).into_iter().find(|tick| *tick > after);
        prop_assert_eq!(next.filter(|next| *next < to), first);
    }
}
