//! The claimer: the one task of a server that takes jobs out of the storage, for all its workers.

use std::sync::Arc;

use jobrunr_core::storage::{ClaimRequest, JobCursor, JobQuery, SignatureSelection, StorageError};
use jobrunr_core::{Job, StateName};
use tokio::time::Instant;

use crate::back_off::BackOff;
use crate::engine::Engine;
use crate::holdings::claim_of;
use crate::membership::Life;
use crate::options::{HOUSEKEEPING_PAGE, MAX_BATCH};

/// Claims jobs until the server stops, then gives back what was not started.
pub(crate) async fn keep_claiming(engine: Arc<Engine>) {
    let mut claimer = Claimer::new(&engine);
    while !engine.phases.stopping.is_cancelled() {
        let limit = claimer.appetite();
        if limit > 0 {
            claimer.claim(limit).await;
        } else {
            claimer.rest().await;
        }
    }
    engine.give_back(engine.desk.clear(), "the server stopped");
}

struct Claimer<'a> {
    engine: &'a Arc<Engine>,
    request: ClaimRequest,
    back_off: BackOff<'a>,
    /// When to look for work even if nothing hints at any.
    look_at: Instant,
    /// Whether a claim may have taken effect without its answer having arrived.
    has_lost_an_answer: bool,
    /// What queues with weights are drawn with.
    random: fastrand::Rng,
}

impl<'a> Claimer<'a> {
    fn new(engine: &'a Arc<Engine>) -> Self {
        let life = engine.membership.life();
        let request = ClaimRequest {
            server: life.server().clone(),
            queues: engine.settings.queues.in_order(),
            signatures: SignatureSelection::Only(engine.registry.signatures()),
            limit: 0,
            now: engine.now(),
        };
        let back_off = BackOff::new("claim jobs", &engine.health);
        let (look_at, random) = (Instant::now(), fastrand::Rng::new());
        Self { engine, request, back_off, look_at, has_lost_an_answer: false, random }
    }

    /// How many jobs to claim now.
    fn appetite(&self) -> usize {
        if self.engine.is_work_expected() && self.engine.may_start() {
            self.engine.desk.wanted().min(MAX_BATCH)
        } else {
            0
        }
    }

    /// Waits until something has changed, or until it is time to look for oneself.
    async fn rest(&mut self) {
        let overdue_at = self.engine.desk.overdue_at();
        tokio::select! {
            () = self.engine.phases.stopping.cancelled() => {}
            () = self.engine.desk.changed() => {}
            () = tokio::time::sleep_until(self.look_at) => {
                self.look_at = Instant::now() + self.engine.settings.claim_interval;
                self.engine.expect_work();
            }
            () = tokio::time::sleep_until(overdue_at.unwrap_or(self.look_at)), if overdue_at.is_some() => {
                let overdue = self.engine.desk.take_overdue();
                self.engine.give_back(overdue, "the jobs before it take longer than expected");
            }
        }
    }

    async fn claim(&mut self, limit: usize) {
        let life = self.engine.membership.life();
        match self.try_claim(&life, limit).await {
            Ok(jobs) => {
                self.back_off.succeeded();
                self.look_at = Instant::now() + self.engine.settings.claim_interval;
                if jobs.len() >= limit {
                    self.engine.expect_work();
                }
                self.hand_out(jobs, &life);
            }
            Err(error) => {
                let delay = self.back_off.failed(&error);
                self.engine.expect_work();
                tokio::select! {
                    () = self.engine.phases.stopping.cancelled() => {}
                    () = tokio::time::sleep(delay) => {}
                }
            }
        }
    }

    async fn try_claim(&mut self, life: &Life, limit: usize) -> Result<Vec<Job>, StorageError> {
        if self.has_lost_an_answer {
            give_back_unknown_claims(self.engine, life).await?;
            self.has_lost_an_answer = false;
        }
        self.engine.expect_no_more_work();
        if self.request.server.id != life.id() {
            self.request.server = life.server().clone();
        }
        if let Some(drawn) = self.engine.settings.queues.draw(&mut self.random) {
            self.request.queues = drawn;
        }
        self.request.limit = limit;
        self.request.now = self.engine.now();
        // Whatever the error says of itself, a claim that was not answered may have taken effect.
        self.has_lost_an_answer = true;
        let jobs = self.engine.storage.claim_jobs(&self.request).await?;
        #[cfg(feature = "metrics")]
        crate::metrics::claimed(jobs.len());
        self.has_lost_an_answer = false;
        Ok(jobs)
    }

    fn hand_out(&self, jobs: Vec<Job>, life: &Arc<Life>) {
        if jobs.is_empty() {
            return;
        }
        if life.is_over() {
            // Race: the server was declared dead while it claimed; the jobs are orphans, as all it held.
            tracing::debug!(
                count = jobs.len(),
                "claimed jobs were dropped: the server was declared dead meanwhile"
            );
            return;
        }
        self.engine.hand_out(jobs, life);
        if self.engine.is_paused() {
            // Race: the server was paused while it claimed.
            self.engine.give_back(self.engine.desk.clear(), "the server was paused");
        }
    }
}

/// Puts jobs back in their queues that the storage says this server holds, but that it knows nothing of.
///
/// They come from claims whose answers got lost. Only the claimer may look for them: while a claim is under way there are
/// such jobs and nothing is wrong.
async fn give_back_unknown_claims(engine: &Engine, life: &Life) -> Result<(), StorageError> {
    let held = engine.holdings.claims();
    let mut query = JobQuery::in_state(StateName::Processing).server_id(life.id()).limit(HOUSEKEEPING_PAGE);
    loop {
        let page = engine.storage.list_jobs(&query).await?;
        let last = page.last().map(|job| JobCursor::after(job, query.order));
        let is_last_page = page.len() < HOUSEKEEPING_PAGE;
        let mut unknown: Vec<Job> = page.into_iter().filter(|job| !held.contains(&claim_of(job))).collect();
        unknown.retain_mut(|job| job.give_back("the answer to its claim got lost", engine.now()).is_ok());
        if !unknown.is_empty() {
            tracing::info!(count = unknown.len(), "giving back jobs whose claim was not answered");
            engine.storage.save_jobs(&unknown).await?;
        }
        match last {
            Some(cursor) if !is_last_page => query.after = Some(cursor),
            _ => return Ok(()),
        }
    }
}
