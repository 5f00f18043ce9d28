//! Counting on a server alone, which has no transactions: what was written is counted afterwards, until it is known to be.
//!
//! A count whose answer was lost is sent again, and a shard remembers the last call of each of its writers, so it is added
//! once. Whoever wrote need not know: the write stands, and only the end of the process keeps it from being counted.

use std::time::Duration;

use mongodb::bson::{Document, doc};

use super::counts::Deltas;
use crate::MongoStorage;
use crate::call::{Broken, Commands};
use crate::error::Failed;

pub(super) const OPERATION: &str = "count jobs";

pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(5);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many writers a shard remembers. Each of them writes to it one call after the other, so this many others would have to
/// come between a call and its repetition.
const WRITERS: i32 = 64;

impl MongoStorage {
    /// Adds what was written in no transaction to the counts; goes on by itself if that takes longer than a call may.
    pub(crate) async fn count_surely(&self, counts: Deltas) {
        if counts.is_empty() {
            return;
        }
        let storage = self.clone();
        let counting = self.inner.under_way.spawn(async move { storage.go_on_counting(&counts).await });
        // Whoever waits in vain has written all the same.
        let _ = tokio::time::timeout(self.inner.options.call_timeout, counting).await;
    }

    async fn go_on_counting(&self, counts: &Deltas) {
        // Nobody else in this process writes to it before this call is known to be counted.
        let shard = self.inner.shards.take();
        let update = counted_once(counts, shard.number(), shard.writer(), fastrand::i64(..));
        let mut pause = FIRST_PAUSE;
        loop {
            let sent =
                async { self.send_count(update.clone()).await.map_err(|broken| broken.failed(OPERATION)) };
            let Err(Failed { error, .. }) = self.limited_work(OPERATION, sent).await else { return };
            if !error.is_retryable() || self.inner.under_way.is_closed() {
                tracing::error!("counts of jobs are off from now on, by {counts:?}: {error}");
                return;
            }
            tracing::debug!("jobs cannot be counted now: {error}");
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn send_count(&self, update: Document) -> Result<(), Broken> {
        let mut commands = Commands { storage: self, session: None };
        let counts = &self.inner.collections.counts;
        match commands.write(doc! { "update": counts, "updates": [update] }).await {
            // The shard is there and does not fit: it has this call.
            Err(broken) if broken.is_duplicate() => Ok(()),
            written => written.map(drop),
        }
    }
}

/// The statement that adds counts to a shard, unless this call has.
fn counted_once(counts: &Deltas, shard: i32, writer: i64, call: i64) -> Document {
    let mut set: Document = counts
        .changes()
        .map(|(field, delta)| {
            let before = doc! { "$ifNull": [format!("${field}"), 0_i64] };
            (field, doc! { "$add": [before, delta] }.into())
        })
        .collect();
    let calls = doc! { "$ifNull": ["$calls", []] };
    let of_others = doc! { "$filter": { "input": calls, "cond": { "$ne": ["$$this.writer", writer] } } };
    let all = doc! { "$concatArrays": [of_others, [{ "writer": writer, "call": call }]] };
    set.insert("calls", doc! { "$slice": [all, -WRITERS] });
    doc! {
        "q": { "_id": shard, "calls.call": { "$ne": call } },
        "u": [{ "$set": set }],
        "upsert": true,
    }
}
