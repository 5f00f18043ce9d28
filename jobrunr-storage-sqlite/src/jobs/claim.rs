//! Claiming jobs: the first in line become PROCESSING, in the writer's transaction.

use jobrunr_core::storage::ClaimRequest;
use jobrunr_core::{Job, JobId, StateName};
use jobrunr_storage_sql::{QueueOrder, Unreadable, micros};
use rusqlite::params;

use super::merge::Line;
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
    pub(super) parked: Vec<(Option<JobId>, Unreadable)>,
}

impl Session<'_> {
    pub(super) fn claim_jobs(&mut self, request: &ClaimRequest) -> Outcome<Claimed> {
        let server = self.server_number(&request.server)?;
        let lanes = self.lanes()?;
        let lanes = lanes.iter().map(|(number, lane)| (*number, lane));
        let order = QueueOrder::of(lanes, &request.queues, &request.signatures);
        let mut claimed = Claimed::default();
        for lanes in order.lines {
            let wanted = request.limit - claimed.jobs.len();
            if wanted == 0 {
                break;
            }
            self.claim_from_line(lanes, wanted, request, server, &mut claimed)?;
        }
        Ok(claimed)
    }

    fn claim_from_line(
        &mut self,
        lanes: Vec<i64>,
        wanted: usize,
        request: &ClaimRequest,
        server: i64,
        claimed: &mut Claimed,
    ) -> Outcome<()> {
        let lanes = if lanes.len() > FEW_LANES { ready_lanes(self.view, lanes)? } else { lanes };
        let mut line = Line::new(self.view, lanes, wanted)?;
        let mut claim = self.view.prepare(&self.view.statements.claim_job)?;
        let enough = claimed.jobs.len() + wanted;
        while claimed.jobs.len() < enough {
            let Some((lane, waiting)) = line.next(enough - claimed.jobs.len())? else { break };
            match self.take(lane, waiting.seq, request)? {
                Ok(job) => {
                    let at = micros(job.updated_at());
                    claim.execute(params![at, server, waiting.seq])?;
                    self.count(lane, Some(StateName::Enqueued), Some(StateName::Processing));
                    claimed.jobs.push(job);
                }
                Err((id, unreadable)) => {
                    self.park(waiting.seq, &unreadable, micros(request.now))?;
                    claimed.parked.push((id, unreadable));
                }
            }
        }
        Ok(())
    }

    /// Reads a job in line and makes of it what the claim makes of its row.
    fn take(
        &mut self,
        lane: i64,
        seq: i64,
        request: &ClaimRequest,
    ) -> Outcome<Result<Job, (Option<JobId>, Unreadable)>> {
        let mut statement = self.view.prepare(&self.view.statements.load_ready_job)?;
        let mut row = match statement.query_row([seq], |row| Ok(read_row(row)))? {
            Ok(row) => row,
            Err(unreadable) => return Ok(Err((None, unreadable))),
        };
        let id = Some(row.id);
        let Some(lane) = self.lane(lane)? else {
            return Ok(Err((id, Unreadable::because("the queue or type of the job is not known"))));
        };
        if row.columns.state != StateName::Enqueued || row.columns.tail.claimed_at.is_some() {
            return Ok(Err((id, Unreadable::because("the columns of the job contradict each other"))));
        }
        start_processing(&mut row, request);
        let server = Some(request.server.clone());
        let row = row.complete(self.view, lane, server, None, true)?;
        Ok(row.decode().map_err(|unreadable| (id, unreadable)))
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
