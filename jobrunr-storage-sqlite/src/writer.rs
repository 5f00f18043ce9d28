//! The one thread that writes: it takes whatever calls are waiting, commits them as one group, then answers each.
//!
//! A group is what came while the group before was being committed; nothing is ever waited for to make one larger. If any
//! call of a group fails, the whole group is rolled back and each of its calls is done again in a transaction of its own,
//! so that none suffers from another and the usual group pays for no savepoints.

mod thread;

use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use jobrunr_core::storage::{SetUp, StorageError};
use jobrunr_storage_sql::TablePrefix;
use tokio::sync::{oneshot, watch};

use self::thread::WriterThread;
use crate::PROVIDER;
use crate::changes::SharedHub;
use crate::connection::open_writer;
use crate::error::Outcome;
use crate::options::SqliteOptions;
use crate::session::Session;
use crate::statements::Statements;

/// A call that waits to be done. It may be done more than once, if a transaction that held it was rolled back.
trait Work: Send {
    fn operation(&self) -> &'static str;
    fn keeping(&self) -> Keeping;
    fn run(&mut self, session: &mut Session<'_>) -> Outcome<()>;
    fn answer(self: Box<Self>, end: Result<(), StorageError>);
}

struct Call<T, F> {
    operation: &'static str,
    keeping: Keeping,
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StorageError>>,
}

impl<T: Send, F: FnMut(&mut Session<'_>) -> Outcome<T> + Send> Work for Call<T, F> {
    fn operation(&self) -> &'static str {
        self.operation
    }

    fn keeping(&self) -> Keeping {
        self.keeping
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

/// What is to become of a call that was answered, if the machine loses power right afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// It is kept, as far as [`Durability`](crate::Durability) says: the commit waits for the disk.
    Surely,
    /// It may be undone, because whoever it was done for is gone too then: claims, releases, signs of life. The commit does
    /// not wait for the disk. A process that dies without the machine loses nothing either way.
    WhileThereIsPower,
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

/// What the writer works with.
pub(crate) struct Setting {
    pub(crate) options: Arc<SqliteOptions>,
    pub(crate) prefix: TablePrefix,
    pub(crate) statements: Arc<Statements>,
    pub(crate) hub: Arc<SharedHub>,
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
    pub(crate) async fn start(setting: Setting) -> Result<Self, StorageError> {
        let (sender, messages) = mpsc::channel();
        let (opened, is_open) = oneshot::channel();
        let (end, ended) = watch::channel(false);
        let statistics = Arc::new(WriterStatistics::default());
        let of_thread = Arc::clone(&statistics);
        let thread = std::thread::Builder::new().name("jobrunr-sqlite-writer".to_owned()).spawn(move || {
            match open_writer(&setting.options) {
                Ok(connection) => {
                    // Whoever opened it may have gone away; then the channel of messages is closed too.
                    let _ = opened.send(Ok(()));
                    WriterThread::new(connection, setting, messages, of_thread).run();
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
    pub(crate) async fn call<T, F>(
        &self,
        operation: &'static str,
        keeping: Keeping,
        work: F,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnMut(&mut Session<'_>) -> Outcome<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Work(Box::new(Call { operation, keeping, work, value: None, reply })));
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

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
