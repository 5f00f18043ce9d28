//! The connection that hears what other processes publish.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::storage::{Change, ChangeHub};
use redis::aio::PubSub;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Inner;
use crate::link::Link;

/// How long a server may take to come back before it is tried again, at first and at most.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens as long as the storage is open, once somebody wants to hear.
pub(crate) struct Listener {
    link: Arc<Link>,
    channel: String,
    tasks: TaskTracker,
    has_begun: AtomicBool,
    ends: CancellationToken,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ends.cancel();
    }
}

impl Listener {
    pub(crate) fn new(link: Arc<Link>, channel: String, tasks: TaskTracker) -> Self {
        Self { link, channel, tasks, has_begun: AtomicBool::new(false), ends: CancellationToken::new() }
    }

    /// Begins to listen, unless that has happened already.
    pub(crate) fn start(&self, hub: &Arc<ChangeHub>, storage: &Weak<Inner>) {
        if self.has_begun.swap(true, Ordering::Relaxed) {
            return;
        }
        let task = Task {
            link: Arc::clone(&self.link),
            channel: self.channel.clone(),
            hub: Arc::clone(hub),
            storage: Weak::clone(storage),
        };
        let ends = self.ends.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = ends.cancelled() => {}
                () = task.listen() => {}
            }
        });
    }

    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    pub(crate) fn close(&self) {
        self.ends.cancel();
    }
}

struct Task {
    link: Arc<Link>,
    channel: String,
    hub: Arc<ChangeHub>,
    storage: Weak<Inner>,
}

impl Task {
    async fn listen(self) {
        let mut delay = FIRST_DELAY;
        loop {
            match self.link.listen(&self.channel).await {
                Ok(connection) => {
                    delay = FIRST_DELAY;
                    // Whatever was published before this was not heard.
                    self.hub.send(Change::Resync);
                    self.hear(connection).await;
                    tracing::debug!("the connection that hears hints was lost");
                }
                Err(error) => tracing::debug!("hints cannot be heard: {}", error.category()),
            }
            tokio::time::sleep(delay).await;
            delay = (2 * delay).min(LONGEST_DELAY);
        }
    }

    /// Passes on what is heard, until the connection ends.
    async fn hear(&self, connection: PubSub) {
        let (mut sink, mut messages) = connection.split();
        let mut pings = tokio::time::interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return };
                    let Some(storage) = self.storage.upgrade() else { return };
                    let text = String::from_utf8_lossy(message.get_payload_bytes());
                    storage.outbox.decode(&text).into_iter().for_each(|change| self.hub.send(change));
                }
                _ = pings.tick() => {
                    let ping = tokio::time::timeout(PING_TIMEOUT, sink.ping::<redis::Value>());
                    if !matches!(ping.await, Ok(Ok(_))) {
                        return;
                    }
                }
            }
        }
    }
}
