//! The completer: writes the outcomes of runs, as many at once as are waiting, and tells the filters afterwards.
//!
//! An outcome is kept until it is stored or until the life of the server that made it is over: its job is somebody
//! else's then, and a save of it would lose anyway.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jobrunr_core::storage::StorageError;
use jobrunr_core::{Failure, FailureKind, HistoryEntry, Job, JobId, JobState};
use tokio::sync::mpsc;

use crate::back_off::BackOff;
use crate::engine::Engine;
use crate::health::with_sources;
use crate::holdings::Claim;
use crate::membership::Life;
use crate::options::MAX_BATCH;

/// What is attempted here, as health, logs and metrics call it.
const ATTEMPT: &str = "save the outcomes of jobs";
/// How many saves may be under way: while one waits for the disk the next one is written.
const SAVES_AT_ONCE: usize = 2;
/// How long the filters of one job may take after it was saved, before they are passed over.
const FILTER_TIME_LIMIT: Duration = Duration::from_secs(30);

/// A job whose new entries are to be saved.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) job: Job,
    /// The claim that is over with it.
    pub(crate) claim: Claim,
    pub(crate) life: Arc<Life>,
}

/// A job that was saved, with what was written of it.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) job: Job,
    pub(crate) entries: Vec<HistoryEntry>,
    /// Whether the job was inserted just now.
    is_new: bool,
}

impl Saved {
    /// What is new in the history of a job whose save has just won.
    pub(crate) fn now(mut job: Job) -> Self {
        let entries = job.new_entries().to_vec();
        job.mark_saved();
        Self::of(job, entries)
    }

    /// These entries of a job that was saved.
    pub(crate) const fn of(job: Job, entries: Vec<HistoryEntry>) -> Self {
        Self { job, entries, is_new: false }
    }

    /// A job as it was claimed.
    pub(crate) fn claimed(job: Job) -> Self {
        let entries = job.history().last().cloned().into_iter().collect();
        Self::of(job, entries)
    }

    /// A job that was just inserted.
    pub(crate) const fn new(job: Job) -> Self {
        Self { job, entries: Vec::new(), is_new: true }
    }
}

/// Saves outcomes until the last one is saved.
///
/// Whatever has arrived is saved at once if nothing is being saved; else it gathers, and once a whole batch has, it is saved
/// beside the other.
pub(crate) async fn keep_saving(engine: Arc<Engine>, mut outcomes: mpsc::UnboundedReceiver<Outcome>) {
    let mut idle: Vec<Completer<'_>> = (0..SAVES_AT_ONCE).map(|_| Completer::new(&engine)).collect();
    let mut saving = FuturesUnordered::new();
    let mut arrived = Vec::with_capacity(MAX_BATCH);
    loop {
        let enough = if saving.is_empty() { 1 } else { MAX_BATCH };
        if arrived.len() >= enough
            && let Some(mut completer) = idle.pop()
        {
            let batch = arrived.drain(..).collect();
            saving.push(async move {
                completer.save(batch).await;
                completer
            });
        }
        let room = MAX_BATCH - arrived.len();
        let is_last = saving.is_empty() && arrived.is_empty();
        tokio::select! {
            biased;
            Some(completer) = saving.next() => idle.push(completer),
            _ = outcomes.recv_many(&mut arrived, room), if room > 0 => {}
            () = engine.phases.flushing.cancelled(), if is_last => return,
        }
    }
}

/// Tells the filters about saved jobs, in the order they were saved in, until all was told.
pub(crate) async fn keep_telling_filters(engine: Arc<Engine>, mut saved: mpsc::UnboundedReceiver<Saved>) {
    loop {
        let next = tokio::select! {
            biased;
            next = saved.recv() => next,
            () = engine.phases.telling.cancelled() => return,
        };
        let Some(Saved { job, entries, is_new }) = next else { return };
        let tell = async {
            if is_new {
                return engine.filters.created(&job).await;
            }
            engine.filters.applied(&job, &entries).await;
            engine.filters.ended(&job, &entries).await;
        };
        tell_in_time(&job, tell).await;
        engine.settled(1);
    }
}

/// Tells the filters something about a job for as long as that may take.
pub(crate) async fn tell_in_time(job: &Job, tell: impl Future<Output = ()>) {
    if tokio::time::timeout(FILTER_TIME_LIMIT, tell).await.is_err() {
        tracing::error!(job.id = %job.id(), "job filters took over {FILTER_TIME_LIMIT:?} and were passed over");
    }
}

/// Outcomes that are saved together; the jobs lie apart because a save wants them in a row.
#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    claims: Vec<(Claim, Arc<Life>)>,
}

impl FromIterator<Outcome> for Batch {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let outcomes = outcomes.into_iter().map(|Outcome { job, claim, life }| (job, (claim, life)));
        let (jobs, claims) = outcomes.unzip();
        Self { jobs, claims }
    }
}

struct Completer<'a> {
    engine: &'a Arc<Engine>,
    back_off: BackOff<'a>,
}

impl<'a> Completer<'a> {
    fn new(engine: &'a Arc<Engine>) -> Self {
        Self { engine, back_off: BackOff::new(ATTEMPT, &engine.health) }
    }

    /// Saves a batch, in parts if the storage refuses it as a whole.
    async fn save(&mut self, batch: Batch) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let Err(error) = self.save_part(&mut part).await else { continue };
            if part.jobs.len() > 1 && !matches!(error, StorageError::Closed { .. }) {
                let half = part.jobs.len() / 2;
                let claims = part.claims.split_off(half);
                parts.push(Batch { jobs: part.jobs.split_off(half), claims });
                parts.push(part);
            } else {
                self.settle_refused(part, &error).await;
            }
        }
        // What could not be saved was dropped or refused; if this one saves nothing more, nothing fails any more.
        self.back_off.gave_up();
    }

    /// Saves a batch, trying again for as long as that may help. It is left as it is if the storage refuses it.
    async fn save_part(&mut self, part: &mut Batch) -> Result<(), StorageError> {
        let mut may_be_saved = false;
        loop {
            self.await_lease(part).await;
            if part.jobs.is_empty() {
                return Ok(());
            }
            match self.attempt(&part.jobs, may_be_saved).await {
                Ok(lost) => {
                    self.back_off.succeeded();
                    self.settle(std::mem::take(part), &lost);
                    return Ok(());
                }
                Err(error) if error.is_retryable() => {
                    may_be_saved = true;
                    let delay = self.back_off.failed(&error);
                    tokio::time::sleep(delay).await;
                }
                Err(error) => {
                    #[cfg(feature = "metrics")]
                    crate::metrics::storage_failed(ATTEMPT);
                    return Err(error);
                }
            }
        }
    }

    /// Tries to save jobs; returns those that lost.
    ///
    /// A job that is stored as it was to be saved has not lost: an earlier attempt had saved it, only its answer got lost.
    async fn attempt(&self, jobs: &[Job], may_be_saved: bool) -> Result<HashSet<JobId>, StorageError> {
        let storage = &self.engine.storage;
        let mut lost: HashSet<JobId> = storage.save_jobs(jobs).await?.conflicts.into_iter().collect();
        if may_be_saved && !lost.is_empty() {
            for job in jobs.iter().filter(|job| lost.contains(&job.id())).collect::<Vec<_>>() {
                let stored = storage.find_job(job.id()).await?;
                if stored.is_some_and(|stored| stored.history().starts_with(job.history())) {
                    lost.remove(&job.id());
                }
            }
        }
        Ok(lost)
    }

    /// Waits until the server may write, and drops what is not its own any more by then.
    async fn await_lease(&self, part: &mut Batch) {
        let outlived = loop {
            let Some((_, life)) = part.claims.iter().find(|(_, life)| !life.is_over()) else {
                break part.claims.len();
            };
            if self.engine.membership.has_lease() {
                break part.claims.iter().filter(|(_, life)| life.is_over()).count();
            }
            tokio::select! {
                () = self.engine.membership.leased() => {}
                () = life.ended() => {}
            }
        };
        if outlived > 0 {
            self.drop_outlived(part);
        }
    }

    fn drop_outlived(&self, part: &mut Batch) {
        let Batch { jobs, claims } = std::mem::take(part);
        let (outlived, own): (Vec<_>, Vec<_>) =
            jobs.into_iter().zip(claims).partition(|(_, (_, life))| life.is_over());
        (part.jobs, part.claims) = own.into_iter().unzip();
        tracing::debug!(
            count = outlived.len(),
            "outcomes were dropped: the server was declared dead meanwhile"
        );
        self.forget(outlived.iter().map(|(_, (claim, _))| *claim));
        self.engine.settled(outlived.len());
    }

    /// Notes what was saved and what lost.
    fn settle(&self, batch: Batch, lost: &HashSet<JobId>) {
        let engine = self.engine;
        let count = batch.jobs.len();
        engine.storage.tell_ended(&batch.jobs);
        self.forget(batch.claims.iter().map(|(claim, _)| *claim));
        for job in batch.jobs {
            if lost.contains(&job.id()) {
                #[cfg(feature = "metrics")]
                jobrunr_core::metrics::count_lost(&job);
                tracing::debug!(job.id = %job.id(), "an outcome was dropped: the job was changed by somebody else");
                continue;
            }
            #[cfg(feature = "metrics")]
            jobrunr_core::metrics::count_saved(&job, job.new_entries());
            if let JobState::Scheduled { scheduled_at, .. } = job.state() {
                engine.job_is_due_at(*scheduled_at);
            }
            if job.recurring_job_id().is_some() && job.state_name().is_final() {
                engine.recurring_run_ended.notify_one();
            }
            if !engine.filters.is_empty() {
                engine.tell_filters(Saved::now(job));
            }
        }
        engine.settled(count);
    }

    /// Gives up on outcomes that the storage refuses; one that stands alone becomes a failure that says so.
    async fn settle_refused(&mut self, mut part: Batch, error: &StorageError) {
        if let [job] = part.jobs.as_slice() {
            let (id, why) = (job.id(), with_sources(error));
            match self.save_as_failed(&mut part, &why).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(job.id = %id, "an outcome cannot be saved ({why}), nor that it failed: {error}");
                }
            }
        } else {
            tracing::error!(count = part.jobs.len(), "outcomes cannot be saved: {error}");
        }
        self.forget(part.claims.iter().map(|(claim, _)| *claim));
        self.engine.settled(part.jobs.len());
    }

    /// Saves that a run failed because its outcome is refused; from here on that is its outcome, and settled like any other.
    async fn save_as_failed(&mut self, part: &mut Batch, why: &str) -> Result<(), StorageError> {
        let stored = loop {
            self.await_lease(part).await;
            let Some(refused) = part.jobs.first() else { return Ok(()) };
            match self.engine.storage.find_job(refused.id()).await {
                Err(error) if error.is_retryable() => tokio::time::sleep(self.back_off.failed(&error)).await,
                found => break found?,
            }
        };
        let refused = &part.jobs[0];
        let own = stored.filter(|stored| stored.version() == refused.version());
        let Some(failed) = own.and_then(|job| as_failed(job, why, self.engine.now())) else {
            let lost = HashSet::from([refused.id()]);
            self.settle(std::mem::take(part), &lost);
            return Ok(());
        };
        part.jobs = vec![failed];
        self.save_part(part).await
    }

    fn forget(&self, claims: impl Iterator<Item = Claim>) {
        self.engine.holdings.remove(claims);
    }
}

fn as_failed(mut job: Job, why: &str, now: DateTime<Utc>) -> Option<Job> {
    let failure = Failure::new(FailureKind::Error, format!("the outcome of the run cannot be saved: {why}"));
    job.fail(failure.do_not_retry(), now).ok().map(|()| job)
}
