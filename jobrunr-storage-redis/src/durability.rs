//! Waiting until a write is on replicas or disks: many writes wait together, by one command.
//!
//! `WAIT` answers for the last write of its own connection. A call that finds done what it was to do, since an earlier try did
//! it over a connection that broke, has written nothing; so a key is written before each wait. What was there before it is
//! safe when the key is.

use std::sync::{Mutex, PoisonError};

use jobrunr_core::storage::StorageError;
use redis::{Cmd, Value, cmd};
use tokio::sync::oneshot;

use crate::calls::Call;
use crate::error::{Failed, classify, unavailable};
use crate::options::Durability;
use crate::{PROVIDER, RedisStorage};

/// The writes that wait. While one command waits for some, the next ones gather.
#[derive(Default)]
pub(crate) struct Barrier {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task waits for them, and goes on until none are left.
    is_served: bool,
}

struct Waiting {
    /// The connection that the write was sent on.
    generation: u64,
    operation: &'static str,
    answer: oneshot::Sender<Result<(), Failed>>,
}

impl Barrier {
    fn with<R>(&self, work: impl FnOnce(&mut Queue) -> R) -> R {
        work(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The command that waits, and how many must answer: the server itself, and replicas.
fn question(durability: Durability) -> Option<(Cmd, u32, u32)> {
    // Without a millisecond it would wait for ever.
    let millis = u64::try_from(durability.within().as_millis()).unwrap_or(u64::MAX).max(1);
    match durability {
        Durability::Server => None,
        Durability::Replicas { at_least, .. } => {
            let mut wait = cmd("WAIT");
            wait.arg(at_least).arg(millis);
            Some((wait, 0, at_least))
        }
        Durability::Disk { replicas, .. } => {
            let mut wait = cmd("WAITAOF");
            wait.arg(1).arg(replicas).arg(millis);
            Some((wait, 1, replicas))
        }
    }
}

/// How many answered: the server itself, and replicas.
fn acknowledged(answer: Value) -> Option<(u32, u32)> {
    match answer {
        Value::Int(replicas) => Some((0, u32::try_from(replicas).ok()?)),
        answer => redis::from_redis_value(answer).ok(),
    }
}

impl Call<'_> {
    /// Waits until all that was written or seen on a connection so far is as safe as the options say.
    pub(crate) async fn wait_until_safe(&self, generation: u64) -> Result<(), Failed> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { generation, operation: self.operation, answer };
        let storage = self.storage;
        let must_begin = storage.inner.barrier.with(|queue| {
            queue.waiting.push(waiting);
            !std::mem::replace(&mut queue.is_served, true)
        });
        if must_begin {
            let turn = Turn { storage: storage.clone(), has_ended: false };
            storage.inner.under_way.spawn(async move { turn.serve_all().await });
        }
        answered.await.unwrap_or_else(|_| {
            let error = unavailable(self.operation, "the runtime that waited for it was shut down");
            Err(Failed { error, is_uncertain: true })
        })
    }
}

/// The right and duty to serve those who wait; it ends with its task, however that ends.
struct Turn {
    storage: RedisStorage,
    has_ended: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.has_ended {
            self.storage.inner.barrier.with(|queue| *queue = Queue::default());
        }
    }
}

impl Turn {
    async fn serve_all(mut self) {
        loop {
            let group = self.storage.inner.barrier.with(|queue| {
                let group = std::mem::take(&mut queue.waiting);
                // Race: whoever comes after this begins a turn of their own.
                queue.is_served = !group.is_empty();
                group
            });
            let Some(generation) = group.iter().map(|waiting| waiting.generation).max() else {
                self.has_ended = true;
                return;
            };
            let answer = self.ask(generation).await;
            for Waiting { generation: of, operation, answer: caller } in group {
                // What was written on a connection that is gone cannot be asked about any more.
                let answer = if of == generation { answer(operation) } else { lost(operation) };
                // A caller that has gone wants no answer.
                let _ = caller.send(answer);
            }
        }
    }

    /// Asks once; returns what to tell each caller.
    async fn ask(&self, generation: u64) -> impl Fn(&'static str) -> Result<(), Failed> + use<> {
        let inner = &self.storage.inner;
        let durability = inner.options.durability;
        let (wait, local, replicas) = question(durability).expect("nobody waits for the server alone");
        let mut commands = redis::pipe();
        commands.cmd("SET").arg(inner.keys.barrier()).arg("").ignore().add_command(wait);
        let answer = inner.link.wait_on(generation, &commands).await;
        move |operation| match &answer {
            Ok(None) => lost(operation),
            Ok(Some(answer)) => match acknowledged(answer.clone()) {
                Some((disks, others)) if disks >= local && others >= replicas => Ok(()),
                _ => {
                    let within = durability.within();
                    let said = format!("fewer replicas or disks than asked for have it after {within:?}");
                    Err(Failed { error: unavailable(operation, said), is_uncertain: true })
                }
            },
            Err(error) => {
                let error = classify(error, operation);
                let error = if error.is_retryable() { error } else { cannot_wait(&error) };
                Err(Failed { error, is_uncertain: true })
            }
        }
    }
}

/// A server that does not know how to wait, or may not.
fn cannot_wait(error: &StorageError) -> StorageError {
    let said = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    StorageError::Unsupported {
        provider: PROVIDER,
        what: format!("the durability that the options ask for: {said}"),
    }
}

fn lost(operation: &'static str) -> Result<(), Failed> {
    let error =
        unavailable(operation, "the connection was lost before replicas or disks were known to have it");
    Err(Failed { error, is_uncertain: true })
}
