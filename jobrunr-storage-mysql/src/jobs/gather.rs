//! Many single inserts at once become one statement; each caller is answered after the commit that holds its job.
//!
//! A caller that is alone waits for nobody: its job goes at once, and whoever comes meanwhile goes together after it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobrunr_core::JobId;
use jobrunr_core::storage::{InsertReport, StorageError};
use sqlx::MySql;
use sqlx::pool::PoolConnection;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::archive::rows_that_fit;
use super::insert::{InsertJobs, NewJob};
use crate::PROVIDER;
use crate::error::{Failure, Outcome};
use crate::session::Session;
use crate::shared::Shared;
use crate::statements::RowSizes;
use crate::work::settle;

const OPERATION: &str = "insert jobs";

/// How long the connection is kept for more jobs to come.
const KEEP: Duration = Duration::from_millis(200);

/// How often others are let go on before a statement is sent.
const MAX_YIELDS: usize = 8;

/// The single inserts that wait to be gathered.
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<Call>,
    /// How many tasks see to them.
    tasks: usize,
    /// How many of those have nothing to do at the moment.
    idle_tasks: usize,
    /// How many calls are in statements on their way.
    under_way: usize,
}

/// What a call that has come to wait needs.
#[derive(Debug, PartialEq, Eq)]
enum Needs {
    /// Whoever is at work will see to it.
    Nothing,
    WakingATask,
    OneMoreTask,
}

/// One task gathers best; a second one works while the first waits for the disk.
const MAX_TASKS: usize = 2;

/// How many calls must wait before a second task is worth it, and how many may be on their way: beyond that, statements
/// that hold more are worth more than two at once.
const ENOUGH_WAIT: usize = 4;
const FEW_UNDER_WAY: usize = 8;

impl Waiting {
    fn add(&mut self, call: Call) -> Needs {
        self.calls.push_back(call);
        let is_second_worth_it = self.calls.len() >= ENOUGH_WAIT && self.under_way <= FEW_UNDER_WAY;
        if self.tasks == 0 || (self.idle_tasks == 0 && self.tasks < MAX_TASKS && is_second_worth_it) {
            self.tasks += 1;
            return Needs::OneMoreTask;
        }
        if self.idle_tasks > 0 && (self.idle_tasks == self.tasks || is_second_worth_it) {
            return Needs::WakingATask;
        }
        Needs::Nothing
    }
}

/// One call that inserts one job.
#[derive(Debug)]
struct Call {
    job: NewJob,
    answer: oneshot::Sender<Result<InsertReport, StorageError>>,
}

impl Gatherer {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what goes into one statement; if that is nothing, the task counts as idle.
    fn next(&self, max_bytes: usize) -> Vec<Call> {
        let mut waiting = self.waiting();
        let calls = waiting.calls.make_contiguous();
        let fitting = rows_that_fit(calls, max_bytes, |call| call.job.bytes());
        let count = RowSizes::size_at_most(fitting);
        waiting.under_way += count;
        waiting.idle_tasks += usize::from(count == 0);
        waiting.calls.drain(..count).collect()
    }

    fn arrived(&self, count: usize) {
        self.waiting().under_way -= count;
    }

    /// Lets those go on who were answered just now or are about to call, as long as that brings more calls: else half of the
    /// callers would go with every other statement.
    async fn let_others_come(&self) {
        let mut known = self.waiting().calls.len();
        for _ in 0..MAX_YIELDS {
            tokio::task::yield_now().await;
            let now = self.waiting().calls.len();
            if now == known {
                return;
            }
            known = now;
        }
    }

    /// Lets an idle task go on; tells whether it may end, because nobody waits and it waited for long enough.
    fn go_on(&self, waited_long: bool) -> bool {
        let mut waiting = self.waiting();
        let may_end = waited_long && waiting.calls.is_empty();
        waiting.idle_tasks -= 1;
        waiting.tasks -= usize::from(may_end);
        may_end
    }
}

impl Shared {
    /// Inserts a job that is a row alone, together with whatever others are inserted at the moment.
    pub(super) async fn gather(self: &Arc<Self>, job: NewJob) -> Result<InsertReport, StorageError> {
        let (answer, answered) = oneshot::channel();
        let needs = self.gatherer.waiting().add(Call { job, answer });
        match needs {
            Needs::Nothing => {}
            Needs::WakingATask => self.gatherer.more.notify_one(),
            Needs::OneMoreTask => {
                self.tasks.spawn(Arc::clone(self).insert_gathered());
            }
        }
        answered.await.unwrap_or(Err(StorageError::Closed { provider: PROVIDER, operation: OPERATION }))
    }

    async fn insert_gathered(self: Arc<Self>) {
        let mut kept = None;
        loop {
            self.gatherer.let_others_come().await;
            let calls = self.gatherer.next(self.max_statement_bytes);
            if !calls.is_empty() {
                let count = calls.len();
                self.insert_calls(calls, &mut kept).await;
                self.gatherer.arrived(count);
                continue;
            }
            let more = async {
                tokio::select! {
                    () = self.gatherer.more.notified() => {}
                    () = self.closing.cancelled() => {}
                }
            };
            let waited_long = timeout(KEEP, more).await.is_err() || self.closing.is_cancelled();
            if self.gatherer.go_on(waited_long) {
                return;
            }
        }
    }

    async fn insert_calls(self: &Arc<Self>, calls: Vec<Call>, kept: &mut Option<PoolConnection<MySql>>) {
        let failure = match self.insert_at_once(&calls, kept).await {
            Ok(()) => return answer_all(calls, || Ok(InsertReport::default())),
            Err(failure) => failure,
        };
        if let Some(connection) = kept.take() {
            settle(connection, Some(&failure));
        }
        if !(failure.is_duplicate() || failure.is_conflict() || failure.is_lost_connection()) {
            return answer_all(calls, || Err(failure.to_error(OPERATION)));
        }
        // What is not quite so simple is done apart, so that others need not wait for it.
        let shared = Arc::clone(self);
        self.tasks.spawn(async move { shared.insert_with_care(calls, &failure).await });
    }

    async fn insert_at_once(&self, calls: &[Call], kept: &mut Option<PoolConnection<MySql>>) -> Outcome<()> {
        let connection = match kept {
            Some(connection) => connection,
            None => kept.insert(self.connection().await?),
        };
        let jobs: Vec<&NewJob> = calls.iter().map(|call| &call.job).collect();
        Session { connection, shared: self }.insert_absent(&jobs).await
    }

    /// Inserts what could not be inserted at once: some may be there already, of others it must be found out.
    async fn insert_with_care(self: Arc<Self>, calls: Vec<Call>, failure: &Failure) {
        let (jobs, answers): (Vec<_>, Vec<_>) = calls.into_iter().map(|call| (call.job, call.answer)).unzip();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let mut work = InsertJobs { jobs, some_are_present: failure.is_duplicate() };
        let mut already_present = Vec::new();
        let mut error = None;
        let found = if failure.is_lost_connection() { self.find_out(&mut work).await } else { Some(false) };
        match found {
            Some(true) => {}
            Some(false) => match self.write(OPERATION, work).await {
                Ok(present) => already_present = present,
                Err(failed) => error = Some(Failure::Storage(failed)),
            },
            None => error = Some(Failure::Sqlx(sqlx::Error::PoolTimedOut)),
        }
        // Of several mentions of a job the last ones are those that were there already.
        for (id, answer) in ids.into_iter().zip(answers).rev() {
            let result = match &error {
                Some(error) => Err(error.to_error(OPERATION)),
                None => {
                    let index = already_present.iter().position(|present| *present == id);
                    let already_present = index.map(|index| already_present.swap_remove(index));
                    Ok(InsertReport { already_present: already_present.into_iter().collect() })
                }
            };
            // Whoever asked may have gone.
            let _ = answer.send(result);
        }
    }
}

fn answer_all(calls: Vec<Call>, result: impl Fn() -> Result<InsertReport, StorageError>) {
    for Call { job: _, answer } in calls {
        // Whoever asked may have gone.
        let _ = answer.send(result());
    }
}

#[cfg(test)]
mod tests {
    use jobrunr_core::{Job, JobDefinition, JobState, JsonText};

    use super::*;

    fn call() -> Call {
        let definition = JobDefinition::new("mail".parse().unwrap(), JsonText::of(&()).unwrap());
        let now = chrono::DateTime::UNIX_EPOCH;
        let job = NewJob::of(&Job::new(JobId::new(), definition, JobState::enqueued(), now).unwrap());
        Call { job, answer: oneshot::channel().0 }
    }

    fn needs(gatherer: &Gatherer) -> Needs {
        gatherer.waiting().add(call())
    }

    #[test]
    fn a_first_call_gets_a_task_and_those_that_come_meanwhile_wait_for_it() {
        let gatherer = Gatherer::default();

        assert_eq!(needs(&gatherer), Needs::OneMoreTask);
        assert_eq!(gatherer.next(1 << 20).len(), 1);
        assert_eq!(needs(&gatherer), Needs::Nothing);
    }

    #[test]
    fn a_second_task_comes_when_many_wait_and_few_are_on_their_way() {
        let gatherer = Gatherer::default();
        needs(&gatherer);
        gatherer.next(1 << 20);

        let of_four: Vec<Needs> = (0..4).map(|_| needs(&gatherer)).collect();

        assert_eq!(of_four, [Needs::Nothing, Needs::Nothing, Needs::Nothing, Needs::OneMoreTask]);
        assert_eq!(gatherer.next(1 << 20).len(), 4);
        gatherer.waiting().under_way = FEW_UNDER_WAY + 1;
        assert!((0..64).all(|_| needs(&gatherer) == Needs::Nothing), "no third task, and no waking");
    }

    #[test]
    fn an_idle_task_is_woken_and_ends_only_if_nobody_waits() {
        let gatherer = Gatherer::default();
        needs(&gatherer);
        gatherer.next(1 << 20);
        gatherer.arrived(1);
        assert!(gatherer.next(1 << 20).is_empty());

        assert_eq!(needs(&gatherer), Needs::WakingATask);
        assert!(!gatherer.go_on(true), "somebody waits");
        gatherer.next(1 << 20);
        gatherer.arrived(1);
        gatherer.next(1 << 20);
        assert!(gatherer.go_on(true));
        assert_eq!(needs(&gatherer), Needs::OneMoreTask);
    }
}
