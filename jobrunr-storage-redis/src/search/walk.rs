//! Walking through sorted sets in order, a page at a time, as if they were one.

use std::collections::VecDeque;

use redis::{Pipeline, cmd};

use super::source::Plan;
use crate::calls::Call;
use crate::encoding::Member;
use crate::error::Failed;

/// A walk, at some place.
pub(crate) struct Walk {
    sets: Vec<Set>,
    is_descending: bool,
}

struct Set {
    key: String,
    low: String,
    high: String,
    read: VecDeque<Member>,
    has_ended: bool,
}

impl Walk {
    /// At the beginning of what is to be looked at.
    pub(crate) fn new(plan: &Plan, is_descending: bool) -> Self {
        let (low, high) = &plan.bounds;
        let set = |key: &String| Set {
            key: key.clone(),
            low: low.clone(),
            high: high.clone(),
            read: VecDeque::new(),
            has_ended: false,
        };
        Self { sets: plan.keys.iter().map(set).collect(), is_descending }
    }

    /// Skips what comes before this place (instant and id), and that place itself.
    pub(crate) fn go_on_after(&mut self, place: &str) {
        for set in &mut self.sets {
            if self.is_descending {
                // What begins with the place comes after it, so this leaves it out.
                if set.high == "+" || set.high[1..] > *place {
                    set.high = format!("({place}");
                }
            } else if set.low == "-" || set.low[1..] < *place {
                // No lane comes after a tilde.
                set.low = format!("({place}~");
            }
        }
    }

    /// The next members in order; none at the end.
    pub(crate) async fn next_page(&mut self, call: &Call<'_>, size: usize) -> Result<Vec<Member>, Failed> {
        let mut page = Vec::with_capacity(size);
        while page.len() < size {
            self.read_on(call, size).await?;
            let next = self.sets.iter().enumerate().filter_map(|(at, set)| Some((set.read.front()?, at)));
            let next = if self.is_descending { next.max() } else { next.min() };
            let Some(at) = next.map(|(_, at)| at) else { break };
            page.extend(self.sets[at].read.pop_front());
        }
        Ok(page)
    }

    /// Makes sure that of each set that has more the next member is known.
    async fn read_on(&mut self, call: &Call<'_>, size: usize) -> Result<(), Failed> {
        let is_empty = |set: &Set| set.read.is_empty() && !set.has_ended;
        let mut read = Pipeline::new();
        for set in self.sets.iter().filter(|set| is_empty(set)) {
            let mut one = if self.is_descending { cmd("ZREVRANGEBYLEX") } else { cmd("ZRANGEBYLEX") };
            let (first, last) =
                if self.is_descending { (&set.high, &set.low) } else { (&set.low, &set.high) };
            one.arg(&set.key).arg(first).arg(last).arg("LIMIT").arg(0).arg(size);
            read.add_command(one);
        }
        let answers: Vec<Vec<String>> = call.read_all(&read).await?;
        for (set, members) in self.sets.iter_mut().filter(|set| is_empty(set)).zip(answers) {
            set.has_ended = members.len() < size;
            if let Some(last) = members.last() {
                let next = format!("({last}");
                if self.is_descending { set.high = next } else { set.low = next }
            }
            set.read = members.into_iter().filter_map(Member::parse).collect();
        }
        Ok(())
    }
}
