//! The one change stream that hears hints. It begins when somebody subscribes, and comes back by itself.
//!
//! The driver would resume a stream without telling anybody. This one is begun anew instead, and says `Resync`: what was
//! missed is found by looking, and a stream that has lost its place is nothing special.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::storage::{Change, ChangeHub};
use mongodb::bson::{Document, doc};
use mongodb::raw_batch_cursor::RawBatchCursor;
use tokio_util::sync::CancellationToken;

use crate::error::Failed;
use crate::{Inner, MongoStorage};

/// How long nothing may be heard before the connection counts as broken: the server answers every second.
const SILENCE: Duration = Duration::from_secs(20);

const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

const OPERATION: &str = "listen for hints";

/// Listens, once it was started.
#[derive(Default)]
pub(crate) struct Listener {
    was_started: AtomicBool,
    closed: CancellationToken,
}

impl Listener {
    /// Starts listening, unless that has been done.
    pub(crate) fn start(&self, storage: &MongoStorage) {
        if self.was_started.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(feed) = &storage.inner.feed else { return };
        let listening = Listening { hub: Arc::clone(&feed.hub), storage: Arc::downgrade(&storage.inner) };
        let closed = self.closed.clone();
        storage.inner.under_way.spawn(async move {
            tokio::select! {
                () = closed.cancelled() => {}
                () = listening.go_on() => {}
            }
        });
    }

    pub(crate) fn close(&self) {
        self.closed.cancel();
    }
}

/// What the listening task has.
struct Listening {
    hub: Arc<ChangeHub>,
    /// Weak, so that a storage that is dropped without being closed does not listen for ever.
    storage: Weak<Inner>,
}

impl Listening {
    /// Listens until the storage is gone.
    async fn go_on(self) {
        let mut back_off = FIRST_BACK_OFF;
        while let Some(inner) = self.storage.upgrade() {
            let storage = MongoStorage { inner };
            let stream = storage.watch().await;
            drop(storage);
            match stream {
                Ok(mut stream) => {
                    back_off = FIRST_BACK_OFF;
                    // What happened before is not told.
                    self.hub.send(Change::Resync);
                    let why = self.hear(&mut stream).await;
                    tracing::debug!("the change stream that hears hints has ended: {why}");
                }
                Err(failed) => tracing::debug!("hints cannot be heard at the moment: {}", failed.error),
            }
            tokio::time::sleep(back_off.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
        }
    }

    /// Passes on what is heard until the stream ends; returns why it did.
    async fn hear(&self, stream: &mut RawBatchCursor) -> String {
        loop {
            // There is an answer every second, if nothing happened an empty one.
            let batch = match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(Some(Ok(batch))) => batch,
                Ok(Some(Err(error))) => return Failed::of(&error, OPERATION).error.to_string(),
                Ok(None) => return "the server ended it".to_owned(),
                Err(_) => return "the server does not answer".to_owned(),
            };
            let Some(inner) = self.storage.upgrade() else { return "nobody listens".to_owned() };
            let events = batch.doc_slices().into_iter().flatten();
            for event in events.flatten().filter_map(|event| event.as_document()) {
                match event.get_document("fullDocument").map(Document::try_from) {
                    Ok(Ok(document)) => {
                        inner.outbox.decode(&document).into_iter().for_each(|change| self.hub.send(change));
                    }
                    // The collection was dropped, or something else that ends the stream.
                    _ => self.hub.send(Change::Resync),
                }
            }
        }
    }
}

impl MongoStorage {
    /// Watches what others say from now on.
    async fn watch(&self) -> Result<RawBatchCursor, Failed> {
        let hints = &self.inner.collections.hints;
        let pipeline = [
            doc! { "$changeStream": {} },
            doc! { "$match": { "operationType": { "$nin": ["update", "replace", "delete"] } } },
            doc! { "$project": { "fullDocument": 1 } },
        ];
        let watch = doc! { "aggregate": hints, "pipeline": pipeline.to_vec(), "cursor": {} };
        self.limited(OPERATION, self.inner.database.run_cursor_command(watch).batch()).await
    }
}
