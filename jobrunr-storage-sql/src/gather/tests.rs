//! Who writes when, with a storage that writes what and when its test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::advance;

use super::*;

/// Number of a job.
type Number = u32;

/// A connection; dropping it gives it back.
#[derive(Debug)]
struct Connection(Arc<AtomicUsize>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Storage(Arc<Shared>);

struct Shared {
    gatherer: Gatherer<Storage>,
    /// A statement of a task is answered when it gets a permit.
    answers: Semaphore,
    /// What was begun to be written by tasks, in order.
    groups: Mutex<Vec<Vec<Number>>>,
    connected: AtomicUsize,
    given_back: Arc<AtomicUsize>,
    can_keep: bool,
}

impl Gathering for Storage {
    type Jobs = Number;
    type Answer = Number;
    type Connection = Connection;

    fn gatherer(&self) -> &Gatherer<Self> {
        &self.0.gatherer
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    fn keeps_connections(&self) -> bool {
        self.0.can_keep
    }

    fn fitting(&self, calls: &[Call<Self>]) -> usize {
        calls.len().min(16)
    }

    async fn write(&self, calls: Vec<Call<Self>>, kept: &mut Option<Connection>) {
        self.0.groups.lock().unwrap().push(calls.iter().map(|call| call.jobs).collect());
        if kept.is_none() {
            *kept = Some(self.connect());
        }
        self.0.answers.acquire().await.unwrap().forget();
        for call in calls {
            let number = call.jobs;
            call.answer(number);
        }
    }
}

impl Storage {
    fn new(can_keep: bool) -> Self {
        Self(Arc::new(Shared {
            gatherer: Gatherer::default(),
            answers: Semaphore::new(0),
            groups: Mutex::default(),
            connected: AtomicUsize::new(0),
            given_back: Arc::default(),
            can_keep,
        }))
    }

    fn connect(&self) -> Connection {
        self.0.connected.fetch_add(1, Ordering::SeqCst);
        Connection(Arc::clone(&self.0.given_back))
    }

    fn join(&self, number: Number) -> Part<Self, Number> {
        Gatherer::join(self.clone(), number, |number| number)
    }

    /// A call that has to be alone.
    fn alone(&self) -> CallersTurn<Self> {
        match self.join(0) {
            Part::Writes(turn, _) => turn,
            Part::IsWritten(_) => panic!("somebody else writes"),
        }
    }

    /// A call that has to wait.
    fn waits(&self, number: Number) -> JoinHandle<Option<Number>> {
        match self.join(number) {
            Part::Writes(..) => panic!("nobody else writes"),
            Part::IsWritten(answered) => tokio::spawn(async move { answered.await.ok() }),
        }
    }

    fn groups(&self) -> Vec<Vec<Number>> {
        self.0.groups.lock().unwrap().clone()
    }

    fn given_back(&self) -> usize {
        self.0.given_back.load(Ordering::SeqCst)
    }

    fn writers(&self) -> (usize, usize) {
        let state = self.0.gatherer.state();
        (state.writers, state.under_way)
    }
}

/// Lets all tasks go on as far as they can without time passing.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_alone_writes_by_itself_each_time() {
    let storage = Storage::new(true);

    for _ in 0..3 {
        storage.alone().end(None);
    }

    assert_eq!((storage.groups(), storage.writers()), (vec![], (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_meanwhile_is_written_together_after_the_caller() {
    let storage = Storage::new(true);
    let turn = storage.alone();
    let waiting = [1, 2, 3].map(|number| storage.waits(number));
    settle().await;
    assert_eq!(storage.groups(), Vec::<Vec<Number>>::new(), "the caller is not through");

    turn.end(Some(storage.connect()));
    settle().await;

    assert_eq!(storage.groups(), [[1, 2, 3]]);
    assert_eq!(storage.writers(), (1, 3));
    storage.0.answers.add_permits(1);
    for (number, waiting) in (1..).zip(waiting) {
        assert_eq!(waiting.await.unwrap(), Some(number));
    }
    settle().await;
    assert_eq!(storage.writers(), (0, 0));
    assert_eq!(storage.0.connected.load(Ordering::SeqCst), 1, "the task had the caller's connection");
    storage.alone().end(None);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_caller_that_goes_away_is_written() {
    let storage = Storage::new(true);
    let turn = storage.alone();
    let waiting = storage.waits(1);

    drop(turn);
    settle().await;

    assert_eq!(storage.groups(), [[1]]);
    storage.0.answers.add_permits(1);
    assert_eq!(waiting.await.unwrap(), Some(1));
    settle().await;
    assert_eq!(storage.writers(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_caller_that_is_no_longer_polled() {
    let storage = Storage::new(true);
    let stuck = storage.alone();
    let waiting = storage.waits(1);
    settle().await;

    advance(PATIENCE).await;
    settle().await;
    assert_eq!(storage.groups(), [[1]]);
    storage.0.answers.add_permits(1);
    assert_eq!(waiting.await.unwrap(), Some(1));
    settle().await;

    // The next one is alone although the turn of the first has not ended; when that ends it is nobody else's.
    let next = storage.alone();
    stuck.end(None);
    assert_eq!(storage.writers(), (1, 1));
    next.end(None);
    assert_eq!(storage.writers(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_second_writer_comes_when_many_wait_and_few_are_on_their_way() {
    let storage = Storage::new(true);
    let turn = storage.alone();

    let first: Vec<_> = (1..=4).map(|number| storage.waits(number)).collect();
    settle().await;
    assert_eq!(storage.groups(), [[1, 2, 3, 4]], "beside the caller");
    assert_eq!(storage.writers(), (2, 5));
    turn.end(None);
    let second: Vec<_> = (5..=8).map(|number| storage.waits(number)).collect();
    settle().await;
    assert_eq!(storage.groups(), [[1, 2, 3, 4], [5, 6, 7, 8]], "beside the task");
    let third: Vec<_> = (9..=40).map(|number| storage.waits(number)).collect();
    settle().await;
    assert_eq!((storage.groups().len(), storage.writers()), (2, (2, 8)), "no third one");

    storage.0.answers.add_permits(100);
    for waiting in first.into_iter().chain(second).chain(third) {
        assert!(waiting.await.unwrap().is_some());
    }
    settle().await;
    assert_eq!(storage.writers(), (0, 0));
    assert!(storage.groups().iter().all(|group| group.len() <= 16), "what fits");
}

#[tokio::test(start_paused = true)]
async fn while_many_are_on_their_way_a_second_writer_does_not_come() {
    const MANY: usize = 9;
    let storage = Storage::new(true);
    let turn = storage.alone();
    storage.0.gatherer.state().under_way += MANY;

    let waiting: Vec<_> = (1..=10).map(|number| storage.waits(number)).collect();
    settle().await;

    assert_eq!((storage.groups().len(), storage.writers()), (0, (1, 1 + MANY)));
    storage.0.gatherer.state().under_way -= MANY;
    storage.0.answers.add_permits(1);
    turn.end(None);
    for waiting in waiting {
        assert!(waiting.await.unwrap().is_some());
    }
    assert_eq!(storage.groups().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_the_next_writer_and_given_back_when_nobody_comes() {
    let storage = Storage::new(true);
    storage.alone().end(Some(storage.connect()));
    for _ in 0..10 {
        advance(KEEP / 2).await;
        settle().await;
        let mut turn = storage.alone();
        let connection = turn.take_connection();
        assert!(connection.is_some(), "in use all the time");
        turn.end(connection);
    }
    settle().await;
    assert_eq!(storage.given_back(), 0);

    for _ in 0..3 {
        advance(KEEP).await;
        settle().await;
    }

    assert_eq!(storage.given_back(), 1);
    assert!(storage.alone().take_connection().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_small_pool_and_a_closed_storage_keep_no_connection() {
    let small = Storage::new(false);
    small.alone().end(Some(small.connect()));
    assert_eq!(small.given_back(), 1);

    let storage = Storage::new(true);
    storage.alone().end(Some(storage.connect()));
    assert_eq!(storage.given_back(), 0);
    storage.0.gatherer.close();
    assert_eq!(storage.given_back(), 1);
    storage.alone().end(Some(storage.connect()));
    assert_eq!(storage.given_back(), 2);
}

#[test]
fn whoever_waits_for_a_task_that_ends_with_its_runtime_is_told() {
    let (storage, others) = (Storage::new(true), tokio::runtime::Builder::new_current_thread().build());
    let others = others.unwrap();
    for is_released in [false, true] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let turn = storage.alone();
        let mut told = None;
        runtime.block_on(async {
            if let Part::IsWritten(answered) = storage.join(1) {
                told = Some(answered);
            }
            yield_now().await;
        });
        if is_released {
            turn.end(None);
            drop(runtime);
        } else {
            drop(runtime);
            turn.end(None);
        }

        assert_eq!(others.block_on(told.unwrap()).ok(), None);
        assert_eq!(storage.writers(), (0, 0));
    }
}
