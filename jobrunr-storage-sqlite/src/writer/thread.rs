//! The thread of the writer: gathering a group, taking the lock, committing, answering.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use jobrunr_core::storage::SetUp;
use rusqlite::Connection;

use super::{Keeping, Message, Setting, Work, WriterStatistics};
use crate::changes::Watch;
use crate::error::{Failure, Outcome, classify, is_busy};
use crate::migrations;
use crate::options::{Durability, Location};
use crate::session::{Memory, Session, View};

/// Most calls in one group, so that the first of them does not wait for ever.
const MAX_GROUP: usize = 512;
/// How long a group is added to while calls keep coming.
const MAX_GROUP_TIME: Duration = Duration::from_millis(20);
/// The first and the longest pause before a lock is tried again.
const BUSY_PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(12));

pub(super) struct WriterThread {
    connection: Connection,
    setting: Setting,
    messages: Receiver<Message>,
    /// A message that was received too early: it is the next one.
    next: Option<Message>,
    memory: Memory,
    watch: Watch,
    statistics: Arc<WriterStatistics>,
    jitter: Jitter,
    /// What the connection is set to: whether a commit waits for the disk.
    keeping: Keeping,
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
    pub(super) fn new(
        connection: Connection,
        setting: Setting,
        messages: Receiver<Message>,
        statistics: Arc<WriterStatistics>,
    ) -> Self {
        Self {
            connection,
            setting,
            messages,
            next: None,
            memory: Memory::new(),
            watch: Watch::default(),
            statistics,
            jitter: Jitter::new(),
            keeping: Keeping::Surely,
        }
    }

    pub(super) fn run(mut self) {
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
            if !self.setting.hub.has_subscribers() || self.setting.options.location == Location::Memory {
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
        let view = View { connection: &self.connection, statements: &self.setting.statements };
        if let Err(failure) = self.watch.look(view, &self.setting.hub, self.memory.origin) {
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
        if self.setting.hub.has_subscribers() && self.watch.is_time_to_look() {
            self.look_for_changes();
        }
    }

    /// Does a group in one transaction, adding what comes meanwhile.
    fn attempt(&mut self, group: &mut Vec<Box<dyn Work>>, gather: Gather) -> Attempt {
        let keeping = group.first().map_or(Keeping::Surely, |work| work.keeping());
        if let Err(error) = self.keep(keeping).and_then(|()| self.begin(group, gather)) {
            return Attempt::NotBegun(error);
        }
        let end = self.run_group(group, gather).and_then(|()| self.execute("COMMIT"));
        match end {
            Ok(()) => {
                let calls = u64::try_from(group.len()).unwrap_or(u64::MAX);
                self.statistics.commits.fetch_add(1, Ordering::Relaxed);
                self.statistics.calls.fetch_add(calls, Ordering::Relaxed);
                self.memory.committed(&self.setting.hub);
                Attempt::Committed
            }
            Err(failure) => {
                self.roll_back();
                Attempt::Failed(failure)
            }
        }
    }

    /// Sets whether the next commits wait for the disk; that cannot be changed within a transaction.
    fn keep(&mut self, keeping: Keeping) -> Result<(), rusqlite::Error> {
        if self.keeping != keeping && self.setting.options.durability == Durability::Full {
            let level = if keeping == Keeping::Surely { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.keeping = keeping;
        }
        Ok(())
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
                Err(error) if is_busy(&error) && started.elapsed() < self.setting.options.busy_timeout => {
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
                Ok(message) => self.next = add_to(group, message, self.keeping),
                Err(RecvTimeoutError::Timeout) => return,
                // Nobody will send any more; what is in the group is still to be done.
                Err(RecvTimeoutError::Disconnected) => std::thread::park_timeout(left),
            }
        }
    }

    fn run_group(&mut self, group: &mut Vec<Box<dyn Work>>, gather: Gather) -> Outcome<()> {
        let view = View { connection: &self.connection, statements: &self.setting.statements };
        let mut session = Session::new(view, &mut self.memory);
        let started = Instant::now();
        let mut done = 0;
        loop {
            while let Some(work) = group.get_mut(done) {
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
                Ok(message) => self.next = add_to(group, message, self.keeping),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        session.write_counts()
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
        self.connection.busy_timeout(self.setting.options.busy_timeout)?;
        let end = self.migrate_or_validate(set_up);
        self.connection.busy_timeout(Duration::ZERO)?;
        if end.is_ok() {
            self.look_for_changes();
        }
        end
    }

    fn migrate_or_validate(&mut self, set_up: SetUp) -> Outcome<()> {
        migrations::check(&self.connection, &self.setting.prefix, set_up)?;
        if set_up != SetUp::Migrate {
            return Ok(());
        }
        self.use_write_ahead_log()?;
        self.keep(Keeping::Surely)?;
        self.begin(&mut Vec::new(), Gather::Nothing)?;
        let end = migrations::apply(&self.connection, &self.setting.prefix, &*self.setting.options.clock)
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
                Err(error) if is_busy(&error) && started.elapsed() < self.setting.options.busy_timeout => {
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

/// Adds work to a group, unless its commit would have to wait for the disk and the group's does not; returns what was not
/// added.
fn add_to(group: &mut Vec<Box<dyn Work>>, message: Message, keeping: Keeping) -> Option<Message> {
    match message {
        Message::Work(work) if keeping == Keeping::Surely || work.keeping() == keeping => {
            group.push(work);
            None
        }
        other => Some(other),
    }
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
