//! Reading several sorted sets as one, lazily: only as much is looked at as is taken.

use std::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeSet, BinaryHeap, btree_set};
use std::ops::Bound;

/// Which end of an order comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

/// A part of an order, between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span<K> {
    pub(super) start: Bound<K>,
    pub(super) end: Bound<K>,
}

impl<K: Ord + Copy> Span<K> {
    /// The whole order.
    pub(super) const ALL: Self = Self { start: Bound::Unbounded, end: Bound::Unbounded };

    /// The part of `set` in this span, if the span holds anything at all: `range` panics where bounds cross.
    pub(super) fn of<'a>(&self, set: &'a BTreeSet<K>) -> Option<btree_set::Range<'a, K>> {
        (!self.is_crossed()).then(|| set.range((self.start, self.end)))
    }

    fn is_crossed(&self) -> bool {
        match (self.start, self.end) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        }
    }

    /// Whether `key` is in this span.
    pub(super) fn contains(&self, key: K) -> bool {
        std::ops::RangeBounds::contains(&(self.start, self.end), &key)
    }
}

/// The keys of several sets in one order.
pub(super) struct Merge<'a, K> {
    heads: BinaryHeap<Head<'a, K>>,
}

impl<'a, K: Ord + Copy> Merge<'a, K> {
    /// Reads those keys of `sets` that are in `span`.
    pub(super) fn new(
        sets: impl IntoIterator<Item = &'a BTreeSet<K>>,
        span: Span<K>,
        direction: Direction,
    ) -> Self {
        let heads = sets.into_iter().filter_map(|set| Head::new(span.of(set)?, direction));
        Self { heads: heads.collect() }
    }
}

impl<K: Ord + Copy> Iterator for Merge<'_, K> {
    type Item = K;

    fn next(&mut self) -> Option<K> {
        let mut head = self.heads.peek_mut()?;
        let key = head.key;
        if let Some(next) = head.advance() {
            head.key = next;
        } else {
            PeekMut::pop(head);
        }
        Some(key)
    }
}

/// The next key of one set, and those behind it. The greatest head is the one whose key comes first.
struct Head<'a, K> {
    key: K,
    rest: btree_set::Range<'a, K>,
    direction: Direction,
}

impl<'a, K: Ord + Copy> Head<'a, K> {
    fn new(mut rest: btree_set::Range<'a, K>, direction: Direction) -> Option<Self> {
        let key = *match direction {
            Direction::Ascending => rest.next(),
            Direction::Descending => rest.next_back(),
        }?;
        Some(Self { key, rest, direction })
    }

    fn advance(&mut self) -> Option<K> {
        match self.direction {
            Direction::Ascending => self.rest.next().copied(),
            Direction::Descending => self.rest.next_back().copied(),
        }
    }
}

impl<K: Ord> Ord for Head<'_, K> {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.direction {
            Direction::Ascending => other.key.cmp(&self.key),
            Direction::Descending => self.key.cmp(&other.key),
        }
    }
}

impl<K: Ord> PartialOrd for Head<'_, K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord> PartialEq for Head<'_, K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K: Ord> Eq for Head<'_, K> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets() -> [BTreeSet<u8>; 3] {
        [BTreeSet::from([1, 4, 7]), BTreeSet::new(), BTreeSet::from([2, 3, 9])]
    }

    #[test]
    fn several_sets_are_read_as_one_from_either_end() {
        let sets = sets();

        let up: Vec<_> = Merge::new(&sets, Span::ALL, Direction::Ascending).collect();
        let down: Vec<_> = Merge::new(&sets, Span::ALL, Direction::Descending).collect();

        assert_eq!(up, [1, 2, 3, 4, 7, 9]);
        assert_eq!(down, [9, 7, 4, 3, 2, 1]);
    }

    #[test]
    fn every_pair_of_bounds_gives_what_lies_between_and_never_panics() {
        let sets = sets();
        let bounds: Vec<_> = (0..=10)
            .flat_map(|key| [Bound::Included(key), Bound::Excluded(key)])
            .chain([Bound::Unbounded])
            .collect();
        for start in bounds.iter().copied() {
            for end in bounds.iter().copied() {
                let span = Span { start, end };

                let read: Vec<_> = Merge::new(&sets, span, Direction::Ascending).collect();

                let between: Vec<_> =
                    [1, 2, 3, 4, 7, 9].into_iter().filter(|key| span.contains(*key)).collect();
                assert_eq!(read, between, "{span:?}");
            }
        }
    }
}
