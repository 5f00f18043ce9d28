//! A few threads that only read, each with a connection of its own; each piece of work sees one unchanging content.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use jobrunr_core::storage::StorageError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::connection::open_reader;
use crate::error::{Failure, Outcome};
use crate::options::SqliteOptions;
use crate::session::View;
use crate::statements::Statements;
use crate::writer::{closed, no_thread};

type Task = Box<dyn FnOnce(&mut ReaderThread) + Send>;

/// The readers as the other threads see them.
#[derive(Debug)]
pub(crate) struct Readers {
    /// `None` once they were closed.
    sender: Mutex<Option<Sender<Task>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub(crate) fn start(
        path: PathBuf,
        options: &Arc<SqliteOptions>,
        statements: &Arc<Statements>,
    ) -> Result<Self, StorageError> {
        let (sender, tasks) = mpsc::channel();
        let tasks = Arc::new(Mutex::new(tasks));
        let path = Arc::new(path);
        let mut threads = Vec::new();
        for number in 0..options.readers {
            let tasks = Arc::clone(&tasks);
            let mut thread = ReaderThread {
                path: Arc::clone(&path),
                options: Arc::clone(options),
                statements: Arc::clone(statements),
                connection: None,
            };
            let name = format!("jobrunr-sqlite-reader-{number}");
            let spawned = std::thread::Builder::new().name(name).spawn(move || thread.run(&tasks));
            threads.push(spawned.map_err(|error| no_thread("open the database", error))?);
        }
        Ok(Self { sender: Mutex::new(Some(sender)), threads: Mutex::new(threads) })
    }

    /// Has a piece of work done.
    pub(crate) async fn call<T, F>(&self, operation: &'static str, mut work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnMut(View<'_>) -> Outcome<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |thread| {
            if reply.is_closed() {
                return;
            }
            let end = catch_unwind(AssertUnwindSafe(|| thread.read(&mut work)));
            let end = end.unwrap_or_else(|_| {
                // A connection that a panic went through may have an open transaction.
                thread.connection = None;
                Err(Failure::Panicked)
            });
            // Whoever asked may have gone away.
            let _ = reply.send(end.map_err(|failure| failure.into_error(operation)));
        });
        self.send(task);
        answer.await.unwrap_or_else(|_| Err(closed(operation)))
    }

    /// Sends a task; one that cannot be sent any more is dropped, and its reply with it.
    fn send(&self, task: Task) {
        if let Some(sender) = &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sender.send(task);
        }
    }

    /// Lets the threads finish what was asked for before, and waits for their end.
    pub(crate) async fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let (ended, end) = oneshot::channel();
        // Joining blocks, so a thread of its own does it; it ends with the last of them.
        let joiner = std::thread::Builder::new().name("jobrunr-sqlite-close".to_owned()).spawn(move || {
            for thread in threads {
                // A reader answers its panics; there is nothing to be learnt from one here.
                let _ = thread.join();
            }
            let _ = ended.send(());
        });
        if joiner.is_ok() {
            let _ = end.await;
        }
    }
}

struct ReaderThread {
    path: Arc<PathBuf>,
    options: Arc<SqliteOptions>,
    statements: Arc<Statements>,
    connection: Option<Connection>,
}

impl ReaderThread {
    fn run(&mut self, tasks: &Mutex<Receiver<Task>>) {
        loop {
            // One thread waits for the next task, the others wait for the lock.
            let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(task) = task else { return };
            task(self);
        }
    }

    fn read<T>(&mut self, work: &mut impl FnMut(View<'_>) -> Outcome<T>) -> Outcome<T> {
        if self.connection.is_none() {
            self.connection = Some(open_reader(&self.options, &self.path)?);
        }
        let connection = self.connection.as_ref().expect("it was opened above");
        let execute = |sql| connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        execute("BEGIN")?;
        let end = work(View { connection, statements: &self.statements });
        let ended = execute("COMMIT");
        if ended.is_err() {
            // With a fresh connection there is no transaction that might have stayed open.
            self.connection = None;
        }
        end
    }
}
