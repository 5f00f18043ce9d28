//! Reading the lines of several lanes as one, in the exact order of claims, looking only at as much as is taken.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use jobrunr_core::JobId;
use rusqlite::params;
use uuid::Uuid;

use super::signed;
use crate::error::Outcome;
use crate::session::View;

/// A place in line: higher priority (smaller rank) first, then who came first, then the smaller id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineKey {
    rank: i64,
    queued_at: i64,
    id: JobId,
}

/// A job in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiting {
    pub(super) key: LineKey,
    pub(super) seq: i64,
}

/// How many jobs are read from a lane at least, to not ask for every single one.
const MIN_READ: usize = 4;

/// Several lanes read as one.
pub(super) struct Line<'c> {
    view: View<'c>,
    lanes: Vec<LaneCursor>,
    /// The first waiting job of each lane that has any.
    heads: BinaryHeap<Reverse<(Waiting, usize)>>,
    /// The lane that the job before came from: its next one is looked for only when another job is wanted.
    taken_from: Option<usize>,
}

struct LaneCursor {
    lane: i64,
    read: VecDeque<Waiting>,
    /// Where to go on reading; `None` at the end of the lane.
    after: Option<LineKey>,
}

impl LineKey {
    /// Before every job: nobody waits since so long.
    fn start() -> Self {
        Self { rank: i64::MIN, queued_at: i64::MIN, id: Uuid::nil().into() }
    }
}

impl<'c> Line<'c> {
    pub(super) fn new(view: View<'c>, lanes: Vec<i64>, wanted: usize) -> Outcome<Self> {
        let cursor = |lane| LaneCursor { lane, read: VecDeque::new(), after: Some(LineKey::start()) };
        let lanes = lanes.into_iter().map(cursor).collect();
        let mut line = Self { view, lanes, heads: BinaryHeap::new(), taken_from: None };
        for index in 0..line.lanes.len() {
            line.advance(index, wanted)?;
        }
        Ok(line)
    }

    /// The next job in line with its lane; so many more are wanted, this one included.
    pub(super) fn next(&mut self, wanted: usize) -> Outcome<Option<(i64, Waiting)>> {
        if let Some(index) = self.taken_from.take() {
            self.advance(index, wanted)?;
        }
        let Some(Reverse((waiting, index))) = self.heads.pop() else { return Ok(None) };
        self.taken_from = Some(index);
        Ok(Some((self.lanes[index].lane, waiting)))
    }

    fn advance(&mut self, index: usize, wanted: usize) -> Outcome<()> {
        if self.lanes[index].read.is_empty() {
            self.read_on(index, wanted)?;
        }
        if let Some(waiting) = self.lanes[index].read.pop_front() {
            self.heads.push(Reverse((waiting, index)));
        }
        Ok(())
    }

    fn read_on(&mut self, index: usize, wanted: usize) -> Outcome<()> {
        let many = self.lanes.len();
        let lane = &mut self.lanes[index];
        let Some(after) = lane.after else { return Ok(()) };
        let limit = (wanted / many).max(MIN_READ).min(wanted);
        let mut statement = self.view.prepare(&self.view.statements.ready_jobs)?;
        let mut rows = statement.query(params![
            lane.lane,
            after.rank,
            after.queued_at,
            after.id.as_bytes(),
            signed(limit)
        ])?;
        while let Some(row) = rows.next()? {
            let key =
                LineKey { rank: row.get(1)?, queued_at: row.get(2)?, id: row.get::<_, Uuid>(3)?.into() };
            lane.read.push_back(Waiting { key, seq: row.get(0)? });
        }
        lane.after = lane.read.back().filter(|_| lane.read.len() == limit).map(|last| last.key);
        Ok(())
    }
}
