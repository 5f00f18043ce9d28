//! Which ticks are due, and which of them are to be run: arithmetic on instants, without a clock or a storage.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{MisfirePolicy, RecurringJob};
use crate::schedule::{CustomSchedules, Schedule, ScheduleError};

/// The smallest step of time.
const MICROSECOND: TimeDelta = TimeDelta::microseconds(1);

/// What is to be done about a recurring job whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTicks {
    /// The ticks whose runs are to be created, oldest first; none if all are passed over.
    pub to_run: Vec<DateTime<Utc>>,
    /// The latest tick that is dealt with by that.
    pub last_tick_at: DateTime<Utc>,
    /// The tick after it, if the schedule has one.
    pub next_tick_at: Option<DateTime<Utc>>,
}

impl RecurringJob {
    /// What is to be done about the ticks up to `now`; `None` if none is due.
    ///
    /// A tick that is `on_time` old at most was not missed. Of several that are due at once only the latest can be on time;
    /// what becomes of the others the misfire policy says. However many there are, the work is logarithmic.
    ///
    /// # Errors
    /// Those of [`RecurringSchedule::resolve`](crate::schedule::RecurringSchedule::resolve), and
    /// [`ScheduleError::NotLater`] if a custom schedule stands still.
    pub fn due_ticks(
        &self,
        schedules: &CustomSchedules,
        now: DateTime<Utc>,
        on_time: Duration,
    ) -> Result<Option<DueTicks>, ScheduleError> {
        let Some(first) = self.next_tick_at().filter(|tick| *tick <= now) else { return Ok(None) };
        let until = self.delete_at.map_or(now, |end| now.min(end - MICROSECOND));
        let ticks = Ticks { job: self, schedule: &*self.schedule.resolve(schedules)? };
        let last_tick_at = ticks.last_until(first, until)?;
        let next_tick_at = ticks.next_after(last_tick_at)?;
        let is_missed = now - last_tick_at > TimeDelta::from_std(on_time).unwrap_or(TimeDelta::MAX);
        let to_run = match self.misfire {
            MisfirePolicy::Skip if is_missed => Vec::new(),
            MisfirePolicy::Skip | MisfirePolicy::RunOnce => vec![last_tick_at],
            MisfirePolicy::RunAll { at_most } => ticks.latest(at_most.max(1), first, last_tick_at)?,
        };
        Ok(Some(DueTicks { to_run, last_tick_at, next_tick_at }))
    }
}

struct Ticks<'a> {
    job: &'a RecurringJob,
    schedule: &'a dyn Schedule,
}

impl Ticks<'_> {
    fn next_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, ScheduleError> {
        crate::schedule::next_tick(self.schedule, &self.job.schedule, after)
    }

    /// The latest tick up to `until`, where `tick` is one of them: by halving what is left.
    fn last_until(&self, tick: DateTime<Utc>, until: DateTime<Utc>) -> Result<DateTime<Utc>, ScheduleError> {
        let (mut last, mut until) = (tick, until);
        while let Some(next) = self.next_after(last)?.filter(|next| *next <= until) {
            let middle = next + (until - next) / 2;
            match self.next_after(middle)?.filter(|tick| *tick <= until) {
                Some(tick) => last = tick,
                None => (last, until) = (next, middle),
            }
        }
        Ok(last)
    }

    /// The latest ticks from `first` to `last`, oldest first.
    fn latest(
        &self,
        at_most: u32,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
    ) -> Result<Vec<DateTime<Utc>>, ScheduleError> {
        let mut ticks = vec![last];
        let mut earliest = last;
        while earliest > first && u32::try_from(ticks.len()).is_ok_and(|count| count < at_most) {
            earliest = self.last_until(first, earliest - MICROSECOND)?;
            ticks.push(earliest);
        }
        ticks.reverse();
        Ok(ticks)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::job::JobDefinition;
    use crate::json_text::JsonText;
    use crate::recurring::JobTemplate;
    use crate::schedule::{Cron, CustomSchedule, Interval, RecurringSchedule, Tz};

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-{text}Z").parse().unwrap()
    }

    fn recurring(schedule: impl Into<RecurringSchedule>, next: DateTime<Utc>) -> RecurringJob {
        let definition = JobDefinition::new("report".parse().unwrap(), JsonText::parse("{}").unwrap());
        let id = "report".parse().unwrap();
        let created_at = at("01-01T00:00:00");
        let mut job = RecurringJob::new(id, schedule.into(), JobTemplate::from(&definition), created_at);
        job.set_next_tick(Some(next));
        job
    }

    fn hourly(misfire: MisfirePolicy) -> RecurringJob {
        RecurringJob { misfire, ..recurring(Cron::hourly(), at("06-01T01:00:00")) }
    }

    fn due(job: &RecurringJob, now: DateTime<Utc>) -> Option<DueTicks> {
        job.due_ticks(&CustomSchedules::new(), now, MINUTE).unwrap()
    }

    #[test]
    fn a_tick_is_due_at_its_instant_and_not_before() {
        let job = hourly(MisfirePolicy::Skip);

        assert_eq!(due(&job, at("06-01T00:59:59.999999")), None);
        let due = due(&job, at("06-01T01:00:00")).unwrap();
        assert_eq!(due.to_run, [at("06-01T01:00:00")]);
        assert_eq!(due.next_tick_at, Some(at("06-01T02:00:00")));
    }

    #[test]
    fn a_tick_that_is_late_by_no_more_than_what_counts_as_on_time_was_not_missed() {
        let job = hourly(MisfirePolicy::Skip);

        assert_eq!(due(&job, at("06-01T01:01:00")).unwrap().to_run, [at("06-01T01:00:00")]);
        let missed = due(&job, at("06-01T01:01:00.000001")).unwrap();
        assert!(missed.to_run.is_empty());
        assert_eq!(missed.last_tick_at, at("06-01T01:00:00"));
        assert_eq!(missed.next_tick_at, Some(at("06-01T02:00:00")));
    }

    #[test]
    fn the_policy_says_which_of_the_missed_ticks_are_run() {
        let now = at("06-01T05:30:00");
        let hours = |hours: &[u32]| -> Vec<_> {
            hours.iter().map(|hour| at(&format!("06-01T{hour:02}:00:00"))).collect()
        };
        for (misfire, expected) in [
            (MisfirePolicy::Skip, hours(&[])),
            (MisfirePolicy::RunOnce, hours(&[5])),
            (MisfirePolicy::RunAll { at_most: 1 }, hours(&[5])),
            (MisfirePolicy::RunAll { at_most: 3 }, hours(&[3, 4, 5])),
            (MisfirePolicy::RunAll { at_most: 5 }, hours(&[1, 2, 3, 4, 5])),
            (MisfirePolicy::RunAll { at_most: 100 }, hours(&[1, 2, 3, 4, 5])),
        ] {
            let due = due(&hourly(misfire), now).unwrap();

            assert_eq!(due.to_run, expected, "{misfire:?}");
            assert_eq!(due.last_tick_at, at("06-01T05:00:00"));
            assert_eq!(due.next_tick_at, Some(at("06-01T06:00:00")));
        }
    }

    #[test]
    fn ticks_from_the_end_of_the_recurring_job_on_are_none() {
        let mut job = RecurringJob {
            misfire: MisfirePolicy::RunAll { at_most: 10 },
            delete_at: Some(at("06-01T03:00:00")),
            ..hourly(MisfirePolicy::Skip)
        };

        assert_eq!(
            due(&job, at("06-01T05:30:00")).unwrap().to_run,
            [at("06-01T01:00:00"), at("06-01T02:00:00")]
        );
        job.set_next_tick(Some(at("06-01T03:00:00")));
        assert_eq!(job.next_run_at, Some(at("06-01T03:00:00")), "to be removed then");
        assert_eq!(job.next_tick_at(), None);
        assert_eq!(due(&job, at("06-01T05:30:00")), None);
    }

    /// A tick a second, counting how often it is asked.
    #[derive(Debug, Default)]
    struct Seconds(AtomicU32);

    impl Schedule for Seconds {
        fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            DateTime::from_timestamp(after.timestamp() + 1, 0)
        }
    }

    #[test]
    fn years_of_missed_seconds_are_found_in_a_few_steps() {
        let seconds = Arc::new(Seconds::default());
        let mut schedules = CustomSchedules::new();
        let own = Arc::clone(&seconds);
        schedules.register("seconds", move |_| Ok(Arc::clone(&own) as Arc<dyn Schedule>));
        let first = at("01-01T00:00:01");
        let job = recurring(CustomSchedule::new("seconds", serde_json::Value::Null), first);
        let job = RecurringJob { misfire: MisfirePolicy::RunOnce, ..job };
        let now = first + TimeDelta::days(3_650);

        let due = job.due_ticks(&schedules, now, MINUTE).unwrap().unwrap();

        assert_eq!(due.to_run, [now]);
        let asked = seconds.0.load(Ordering::Relaxed);
        assert!(asked < 150, "asked {asked} times");
    }

    #[test]
    fn the_latest_ticks_are_those_that_a_walk_from_tick_to_tick_finds() {
        let schedules: [RecurringSchedule; 6] = [
            Cron::parse("* * 2 * * *").unwrap().in_zone(Tz::Europe__Brussels).into(),
            Cron::parse("*/20 * * * *").unwrap().in_zone(Tz::Australia__Lord_Howe).into(),
            Cron::parse("30 2 * * *").unwrap().in_zone(Tz::America__New_York).into(),
            Cron::parse("0 0 L * *").unwrap().into(),
            Cron::parse("5,7 3 1,2 * *").unwrap().into(),
            Interval::new(Duration::from_micros(7_000_000_123), at("01-01T00:00:00.5")).unwrap().into(),
        ];
        let none = CustomSchedules::new();
        for schedule in schedules {
            let first = schedule.next_after(at("10-20T00:00:00"), &none).unwrap().unwrap();
            for hours in [0, 1, 5, 26, 24 * 7, 24 * 40] {
                let now = first + TimeDelta::hours(hours) + TimeDelta::microseconds(hours * 7_777);
                let mut walked = vec![first];
                while let Some(next) = schedule.next_after(walked[walked.len() - 1], &none).unwrap()
                    && next <= now
                {
                    walked.push(next);
                }
                let job = RecurringJob {
                    misfire: MisfirePolicy::RunAll { at_most: 9 },
                    ..recurring(schedule.clone(), first)
                };

                let due = due(&job, now).unwrap();

                let latest = &walked[walked.len().saturating_sub(9)..];
                assert_eq!(due.to_run, latest, "{schedule} until {now}");
            }
        }
    }
}
