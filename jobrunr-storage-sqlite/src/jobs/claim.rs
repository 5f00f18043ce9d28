//! Claiming jobs: the first in line become PROCESSING, in the writer's transaction.

use std::collections::BTreeMap;

use jobrunr_core::storage::ClaimRequest;
use jobrunr_core::{Job, JobId, StateName};
use jobrunr_storage_sql::{Lane, QueueOrder, Unreadable, micros};
use rusqlite::params;

use super::merge::Line;
use super::signed;
use crate::error::Outcome;
use crate::rows::{ReadRow, read_row};
use crate::session::{Session, View};

/// Up to so many lanes each is looked at; of more, those that are empty are skipped.
const FEW_LANES: usize = 16;

/// What came of a claim.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    pub(super) jobs: Vec<Job>,
    /// The jobs that could not be read, and why.
    pub(super) parked: Vec<Failed>,
}

impl Session<'_> {
    pub(super) fn claim_jobs(&mut self, request: &ClaimRequest) -> Outcome<Claimed> {
        let server = self.server_number(&request.server)?;
        let lanes = self.lanes()?;
        let lanes = lanes.iter().map(|(number, lane)| (*number, lane));
        let order = QueueOrder::of(lanes, &request.queues, &request.signatures);
        let claim = Claim { request, server };
        let mut claimed = Claimed::default();
        for lanes in order.lines {
            let wanted = request.limit - claimed.jobs.len();
            if wanted == 0 {
                break;
            }
            self.claim_from_line(lanes, wanted, &claim, &mut claimed)?;
        }
        Ok(claimed)
    }

    fn claim_from_line(
        &mut self,
        lanes: Vec<i64>,
        wanted: usize,
        claim: &Claim<'_>,
        claimed: &mut Claimed,
    ) -> Outcome<()> {
        let lanes = if lanes.len() > FEW_LANES { ready_lanes(self.view, lanes)? } else { lanes };
        match *lanes {
            [] => Ok(()),
            [lane] => self.claim_from_lane(lane, wanted, claim, claimed),
            _ => self.claim_from_lanes(lanes, wanted, claim, claimed),
        }
    }

    /// Claims from a line that is one lane, whose first jobs are read in one go.
    fn claim_from_lane(
        &mut self,
        number: i64,
        wanted: usize,
        claim: &Claim<'_>,
        claimed: &mut Claimed,
    ) -> Outcome<()> {
        let Some(lane) = self.lane(number)? else { return Ok(()) };
        let enough = claimed.jobs.len() + wanted;
        loop {
            let before = claimed.jobs.len();
            let mut unreadable = Vec::new();
            let mut load = self.view.prepare(&self.view.statements.load_ready_jobs)?;
            let mut rows = load.query(params![number, signed(enough - before)])?;
            while let Some(row) = rows.next()? {
                let seq = row.get(0)?;
                match take(self.view, read_row(row), &lane, claim.request)? {
                    Ok(job) => {
                        self.remember_claimed(job.id(), seq);
                        claimed.jobs.push(job);
                    }
                    Err(failed) => unreadable.push((seq, failed)),
                }
            }
            drop(rows);
            let is_through = unreadable.is_empty();
            for (seq, failed) in unreadable {
                self.park_claimed(seq, failed, claim, claimed)?;
            }
            self.claim_first(number, claimed.jobs.len() - before, claim)?;
            // Where some were parked, others may come in their place.
            if is_through || claimed.jobs.len() == enough {
                return Ok(());
            }
        }
    }

    /// Claims from several lanes that are one line: the next in line is looked for one by one.
    fn claim_from_lanes(
        &mut self,
        lanes: Vec<i64>,
        wanted: usize,
        claim: &Claim<'_>,
        claimed: &mut Claimed,
    ) -> Outcome<()> {
        let mut line = Line::new(self.view, lanes, wanted)?;
        let mut load = self.view.prepare(&self.view.statements.load_ready_job)?;
        let mut taken: BTreeMap<i64, usize> = BTreeMap::new();
        let enough = claimed.jobs.len() + wanted;
        while claimed.jobs.len() < enough {
            let Some((number, waiting)) = line.next(enough - claimed.jobs.len())? else { break };
            let Some(lane) = self.lane(number)? else { continue };
            let row = load.query_row([waiting.seq], |row| Ok(read_row(row)))?;
            match take(self.view, row, &lane, claim.request)? {
                Ok(job) => {
                    self.remember_claimed(job.id(), waiting.seq);
                    claimed.jobs.push(job);
                    *taken.entry(number).or_default() += 1;
                }
                Err(failed) => self.park_claimed(waiting.seq, failed, claim, claimed)?,
            }
        }
        for (number, jobs) in taken {
            self.claim_first(number, jobs, claim)?;
        }
        Ok(())
    }

    /// Claims the first jobs of a lane. Those taken from it are its first ones: what could not be read is parked already.
    fn claim_first(&mut self, lane: i64, jobs: usize, claim: &Claim<'_>) -> Outcome<()> {
        if jobs == 0 {
            return Ok(());
        }
        let mut statement = self.view.prepare(&self.view.statements.claim_jobs)?;
        let changed =
            statement.execute(params![micros(claim.request.now), claim.server, lane, signed(jobs)])?;
        if changed != jobs {
            return Err(Unreadable::because("the jobs in line are not those that were read from it").into());
        }
        self.count_many(lane, Some(StateName::Enqueued), Some(StateName::Processing), signed(jobs));
        Ok(())
    }

    fn park_claimed(
        &mut self,
        seq: i64,
        (id, unreadable): Failed,
        claim: &Claim<'_>,
        claimed: &mut Claimed,
    ) -> Outcome<()> {
        self.park(seq, &unreadable, micros(claim.request.now))?;
        claimed.parked.push((id, unreadable));
        Ok(())
    }
}

/// What is asked for, and the number of who asks.
struct Claim<'a> {
    request: &'a ClaimRequest,
    server: i64,
}

/// A job that could not be read, and why.
type Failed = (Option<JobId>, Unreadable);

/// Makes of a row in line the job that the claim makes of it.
fn take(
    view: View<'_>,
    row: Result<ReadRow, Unreadable>,
    lane: &Lane,
    request: &ClaimRequest,
) -> Outcome<Result<Job, Failed>> {
    let mut row = match row {
        Ok(row) => row,
        Err(unreadable) => return Ok(Err((None, unreadable))),
    };
    let id = Some(row.id);
    if row.columns.state != StateName::Enqueued || row.columns.tail.claimed_at.is_some() {
        return Ok(Err((id, Unreadable::because("the columns of the job contradict each other"))));
    }
    start_processing(&mut row, request);
    let row = row.complete(view, lane.clone(), Some(request.server.clone()), None, true)?;
    Ok(row.decode().map_err(|unreadable| (id, unreadable)))
}

/// Does to a row that was read what the statement does to the stored one.
fn start_processing(row: &mut ReadRow, request: &ClaimRequest) {
    let at = micros(request.now).max(row.columns.updated_at);
    row.version = row.version.next();
    row.columns.state = StateName::Processing;
    row.columns.updated_at = at;
    row.columns.tail.claimed_at = Some(at);
}

/// Those of these lanes that anybody waits in.
fn ready_lanes(view: View<'_>, lanes: Vec<i64>) -> Outcome<Vec<i64>> {
    let wanted: std::collections::HashSet<i64> = lanes.into_iter().collect();
    let mut statement = view.prepare(&view.statements.next_ready_lane)?;
    let mut ready = Vec::new();
    let mut after = i64::MIN;
    loop {
        let mut rows = statement.query([after])?;
        let Some(row) = rows.next()? else { return Ok(ready) };
        after = row.get(0)?;
        if wanted.contains(&after) {
            ready.push(after);
        }
    }
}
