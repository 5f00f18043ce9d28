//! Waiting until a write is on replicas or disks: many writes wait together, by one command.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jobrunr_core::storage::StorageError;
use redis::{Cmd, Value, cmd};
use tokio::sync::oneshot;

use crate::calls::Call;
use crate::error::{Failed, classify, is_uncertain, unavailable};
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

/// The command that waits, how long it may, and how many must answer: the server itself, and replicas.
fn question(durability: Durability) -> Option<(Cmd, Duration, u32, u32)> {
    let millis = |within: Duration| u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
    match durability {
        Durability::Server => None,
        Durability::Replicas { at_least, within } => {
            let mut wait = cmd("WAIT");
            wait.arg(at_least).arg(millis(within));
            Some((wait, within, 0, at_least))
        }
        Durability::Disk { replicas, within } => {
            let mut wait = cmd("WAITAOF");
            wait.arg(1).arg(replicas).arg(millis(within));
            Some((wait, within, 1, replicas))
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
    /// Waits until all that was written on a connection so far is as safe as the options say.
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
        let (question, within, local, replicas) =
            question(inner.options.durability).expect("nobody waits for the server alone");
        let answer = inner.link.wait_on(generation, &question, within).await;
        move |operation| match &answer {
            Ok(None) => lost(operation),
            Ok(Some(answer)) => match acknowledged(answer.clone()) {
                Some((disks, others)) if disks >= local && others >= replicas => Ok(()),
                _ => {
                    let said = format!("fewer replicas or disks than asked for have it after {within:?}");
                    Err(Failed { error: unavailable(operation, said), is_uncertain: true })
                }
            },
            Err(error) if !is_uncertain(error) => Err(Failed {
                error: StorageError::Unsupported {
                    provider: PROVIDER,
                    what: format!(
                        "the durability that the options ask for: {}",
                        std::error::Error::source(&classify(error, operation))
                            .map(ToString::to_string)
                            .unwrap_or_default()
                    ),
                },
                is_uncertain: true,
            }),
            Err(error) => Err(Failed { error: classify(error, operation), is_uncertain: true }),
        }
    }
}

fn lost(operation: &'static str) -> Result<(), Failed> {
    let error =
        unavailable(operation, "the connection was lost before replicas or disks were known to have it");
    Err(Failed { error, is_uncertain: true })
}
