//! What is counted when it happens: jobs in final states, and successes. The counts are kept in shards, so that writers do
//! not wait for each other.

use std::sync::{Mutex, PoisonError};

use jobrunr_core::{HistoryEntry, StateName};
use mongodb::bson::{Document, doc};

use crate::call::{Broken, Commands};

/// How many shards there are.
pub(crate) const SHARDS: u16 = 64;

/// The field of all successes there ever were.
pub(crate) const SUCCESSES: &str = "successes";

/// The field of the jobs in a final state.
pub(crate) fn field(state: StateName) -> String {
    format!("in_{}", state.index())
}

/// By how much counts change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deltas {
    by_state: [i64; StateName::ALL.len()],
    successes: i64,
}

impl Deltas {
    /// Notes that jobs came to a state; only final ones are counted.
    pub(crate) fn add(&mut self, state: StateName, jobs: i64) {
        if state.is_final() {
            self.by_state[usize::from(state.index())] += jobs;
        }
    }

    /// Notes what successes there are among entries that were written.
    pub(crate) fn add_successes(&mut self, entries: &[HistoryEntry]) {
        let successes = entries.iter().filter(|entry| entry.state.name() == StateName::Succeeded).count();
        self.successes += i64::try_from(successes).unwrap_or(i64::MAX);
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds them to a shard.
    pub(crate) async fn write(&self, commands: &mut Commands<'_>) -> Result<(), Broken> {
        if self.is_empty() {
            return Ok(());
        }
        let mut increments = Document::new();
        for state in StateName::ALL {
            let delta = self.by_state[usize::from(state.index())];
            if delta != 0 {
                increments.insert(field(state), delta);
            }
        }
        if self.successes != 0 {
            increments.insert(SUCCESSES, self.successes);
        }
        let update = doc! { "q": { "_id": commands.shard }, "u": { "$inc": increments }, "upsert": true };
        let counts = commands.storage.inner.collections.counts.clone();
        commands.write(doc! { "update": counts, "updates": [update] }).await.map(drop)
    }
}

/// The shards that this process writes to at the moment. Another process begins elsewhere.
#[derive(Debug)]
pub(crate) struct Shards {
    first: u16,
    taken: Mutex<u64>,
}

impl Default for Shards {
    fn default() -> Self {
        Self { first: fastrand::u16(..SHARDS), taken: Mutex::new(0) }
    }
}

/// One shard, until it is dropped.
#[derive(Debug)]
pub(crate) struct Shard<'s> {
    shards: &'s Shards,
    place: u16,
}

impl Shards {
    /// The number of a shard that is nobody's: for whoever does not know how long it will be written to.
    pub(crate) fn any() -> i32 {
        i32::from(fastrand::u16(..SHARDS))
    }

    /// A shard that nobody else in this process writes to, as far as there are enough.
    pub(crate) fn take(&self) -> Shard<'_> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = u16::try_from(taken.trailing_ones()).unwrap_or(0);
        let place = free.min(SHARDS - 1);
        *taken |= 1 << place;
        Shard { shards: self, place }
    }
}

impl Shard<'_> {
    /// Its number, as its document has it.
    pub(crate) fn number(&self) -> i32 {
        i32::from((self.shards.first + self.place) % SHARDS)
    }
}

impl Drop for Shard<'_> {
    fn drop(&mut self) {
        *self.shards.taken.lock().unwrap_or_else(PoisonError::into_inner) &= !(1 << self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_at_once_take_different_shards_and_one_alone_always_the_same() {
        let shards = Shards::default();
        let alone = shards.take().number();

        let held: Vec<_> = (0..100).map(|_| shards.take()).collect();

        let numbers: std::collections::BTreeSet<_> = held.iter().map(Shard::number).collect();
        assert_eq!(numbers.len(), usize::from(SHARDS));
        drop(held);
        assert_eq!(shards.take().number(), alone);
    }

    #[test]
    fn only_final_states_are_counted() {
        let mut deltas = Deltas::default();
        deltas.add(StateName::Enqueued, 5);
        assert!(deltas.is_empty());

        deltas.add(StateName::Failed, 2);
        deltas.add(StateName::Failed, -2);
        assert!(deltas.is_empty());
        deltas.add(StateName::Deleted, 1);
        assert!(!deltas.is_empty());
    }
}
