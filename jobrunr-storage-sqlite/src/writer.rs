//! The one thread that writes: it takes whatever calls are waiting, commits them as one group, then answers each.
//!
//! A group is what came while the group before was being committed; nothing is ever waited for to make one larger. If any
//! call of a group fails, the whole group is rolled back and each of its calls is done again in a transaction of its own,
//! so that none suffers from another and the usual group pays for no savepoints.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jobrunr_core::storage::{SetUp, StorageError};
use jobrunr_storage_sql::TablePrefix;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::PROVIDER;
use crate::changes::{SharedHub, Watch};
use crate::connection::open_writer;
use crate::error::{Failure, Outcome, classify, is_busy};
use crate::migrations;
use crate::options::{Location, SqliteOptions};
use crate::session::{Memory, Session, View};
use crate::statements::Statements;

/// Most calls in one group, so that the first of them does not wait for ever.
const MAX_GROUP: usize = 512;
/// How long a group is added to while calls keep coming.
const MAX_GROUP_TIME: Duration = Duration::from_millis(20);
/// The first and the longest pause before a lock is tried again.
const BUSY_PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(12));

/// A call that waits to be done. It may be done more than once, if a transaction that held it was rolled back.
trait Work: Send {
    fn operation(&self) -> &'static str;
    fn run(&mut self, session: &mut Session<'_>) -> Outcome<()>;
    fn answer(self: Box<Self>, end: Result<(), StorageError>);
}

struct Call<T, F> {
    operation: &'static str,
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StorageError>>,
}

impl<T: Send, F: FnMut(&mut Session<'_>) -> Outcome<T> + Send> Work for Call<T, F> {
    fn operation(&self) -> &'static str {
        self.operation
    }

    fn run(&mut self, session: &mut Session<'_>) -> Outcome<()> {
        self.value = Some((self.work)(session)?);
        Ok(())
    }

    fn answer(self: Box<Self>, end: Result<(), StorageError>) {
        let Self { value, reply, .. } = *self;
        let value = end.map(|()| value.expect("work that ended well has given its value"));
        // Whoever asked may have gone away; what was done is done.
        let _ = reply.send(value);
    }
}

enum Message {
    Work(Box<dyn Work>),
    SetUp(SetUp, oneshot::Sender<Result<(), StorageError>>),
    /// Somebody listens for changes now.
    Watch,
    Close,
}

/// How much was written so far, for benchmarks and curious people.
#[derive(Debug, Default)]
pub(crate) struct WriterStatistics {
    pub(crate) commits: AtomicU64,
    pub(crate) calls: AtomicU64,
}

/// The writer as the other threads see it.
#[derive(Debug)]
pub(crate) struct Writer {
    /// `None` once it was closed.
    sender: Mutex<Option<Sender<Message>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: watch::Receiver<bool>,
    pub(crate) statistics: Arc<WriterStatistics>,
}

impl Writer {
    /// Opens the database and starts the thread.
    pub(crate) async fn start(
        options: Arc<SqliteOptions>,
        prefix: TablePrefix,
        statements: Arc<Statements>,
        hub: Arc<SharedHub>,
    ) -> Result<Self, StorageError> {
        let (sender, messages) = mpsc::channel();
        let (opened, is_open) = oneshot::channel();
        let (end, ended) = watch::channel(false);
        let statistics = Arc::new(WriterStatistics::default());
        let of_thread = Arc::clone(&statistics);
        let thread = std::thread::Builder::new().name("jobrunr-sqlite-writer".to_owned()).spawn(move || {
            match open_writer(&options) {
                Ok(connection) => {
                    // Whoever opened it may have gone away; then the channel of messages is closed too.
                    let _ = opened.send(Ok(()));
                    WriterThread {
                        watch: Watch::default(),
                        connection,
                        options,
                        prefix,
                        statements,
                        hub,
                        messages,
                        next: None,
                        memory: Memory::new(),
                        statistics: of_thread,
                        jitter: Jitter::new(),
                    }
                    .run();
                }
                Err(failure) => {
                    let _ = opened.send(Err(failure.into_error("open the database")));
                }
            }
            end.send_replace(true);
        });
        let thread = thread.map_err(|error| no_thread("open the database", error))?;
        is_open.await.map_err(|_| closed("open the database"))??;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), ended, statistics })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Sends a message; one that cannot be sent any more is dropped, and its reply with it.
    fn send(&self, message: Message) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*sender {
            let _ = sender.send(message);
        }
    }

    /// Has a piece of work done and committed. If the future is dropped, it is done all the same, or not at all.
    pub(crate) async fn call<T, F>(&self, operation: &'static str, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnMut(&mut Session<'_>) -> Outcome<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Work(Box::new(Call { operation, work, value: None, reply })));
        answer.await.unwrap_or_else(|_| Err(closed(operation)))
    }

    pub(crate) async fn set_up(&self, set_up: SetUp) -> Result<(), StorageError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::SetUp(set_up, reply));
        answer.await.unwrap_or_else(|_| Err(closed("set up")))
    }

    /// Tells the thread that somebody listens for changes.
    pub(crate) fn watch(&self) {
        self.send(Message::Watch);
    }

    /// Lets the thread finish what was asked for before, and waits for its end.
    pub(crate) async fn close(&self) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // If the thread is gone, there is nothing left to close.
            let _ = sender.send(Message::Close);
        }
        let mut ended = self.ended.clone();
        // The sender is dropped only with the thread.
        let _ = ended.wait_for(|ended| *ended).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has said that it ends; a panic was answered by it before.
            let _ = thread.join();
        }
    }
}

pub(crate) fn closed(operation: &'static str) -> StorageError {
    StorageError::Closed { provider: PROVIDER, operation }
}

pub(crate) fn no_thread(operation: &'static str, error: std::io::Error) -> StorageError {
    StorageError::Unavailable { provider: PROVIDER, operation, source: error.into() }
}

struct WriterThread {
    connection: Connection,
    options: Arc<SqliteOptions>,
    prefix: TablePrefix,
    statements: Arc<Statements>,
    hub: Arc<SharedHub>,
    messages: Receiver<Message>,
    /// A message that was received too early: it is the next one.
    next: Option<Message>,
    memory: Memory,
    watch: Watch,
    statistics: Arc<WriterStatistics>,
    jitter: Jitter,
}

/// How far a group got.
enum Attempt {
    Committed,
    /// The lock was not to be had, or the database not to be read: nothing was tried.
    NotBegun(rusqlite::Error),
    /// It was rolled back.
    Failed(Failure),
}

impl WriterThread {
    fn run(mut self) {
        while let Some(message) = self.next_message() {
            match message {
                Message::Work(work) => self.commit_group(work),
                Message::SetUp(set_up, reply) => {
                    let end = catch_unwind(AssertUnwindSafe(|| self.set_up(set_up)));
                    let end = end.unwrap_or(Err(Failure::Panicked));
                    let _ = reply.send(end.map_err(|failure| failure.into_error("set up")));
                }
                Message::Watch => self.look_for_changes(),
                Message::Close => break,
            }
        }
        self.connection.flush_prepared_statement_cache();
        // The last connection to close folds the log back into the file; if that fails, the next one to open does it.
        let _ = self.connection.close();
    }

    /// Waits for the next message; looks for changes of other processes meanwhile, if anybody wants to know.
    fn next_message(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.next.take() {
                return Some(message);
            }
            if !self.hub.has_subscribers() || self.options.location == Location::Memory {
                return self.messages.recv().ok();
            }
            match self.messages.recv_timeout(self.watch.until_next_look()) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.look_for_changes(),
            }
        }
    }

    fn look_for_changes(&mut self) {
        let view = View { connection: &self.connection, statements: &self.statements };
        if let Err(failure) = self.watch.look(view, &self.hub, self.memory.origin) {
            // Hints may be lost, and the next look sees what this one missed.
            tracing::debug!(error = ?failure, "could not look for changes of other processes");
        }
    }

    fn commit_group(&mut self, first: Box<dyn Work>) {
        let mut group = vec![first];
        match self.attempt(&mut group, Gather::WhatWaits) {
            Attempt::Failed(_) if group.len() > 1 => {
                // One of them is to blame; alone, each has its own end.
                for work in group {
                    let mut alone = vec![work];
                    let end = self.attempt(&mut alone, Gather::Nothing);
                    answer(alone, end);
                }
            }
            end => answer(group, end),
        }
        if self.hub.has_subscribers() && self.watch.is_time_to_look() {
            self.look_for_changes();
        }
    }

    /// Does a group in one transaction, adding what comes meanwhile.
    fn attempt(&mut self, group: &mut Vec<Box<dyn Work>>, gather: Gather) -> Attempt {
        if let Err(error) = self.begin(group, gather) {
            return Attempt::NotBegun(error);
        }
        let end = self.run_group(group, gather).and_then(|()| self.execute("COMMIT"));
        match end {
            Ok(()) => {
                let calls = u64::try_from(group.len()).unwrap_or(u64::MAX);
                self.statistics.commits.fetch_add(1, Ordering::Relaxed);
                self.statistics.calls.fetch_add(calls, Ordering::Relaxed);
                self.memory.committed(&self.hub);
                Attempt::Committed
            }
            Err(failure) => {
                self.roll_back();
                Attempt::Failed(failure)
            }
        }
    }

    fn execute(&self, sql: &str) -> Outcome<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Takes the lock, trying again until the busy timeout is over; what comes meanwhile joins the group.
    fn begin(&mut self, group: &mut Vec<Box<dyn Work>>, gather: Gather) -> Result<(), rusqlite::Error> {
        let started = Instant::now();
        let (mut pause, longest) = BUSY_PAUSES;
        loop {
            let begun =
                self.connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([]));
            match begun {
                Err(error) if is_busy(&error) && started.elapsed() < self.options.busy_timeout => {
                    let spread = self.jitter.spread(pause);
                    self.wait_for_lock(spread, group, gather);
                    pause = (pause * 2).min(longest);
                }
                end => return end.map(drop),
            }
        }
    }

    fn wait_for_lock(&mut self, pause: Duration, group: &mut Vec<Box<dyn Work>>, gather: Gather) {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let may_gather = gather == Gather::WhatWaits && self.next.is_none() && group.len() < MAX_GROUP;
            if !may_gather {
                std::thread::park_timeout(left);
                continue;
            }
            match self.messages.recv_timeout(left) {
                Ok(Message::Work(work)) => group.push(work),
                Ok(other) => self.next = Some(other),
                Err(RecvTimeoutError::Timeout) => return,
                // Nobody will send any more; what is in the group is still to be done.
                Err(RecvTimeoutError::Disconnected) => std::thread::park_timeout(left),
            }
        }
    }

    fn run_group(&mut self, group: &mut Vec<Box<dyn Work>>, gather: Gather) -> Outcome<()> {
        let started = Instant::now();
        let mut done = 0;
        loop {
            while let Some(work) = group.get_mut(done) {
                let mut session = session(&self.connection, &self.statements, &mut self.memory);
                // Whatever a panic left half done is rolled back.
                catch_unwind(AssertUnwindSafe(|| work.run(&mut session)))
                    .unwrap_or(Err(Failure::Panicked))?;
                done += 1;
            }
            let is_full = group.len() >= MAX_GROUP || started.elapsed() >= MAX_GROUP_TIME;
            if gather == Gather::Nothing || is_full || self.next.is_some() {
                break;
            }
            match self.messages.try_recv() {
                Ok(Message::Work(work)) => group.push(work),
                Ok(other) => self.next = Some(other),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        session(&self.connection, &self.statements, &mut self.memory).write_counts()
    }

    fn roll_back(&mut self) {
        // SQLite has rolled back by itself after some errors, such as a full disk.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(code = ?error.sqlite_error_code(), "could not roll back");
        }
        self.memory.rolled_back();
    }

    fn set_up(&mut self, set_up: SetUp) -> Outcome<()> {
        // Outside of transactions, and before the log is in use, even reading may have to wait for a lock.
        self.connection.busy_timeout(self.options.busy_timeout)?;
        let end = self.migrate_or_validate(set_up);
        self.connection.busy_timeout(Duration::ZERO)?;
        if end.is_ok() {
            self.look_for_changes();
        }
        end
    }

    fn migrate_or_validate(&mut self, set_up: SetUp) -> Outcome<()> {
        migrations::check(&self.connection, &self.prefix, set_up)?;
        if set_up != SetUp::Migrate {
            return Ok(());
        }
        self.use_write_ahead_log()?;
        self.begin(&mut Vec::new(), Gather::Nothing)?;
        let end = migrations::apply(&self.connection, &self.prefix, &*self.options.clock)
            .and_then(|()| self.execute("COMMIT"));
        if end.is_err() {
            self.roll_back();
        }
        end
    }

    /// Changes the file over to a write-ahead log, which it keeps for good; several processes may try at once.
    fn use_write_ahead_log(&mut self) -> Outcome<()> {
        let started = Instant::now();
        let (mut pause, longest) = BUSY_PAUSES;
        loop {
            match self.connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())) {
                Err(error) if is_busy(&error) && started.elapsed() < self.options.busy_timeout => {
                    let spread = self.jitter.spread(pause);
                    self.wait_for_lock(spread, &mut Vec::new(), Gather::Nothing);
                    pause = (pause * 2).min(longest);
                }
                end => return Ok(end?),
            }
        }
    }
}

/// Whether a group takes in what comes while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gather {
    WhatWaits,
    Nothing,
}

fn session<'c>(
    connection: &'c Connection,
    statements: &'c Statements,
    memory: &'c mut Memory,
) -> Session<'c> {
    Session { view: View { connection, statements }, memory }
}

/// Answers the calls of a group, which all came to the same end; only a single call can have failed.
fn answer(group: Vec<Box<dyn Work>>, end: Attempt) {
    match end {
        Attempt::Committed => group.into_iter().for_each(|work| work.answer(Ok(()))),
        Attempt::NotBegun(error) => {
            for work in group {
                let error = classify(&error, work.operation());
                work.answer(Err(error));
            }
        }
        Attempt::Failed(failure) => {
            for (work, failure) in group.into_iter().zip([failure]) {
                let error = failure.into_error(work.operation());
                work.answer(Err(error));
            }
        }
    }
}

/// Spreads pauses, so that processes that wait for one lock do not try at the same time.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    fn new() -> Self {
        Self(uuid::Uuid::now_v7().as_u64_pair().1 | 1)
    }

    /// Between a half and the whole of `pause`.
    fn spread(&mut self, pause: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let thousandths = u32::try_from(self.0 % 501).unwrap_or(0);
        pause / 2 + pause * thousandths / 1_000
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
