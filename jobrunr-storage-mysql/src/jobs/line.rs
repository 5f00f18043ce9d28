//! Reading the lines of several lanes as one: from the heads of the lanes follows how many to take from each.

use jobrunr_core::JobId;

/// A place in line: rank, instant, id.
type Key = (i64, i64, JobId);

/// The first jobs of some lanes, up to a depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heads {
    depth: usize,
    heads: Vec<(Key, i32)>,
}

/// How many jobs to take from one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) lane: i32,
    pub(super) limit: usize,
}

/// What to take from which lanes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) list: Vec<Share>,
    /// Whether there may be more to take than the heads show.
    pub(super) is_cut: bool,
}

impl Shares {
    /// How many jobs they come to.
    pub(super) fn total(&self) -> usize {
        self.list.iter().map(|share| share.limit).sum()
    }
}

/// Greatest depth, so that what is looked at stays bounded.
const MAX_DEPTH: usize = 1_000;

impl Heads {
    pub(super) const fn new(depth: usize) -> Self {
        Self { depth, heads: Vec::new() }
    }

    /// How deep to look to find the first of all: somewhat deeper than each lane will give on average.
    pub(super) fn depth_for(wanted: usize, lanes: usize) -> usize {
        let average = wanted.checked_div(lanes).unwrap_or(0);
        average.saturating_mul(2).saturating_add(4).min(wanted).min(MAX_DEPTH)
    }

    /// How deep to look after that was not deep enough.
    pub(super) fn next_depth(&self) -> usize {
        self.depth.saturating_mul(2).min(MAX_DEPTH)
    }

    pub(super) fn add(&mut self, lane: i32, key: Key) {
        self.heads.push((key, lane));
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    pub(super) fn has(&self, lane: i32) -> bool {
        self.heads.iter().any(|(_, of)| *of == lane)
    }

    /// Those of these lanes only.
    pub(super) fn of(&self, lanes: &[i32]) -> Self {
        let heads = self.heads.iter().filter(|(_, lane)| lanes.contains(lane)).copied().collect();
        Self { depth: self.depth, heads }
    }

    /// Shares out what is wanted among the lanes, so that what is taken is the first of all.
    ///
    /// Where all that is seen of a lane is among the first, nothing can be said of what comes after: the shares end there.
    pub(super) fn share_out(&self, wanted: usize) -> Shares {
        let mut shares = Shares { list: Vec::new(), is_cut: false };
        if let Some((_, lane)) = self.heads.first()
            && self.heads.iter().all(|(_, other)| other == lane)
        {
            // One lane is its own line, as long as it is.
            return Shares { list: vec![Share { lane: *lane, limit: wanted }], is_cut: true };
        }
        let mut sorted = self.heads.clone();
        sorted.sort_unstable();
        for (_, lane) in sorted.into_iter().take(wanted) {
            let index = shares.list.iter().position(|share| share.lane == lane).unwrap_or_else(|| {
                shares.list.push(Share { lane, limit: 0 });
                shares.list.len() - 1
            });
            shares.list[index].limit += 1;
            if shares.list[index].limit == self.depth {
                shares.is_cut = true;
                break;
            }
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(depth: usize, places: &[(i32, i64)]) -> Heads {
        let mut heads = Heads::new(depth);
        for (lane, at) in places {
            let id = uuid::Uuid::from_u128(u128::from(at.unsigned_abs()));
            heads.add(*lane, (-1, *at, id.into()));
        }
        heads
    }

    fn shares(heads: &Heads, wanted: usize) -> (Vec<(i32, usize)>, bool) {
        let Shares { list, is_cut } = heads.share_out(wanted);
        (list.iter().map(|share| (share.lane, share.limit)).collect(), is_cut)
    }

    #[test]
    fn lanes_share_what_comes_first() {
        let heads = heads(10, &[(16, 1), (16, 4), (17, 2), (17, 3), (17, 5)]);

        assert_eq!(shares(&heads, 4), (vec![(16, 2), (17, 2)], false));
        assert_eq!(shares(&heads, 10), (vec![(16, 2), (17, 3)], false));
        assert_eq!(shares(&heads.of(&[16, 18]), 10), (vec![(16, 10)], true));
        assert_eq!(shares(&heads.of(&[18]), 10), (vec![], false));
    }

    #[test]
    fn shares_end_where_a_lane_may_have_more() {
        let heads = heads(2, &[(16, 1), (16, 2), (17, 3)]);

        assert_eq!(shares(&heads, 10), (vec![(16, 2)], true));
        assert_eq!(heads.next_depth(), 4);
    }

    #[test]
    fn the_depth_is_bounded_by_what_is_wanted_and_by_itself() {
        assert_eq!(Heads::depth_for(100, 10), 24);
        assert_eq!(Heads::depth_for(3, 2), 3);
        assert_eq!(Heads::depth_for(usize::MAX, 2), MAX_DEPTH);
        assert_eq!(Heads::depth_for(5, 0), 4);
    }
}
