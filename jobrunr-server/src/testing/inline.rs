//! A server that has no tasks: what they do is done within the call that asks for it, one job after the other.
//!
//! Claiming, running, saving, telling filters and keeping house are those of every server. Only who polls them differs:
//! the futures that would be tasks rest between two calls.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join5};
use jobrunr_core::recurring::RecurringJobDraft;
use jobrunr_core::storage::{
    ClaimRequest, JobOrder, JobQuery, OrderField, RecurringJobQuery, SignatureSelection, StorageError,
};
use jobrunr_core::{Job, StateName};

use super::runs::{Run, Runs};
use crate::desk::Claimed;
use crate::engine::Engine;
use crate::housekeeping::Chores;
use crate::load::LoadMeter;
use crate::shutdown::Inboxes;
use crate::{cancellation, completer, heartbeat, hints, run};

/// How many jobs that nobody runs are told of.
const LEFT_SHOWN: usize = 1_000;

/// A server without tasks.
pub(super) struct Inline {
    engine: Arc<Engine>,
    /// What a server does beside running jobs. It goes on only while jobs are run.
    beside: BoxFuture<'static, Infallible>,
    chores: Chores,
    /// What is to be saved at the first run, as at the start of a server.
    recurring_jobs: Vec<RecurringJobDraft<'static>>,
}

/// That a call has run so many jobs that it would probably never end.
#[derive(Debug)]
pub(super) struct TooManyRuns(pub(super) Runs);

impl Inline {
    pub(super) fn new(
        engine: &Arc<Engine>,
        inboxes: Inboxes,
        recurring_jobs: Vec<RecurringJobDraft<'static>>,
    ) -> Self {
        let own = || Arc::clone(engine);
        let Inboxes { outcomes, saved, suspects, changes } = inboxes;
        let listening = match changes {
            Some(changes) => hints::keep_listening(own(), changes).boxed(),
            None => pending().boxed(),
        };
        let beside = join5(
            listening,
            cancellation::keep_checking(own(), suspects),
            completer::keep_saving(own(), outcomes),
            completer::keep_telling_filters(own(), saved),
            heartbeat::keep_beating(own(), LoadMeter::default()),
        );
        // They end when the server stops, which this one never does.
        let beside = beside.then(|_| pending()).boxed();
        Self { engine: own(), beside, chores: Chores::default(), recurring_jobs }
    }

    /// Joins the cluster, as a server that starts.
    pub(super) async fn begin(&mut self) -> Result<(), StorageError> {
        heartbeat::begin(&self.engine).await.map(drop)
    }

    /// Leaves the cluster, as a server that has stopped.
    pub(super) async fn end(&mut self) -> Result<(), StorageError> {
        self.engine.membership.lose_lease();
        self.engine.storage.remove_server(self.engine.membership.life().id()).await.map(drop)
    }

    /// The recurring jobs that are to be saved first.
    pub(super) fn take_recurring_jobs(&mut self) -> Vec<RecurringJobDraft<'static>> {
        std::mem::take(&mut self.recurring_jobs)
    }

    /// Does everything there is to do at the present instant, follow-ups included.
    pub(super) async fn run_all(
        &mut self,
        runs: &mut Runs,
        most: usize,
    ) -> Result<Result<(), TooManyRuns>, StorageError> {
        loop {
            self.keep_house().await?;
            let before = runs.len();
            while let Some(run) = self.run_next().await? {
                runs.push(run);
                if runs.len() >= most {
                    return Ok(Err(TooManyRuns(std::mem::take(runs))));
                }
            }
            if runs.len() == before {
                return Ok(Ok(()));
            }
        }
    }

    async fn keep_house(&mut self) -> Result<(), StorageError> {
        let engine = Arc::clone(&self.engine);
        let Self { beside, chores, .. } = self;
        let work = async {
            let done = chores.keep_up(&engine).await;
            settled(&engine).await;
            done
        };
        drive(beside, work).await
    }

    /// Claims the next job and runs it to its end; `None` if there is none.
    async fn run_next(&mut self) -> Result<Option<Run>, StorageError> {
        let engine = Arc::clone(&self.engine);
        let work = async {
            // Never for long: the heartbeat is beside.
            engine.membership.leased().await;
            let life = engine.membership.life();
            let request = ClaimRequest {
                server: life.server().clone(),
                // In the order given even if they have weights: a test should not depend on a draw.
                queues: engine.settings.queues.in_order(),
                signatures: SignatureSelection::Only(engine.registry.signatures()),
                limit: 1,
                now: engine.now(),
            };
            let Some(job) = engine.storage.claim_jobs(&request).await?.pop() else { return Ok(None) };
            engine.holdings.add(std::slice::from_ref(&job));
            // Race: the worker takes the job before anything beside it is polled, and so before another could be started.
            engine.desk.put(vec![Claimed { job: job.clone(), life }]);
            run::work(Arc::clone(&engine)).await;
            settled(&engine).await;
            let after = engine.storage.find_job(job.id()).await?;
            Ok(Some(Run::new(job, after)))
        };
        drive(&mut self.beside, work).await
    }

    /// When there is something to do next, after now and not after `until`.
    pub(super) async fn next_due(
        &mut self,
        until: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StorageError> {
        let storage = &self.engine.storage;
        let now = self.engine.now();
        let scheduled = JobQuery::in_state(StateName::Scheduled)
            .order(JobOrder::ascending(OrderField::ScheduledAt))
            .limit(1);
        let scheduled = storage.list_jobs(&scheduled).await?.into_iter().filter_map(|job| job.scheduled_at());
        let ticks = RecurringJobQuery { due_at: Some(until), ..RecurringJobQuery::default() };
        let ticks = storage.list_recurring_jobs(&ticks).await?.into_iter().filter_map(|job| job.next_run_at);
        let instants = scheduled.chain(ticks).chain(self.chores.next_deadline());
        Ok(instants.filter(|instant| *instant > now && *instant <= until).min())
    }

    /// The jobs that wait for a server with other handlers, or for other queues.
    pub(super) async fn left(&mut self) -> Result<Vec<Job>, StorageError> {
        self.engine.storage.list_jobs(&JobQuery::in_state(StateName::Enqueued).limit(LEFT_SHOWN)).await
    }
}

/// Does a piece of work, and beside it what a server does beside.
///
/// That goes first at each poll: nobody wakes the work when something was settled there.
async fn drive<T>(beside: &mut BoxFuture<'static, Infallible>, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        never = beside => match never {},
        done = work => done,
    }
}

/// Waits until all outcomes are saved and all filters told; both is done beside, so this is asked after each step of it.
async fn settled(engine: &Engine) {
    poll_fn(|_| if engine.is_settled() { Poll::Ready(()) } else { Poll::Pending }).await;
}
