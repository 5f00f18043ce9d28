//! Recurring jobs: saving, pausing, triggering and deleting them. Their runs are created by the servers.

use chrono::{DateTime, Utc};
use futures_util::future::join_all;

use super::{JobScheduler, MAX_TRIES, SchedulerError};
use crate::ids::{JobId, Version};
use crate::job::Job;
use crate::names::RecurringJobId;
use crate::recurring::{
    InvalidRecurringJob, OverlapPolicy, RecurringJob, RecurringJobBuilder, RecurringJobDraft,
};
use crate::request::JobRequest;
use crate::schedule::{CustomSchedules, IntoSchedule, RecurringSchedule, ScheduleError};
use crate::state::StateName;
use crate::storage::{JobCursor, JobQuery, RecurringJobQuery, RecurringSave, StorageError, StorageExt};

/// How many runs of a deleted recurring job are looked at in one step.
const PAGE: usize = 1_000;
/// How many of the oldest open runs are looked at when one is triggered: more than one, so that those that have ended grow
/// fewer, and few, so that it costs little where none has.
const LOOKED_AT: usize = 8;

impl JobScheduler {
    /// Runs the request at every tick of the schedule: a cron expression as text or [`Cron`](crate::schedule::Cron), with or
    /// without a zone, a [`Duration`](std::time::Duration) between ticks, or a schedule of your own.
    ///
    /// A recurring job with this id is replaced. Saving one again that has not changed does nothing, so a program may do it
    /// whenever it starts. With the schedule unchanged, ticks are counted on: an interval goes on from when it was created,
    /// and ticks that were missed meanwhile are not forgotten. A paused one stays paused.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use jobrunr_core::{JobRequest, JobScheduler, memory::MemoryStorage, schedule::Cron};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Cleanup;
    /// # impl JobRequest for Cleanup { const JOB_TYPE: &'static str = "cleanup"; }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let scheduler = JobScheduler::new(Arc::new(MemoryStorage::new()));
    /// scheduler.schedule_recurrently("nightly", Cron::daily(), Cleanup).await?;
    /// scheduler.schedule_recurrently("often", "*/5 * * * *", Cleanup).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SchedulerError::InvalidRecurring`] saying what is wrong, [`SchedulerError::Storage`],
    /// [`SchedulerError::RecurringContended`].
    pub async fn schedule_recurrently<R: JobRequest>(
        &self,
        id: impl AsRef<str> + Send,
        schedule: impl IntoSchedule + Send,
        request: R,
    ) -> Result<RecurringJobId, SchedulerError> {
        let builder = RecurringJobBuilder::new(schedule, request).id(id.as_ref());
        self.save_recurring_job(builder).await
    }

    /// Saves the recurring job that the builder describes, as [`schedule_recurrently`](Self::schedule_recurrently) does.
    ///
    /// # Errors
    /// As [`schedule_recurrently`](Self::schedule_recurrently).
    pub async fn save_recurring_job<R: JobRequest, S: IntoSchedule + Send>(
        &self,
        builder: RecurringJobBuilder<R, S>,
    ) -> Result<RecurringJobId, SchedulerError> {
        self.save_recurring_draft(builder.labelled_draft()?).await
    }

    /// Saves a recurring job whose request is out of sight.
    ///
    /// # Errors
    /// As [`schedule_recurrently`](Self::schedule_recurrently).
    pub async fn save_recurring_draft(
        &self,
        draft: RecurringJobDraft<'_>,
    ) -> Result<RecurringJobId, SchedulerError> {
        let RecurringJobDraft { id, template, misfire, overlap, delete_at, schedule } = draft;
        let refused =
            |source: InvalidRecurringJob| SchedulerError::InvalidRecurring { id: id.to_string(), source };
        let mut now = self.now().await?;
        let mut stored = self.find_readable(&id).await?;
        let created_at = stored.as_ref().map_or(now, |stored| stored.created_at);
        let schedule = schedule(created_at).map_err(refused)?;
        let mut given = RecurringJob::new(id.clone(), schedule, template, created_at);
        (given.misfire, given.overlap, given.delete_at) = (misfire, overlap, delete_at);
        for _ in 0..MAX_TRIES {
            let job =
                self.merged(given.clone(), stored.as_ref(), now).map_err(|error| refused(error.into()))?;
            if stored
                .is_some_and(|stored| RecurringJob { updated_at: stored.updated_at, ..job.clone() } == stored)
            {
                return Ok(id);
            }
            if let RecurringSave::Saved(_) = self.storage.save_recurring_job(&job).await? {
                return Ok(id);
            }
            // Race: a tick was dealt with, or somebody else saved it, since it was loaded.
            stored = self.find_readable(&id).await?;
            now = self.now().await?;
        }
        Err(SchedulerError::RecurringContended { action: "save", id })
    }

    /// What is to be stored: what was given, going on from where the stored one is.
    fn merged(
        &self,
        given: RecurringJob,
        stored: Option<&RecurringJob>,
        now: DateTime<Utc>,
    ) -> Result<RecurringJob, ScheduleError> {
        let mut job = RecurringJob { updated_at: now, ..given };
        let is_schedule_known = stored.is_some_and(|stored| stored.schedule == job.schedule);
        // The others keep their distance by construction, and asking a thousand times is not for nothing.
        if !is_schedule_known && matches!(job.schedule, RecurringSchedule::Custom(_)) {
            job.schedule.validate(now, &self.schedules)?;
        }
        let Some(stored) = stored else {
            job.created_at = now;
            job.set_next_tick(job.schedule.next_after(now, &self.schedules)?);
            return Ok(job);
        };
        job.version = stored.version;
        job.created_at = stored.created_at;
        job.last_tick_at = stored.last_tick_at;
        job.paused = stored.paused;
        if job.overlap != OverlapPolicy::Allow {
            job.open_runs.clone_from(&stored.open_runs);
        }
        let known_tick = stored.next_tick_at().filter(|_| is_schedule_known);
        let next_tick = match known_tick {
            _ if job.paused => None,
            Some(tick) => Some(tick),
            None => self.tick_after(&job, now)?,
        };
        if !job.paused {
            job.set_next_tick(next_tick);
        }
        Ok(job)
    }

    /// The first tick that is neither past nor dealt with.
    fn tick_after(
        &self,
        job: &RecurringJob,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, ScheduleError> {
        let after = job.last_tick_at.map_or(now, |last| last.max(now));
        job.schedule.next_after(after, &self.schedules)
    }

    /// The stored one; none where it cannot be read, so that it can be replaced.
    async fn find_readable(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError> {
        match self.storage.find_recurring_job(id).await {
            Err(StorageError::Corrupt { .. }) => Ok(None),
            found => found,
        }
    }

    /// Finds a recurring job.
    ///
    /// # Errors
    /// [`SchedulerError::Storage`].
    pub async fn find_recurring_job(
        &self,
        id: &RecurringJobId,
    ) -> Result<Option<RecurringJob>, SchedulerError> {
        Ok(self.storage.find_recurring_job(id).await?)
    }

    /// Lists all recurring jobs by id, each with its next tick.
    ///
    /// # Errors
    /// [`SchedulerError::Storage`].
    pub async fn list_recurring_jobs(&self) -> Result<Vec<RecurringJob>, SchedulerError> {
        Ok(self.storage.list_recurring_jobs(&RecurringJobQuery::default()).await?)
    }

    /// Passes over the ticks of a recurring job until it is [resumed](Self::resume_recurring_job). Runs that exist go on.
    ///
    /// # Errors
    /// [`SchedulerError::NoRecurringJob`], [`SchedulerError::Storage`], [`SchedulerError::RecurringContended`].
    pub async fn pause_recurring_job(&self, id: &RecurringJobId) -> Result<(), SchedulerError> {
        self.change_recurring("pause", id, |job, _| {
            job.paused = true;
            job.next_run_at = None;
            Ok(())
        })
        .await
    }

    /// Goes on with the first tick that is still to come; those that passed meanwhile were not missed.
    ///
    /// # Errors
    /// As [`pause_recurring_job`](Self::pause_recurring_job), and [`SchedulerError::InvalidRecurring`] if its schedule
    /// cannot be used here.
    pub async fn resume_recurring_job(&self, id: &RecurringJobId) -> Result<(), SchedulerError> {
        self.change_recurring("resume", id, |job, now| {
            if job.paused {
                job.paused = false;
                job.set_next_tick(self.tick_after(job, now)?);
            }
            Ok(())
        })
        .await
    }

    /// Creates a run of a recurring job at once, beside its ticks and whether or not it is paused; returns the run's id.
    ///
    /// Ticks have to know of the run, for their overlap policy. If that cannot be stored the run exists all the same: it is
    /// logged, and ticks take no notice of the run. They know of the latest
    /// [`MAX_OPEN_RUNS`](crate::limits::MAX_OPEN_RUNS) that have not ended.
    ///
    /// # Errors
    /// [`SchedulerError::NoRecurringJob`], [`SchedulerError::Storage`], and [`SchedulerError::Invalid`] if a filter spoils the
    /// run; no run was created then, unless it is the answer of the storage to its creation that was lost.
    pub async fn trigger_recurring_job(&self, id: &RecurringJobId) -> Result<JobId, SchedulerError> {
        let now = self.now().await?;
        let recurring = self.storage.find_recurring_job(id).await?;
        let recurring = recurring.ok_or_else(|| SchedulerError::NoRecurringJob(id.clone()))?;
        let mut run = self.filtered(recurring.run_on_request(), now)?;
        let is_new = self.storage.insert_job(&mut run).await?;
        if recurring.overlap != OverlapPolicy::Allow {
            match self.note_open_run(&recurring, run.id()).await {
                Ok(()) | Err(SchedulerError::NoRecurringJob(_)) => {}
                // Who is given an error tries again, and would have a second run.
                Err(error) => {
                    tracing::warn!(job.id = %run.id(), recurring_job.id = %id, "ticks take no notice of a triggered run: {error}");
                }
            }
        }
        if is_new && !self.filters.is_empty() {
            self.filters.created(&run).await;
        }
        Ok(run.id())
    }

    /// Has the ticks of a recurring job know of a run beside them.
    async fn note_open_run(&self, recurring: &RecurringJob, run: JobId) -> Result<(), SchedulerError> {
        let ended = self.ended_among_oldest(&recurring.open_runs).await;
        self.change_recurring("trigger", &recurring.id, |job, _| {
            job.open_runs.retain(|open| !ended.contains(open));
            job.note_open_runs([run]);
            Ok(())
        })
        .await
    }

    /// Those of the oldest runs that are known to have ended; none where there are only a few, which a tick will look at.
    async fn ended_among_oldest(&self, runs: &[JobId]) -> Vec<JobId> {
        let Some(oldest) = runs.get(..LOOKED_AT) else { return Vec::new() };
        let found = join_all(oldest.iter().map(|id| self.storage.find_job(*id))).await;
        let has_ended = |run: Option<Job>| run.is_none_or(|run| run.state_name().is_final());
        let looked_at = oldest.iter().copied().zip(found);
        looked_at.filter_map(|(id, found)| found.is_ok_and(has_ended).then_some(id)).collect()
    }

    /// Removes a recurring job, and with it those of its runs that have not started; tells whether it was there.
    ///
    /// Runs that have started go on, with their retries.
    ///
    /// # Errors
    /// [`SchedulerError::Storage`]; doing it again finishes what was begun.
    pub async fn delete_recurring_job(&self, id: &RecurringJobId) -> Result<bool, SchedulerError> {
        let was_there = self.storage.delete_recurring_job(id, None).await?;
        let waiting = [StateName::Awaiting, StateName::Scheduled, StateName::Enqueued];
        let mut query = JobQuery::in_states(waiting).recurring_job_id(id.clone()).limit(PAGE);
        loop {
            let runs = self.storage.list_jobs(&query).await?;
            for run in runs.iter().filter(|run| run.server_id().is_none()) {
                self.withdraw(run, id).await?;
            }
            match runs.last() {
                Some(last) if runs.len() == PAGE => query.after = Some(JobCursor::after(last, query.order)),
                _ => return Ok(was_there),
            }
        }
    }

    /// Deletes a run that has not started; one that was claimed or deleted meanwhile is left alone.
    async fn withdraw(&self, run: &Job, id: &RecurringJobId) -> Result<(), SchedulerError> {
        let mut run = run.clone();
        let now = self.now().await?;
        let reason = format!("the recurring job {id} was deleted");
        if run.delete(Some(reason), now).is_err() {
            return Ok(());
        }
        let entries = run.new_entries().to_vec();
        if self.storage.save_all(std::slice::from_mut(&mut run)).await?.is_empty() {
            self.storage.tell_ended([&run]);
            self.filters.applied(&run, &entries).await;
        }
        Ok(())
    }

    /// Loads a recurring job, changes it and saves it, again and again while others change it at the same time.
    async fn change_recurring(
        &self,
        action: &'static str,
        id: &RecurringJobId,
        change: impl Fn(&mut RecurringJob, DateTime<Utc>) -> Result<(), ScheduleError> + Send + Sync,
    ) -> Result<(), SchedulerError> {
        for _ in 0..MAX_TRIES {
            let now = self.now().await?;
            let stored = self.storage.find_recurring_job(id).await?;
            let stored = stored.ok_or_else(|| SchedulerError::NoRecurringJob(id.clone()))?;
            let mut job = stored.clone();
            change(&mut job, now).map_err(|error| SchedulerError::InvalidRecurring {
                id: id.to_string(),
                source: error.into(),
            })?;
            if job == stored {
                return Ok(());
            }
            job.updated_at = now;
            debug_assert_ne!(job.version, Version::UNSAVED, "what is stored has a version");
            if let RecurringSave::Saved(_) = self.storage.save_recurring_job(&job).await? {
                return Ok(());
            }
        }
        Err(SchedulerError::RecurringContended { action, id: id.clone() })
    }

    /// The same scheduler with custom schedules for recurring jobs.
    ///
    /// Give the servers the same.
    #[must_use]
    pub fn with_schedules(mut self, schedules: CustomSchedules) -> Self {
        self.schedules = std::sync::Arc::new(schedules);
        self
    }

    /// The custom schedules that it knows.
    #[must_use]
    pub fn schedules(&self) -> &CustomSchedules {
        &self.schedules
    }
}
