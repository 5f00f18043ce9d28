//! What happens to schedules when clocks are changed, hour by hour.

use chrono::{DateTime, NaiveDateTime, Utc};

use super::{Cron, CronSchedule, Schedule, Tz};

fn utc(text: &str) -> DateTime<Utc> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap().and_utc()
}

fn schedule(text: &str, zone: Tz) -> CronSchedule {
    Cron::parse(text).unwrap().in_zone(zone)
}

/// The ticks after `from` and up to `to`, as `03:00+02:00`.
fn local_ticks(text: &str, zone: Tz, from: &str, to: &str) -> Vec<String> {
    let (schedule, to) = (schedule(text, zone), utc(to));
    std::iter::successors(schedule.next_after(utc(from)), |tick| schedule.next_after(*tick))
        .take_while(|tick| *tick <= to)
        .map(|tick| tick.with_timezone(&zone).format("%H:%M%:z").to_string())
        .collect()
}

/// In Brussels, 29 March 2026: at 01:00 UTC the clock goes from 02:00 to 03:00.
fn brussels_forward(text: &str) -> Vec<String> {
    local_ticks(text, Tz::Europe__Brussels, "2026-03-28 23:30", "2026-03-29 03:00")
}

/// In Brussels, 25 October 2026: at 01:00 UTC the clock goes from 03:00 back to 02:00.
fn brussels_back(text: &str) -> Vec<String> {
    local_ticks(text, Tz::Europe__Brussels, "2026-10-24 23:30", "2026-10-25 03:00")
}

/// On Lord Howe, 4 October 2026: at 15:30 UTC of the 3rd the clock goes from 02:00 to 02:30.
fn lord_howe_forward(text: &str) -> Vec<String> {
    local_ticks(text, Tz::Australia__Lord_Howe, "2026-10-03 14:45", "2026-10-03 17:00")
}

/// On Lord Howe, 5 April 2026: at 15:00 UTC of the 4th the clock goes from 02:00 back to 01:30.
fn lord_howe_back(text: &str) -> Vec<String> {
    local_ticks(text, Tz::Australia__Lord_Howe, "2026-04-04 13:45", "2026-04-04 17:00")
}

#[test]
fn a_skipped_time_runs_once_right_after_the_gap() {
    assert_eq!(brussels_forward("0 2 * * *"), ["03:00+02:00"]);
    assert_eq!(brussels_forward("30 2 * * *"), ["03:00+02:00"]);
    assert_eq!(brussels_forward("59 59 2 * * *"), ["03:00+02:00"]);
    assert_eq!(brussels_forward("30 2,4 * * *"), ["03:00+02:00", "04:30+02:00"]);
    assert_eq!(brussels_forward("0 */2 * * *"), ["03:00+02:00", "04:00+02:00"]);
    assert_eq!(lord_howe_forward("0 2 * * *"), ["02:30+11:00"]);
    assert_eq!(lord_howe_forward("15 2 * * *"), ["02:30+11:00"]);
}

#[test]
fn several_skipped_times_and_the_first_time_after_the_gap_are_one_tick() {
    assert_eq!(brussels_forward("0,15,30,45 2 * * *"), ["03:00+02:00"]);
    assert_eq!(brussels_forward("*/20 2 * * *"), ["03:00+02:00"]);
    assert_eq!(brussels_forward("0 2,3 * * *"), ["03:00+02:00"]);
    assert_eq!(lord_howe_forward("*/10 2 * * *"), ["02:30+11:00", "02:40+11:00", "02:50+11:00"]);
}

#[test]
fn a_skipped_time_is_not_confused_with_one_that_does_not_match() {
    assert_eq!(brussels_forward("30 2 28 * *"), Vec::<String>::new());
    assert_eq!(brussels_forward("30 1 * * *"), ["01:30+01:00"]);
    assert_eq!(brussels_forward("0 3 * * *"), ["03:00+02:00"]);
}

#[test]
fn schedules_that_beat_time_have_no_hole_at_the_gap() {
    assert_eq!(
        brussels_forward("*/30 * * * *"),
        [
            "01:00+01:00",
            "01:30+01:00",
            "03:00+02:00",
            "03:30+02:00",
            "04:00+02:00",
            "04:30+02:00",
            "05:00+02:00"
        ]
    );
    assert_eq!(brussels_forward("0 * * * *"), ["01:00+01:00", "03:00+02:00", "04:00+02:00", "05:00+02:00"]);
    assert_eq!(lord_howe_forward("0 * * * *"), ["02:30+11:00", "03:00+11:00", "04:00+11:00"]);
}

#[test]
fn a_repeated_time_of_a_schedule_that_names_times_runs_in_the_first_pass_only() {
    assert_eq!(brussels_back("0 2 * * *"), ["02:00+02:00"]);
    assert_eq!(brussels_back("30 2 * * *"), ["02:30+02:00"]);
    assert_eq!(brussels_back("0,30 2 * * *"), ["02:00+02:00", "02:30+02:00"]);
    assert_eq!(brussels_back("0 */2 * * *"), ["02:00+02:00", "04:00+01:00"]);
    assert_eq!(brussels_back("0 1-3 * * *"), ["02:00+02:00", "03:00+01:00"]);
    assert_eq!(brussels_back("59 59 2 * * *"), ["02:59+02:00"]);
    assert_eq!(brussels_back("0 3 * * *"), ["03:00+01:00"]);
    assert_eq!(lord_howe_back("45 1 * * *"), ["01:45+11:00"]);
    assert_eq!(lord_howe_back("0 2 * * *"), ["02:00+10:30"]);
}

#[test]
fn schedules_that_beat_time_run_through_both_passes() {
    assert_eq!(
        brussels_back("*/30 * * * *"),
        [
            "02:00+02:00",
            "02:30+02:00",
            "02:00+01:00",
            "02:30+01:00",
            "03:00+01:00",
            "03:30+01:00",
            "04:00+01:00"
        ]
    );
    assert_eq!(brussels_back("0 * * * *"), ["02:00+02:00", "02:00+01:00", "03:00+01:00", "04:00+01:00"]);
    assert_eq!(brussels_back("45 * * * *"), ["01:45+02:00", "02:45+02:00", "02:45+01:00", "03:45+01:00"]);
    assert_eq!(brussels_back("*/30 2 * * *"), ["02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00"]);
    assert_eq!(
        lord_howe_back("*/15 * * * *")[..7],
        [
            "01:00+11:00",
            "01:15+11:00",
            "01:30+11:00",
            "01:45+11:00",
            "01:30+10:30",
            "01:45+10:30",
            "02:00+10:30"
        ]
    );
}

#[test]
fn it_does_not_matter_from_where_in_a_repeated_hour_one_asks() {
    let names_times = schedule("30 2 * * *", Tz::Europe__Brussels);
    let beats_time = schedule("*/30 2 * * *", Tz::Europe__Brussels);
    let (first, second) = (utc("2026-10-25 00:30"), utc("2026-10-25 01:30"));
    let tomorrow = utc("2026-10-26 01:30");

    for minute in 0..60 {
        let in_first_pass = utc("2026-10-25 00:00") + chrono::TimeDelta::minutes(minute);
        let in_second_pass = in_first_pass + chrono::TimeDelta::hours(1);

        let expected = if minute < 30 { first } else { tomorrow };
        assert_eq!(names_times.next_after(in_first_pass), Some(expected), "first pass, minute {minute}");
        assert_eq!(names_times.next_after(in_second_pass), Some(tomorrow), "second pass, minute {minute}");

        let expected = if minute < 30 { first } else { utc("2026-10-25 01:00") };
        assert_eq!(beats_time.next_after(in_first_pass), Some(expected), "first pass, minute {minute}");
        let expected = if minute < 30 { second } else { utc("2026-10-26 01:00") };
        assert_eq!(beats_time.next_after(in_second_pass), Some(expected), "second pass, minute {minute}");
    }
}

#[test]
fn a_skipped_day_runs_once_at_the_start_of_the_next() {
    // Samoa went from the end of 29 December 2011 to 31 December, at 10:00 UTC of the 30th.
    let days_of = |text| local_ticks(text, Tz::Pacific__Apia, "2011-12-29 13:00", "2011-12-30 20:00");

    assert_eq!(days_of("0 8 30 12 *"), ["00:00+14:00"]);
    assert_eq!(days_of("0 8 * * *"), ["08:00-10:00", "00:00+14:00", "08:00+14:00"]);
    assert_eq!(days_of("0 0 * * FRI"), ["00:00+14:00"]);
}
