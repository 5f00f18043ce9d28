//! From a request and a schedule to a recurring job that can be saved.

use std::fmt;

use chrono::{DateTime, Utc};

use super::{JobTemplate, MisfirePolicy, OverlapPolicy};
use crate::clock::to_micros;
use crate::limits::MAX_MISSED_RUNS;
use crate::names::{InvalidName, RecurringJobId};
use crate::request::{InvalidJob, JobBuilder, JobRequest};
use crate::schedule::{IntoSchedule, IntoZone, RecurringSchedule, ScheduleError, Tz};
use crate::scheduler::SchedulerError;

/// Why a recurring job was refused. Nothing was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRecurringJob {
    /// The id breaks its rule.
    #[error(transparent)]
    Id(#[from] InvalidName),
    /// The jobs it would create break a rule.
    #[error("its runs would be refused")]
    Job(#[from] InvalidJob),
    /// The schedule or the time zone is not one.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A time zone was given for a schedule that has none.
    #[error(
        "a time zone was given, but its schedule is {schedule}: only a cron expression is read in a zone"
    )]
    ZoneWithoutCron {
        /// The schedule.
        schedule: String,
    },
    /// Too many missed ticks, or none, would be made up for.
    #[error(
        "it would make up for {at_most} missed ticks; choose 1 to {MAX_MISSED_RUNS}, or `MisfirePolicy::Skip`"
    )]
    MissedRuns {
        /// How many.
        at_most: u32,
    },
}

/// One recurring job to be saved: a schedule, a request, and whatever should differ from the defaults.
///
/// # Examples
///
/// ```
/// use jobrunr_core::recurring::{MisfirePolicy, OverlapPolicy, RecurringJobBuilder};
/// use jobrunr_core::schedule::Cron;
/// # use jobrunr_core::JobRequest;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Cleanup;
/// # impl JobRequest for Cleanup { const JOB_TYPE: &'static str = "cleanup"; }
///
/// let nightly = RecurringJobBuilder::new(Cron::daily_at(2, 0), Cleanup)
///     .id("nightly-cleanup")
///     .zone("Europe/Brussels")
///     .misfire(MisfirePolicy::RunOnce)
///     .overlap(OverlapPolicy::QueueOne)
///     .retries(2);
/// # let _ = nightly;
/// ```
#[derive(Debug)]
#[must_use = "nothing is saved before `scheduler.save_recurring_job(…)`"]
pub struct RecurringJobBuilder<R, S> {
    id: Option<String>,
    schedule: S,
    zone: Option<Result<Tz, ScheduleError>>,
    run: JobBuilder<R>,
    misfire: MisfirePolicy,
    overlap: OverlapPolicy,
    delete_at: Option<DateTime<Utc>>,
}

impl<R: JobRequest, S: IntoSchedule> RecurringJobBuilder<R, S> {
    /// A recurring job that creates a run of the request at each tick of the schedule.
    pub fn new(schedule: S, request: R) -> Self {
        Self {
            id: None,
            schedule,
            zone: None,
            run: JobBuilder::new(request),
            misfire: MisfirePolicy::default(),
            overlap: OverlapPolicy::default(),
            delete_at: None,
        }
    }

    /// Under this id: 1 to 128 bytes of `A-Z`, `a-z`, `0-9` and `_.,()-`.
    ///
    /// By default the job type is the id, so that one recurring job can be had of a type without ids.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// By the wall clock of this time zone: a `Tz`, or an IANA name such as `"Europe/Brussels"`. Default UTC.
    pub fn zone(mut self, zone: impl IntoZone) -> Self {
        self.zone = Some(zone.into_zone());
        self
    }

    /// With runs called this; cut at 256 bytes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.run = self.run.name(name);
        self
    }

    /// With runs found by these labels, instead of those of the job type.
    pub fn labels<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.run = self.run.labels(labels);
        self
    }

    /// With runs in this queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.run = self.run.queue(queue);
        self
    }

    /// With runs of this priority.
    pub fn priority(mut self, priority: i32) -> Self {
        self.run = self.run.priority(priority);
        self
    }

    /// With runs that are retried so often; 0 = never.
    pub fn retries(mut self, retries: u32) -> Self {
        self.run = self.run.retries(retries);
        self
    }

    /// With this limit for one run.
    pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
        self.run = self.run.timeout(timeout);
        self
    }

    /// Doing this about ticks that were missed; default pass over them.
    pub fn misfire(mut self, policy: MisfirePolicy) -> Self {
        self.misfire = policy;
        self
    }

    /// Doing this at a tick while the run before has not ended; default pass over the tick.
    pub fn overlap(mut self, policy: OverlapPolicy) -> Self {
        self.overlap = policy;
        self
    }

    /// Removing itself at this instant, from which on there are no ticks.
    pub fn delete_at(mut self, instant: DateTime<Utc>) -> Self {
        self.delete_at = Some(instant);
        self
    }

    /// Checks everything that does not depend on what is stored.
    ///
    /// # Errors
    /// [`InvalidRecurringJob`] saying what breaks which rule.
    pub fn draft<'a>(self) -> Result<RecurringJobDraft<'a>, InvalidRecurringJob>
    where
        S: Send + 'a,
    {
        if let MisfirePolicy::RunAll { at_most } = self.misfire
            && !(1..=MAX_MISSED_RUNS).contains(&at_most)
        {
            return Err(InvalidRecurringJob::MissedRuns { at_most });
        }
        let zone = self.zone.transpose()?;
        let run = self.run.draft(DateTime::UNIX_EPOCH)?;
        let id = match self.id {
            Some(id) => RecurringJobId::try_from(id)?,
            None => RecurringJobId::of_signature(&run.definition.signature),
        };
        let schedule = self.schedule;
        Ok(RecurringJobDraft {
            id,
            schedule: Box::new(move |created_at| in_zone(schedule.into_schedule(created_at)?, zone)),
            template: JobTemplate::from(&run.definition),
            misfire: self.misfire,
            overlap: self.overlap,
            delete_at: self.delete_at.map(to_micros),
        })
    }

    /// As [`draft`](Self::draft), with an error that names it.
    pub(crate) fn labelled_draft<'a>(self) -> Result<RecurringJobDraft<'a>, SchedulerError>
    where
        S: Send + 'a,
    {
        let id = self.id.clone().unwrap_or_else(|| R::JOB_TYPE.to_owned());
        self.draft().map_err(|source| SchedulerError::InvalidRecurring { id, source })
    }
}

fn in_zone(schedule: RecurringSchedule, zone: Option<Tz>) -> Result<RecurringSchedule, InvalidRecurringJob> {
    match (schedule, zone) {
        (schedule, None) => Ok(schedule),
        (RecurringSchedule::Cron(cron), Some(zone)) => Ok(cron.expression().clone().in_zone(zone).into()),
        (other, Some(_)) => Err(InvalidRecurringJob::ZoneWithoutCron { schedule: other.to_string() }),
    }
}

/// Makes the schedule of a recurring job that was created then.
type MakeSchedule<'a> =
    Box<dyn FnOnce(DateTime<Utc>) -> Result<RecurringSchedule, InvalidRecurringJob> + Send + 'a>;

/// A recurring job whose request is out of sight, ready to be merged with what is stored.
pub struct RecurringJobDraft<'a> {
    /// Its id.
    pub id: RecurringJobId,
    /// What it creates at each tick.
    pub template: JobTemplate,
    /// What it does about missed ticks.
    pub misfire: MisfirePolicy,
    /// What it does while the run before has not ended.
    pub overlap: OverlapPolicy,
    /// When it removes itself.
    pub delete_at: Option<DateTime<Utc>>,
    pub(crate) schedule: MakeSchedule<'a>,
}

impl fmt::Debug for RecurringJobDraft<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecurringJobDraft").field("id", &self.id).finish_non_exhaustive()
    }
}
