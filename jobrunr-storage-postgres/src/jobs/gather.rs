//! Many small inserts at once become one: each caller is answered after the commit that holds its jobs.
//!
//! A caller that is alone writes by itself and waits for nobody. Whoever comes meanwhile goes together after it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jobrunr_core::storage::StorageError;
use jobrunr_core::{Job, JobId};
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::CHUNK;
use super::insert::OPERATION;
use crate::connection::Failed;
use crate::{PROVIDER, PostgresStorage};

/// A connection that the last writer used, for the next: a pool asks each connection that comes back whether it still works.
pub(super) type Spare = Option<PoolConnection<Postgres>>;

/// How long a spare connection is kept for nobody.
const KEEP: Duration = Duration::from_millis(200);

/// A pool with fewer connections has none to spare.
const POOL_WITH_SPARE: u32 = 4;

/// One writer gathers best; a second one works while the first waits for the disk.
const MAX_WRITERS: usize = 2;

/// How many calls must wait before a second writer is worth it, and how many may be on their way: beyond that, statements
/// that hold more are worth more than two at once.
const ENOUGH_WAIT: usize = 4;
const FEW_UNDER_WAY: usize = 8;

/// How often others are let go on before a statement is sent.
const MAX_YIELDS: usize = 8;

/// The calls that wait. While one group is being written the next one gathers.
#[derive(Default)]
pub(crate) struct Gatherer {
    state: Mutex<State>,
    closed: CancellationToken,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    writers: usize,
    /// How many calls are in statements on their way.
    under_way: usize,
    spare: Spare,
    spare_since: Option<Instant>,
    /// Whether a task sees to it that the spare connection is not kept for nobody.
    is_spare_watched: bool,
}

struct Waiting {
    jobs: Vec<Job>,
    answer: oneshot::Sender<Result<HashSet<JobId>, StorageError>>,
}

/// What becomes of a call.
enum Part {
    /// It writes, being alone.
    Writes,
    /// It is written by others, and is told.
    IsWritten(oneshot::Receiver<Result<HashSet<JobId>, StorageError>>),
}

impl Gatherer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of everything that is kept.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Lets those go on who were answered just now or are about to call, as long as that brings more calls: else half of
    /// the callers would go with every other statement.
    async fn let_others_come(&self) {
        let mut known = self.state().waiting.len();
        for _ in 0..MAX_YIELDS {
            tokio::task::yield_now().await;
            let now = self.state().waiting.len();
            if now == known {
                return;
            }
            known = now;
        }
    }
}

impl State {
    /// Finds a part for a call; tells whether one more writer has to begin.
    fn add(&mut self, jobs: &[&Job]) -> (Part, bool) {
        if self.writers == 0 && self.waiting.is_empty() {
            self.writers = 1;
            self.under_way += 1;
            return (Part::Writes, false);
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.push_back(Waiting { jobs: jobs.iter().map(|job| (*job).clone()).collect(), answer });
        let is_second_worth_it = self.waiting.len() >= ENOUGH_WAIT && self.under_way <= FEW_UNDER_WAY;
        let begins = self.writers == 0 || (self.writers < MAX_WRITERS && is_second_worth_it);
        self.writers += usize::from(begins);
        (Part::IsWritten(answered), begins)
    }

    /// Takes what goes into one statement.
    fn next_group(&mut self) -> Vec<Waiting> {
        let mut jobs = 0;
        let fits = |waiting: &Waiting| {
            jobs += waiting.jobs.len();
            jobs <= CHUNK
        };
        let count = self.waiting.iter().map(fits).take_while(|fits| *fits).count();
        self.under_way += count;
        self.waiting.drain(..count).collect()
    }
}

impl PostgresStorage {
    /// Inserts jobs of different ids together with those of other callers; returns those that were there already.
    pub(super) async fn insert_gathered(&self, jobs: &[&Job]) -> Result<HashSet<JobId>, StorageError> {
        let (part, begins) = self.inner.gatherer.state().add(jobs);
        if begins {
            self.begin_writer(None);
        }
        match part {
            Part::Writes => {
                let mut turn = Turn { storage: self.clone(), under_way: 1, end: End::ByCaller };
                let mut spare = self.take_spare();
                let written = self.insert_chunk(jobs, &mut spare).await;
                turn.hand_over(spare);
                written.map_err(StorageError::from)
            }
            Part::IsWritten(answered) => answered.await.unwrap_or_else(|_| {
                let source = "the runtime that wrote it was shut down".into();
                Err(StorageError::Unavailable { provider: PROVIDER, operation: OPERATION, source })
            }),
        }
    }

    /// Begins a task that writes what waits; it was counted as a writer before.
    fn begin_writer(&self, spare: Spare) {
        let turn = Turn { storage: self.clone(), under_way: 0, end: End::ByTask };
        self.inner.under_way.spawn(async move { turn.write_all(spare).await });
    }

    fn take_spare(&self) -> Spare {
        self.inner.gatherer.state().spare.take()
    }

    /// Whether the pool is large enough that connections may be kept out of it.
    pub(crate) fn may_keep_connections(&self) -> bool {
        self.inner.pool.options().get_max_connections() >= POOL_WITH_SPARE
    }

    /// Keeps a connection for the next writer, if there is a pool to spare it.
    fn keep_spare(&self, spare: Spare) {
        let gatherer = &self.inner.gatherer;
        if spare.is_none() || !self.may_keep_connections() || gatherer.closed.is_cancelled() {
            return;
        }
        let mut state = gatherer.state();
        let superfluous = std::mem::replace(&mut state.spare, spare);
        state.spare_since = Some(Instant::now());
        let is_watched = std::mem::replace(&mut state.is_spare_watched, true);
        drop(state);
        drop(superfluous);
        if !is_watched {
            let storage = self.clone();
            self.inner.under_way.spawn(async move { storage.watch_spare().await });
        }
    }

    /// Gives the spare connection back when nobody has used it for a while.
    async fn watch_spare(&self) {
        let gatherer = &self.inner.gatherer;
        loop {
            let has_closed = tokio::time::timeout(KEEP, gatherer.closed.cancelled()).await.is_ok();
            let mut state = gatherer.state();
            let is_needed =
                state.writers > 0 || state.spare_since.is_some_and(|since| since.elapsed() < KEEP);
            if has_closed || !is_needed {
                // Race: whoever writes now and keeps its connection after this has it watched anew, or finds the end.
                state.is_spare_watched = false;
                let spare = state.spare.take();
                drop(state);
                drop(spare);
                return;
            }
        }
    }
}

/// Who writes in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A caller, which may go away at any moment; others wait for the turn to go on.
    ByCaller,
    /// A task, which only ends early with its runtime.
    ByTask,
    /// It came to its end.
    Done,
}

/// The right and duty to write what waits; it ends with its caller or task, however that ends.
struct Turn {
    storage: PostgresStorage,
    /// The calls in its statement.
    under_way: usize,
    end: End,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let end = std::mem::replace(&mut self.end, End::Done);
        let mut state = self.storage.inner.gatherer.state();
        state.under_way -= self.under_way;
        match end {
            End::Done => {}
            End::ByCaller if !state.waiting.is_empty() && tokio::runtime::Handle::try_current().is_ok() => {
                drop(state);
                self.storage.begin_writer(None);
            }
            End::ByCaller | End::ByTask => {
                state.writers -= 1;
                // They are told by that.
                let waiting = std::mem::take(&mut state.waiting);
                drop(state);
                drop(waiting);
            }
        }
    }
}

impl Turn {
    /// Ends the turn of a caller: what has gathered meanwhile is written by a task.
    fn hand_over(&mut self, spare: Spare) {
        let mut state = self.storage.inner.gatherer.state();
        self.end = End::Done;
        if state.waiting.is_empty() {
            state.writers -= 1;
            drop(state);
            self.storage.keep_spare(spare);
        } else {
            drop(state);
            self.storage.begin_writer(spare);
        }
    }

    async fn write_all(mut self, mut spare: Spare) {
        loop {
            self.storage.inner.gatherer.let_others_come().await;
            let group = {
                let mut state = self.storage.inner.gatherer.state();
                state.under_way -= std::mem::take(&mut self.under_way);
                let group = state.next_group();
                self.under_way = group.len();
                if group.is_empty() {
                    // Race: whoever comes after this writes by itself, or begins a turn.
                    state.writers -= 1;
                    self.end = End::Done;
                }
                group
            };
            if group.is_empty() {
                self.storage.keep_spare(spare);
                return;
            }
            if spare.is_none() {
                spare = self.storage.take_spare();
            }
            self.write(group, &mut spare).await;
        }
    }

    async fn write(&self, group: Vec<Waiting>, spare: &mut Spare) {
        let jobs = group.iter().flat_map(|waiting| &waiting.jobs);
        let mut seen = HashSet::new();
        let first_mentions: Vec<&Job> = jobs.filter(|job| seen.insert(job.id())).collect();
        match self.storage.insert_chunk(&first_mentions, spare).await {
            Ok(present) => {
                let mut mentioned = HashSet::new();
                for Waiting { jobs, answer } in group {
                    let ids = jobs.iter().map(Job::id);
                    let not_new = ids.filter(|id| !mentioned.insert(*id) || present.contains(id)).collect();
                    // A caller that has gone wants no answer.
                    let _ = answer.send(Ok(not_new));
                }
            }
            Err(failed) if group.len() == 1 || failed.is_uncertain || failed.error.is_retryable() => {
                let mut group = group.into_iter();
                let first = group.next();
                for Waiting { answer, .. } in group {
                    let _ = answer.send(Err(same_as(&failed)));
                }
                if let Some(Waiting { answer, .. }) = first {
                    let _ = answer.send(Err(failed.error));
                }
            }
            // One of them is to blame, and the others shall not suffer for it.
            Err(_) => {
                for Waiting { jobs, answer } in group {
                    let jobs: Vec<&Job> = jobs.iter().collect();
                    let written = self.storage.insert_chunk(&jobs, spare).await;
                    let _ = answer.send(written.map_err(StorageError::from));
                }
            }
        }
    }
}

/// The same error for another caller of the same group; it can only be one that may pass.
fn same_as(failed: &Failed) -> StorageError {
    let said = std::error::Error::source(&failed.error).map(ToString::to_string).unwrap_or_default();
    StorageError::Unavailable { provider: PROVIDER, operation: OPERATION, source: said.into() }
}
