//! Many small inserts at once become one statement; each caller is answered after the commit that holds its jobs.
//!
//! A caller that is alone writes by itself and waits for nobody. Whoever comes meanwhile goes together after it, written by
//! a task that stands by from the moment somebody waits: a caller can go away, or stop being polled, in the middle of its
//! statement, and neither may hold up the others.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::state::{Begins, State};
pub use self::turns::CallersTurn;
use self::turns::TasksTurn;

mod state;
#[cfg(test)]
mod tests;
mod turns;

/// How long a connection is kept for nobody.
const KEEP: Duration = Duration::from_millis(200);

/// How long those that wait rely on a caller to come to its end.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often others are let go on before a statement is sent.
const MAX_YIELDS: usize = 8;

/// A storage whose small inserts are gathered.
pub trait Gathering: Clone + Send + Sync + 'static {
    /// What a call that waits has to be written.
    type Jobs: Send + 'static;
    /// What it is told then.
    type Answer: Send + 'static;
    /// A connection that one writer leaves to the next: a pool asks each one that comes back whether it still works.
    type Connection: Send + 'static;

    /// The one that all handles of the storage share.
    fn gatherer(&self) -> &Gatherer<Self>;

    /// Begins a task, for whose end the end of the storage waits.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Whether the pool is large enough to have connections kept out of it.
    fn keeps_connections(&self) -> bool;

    /// How many of the first calls go into one statement.
    fn fitting(&self, calls: &[Call<Self>]) -> usize;

    /// Writes the jobs of these calls and answers each of them, on a connection that was kept if there is one; leaves the
    /// connection if others may use it as it is.
    fn write(
        &self,
        calls: Vec<Call<Self>>,
        kept: &mut Option<Self::Connection>,
    ) -> impl Future<Output = ()> + Send;
}

/// A call that waits to be written.
#[derive(Debug)]
pub struct Call<S: Gathering> {
    /// What it wants to be written.
    pub jobs: S::Jobs,
    /// Whoever waits for it may have gone.
    pub answer: oneshot::Sender<S::Answer>,
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Part<S: Gathering, J> {
    /// It writes its jobs by itself, being alone.
    Writes(CallersTurn<S>, J),
    /// It is written by others and is told; not if the runtime that was to write it is shut down.
    IsWritten(oneshot::Receiver<S::Answer>),
}

/// The calls that wait. While one group is being written the next one gathers.
#[derive(Debug)]
pub struct Gatherer<S: Gathering> {
    state: Mutex<State<S>>,
    closed: CancellationToken,
}

impl<S: Gathering> Default for Gatherer<S> {
    fn default() -> Self {
        Self { state: Mutex::default(), closed: CancellationToken::new() }
    }
}

impl<S: Gathering> Gatherer<S> {
    /// Finds a part for a call. If it has to wait, `to_wait` makes of its jobs what can wait without it.
    pub fn join<J>(storage: S, jobs: J, to_wait: impl FnOnce(J) -> S::Jobs) -> Part<S, J> {
        let alone = storage.gatherer().state().begin_alone();
        if let Some((turn, kept)) = alone {
            return Part::Writes(CallersTurn::new(storage, turn, kept), jobs);
        }
        let (answer, answered) = oneshot::channel();
        let call = Call { jobs: to_wait(jobs), answer };
        let begins = storage.gatherer().state().add(call);
        match begins {
            Begins::Nobody => {}
            Begins::Writer => storage.spawn(TasksTurn::counted(storage.clone()).write_all(None)),
            Begins::Successor(released) => {
                storage.spawn(TasksTurn::standing_by(storage.clone()).succeed(released));
            }
        }
        Part::IsWritten(answered)
    }

    /// Lets go of the connection that is kept, and keeps none any more.
    pub fn close(&self) {
        self.closed.cancel();
        let kept = self.state().kept.take();
        drop(kept);
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Keeps a connection for the next writer, if there is a pool to spare it.
    fn keep(storage: &S, connection: Option<S::Connection>) {
        if connection.is_none() || !storage.keeps_connections() {
            return;
        }
        let gatherer = storage.gatherer();
        let mut state = gatherer.state();
        // Race: looked at with the lock held, so that closing finds what is kept or nothing is.
        if gatherer.closed.is_cancelled() {
            drop(state);
            return;
        }
        let superfluous = std::mem::replace(&mut state.kept, connection);
        state.kept_since = Some(Instant::now());
        let is_watched = std::mem::replace(&mut state.is_watched, true);
        drop(state);
        drop(superfluous);
        if !is_watched {
            let watching = storage.clone();
            storage.spawn(async move { watching.gatherer().watch().await });
        }
    }

    /// Gives the connection that is kept back when nobody has used it for a while.
    async fn watch(&self) {
        loop {
            let has_closed = timeout(KEEP, self.closed.cancelled()).await.is_ok();
            let mut state = self.state();
            let is_needed = state.writers > 0 || state.kept_since.is_some_and(|since| since.elapsed() < KEEP);
            if has_closed || !is_needed {
                // Race: whoever writes now and keeps its connection after this has it watched anew, or finds the end.
                state.is_watched = false;
                let kept = state.kept.take();
                drop(state);
                drop(kept);
                return;
            }
        }
    }
}

impl<S: Gathering> Call<S> {
    /// Tells a caller what became of its call.
    pub fn answer(self, answer: S::Answer) {
        // Whoever asked may have gone.
        let _ = self.answer.send(answer);
    }
}

/// The calls of a group that go into one statement.
fn group_of<S: Gathering>(storage: &S, waiting: &mut VecDeque<Call<S>>) -> Vec<Call<S>> {
    if waiting.is_empty() {
        return Vec::new();
    }
    let count = storage.fitting(waiting.make_contiguous()).clamp(1, waiting.len());
    waiting.drain(..count).collect()
}
