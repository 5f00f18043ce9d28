//! Where local time and UTC part: clocks put forward (skipped times) and back (repeated times).
//!
//! Only the direction from UTC to local is taken as given, it has one answer; the edges of gaps and repeats
//! are found by bisection. The rules for schedules are in `cron_schedule`, not here.

use chrono::{DateTime, FixedOffset, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// A stretch of local time that a zone passes twice because the clock is put back.
#[derive(Debug, Clone, Copy)]
pub(super) struct RepeatedTime {
    /// When the clock is put back, and the second pass begins.
    pub(super) second_pass_at: DateTime<Utc>,
    /// The first local time that is passed twice.
    pub(super) starts: NaiveDateTime,
    /// The first local time afterwards that is passed once again.
    pub(super) ends: NaiveDateTime,
    offset_before: FixedOffset,
    offset_after: FixedOffset,
}

impl RepeatedTime {
    /// Finds the repeated stretch that holds the local time of `instant`.
    pub(super) fn find_around(zone: Tz, instant: DateTime<Utc>) -> Option<Self> {
        let local = local_time(zone, instant);
        let LocalResult::Ambiguous(one, other) = zone.from_local_datetime(&local) else {
            return None;
        };
        let (first, second) = (one.min(other), one.max(other));
        let offset_before = first.offset().fix();
        let offset_after = second.offset().fix();
        let second_pass_at = first_instant(first.to_utc(), second.to_utc(), |instant| {
            offset_at(zone, instant) != offset_before
        });
        Some(Self {
            second_pass_at,
            starts: second_pass_at.naive_utc() + offset_after,
            ends: second_pass_at.naive_utc() + offset_before,
            offset_before,
            offset_after,
        })
    }

    /// The instant of `local`, which this stretch must hold, in the first pass.
    pub(super) fn in_first_pass(&self, local: NaiveDateTime) -> DateTime<Utc> {
        (local - self.offset_before).and_utc()
    }

    /// The instant of `local`, which this stretch must hold, in the second pass.
    pub(super) fn in_second_pass(&self, local: NaiveDateTime) -> DateTime<Utc> {
        (local - self.offset_after).and_utc()
    }
}

/// The local time that a wall clock in `zone` shows at `instant`.
pub(super) fn local_time(zone: Tz, instant: DateTime<Utc>) -> NaiveDateTime {
    instant.naive_utc() + offset_at(zone, instant)
}

/// The first instant at which `local` is reached or, if it is skipped, passed over.
pub(super) fn first_instant_of(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(instant) => instant.to_utc(),
        LocalResult::Ambiguous(one, other) => one.min(other).to_utc(),
        LocalResult::None => {
            // Two days on either side: offsets reach 14 hours and the widest gap is a whole day.
            let around = local.and_utc();
            let reach = TimeDelta::days(2);
            first_instant(around - reach, around + reach, |instant| local_time(zone, instant) > local)
        }
    }
}

fn offset_at(zone: Tz, instant: DateTime<Utc>) -> FixedOffset {
    zone.offset_from_utc_datetime(&instant.naive_utc()).fix()
}

/// The first whole second after `no` at which `holds`, which must hold at `yes` and from then on.
fn first_instant(
    no: DateTime<Utc>,
    yes: DateTime<Utc>,
    holds: impl Fn(DateTime<Utc>) -> bool,
) -> DateTime<Utc> {
    let origin =
        DateTime::from_timestamp(no.timestamp(), 0).expect("a whole second of a valid instant is valid");
    let at = |seconds: i64| origin + TimeDelta::seconds(seconds);
    // Rounded up, for `yes` may lie within a second.
    let (mut no, mut yes) = (0, yes.timestamp() - no.timestamp() + 1);
    while yes - no > 1 {
        let middle = no + (yes - no) / 2;
        if holds(at(middle)) { yes = middle } else { no = middle }
    }
    at(yes)
}
