//! The jobs this server holds, from their claim until their outcome is stored: the one table that knows them all.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use jobrunr_core::{Job, JobId, Version};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A job at one version: one claim of it.
pub(crate) type Claim = (JobId, Version);

/// The claim that a job loaded or made by a claim stands for.
pub(crate) fn claim_of(job: &Job) -> Claim {
    (job.id(), job.version())
}

/// Why a run is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// The job was deleted, or is somebody else's by now.
    TakenAway,
    /// It took longer than it may.
    TimedOut,
    /// The server stops.
    ServerStops,
    /// The server is gone all at once; nobody waits for an outcome.
    ServerGone,
}

/// One run of a job, shared between what runs it and what may end it early.
#[derive(Debug, Default)]
pub(crate) struct Run {
    token: CancellationToken,
    /// Apart from the token, which a handler may cancel itself.
    asked: Notify,
    interruption: OnceLock<Interruption>,
}

impl Run {
    /// The token that the handler sees.
    pub(crate) const fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Asks the run to end. The first reason counts.
    pub(crate) fn interrupt(&self, why: Interruption) {
        self.interruption.get_or_init(|| why);
        self.token.cancel();
        self.asked.notify_one();
    }

    /// Waits until the run is asked to end; only one may wait.
    pub(crate) async fn interrupted(&self) {
        self.asked.notified().await;
    }

    /// Why the run was asked to end, if it was.
    pub(crate) fn interruption(&self) -> Option<Interruption> {
        self.interruption.get().copied()
    }
}

#[derive(Debug)]
struct Holding {
    version: Version,
    /// `None` while the job waits for a worker and once its run has ended.
    run: Option<Arc<Run>>,
}

/// The jobs this server holds.
#[derive(Debug, Default)]
pub(crate) struct Holdings(Mutex<HashMap<JobId, Holding>>);

impl Holdings {
    /// Adds jobs that were claimed.
    ///
    /// Race: an earlier run of one may still go on here, not knowing yet that its job was taken away. It is asked to end
    /// now, since nobody finds it by its claim from here on.
    pub(crate) fn add(&self, jobs: &[Job]) {
        let mut holdings = self.lock();
        for job in jobs {
            let earlier = holdings.insert(job.id(), Holding { version: job.version(), run: None });
            if let Some(run) = earlier.and_then(|holding| holding.run) {
                run.interrupt(Interruption::TakenAway);
            }
        }
    }

    /// Notes that the run of a job begins.
    pub(crate) fn start_run(&self, (id, version): Claim) -> Arc<Run> {
        let run = Arc::new(Run::default());
        self.lock().insert(id, Holding { version, run: Some(Arc::clone(&run)) });
        run
    }

    /// Notes that the run of a job has ended; its outcome is not stored yet.
    pub(crate) fn end_run(&self, (id, version): Claim) {
        if let Some(holding) = self.lock().get_mut(&id).filter(|holding| holding.version == version) {
            holding.run = None;
        }
    }

    /// Removes jobs whose outcome is stored, or will never be.
    ///
    /// Race: a job may have been claimed again since its outcome was stored; that claim stays.
    pub(crate) fn remove(&self, claims: impl IntoIterator<Item = Claim>) {
        let mut holdings = self.lock();
        for (id, version) in claims {
            if holdings.get(&id).is_some_and(|holding| holding.version == version) {
                holdings.remove(&id);
            }
        }
    }

    /// All jobs that are held.
    pub(crate) fn claims(&self) -> HashSet<Claim> {
        self.lock().iter().map(|(id, holding)| (*id, holding.version)).collect()
    }

    /// The jobs that run.
    pub(crate) fn running(&self) -> Vec<Claim> {
        let holdings = self.lock();
        let running = holdings.iter().filter(|(_, holding)| holding.run.is_some());
        running.map(|(id, holding)| (*id, holding.version)).collect()
    }

    /// The claim by which a job runs here, if it does.
    pub(crate) fn find_running(&self, id: JobId) -> Option<Claim> {
        let holdings = self.lock();
        holdings.get(&id).filter(|holding| holding.run.is_some()).map(|holding| (id, holding.version))
    }

    /// Asks one run to end, if it still goes on.
    pub(crate) fn interrupt(&self, (id, version): Claim, why: Interruption) {
        let holdings = self.lock();
        let holding = holdings.get(&id).filter(|holding| holding.version == version);
        if let Some(run) = holding.and_then(|holding| holding.run.as_ref()) {
            run.interrupt(why);
        }
    }

    /// Asks every run to end.
    pub(crate) fn interrupt_all(&self, why: Interruption) {
        for run in self.lock().values().filter_map(|holding| holding.run.as_ref()) {
            run.interrupt(why);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Holding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jobrunr_core::{JobDefinition, JobState, JsonText};

    use super::*;

    #[test]
    fn a_claim_that_is_over_does_not_remove_the_next_one() {
        let holdings = Holdings::default();
        let id = JobId::new();
        let run = holdings.start_run((id, Version::new(5)));

        holdings.remove([(id, Version::new(2))]);
        holdings.interrupt((id, Version::new(2)), Interruption::TakenAway);

        assert_eq!(holdings.running(), [(id, Version::new(5))]);
        assert_eq!(run.interruption(), None);
    }

    #[test]
    fn a_run_whose_job_was_claimed_again_is_asked_to_end() {
        let definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
        let now = chrono::DateTime::UNIX_EPOCH;
        let job = Job::new(JobId::new(), definition, JobState::enqueued(), now).unwrap();
        let holdings = Holdings::default();
        let run = holdings.start_run((job.id(), Version::new(5)));

        holdings.add(std::slice::from_ref(&job));

        assert_eq!(run.interruption(), Some(Interruption::TakenAway));
    }

    #[test]
    fn the_first_reason_for_an_end_counts() {
        let run = Run::default();

        run.interrupt(Interruption::TimedOut);
        run.interrupt(Interruption::ServerStops);

        assert_eq!(run.interruption(), Some(Interruption::TimedOut));
        assert!(run.token().is_cancelled());
    }
}
