//! Tables of what cron expressions mean, and of what is said about those that mean nothing.

use std::time::{Duration, Instant};

use chrono::{DateTime, Month, NaiveDateTime, Utc, Weekday};

use super::{Cron, Schedule, ScheduleError, Tz};

fn cron(text: &str) -> Cron {
    Cron::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn ticks(text: &str, from: &str, count: usize) -> Vec<DateTime<Utc>> {
    let schedule = cron(text).in_zone(Tz::UTC);
    let from = utc(from);
    std::iter::successors(schedule.next_after(from), |tick| schedule.next_after(*tick)).take(count).collect()
}

fn utc(text: &str) -> DateTime<Utc> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap().and_utc()
}

#[test]
fn equivalent_expressions_fire_at_the_same_instants() {
    let table = [
        ("5/15 * * * *", "5,20,35,50 * * * *"),
        ("55/10 * * * *", "55 * * * *"),
        ("*/25 * * * *", "0,25,50 * * * *"),
        ("*/60 * * * *", "0 * * * *"),
        ("10-30/10 * * * *", "10,20,30 * * * *"),
        ("1-3,2-5,40 * * * *", "1,2,3,4,5,40 * * * *"),
        ("08 007 * * *", "8 7 * * *"),
        ("0 20/2 * * *", "0 20,22 * * *"),
        ("0 0 20/5 * *", "0 0 20,25,30 * *"),
        ("0 0 1 jan-MAR,December *", "0 0 1 1-3,12 *"),
        ("0 0 1 november/1 *", "0 0 1 11,12 *"),
        ("0 0 1 2/4 *", "0 0 1 FEB,JUN,OCT *"),
        ("0 0 * * mon-FRI", "0 0 * * 1-5"),
        ("0 0 * * Monday,tue,WEDNESDAY", "0 0 * * 1,2,3"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * SAT-SUN", "0 0 * * 0,6"),
        ("0 0 * * 5-7", "0 0 * * FRI,SAT,SUN"),
        ("0 0 * * 7-2", "0 0 * * SUN-TUE"),
        ("0 0 * * 0-7", "0 0 * * *"),
        ("0 0 * * 1/2", "0 0 * * 1,3,5"),
        ("0 0 * * 7/3", "0 0 * * SUN,WED,SAT"),
        ("0 0 * * */2", "0 0 * * 0,2,4,6"),
        ("0 0 * * 5l", "0 0 * * FridayL"),
        ("0 0 * * SUN#2", "0 0 * * 7#2"),
        ("0 0 ? * MON", "0 0 * * MON"),
        ("0 0 15 * ?", "0 0 15 * *"),
        ("0 0 */1 * MON", "0 0 * * MON"),
        ("0 0 15 * */1", "0 0 15 * *"),
        ("0 0 l * *", "0 0 31,L * *"),
        ("0 30 8 * * *", "30 8 * * *"),
        ("* * * * * *", "*/1 * * * * *"),
        ("\t0   8 * *\t* \n", "0 8 * * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@Annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@DAILY", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ];

    for (one, other) in table {
        let from = "2026-01-31 23:59:59";
        assert_eq!(ticks(one, from, 200), ticks(other, from, 200), "{one} is {other}");
    }
}

#[test]
fn days_are_chosen_as_documented() {
    let table: [(&str, &str, &[&str]); 15] = [
        ("0 0 L * *", "2026-01-01 00:00:00", &["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("0 0 L 2 *", "2026-01-01 00:00:00", &["2026-02-28", "2027-02-28", "2028-02-29"]),
        ("0 0 10,L * *", "2026-01-11 00:00:00", &["2026-01-31", "2026-02-10", "2026-02-28"]),
        // 15 August 2026 is a Saturday, 15 November a Sunday.
        ("0 0 15W 8,11 *", "2026-01-01 00:00:00", &["2026-08-14", "2026-11-16"]),
        // Never into another month: 1 August 2026 is a Saturday, 31 May a Sunday.
        ("0 0 1W 8 *", "2026-01-01 00:00:00", &["2026-08-03"]),
        ("0 0 31W 5 *", "2026-01-01 00:00:00", &["2026-05-29"]),
        ("0 0 LW * *", "2026-01-01 00:00:00", &["2026-01-30", "2026-02-27", "2026-03-31"]),
        ("0 0 * * 5L", "2026-01-01 00:00:00", &["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 * * MON#1", "2026-01-05 00:00:00", &["2026-02-02", "2026-03-02"]),
        ("0 0 * * MON#1,THU#5", "2026-01-01 00:00:00", &["2026-01-05", "2026-01-29", "2026-02-02"]),
        (
            "0 0 13 * FRI",
            "2026-02-01 00:00:00",
            &["2026-02-06", "2026-02-13", "2026-02-20", "2026-02-27", "2026-03-06", "2026-03-13"],
        ),
        ("0 0 16 * MON#3", "2026-04-01 00:00:00", &["2026-04-16", "2026-04-20"]),
        (
            "0 0 */10 * MON",
            "2026-06-01 00:00:00",
            &["2026-06-08", "2026-06-11", "2026-06-15", "2026-06-21", "2026-06-22"],
        ),
        ("0 0 31 * *", "2026-01-31 00:00:00", &["2026-03-31", "2026-05-31"]),
        ("0 0 29 2 *", "2096-02-29 00:00:00", &["2104-02-29", "2108-02-29"]),
    ];

    for (text, from, days) in table {
        let expected: Vec<_> = days.iter().map(|day| utc(&format!("{day} 00:00:00"))).collect();
        assert_eq!(ticks(text, from, days.len()), expected, "{text}");
    }
}

#[test]
fn a_leading_sixth_field_is_seconds() {
    let expected = ["08:59:40", "09:00:00", "09:00:20"].map(|time| utc(&format!("2026-01-01 {time}")));

    assert_eq!(ticks("*/20 0,59 * * * *", "2026-01-01 08:59:20", 3), expected);
}

#[test]
fn a_tick_is_strictly_later_and_a_whole_second() {
    let schedule = cron("0 8 * * *").in_zone(Tz::UTC);
    let eight = utc("2026-01-01 08:00:00");
    let a_bit = chrono::TimeDelta::nanoseconds(1);

    assert_eq!(schedule.next_after(eight - a_bit), Some(eight));
    assert_eq!(schedule.next_after(eight), Some(utc("2026-01-02 08:00:00")));
    assert_eq!(schedule.next_after(eight + a_bit), Some(utc("2026-01-02 08:00:00")));
}

#[test]
fn an_invalid_expression_says_what_is_wrong_and_what_to_write() {
    let table = [
        ("", "it is empty; write minute, hour, day of month"),
        ("*", "it has 1 field;"),
        ("* * * *", "it has 4 fields;"),
        ("* * * * * * 2026", "it has 7 fields;"),
        ("60 * * * *", "the minute field has 60, and allows 0 to 59; write `*`, a number from 0 to 59"),
        ("60 * * * * *", "the second field has 60"),
        ("* 24 * * *", "the hour field has 24, and allows 0 to 23"),
        ("* * 0 * *", "the day-of-month field has 0, and allows 1 to 31"),
        ("* * 32W * *", "the day-of-month field has 32"),
        ("* * * 13 *", "the month field has 13"),
        ("* * * * 8", "the day-of-week field has 8"),
        ("99999999999999999999 * * * *", "the minute field has 99999999999999999999"),
        ("* * * * MONTUE", "the day-of-week field has `MONTUE`, which it does not know"),
        ("* * * MON *", "the month field has `MON`"),
        ("JAN * * * *", "the minute field has `JAN`"),
        ("* * * * Montag", "the day-of-week field has `Montag`"),
        ("-5 * * * *", "the minute field misses a value"),
        ("5- * * * *", "the minute field misses a value"),
        ("+5 * * * *", "the minute field has `+5`"),
        ("5,,6 * * * *", "the minute field has an empty item"),
        ("5, * * * *", "the minute field has an empty item"),
        (", * * * *", "the minute field has an empty item"),
        ("5,* * * * *", "lists `*`, which already means every value"),
        ("*-5 * * * *", "the minute field has `*`, which it does not know"),
        ("1-2-3 * * * *", "the minute field has `2-3`, which it does not know"),
        ("*/0 * * * *", "its step must be from 1 to 60"),
        ("*/90 * * * *", "its step must be from 1 to 60"),
        ("* */25 * * *", "its step must be from 1 to 24"),
        ("*/x * * * *", "whose step is not a number"),
        ("*/ * * * *", "whose step is not a number"),
        ("/5 * * * *", "the minute field misses a value"),
        ("1/2/3 * * * *", "whose step is not a number"),
        ("* 22-2 * * *", "the hour field has `22-2`, which runs backwards; write `22-23,0-2`"),
        ("* * * * FRI-MON", "which runs backwards; write `5-6,0-1`"),
        ("L * * * *", "the minute field has `L`"),
        ("* * 5L * *", "the day-of-month field has `5L`"),
        ("* * L-3 * *", "the day-of-month field has `L`"),
        ("* * L,LW * *", "cannot list both `L` and `LW`"),
        ("* * * * L", "has `L` without the weekday"),
        ("* * * * MON#6", "has `MON#6`, and a month has 1 to 5 of each weekday"),
        ("* * * * MON#", "has `MON#`"),
        ("* * * * #1", "the day-of-week field misses a value"),
        ("* * * * 15W", "the day-of-week field has `15W`"),
        ("* * W * *", "the day-of-month field misses a value"),
        ("? * * * *", "the minute field has `?`"),
        ("0 0 ?/2 * *", "the day-of-month field has `?`"),
        ("0 0 1 * +MON", "the day-of-week field has `+MON`"),
        ("@reboot", "there is no macro `@reboot`; write one of @yearly"),
        ("@daily 5", "there is no macro `@daily 5`"),
        ("0 8 * * é", "the day-of-week field has `é`"),
        ("0 8 * ééé *", "the month field has `ééé`"),
    ];

    for (text, expected) in table {
        let error = Cron::parse(text).expect_err(text);
        assert!(matches!(error, ScheduleError::InvalidExpression { .. }), "{text}: {error:?}");
        assert!(error.to_string().contains(expected), "{text}: {error}");
        assert!(error.to_string().contains(&format!("\"{text}\"")), "{text}: {error}");
    }
}

#[test]
fn an_expression_for_days_that_do_not_exist_never_fires() {
    for text in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 30W 2 *", "* * * 31 FEB *"] {
        let started_at = Instant::now();
        let error = Cron::parse(text).expect_err(text);

        assert!(matches!(error, ScheduleError::NeverFires { .. }), "{text}: {error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(started_at.elapsed() < Duration::from_secs(2), "{text} took {:?}", started_at.elapsed());
    }
}

#[test]
fn rare_days_are_found_quickly() {
    // The fifth Monday of a February needs a leap year that begins on a Thursday: up to 40 years.
    for text in ["0 0 29 2 *", "0 0 * 2 MON#5", "59 59 23 31 12 *", "0 0 29W 2 *"] {
        let schedule = cron(text).in_zone(Tz::Europe__Brussels);

        let mut next = utc("2000-01-01 00:00:00");
        let started_at = Instant::now();
        for _ in 0..20 {
            next = schedule.next_after(next).expect("it fires again");
        }

        assert!(started_at.elapsed() < Duration::from_millis(400), "{text}: {:?}", started_at.elapsed());
    }
}

#[test]
fn the_edges_of_time_end_a_schedule_without_panic() {
    let schedule = Cron::every_minute().in_zone(Tz::Pacific__Kiritimati);

    assert_eq!(schedule.next_after(DateTime::<Utc>::MAX_UTC), None);
    assert_eq!(schedule.next_after(utc("4999-12-31 23:59:59")), None);
    assert!(schedule.next_after(DateTime::<Utc>::MIN_UTC).is_some());
}

#[test]
fn helpers_write_the_expression_their_name_says() {
    let table = [
        (Cron::every_n_seconds(15).unwrap(), "*/15 * * * * *"),
        (Cron::every_minute(), "* * * * *"),
        (Cron::every_n_minutes(5).unwrap(), "*/5 * * * *"),
        (Cron::hourly(), "0 * * * *"),
        (Cron::hourly_at(20).unwrap(), "20 * * * *"),
        (Cron::daily(), "0 0 * * *"),
        (Cron::daily_at(8, 30).unwrap(), "30 8 * * *"),
        (Cron::weekdays(), "0 0 * * MON-FRI"),
        (Cron::weekdays().at(9, 0).unwrap(), "0 9 * * MON-FRI"),
        (Cron::weekly(), "0 0 * * MON"),
        (Cron::weekly_on(Weekday::Sun), "0 0 * * SUN"),
        (Cron::monthly(), "0 0 1 * *"),
        (Cron::monthly_on(31).unwrap(), "0 0 31 * *"),
        (Cron::monthly_on_last_day(), "0 0 L * *"),
        (Cron::yearly(), "0 0 1 1 *"),
        (Cron::yearly_on(Month::December, 24).unwrap().at(18, 0).unwrap(), "0 18 24 12 *"),
        (cron("*/5 * * * * MON").at(7, 45).unwrap(), "45 7 * * MON"),
        (cron("@monthly").at(7, 45).unwrap(), "45 7 1 * *"),
    ];

    for (helper, text) in table {
        assert_eq!(helper.as_str(), text);
    }
}

#[test]
fn helpers_refuse_times_that_do_not_exist() {
    let refused = [
        Cron::every_n_seconds(0),
        Cron::every_n_minutes(7),
        Cron::every_n_minutes(60),
        Cron::hourly_at(60),
        Cron::daily_at(24, 0),
        Cron::monthly_on(0),
        Cron::yearly_on(Month::February, 30),
        Cron::weekly().at(8, 99),
    ];

    for result in refused {
        let error = result.unwrap_err();
        assert!(
            matches!(error, ScheduleError::InvalidExpression { .. } | ScheduleError::NeverFires { .. }),
            "{error}"
        );
    }
}

#[test]
fn an_expression_is_kept_as_it_was_written() {
    let written = "0 8 1 January/3 monday";
    let expression = cron(written);

    assert_eq!(expression.to_string(), written);
    assert_eq!(format!("{expression:?}"), "Cron(\"0 8 1 January/3 monday\")");
    assert_eq!(serde_json::to_string(&expression).unwrap(), format!("\"{written}\""));
    assert_eq!(serde_json::from_str::<Cron>(&format!("\"{written}\"")).unwrap(), expression);
    assert_eq!(cron("  @daily\n").as_str(), "@daily");
}
