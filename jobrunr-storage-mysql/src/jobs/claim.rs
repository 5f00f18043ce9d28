//! Claiming jobs: the first in line become PROCESSING, in one transaction.
//!
//! A look at the heads of the lanes comes first. It takes no locks and no transaction, so it is all that an idle server costs.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use jobrunr_core::storage::{ClaimRequest, StorageError};
use jobrunr_core::{Job, JobId, StateName};
use jobrunr_storage_sql::{Lane, QueueOrder, Unreadable, micros};
use sqlx::mysql::MySqlRow;

use super::line::{Heads, Share};
use super::{signed, version_column};
use crate::columns::Columns;
use crate::dictionary::Lanes;
use crate::error::Outcome;
use crate::rows::{Beside, ReadRow, WithMetadata, read_row};
use crate::session::Session;
use crate::shared::Shared;
use crate::statements::PeekSizes;
use crate::values::{Rows, Values};
use crate::work::Work;

const OPERATION: &str = "claim jobs";

/// Most jobs that are taken by one statement.
const MAX_TAKEN: usize = 5_000;

/// What came of a claim.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    pub(super) jobs: Vec<Job>,
    /// The jobs that could not be read, and why.
    pub(super) parked: Vec<(Option<JobId>, Unreadable)>,
}

/// The lanes of a claim, line by line.
type Lines = Vec<Vec<i32>>;

fn lines_of(lanes: &Lanes, request: &ClaimRequest) -> Lines {
    let mut lines = QueueOrder::of(lanes.iter(), &request.queues, &request.signatures).lines;
    // A queue that is named twice was emptied the first time.
    let mut seen = HashSet::new();
    lines.iter_mut().for_each(|line| line.retain(|lane| seen.insert(*lane)));
    lines
}

impl Shared {
    pub(super) async fn claim(self: &Arc<Self>, request: &ClaimRequest) -> Result<Claimed, StorageError> {
        let looked = request.clone();
        let found = self
            .call(OPERATION, move |session| {
                let request = looked.clone();
                Box::pin(async move { session.look_for(&request).await })
            })
            .await?;
        let Some((lines, heads)) = found else { return Ok(Claimed::default()) };
        let server_number = self.server_number(&request.server).await?;
        let request = request.clone();
        self.write(OPERATION, ClaimJobs { request, server_number, lines, heads, taken: Vec::new() }).await
    }
}

impl Session<'_> {
    /// Looks whether there is anything to claim; reads the lanes anew if there are more than are known.
    async fn look_for(&mut self, request: &ClaimRequest) -> Outcome<Option<(Lines, Heads)>> {
        let mut lanes = self.shared.dictionary.lanes();
        loop {
            let lines = lines_of(&lanes, request);
            let wanted: Vec<i32> = lines.iter().flatten().copied().collect();
            let has_to_merge = lines.iter().any(|line| line.len() > 1);
            // With nothing to merge, whether there is any job is all that matters.
            let depth = if has_to_merge { Heads::depth_for(request.limit, wanted.len()) } else { 1 };
            let (heads, rows) = self.peek(&wanted, depth).await?;
            if rows <= lanes.rows {
                return Ok((!heads.is_empty()).then_some((lines, heads)));
            }
            lanes = self.read_lanes().await?;
        }
    }

    /// Looks at the first jobs of these lanes, and tells how many lanes there are in all.
    async fn peek(&mut self, lanes: &[i32], depth: usize) -> Outcome<(Heads, i64)> {
        let (mut heads, mut known_lanes) = (Heads::new(depth), 0);
        let mut chunks: Vec<&[i32]> = lanes.chunks(PeekSizes::LARGEST).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        for lanes in chunks {
            let (size, statement) = self.shared.statements.peek.for_lanes(lanes.len());
            let mut values = Values::new();
            for index in 0..size {
                values.push_number(i64::from(lanes.get(index).copied().unwrap_or(-1)));
                values.push_number(signed(depth));
            }
            for row in self.rows(statement, values).await? {
                match row.small(0)? {
                    -1 => known_lanes = row.number(2)?,
                    lane => heads.add(lane, (row.number(1)?, row.number(2)?, row.id(3)?.into())),
                }
            }
        }
        Ok((heads, known_lanes))
    }
}

/// A claim, within its transaction.
struct ClaimJobs {
    request: ClaimRequest,
    server_number: i32,
    lines: Lines,
    /// What the lanes looked like before the transaction.
    heads: Heads,
    /// The jobs that the last try took.
    taken: Vec<Taken>,
}

/// What tells that a job was taken by this claim and no other.
#[derive(Debug, Clone, Copy)]
struct Taken {
    id: JobId,
    version: i64,
    /// When it was claimed; `None` if it was parked.
    claimed_at: Option<i64>,
}

#[async_trait]
impl Work for ClaimJobs {
    type Output = Claimed;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<Claimed> {
        self.taken.clear();
        let mut claimed = Claimed::default();
        for line in self.lines.clone() {
            let first = claimed.jobs.len();
            self.take_from_line(session, line, &mut claimed).await?;
            // They were taken lane by lane, and are one line.
            claimed.jobs[first..].sort_by_key(|job| (Reverse(job.priority()), job.enqueued_at(), job.id()));
        }
        Ok(claimed)
    }

    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let taken: HashMap<JobId, Taken> = self.taken.iter().map(|taken| (taken.id, *taken)).collect();
        // Anybody may have parked a job, so where some were claimed only those count.
        let has_claimed = self.taken.iter().any(|taken| taken.claimed_at.is_some());
        let values = Values::new().text(&Rows::of_ids(taken.keys()));
        for row in session.rows(&session.shared.statements.lock_jobs, values).await? {
            let Some(Taken { version, claimed_at, .. }) = taken.get(&JobId::from(row.id(0)?)) else {
                continue;
            };
            let is_mine = match claimed_at {
                Some(at) => row.small(6)? == self.server_number && row.number(7)? == *at,
                None => !has_claimed,
            };
            // Whatever was done to it since, its version only grows.
            if is_mine && row.number(1)? >= *version {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Nobody else would give back, or run, what a server holds without knowing.
    fn must_be_known(&self) -> bool {
        true
    }
}

impl ClaimJobs {
    /// Takes the first jobs in a line, lane by lane as they share in it.
    async fn take_from_line(
        &mut self,
        session: &mut Session<'_>,
        mut lanes: Vec<i32>,
        claimed: &mut Claimed,
    ) -> Outcome<()> {
        let mut heads = self.heads.of(&lanes);
        loop {
            lanes.retain(|lane| heads.has(*lane));
            let wanted = self.request.limit - claimed.jobs.len();
            if wanted == 0 || lanes.is_empty() {
                return Ok(());
            }
            let shares = heads.share_out(wanted);
            let mut is_done = !shares.is_cut && shares.total() < wanted;
            for Share { lane, limit } in shares.list {
                let limit = limit.min(MAX_TAKEN);
                let found = self.take_from_lane(session, lane, limit, claimed).await?;
                if found < limit {
                    // The rest of the lane is in the hands of others.
                    lanes.retain(|other| *other != lane);
                    is_done = false;
                }
            }
            if is_done || claimed.jobs.len() >= self.request.limit {
                return Ok(());
            }
            heads = match lanes.as_slice() {
                [] | [_] => heads.of(&lanes),
                lanes => session.peek(lanes, heads.next_depth()).await?.0,
            };
        }
    }

    /// Takes the first jobs of a lane; returns how many there were, unreadable ones among them.
    async fn take_from_lane(
        &mut self,
        session: &mut Session<'_>,
        lane: i32,
        limit: usize,
        claimed: &mut Claimed,
    ) -> Outcome<usize> {
        let values = Values::new().number(i64::from(lane)).number(signed(limit));
        let rows = session.rows(&session.shared.statements.lock_ready_jobs, values).await?;
        let lanes = session.lanes_with([lane]).await?;
        let lane = lanes.get(lane);
        let read: Vec<_> = rows.iter().map(read_row).collect();
        let mut beside = session.beside(read.iter().flatten(), WithMetadata::Yes).await?;
        let mut ids = Vec::with_capacity(rows.len());
        let mut unreadable = Vec::new();
        for (row, read) in rows.iter().zip(read) {
            match self.take(read, lane, &mut beside) {
                Ok(job) => {
                    ids.push(job.id());
                    let (version, claimed_at) =
                        (version_column(job.version()), Some(micros(job.updated_at())));
                    self.taken.push(Taken { id: job.id(), version, claimed_at });
                    claimed.jobs.push(job);
                }
                Err(why) => unreadable.push((row, why)),
            }
        }
        self.mark(session, &ids).await?;
        for (row, why) in unreadable {
            self.park(session, row, why, claimed).await?;
        }
        Ok(rows.len())
    }

    /// Makes of a row the job that it will be once the claim is committed.
    fn take(
        &self,
        read: Result<ReadRow, Unreadable>,
        lane: Option<&Lane>,
        beside: &mut Beside,
    ) -> Result<Job, Unreadable> {
        let mut read = read?;
        let lane = lane.ok_or_else(|| Unreadable::because("the queue or type of the job is not known"))?;
        if read.columns.state != StateName::Enqueued || read.columns.tail.claimed_at.is_some() {
            return Err(Unreadable::because("the columns of the job contradict each other"));
        }
        start_processing(&mut read, &self.request);
        let mut row = read.with(lane.clone(), Some(self.request.server.clone()), None);
        beside.add_to(&mut row);
        row.decode()
    }

    async fn mark(&self, session: &mut Session<'_>, ids: &[JobId]) -> Outcome<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let now = micros(self.request.now);
        let values = Values::new().text(&Rows::of_ids(ids)).number(now).number(now);
        let values = values.number(i64::from(self.server_number)).number(now);
        session.execute(&session.shared.statements.claim_jobs, values).await?;
        Ok(())
    }

    async fn park(
        &mut self,
        session: &mut Session<'_>,
        row: &MySqlRow,
        why: Unreadable,
        claimed: &mut Claimed,
    ) -> Outcome<()> {
        let id = row.id_or(0).ok().map(JobId::from);
        if let Some(id) = id {
            let version = session.park(id, row, &why, micros(self.request.now)).await?;
            self.taken.push(Taken { id, version, claimed_at: None });
        }
        claimed.parked.push((id, why));
        Ok(())
    }
}

/// Does to a row that was read what the statement does to the stored one.
fn start_processing(row: &mut ReadRow, request: &ClaimRequest) {
    let at = micros(request.now).max(row.columns.updated_at);
    row.version = row.version.next();
    row.columns.state = StateName::Processing;
    row.columns.updated_at = at;
    row.columns.tail.claimed_at = Some(at);
}
