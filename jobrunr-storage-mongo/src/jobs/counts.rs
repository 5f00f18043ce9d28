//! What is counted when it happens: jobs in final states, and successes. The counts are kept in shards, so that writers do
//! not wait for each other.

use std::sync::{Mutex, PoisonError};

use jobrunr_core::{HistoryEntry, Job, StateName};
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

    /// Notes that a job was saved and left this state.
    pub(crate) fn add_save(&mut self, job: &Job, left: StateName) {
        self.add(left, -1);
        self.add(job.state_name(), 1);
        self.add_successes(job.new_entries());
    }

    /// Notes what successes there are among entries that were written.
    pub(crate) fn add_successes(&mut self, entries: &[HistoryEntry]) {
        let successes = entries.iter().filter(|entry| entry.state.name() == StateName::Succeeded).count();
        self.successes += i64::try_from(successes).unwrap_or(i64::MAX);
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The fields that change, and by how much.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (String, i64)> {
        let of_state = |state: StateName| (field(state), self.by_state[usize::from(state.index())]);
        let successes = (SUCCESSES.to_owned(), self.successes);
        StateName::ALL.into_iter().map(of_state).chain([successes]).filter(|(_, delta)| *delta != 0)
    }

    /// Adds them to a shard, as a part of a transaction.
    pub(crate) async fn write(&self, commands: &mut Commands<'_>, shard: i32) -> Result<(), Broken> {
        if self.is_empty() {
            return Ok(());
        }
        let increments: Document = self.changes().map(|(field, delta)| (field, delta.into())).collect();
        let update = doc! { "q": { "_id": shard }, "u": { "$inc": increments }, "upsert": true };
        let counts = &commands.storage.inner.collections.counts;
        commands.write(doc! { "update": counts, "updates": [update] }).await.map(drop)
    }
}

/// The shards that this process writes to at the moment. Another process begins elsewhere.
#[derive(Debug)]
pub(crate) struct Shards {
    first: u16,
    taken: Mutex<u64>,
    /// What this process is known by as a writer.
    writer: i64,
}

impl Default for Shards {
    fn default() -> Self {
        Self { first: fastrand::u16(..SHARDS), taken: Mutex::new(0), writer: fastrand::i64(..) }
    }
}

/// One shard, until it is dropped.
#[derive(Debug)]
pub(crate) struct Shard<'s> {
    shards: &'s Shards,
    place: u16,
    /// There were not enough, so somebody else has it too.
    is_shared: bool,
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
        Shard { shards: self, place, is_shared: place != free }
    }
}

impl Shard<'_> {
    /// Its number, as its document has it.
    pub(crate) fn number(&self) -> i32 {
        i32::from((self.shards.first + self.place) % SHARDS)
    }

    /// Who writes to it, one call after the other: this process, or one call only where somebody else has it too.
    pub(crate) fn writer(&self) -> i64 {
        if self.is_shared { fastrand::i64(..) } else { self.shards.writer }
    }
}

impl Drop for Shard<'_> {
    fn drop(&mut self) {
        if self.is_shared {
            return;
        }
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
        let writers: std::collections::BTreeSet<_> =
            held.iter().map(|shard| (shard.number(), shard.writer())).collect();
        assert_eq!(writers.len(), held.len(), "who shares one is another writer");
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
        assert_eq!(deltas.changes().collect::<Vec<_>>(), [(field(StateName::Deleted), 1)]);
    }
}
