//! Which shard of the counts a write adds to.

use std::sync::{Mutex, PoisonError};

/// How many shards there are; the schema has a row each.
const SHARDS: u16 = 64;

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
    /// Its number, as the column has it.
    pub(crate) fn number(&self) -> i16 {
        i16::try_from((self.shards.first + self.place) % SHARDS).unwrap_or(0)
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
}
