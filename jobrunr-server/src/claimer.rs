//! The claimer: the one task of a server that takes jobs out of the storage, for all its workers.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use jobrunr_core::storage::{ClaimRequest, JobCursor, JobQuery, SignatureSelection, StorageError};
use jobrunr_core::{Job, StateName};
use tokio::time::Instant;

use crate::back_off::BackOff;
use crate::completer::Saved;
use crate::engine::Engine;
use crate::holdings::claim_of;
use crate::membership::Life;
use crate::options::{HOUSEKEEPING_PAGE, MAX_BATCH};

/// How many claims may be under way where more than one pays: while one is decoded and handed out the database works on the
/// next. A server with one worker claims one after the other, so that its jobs start in the order they stand in line.
const CLAIMS_AT_ONCE: usize = 2;

/// Claims jobs until the server stops, then gives back what was not started.
pub(crate) async fn keep_claiming(engine: Arc<Engine>) {
    let mut claimer = Claimer::new(&engine);
    while !engine.phases.stopping.is_cancelled() {
        let limit = claimer.appetite();
        if limit > 0 {
            claimer.begin_claim(limit).await;
        } else {
            claimer.rest().await;
        }
    }
    while let Some(claimed) = claimer.under_way.next().await {
        claimer.end_claim(claimed);
    }
    engine.give_back(engine.desk.clear(), "the server stopped");
}

/// A claim that has ended.
struct Ended {
    limit: usize,
    life: Arc<Life>,
    result: Result<Vec<Job>, StorageError>,
}

struct Claimer<'a> {
    engine: &'a Arc<Engine>,
    request: ClaimRequest,
    back_off: BackOff<'a>,
    /// Claims in the order they began in, which is the order their jobs are handed out in.
    under_way: FuturesOrdered<BoxFuture<'a, Ended>>,
    /// Whether the last claim took as many as it was to, so that there are likely to be more.
    was_full: bool,
    /// When to look for work even if nothing hints at any.
    look_at: Instant,
    /// When to go on after an error.
    go_on_at: Option<Instant>,
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
        Self {
            engine,
            request,
            back_off: BackOff::new("claim jobs", &engine.health),
            under_way: FuturesOrdered::new(),
            was_full: false,
            look_at: Instant::now(),
            go_on_at: None,
            has_lost_an_answer: false,
            random: fastrand::Rng::new(),
        }
    }

    /// How many jobs to claim now.
    fn appetite(&self) -> usize {
        let may_begin = self.go_on_at.is_none()
            && match self.under_way.len() {
                0 => self.engine.is_work_expected(),
                // Whose answer got lost is found out when no claim is under way.
                claims => self.was_full && claims < self.claims_at_once() && !self.has_lost_an_answer,
            };
        if may_begin && self.engine.may_start() { self.engine.desk.wanted().min(MAX_BATCH) } else { 0 }
    }

    fn claims_at_once(&self) -> usize {
        self.engine.settings.workers.min(CLAIMS_AT_ONCE)
    }

    /// Waits until something has changed, or until it is time to look for oneself.
    async fn rest(&mut self) {
        let overdue_at = self.engine.desk.overdue_at();
        tokio::select! {
            Some(ended) = self.under_way.next() => self.end_claim(ended),
            () = self.engine.phases.stopping.cancelled() => {}
            () = self.engine.desk.changed() => {}
            () = tokio::time::sleep_until(self.go_on_at.unwrap_or(self.look_at)), if self.go_on_at.is_some() => {
                self.go_on_at = None;
            }
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

    async fn begin_claim(&mut self, limit: usize) {
        let life = self.engine.membership.life();
        if self.has_lost_an_answer {
            if let Err(error) = give_back_unknown_claims(self.engine, &life).await {
                return self.failed(&error);
            }
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
        self.engine.desk.claim_begins(limit);
        let (storage, request) = (Arc::clone(&self.engine.storage), self.request.clone());
        let claim = async move { Ended { limit, life, result: storage.claim_jobs(&request).await } };
        self.under_way.push_back(claim.boxed());
    }

    fn end_claim(&mut self, Ended { limit, life, result }: Ended) {
        self.engine.desk.claim_ends(limit);
        match result {
            Ok(jobs) => {
                #[cfg(feature = "metrics")]
                crate::metrics::claimed(jobs.len());
                self.back_off.succeeded();
                self.look_at = Instant::now() + self.engine.settings.claim_interval;
                self.was_full = jobs.len() >= limit;
                if self.was_full {
                    self.engine.expect_work();
                }
                self.hand_out(jobs, &life);
            }
            Err(error) => {
                // Whatever the error says of itself, a claim that was not answered may have taken effect.
                self.has_lost_an_answer = true;
                self.failed(&error);
            }
        }
    }

    fn failed(&mut self, error: &StorageError) {
        self.was_full = false;
        self.go_on_at = Some(Instant::now() + self.back_off.failed(error));
        self.engine.expect_work();
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
            jobs.iter().for_each(|job| self.engine.tell_claimed(job));
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
        let unknown: Vec<Job> = page.into_iter().filter(|job| !held.contains(&claim_of(job))).collect();
        if !unknown.is_empty() {
            tracing::info!(count = unknown.len(), "giving back jobs whose claim was not answered");
            give_back_unanswered(engine, unknown).await?;
        }
        match last {
            Some(cursor) if !is_last_page => query.after = Some(cursor),
            _ => return Ok(()),
        }
    }
}

async fn give_back_unanswered(engine: &Engine, claimed: Vec<Job>) -> Result<(), StorageError> {
    let mut given_back = claimed.clone();
    given_back.retain_mut(|job| job.give_back("the answer to its claim got lost", engine.now()).is_ok());
    let conflicts = engine.storage.save_jobs(&given_back).await?.conflicts;
    if !engine.filters.is_empty() {
        claimed.into_iter().for_each(|job| engine.tell_filters(Saved::claimed(job)));
        given_back.retain(|job| !conflicts.contains(&job.id()));
        given_back.into_iter().for_each(|job| engine.tell_filters(Saved::now(job)));
    }
    Ok(())
}
