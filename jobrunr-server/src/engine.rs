//! What all parts of a server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use jobrunr_core::clock::StorageClock;
use jobrunr_core::filters::JobFilters;
use jobrunr_core::retry::Retries;
use jobrunr_core::schedule::CustomSchedules;
use jobrunr_core::storage::{ServerAnnouncement, StorageProvider};
use jobrunr_core::trace::Traces;
use jobrunr_core::{Job, JobId, JobScheduler};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::completer::{Outcome, Saved};
use crate::desk::{Claimed, Desk};
use crate::health::HealthMonitor;
use crate::holdings::{Holdings, claim_of};
use crate::housekeeping::DueTimes;
use crate::membership::{Life, Membership};
use crate::options::Settings;
use crate::registry::Registry;

/// What all parts of a server share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) storage: Arc<dyn StorageProvider>,
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    pub(crate) filters: JobFilters,
    pub(crate) retries: Retries,
    pub(crate) clock: StorageClock,
    pub(crate) traces: Option<Traces>,
    pub(crate) scheduler: JobScheduler,
    pub(crate) membership: Membership,
    pub(crate) health: HealthMonitor,
    pub(crate) desk: Desk,
    pub(crate) holdings: Holdings,
    pub(crate) workers: TaskTracker,
    pub(crate) due_times: DueTimes,
    /// Wakes the timer of recurring jobs.
    pub(crate) recurring_jobs_changed: Notify,
    /// Wakes the search for runs that waited for the run before.
    pub(crate) recurring_run_ended: Notify,
    /// Wakes the search for orphans.
    pub(crate) servers_changed: Notify,
    /// Jobs that run here and may have been taken away; `None` = all of them.
    suspects: mpsc::UnboundedSender<Option<JobId>>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    saved: mpsc::UnboundedSender<Saved>,
    /// Outcomes that are not saved and saved jobs that the filters were not told of.
    unsettled: AtomicUsize,
    is_paused: AtomicBool,
    is_work_expected: AtomicBool,
    pub(crate) phases: Phases,
}

/// How far the end of a server has come.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    /// No job is claimed or started any more.
    pub(crate) stopping: CancellationToken,
    /// Runs that were asked to end are aborted.
    pub(crate) aborting: CancellationToken,
    /// All runs have ended: what is left to be saved is the last.
    pub(crate) flushing: CancellationToken,
    /// All is saved: what is left to be told to filters is the last.
    pub(crate) telling: CancellationToken,
    /// Nothing is left to be alive for.
    pub(crate) parting: CancellationToken,
}

/// What an engine is made of besides what it sets up itself.
pub(crate) struct EngineParts {
    pub(crate) storage: Arc<dyn StorageProvider>,
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    pub(crate) filters: JobFilters,
    pub(crate) retries: Retries,
    pub(crate) schedules: CustomSchedules,
    pub(crate) traces: Option<Traces>,
    pub(crate) clock: StorageClock,
    pub(crate) outcomes: mpsc::UnboundedSender<Outcome>,
    pub(crate) saved: mpsc::UnboundedSender<Saved>,
    pub(crate) suspects: mpsc::UnboundedSender<Option<JobId>>,
}

impl Engine {
    pub(crate) fn new(parts: EngineParts) -> Arc<Self> {
        let EngineParts {
            storage,
            settings,
            registry,
            filters,
            retries,
            schedules,
            traces,
            clock,
            outcomes,
            saved,
            suspects,
        } = parts;
        let scheduler =
            JobScheduler::with_clock(Arc::clone(&storage), clock.clone()).with_filters(filters.clone());
        let scheduler =
            scheduler.with_retries(retries.clone()).with_schedules(schedules).with_traces(traces.clone());
        let lease = settings.server_timeout - settings.poll_interval;
        Arc::new(Self {
            membership: Membership::new(Life::new(&settings.name), lease),
            health: HealthMonitor::new(clock.clone()),
            desk: Desk::new(&settings),
            holdings: Holdings::default(),
            workers: TaskTracker::new(),
            due_times: DueTimes::default(),
            recurring_jobs_changed: Notify::new(),
            recurring_run_ended: Notify::new(),
            servers_changed: Notify::new(),
            unsettled: AtomicUsize::new(0),
            is_paused: AtomicBool::new(false),
            is_work_expected: AtomicBool::new(true),
            phases: Phases::default(),
            storage,
            settings,
            registry,
            filters,
            retries,
            clock,
            traces,
            scheduler,
            suspects,
            outcomes,
            saved,
        })
    }

    /// The storage's present instant.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// What this life of the server says of itself.
    pub(crate) fn announcement(&self, life: &Life) -> ServerAnnouncement {
        ServerAnnouncement {
            id: life.id(),
            name: self.settings.name.clone(),
            workers: self.settings.workers,
            poll_interval: self.settings.poll_interval,
            server_timeout: self.settings.server_timeout,
            queues: self.settings.queues.names().to_vec(),
            signatures: self.registry.signatures(),
        }
    }

    /// Whether a job may be claimed or started now.
    pub(crate) fn may_start(&self) -> bool {
        !self.is_paused()
            && !self.phases.stopping.is_cancelled()
            && self.unsettled.load(Ordering::Acquire) < self.settings.capacity()
            && self.membership.has_lease()
    }

    /// Hands claimed jobs to the workers, and starts those workers that are missing.
    pub(crate) fn hand_out(self: &Arc<Self>, jobs: Vec<Job>, life: &Arc<Life>) {
        self.holdings.add(&jobs);
        let claimed = jobs.into_iter().map(|job| Claimed { job, life: Arc::clone(life) });
        self.start_workers(self.desk.put(claimed.collect()));
    }

    /// Goes on after something that kept jobs from starting is over.
    pub(crate) fn go_on(self: &Arc<Self>) {
        if self.may_start() {
            self.start_workers(self.desk.put(Vec::new()));
        }
        self.desk.wake_claimer();
    }

    fn start_workers(self: &Arc<Self>, count: usize) {
        for _ in 0..count {
            self.workers.spawn(crate::run::work(Arc::clone(self)));
        }
    }

    /// Notes that there may be jobs to claim.
    pub(crate) fn expect_work(&self) {
        self.is_work_expected.store(true, Ordering::Release);
        self.desk.wake_claimer();
    }

    pub(crate) fn is_work_expected(&self) -> bool {
        self.is_work_expected.load(Ordering::Acquire)
    }

    /// Notes that a claim is about to see all jobs there are; hints from now on count anew.
    pub(crate) fn expect_no_more_work(&self) {
        self.is_work_expected.store(false, Ordering::Release);
    }

    /// Notes when a job will be due; only the master needs to know.
    pub(crate) fn job_is_due_at(&self, scheduled_at: DateTime<Utc>) {
        if self.membership.is_master() {
            self.due_times.note(scheduled_at);
        }
    }

    /// Has somebody look whether a job that runs here was taken away; `None` = any of them.
    pub(crate) fn suspect(&self, id: Option<JobId>) {
        let _ = self.suspects.send(id);
    }

    /// Leaves an outcome to the completer.
    pub(crate) fn complete(&self, outcome: Outcome) {
        self.unsettled.fetch_add(1, Ordering::AcqRel);
        // The completer is gone only after a break-down; the job is left to other servers then.
        let _ = self.outcomes.send(outcome);
    }

    /// Has the filters told of what was saved of a job.
    pub(crate) fn tell_filters(&self, saved: Saved) {
        self.unsettled.fetch_add(1, Ordering::AcqRel);
        let _ = self.saved.send(saved);
    }

    /// Has the filters told that a job was claimed whose run never begins here; a run tells them itself.
    pub(crate) fn tell_claimed(&self, job: &Job) {
        if !self.filters.is_empty() {
            self.tell_filters(Saved::claimed(job.clone()));
        }
    }

    /// Notes that outcomes were saved, or never will be, or that filters were told.
    pub(crate) fn settled(self: &Arc<Self>, count: usize) {
        let before = self.unsettled.fetch_sub(count, Ordering::AcqRel);
        if before >= self.settings.capacity() {
            self.go_on();
        }
    }

    /// Whether no outcome is left to be saved and no filter to be told.
    #[cfg(feature = "testing")]
    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled.load(Ordering::Acquire) == 0
    }

    /// Gives jobs that were not started back to their queues.
    pub(crate) fn give_back(&self, jobs: Vec<Claimed>, reason: &str) {
        for Claimed { mut job, life } in jobs {
            let claim = claim_of(&job);
            self.tell_claimed(&job);
            match job.give_back(reason, self.now()) {
                Ok(()) => self.complete(Outcome { job, claim, life }),
                Err(illegal) => tracing::error!(job.id = %claim.0, "not given back: {illegal}"),
            }
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Acquire)
    }

    pub(crate) fn pause(&self) {
        self.is_paused.store(true, Ordering::Release);
        self.give_back(self.desk.clear(), "the server was paused");
    }

    pub(crate) fn resume(self: &Arc<Self>) {
        self.is_paused.store(false, Ordering::Release);
        self.go_on();
    }
}
