//! Removing jobs for good, with all that belongs to them.

use async_trait::async_trait;
use jobrunr_core::storage::{JobOrder, JobQuery, OrderField, SignatureSelection, TimeWindow};
use jobrunr_core::{JobId, StateName};
use jobrunr_storage_sql::{Wanted, from_micros, render_list};

use super::ended::Ended;
use super::signed;
use crate::columns::Columns;
use crate::dialect::{self, MySql};
use crate::error::Outcome;
use crate::place::place_of_state;
use crate::session::Session;
use crate::statements::Statement;
use crate::values::{Rows, Values};
use crate::work::Work;

/// How many entries of an index are read at once.
const PAGE: usize = 1_000;

/// Which jobs to remove.
#[derive(Debug, Clone)]
pub(super) enum Doomed {
    Ids(Vec<JobId>),
    Aged(Aged),
}

/// Jobs that have been in a state for long enough.
#[derive(Debug, Clone)]
pub(super) struct Aged {
    pub(super) state: StateName,
    pub(super) updated_before: i64,
    pub(super) signatures: SignatureSelection,
    pub(super) limit: usize,
}

/// Removes one part of what is to be removed; tells how many there were.
pub(super) struct DeleteJobs {
    pub(super) doomed: Doomed,
    /// What the last try removed.
    pub(super) deleted: Vec<JobId>,
}

#[async_trait]
impl Work for DeleteJobs {
    type Output = usize;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<usize> {
        let locked = match &self.doomed {
            Doomed::Ids(ids) => session.lock_jobs(ids.iter().copied()).await?,
            Doomed::Aged(aged) => {
                let ids = session.aged_jobs(aged).await?;
                let mut locked = session.lock_jobs(ids).await?;
                // Race: others may have changed some since they were looked at.
                locked
                    .retain(|_, row| row.state() == Some(aged.state) && row.updated_at < aged.updated_before);
                locked
            }
        };
        let mut ended = Ended::default();
        for row in locked.values() {
            ended.count(row.lane, row.state(), None);
        }
        self.deleted = locked.into_keys().collect();
        self.deleted.sort_unstable();
        session.delete_jobs(&self.deleted).await?;
        session.write_ended(ended).await?;
        Ok(self.deleted.len())
    }

    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        Ok(session.lock_jobs(self.deleted.iter().copied()).await?.is_empty())
    }
}

impl Session<'_> {
    async fn delete_jobs(&mut self, ids: &[JobId]) -> Outcome<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let statements = self.statements();
        let ids = Rows::of_ids(ids);
        for delete in [
            &statements.delete_jobs,
            &statements.delete_histories,
            &statements.delete_results,
            &statements.delete_job_metadata,
            &statements.delete_labels,
            &statements.delete_recurring_runs,
            &statements.delete_waiting,
        ] {
            self.execute(delete, Values::new().text(&ids)).await?;
        }
        Ok(())
    }

    /// The jobs to remove, those updated first first.
    async fn aged_jobs(&mut self, aged: &Aged) -> Outcome<Vec<JobId>> {
        if matches!(aged.state, StateName::Enqueued | StateName::Scheduled) {
            // The index sorts these by something else.
            return self.search_aged_jobs(aged).await;
        }
        let wanted = Wanted::from(&aged.signatures);
        let mut found = Vec::new();
        let mut after = (i64::MIN, JobId::from(uuid::Uuid::nil()));
        loop {
            let values = Values::new()
                .number(i64::from(place_of_state(aged.state)))
                .number(after.0)
                .number(aged.updated_before)
                .number(after.0)
                .bytes(after.1.as_bytes())
                .number(signed(PAGE));
            let rows = self.rows(&self.shared.statements.aged_jobs, values).await?;
            for row in &rows {
                let lane = row.small(1)?;
                after = (row.number(2)?, row.id(0)?.into());
                let is_wanted = match &wanted {
                    Wanted::All => true,
                    some => {
                        let lanes = self.lanes_with([lane]).await?;
                        lanes.get(lane).is_some_and(|lane| some.contains(&lane.signature))
                    }
                };
                if is_wanted {
                    found.push(after.1);
                }
                if found.len() >= aged.limit {
                    return Ok(found);
                }
            }
            if rows.len() < PAGE {
                return Ok(found);
            }
        }
    }

    async fn search_aged_jobs(&mut self, aged: &Aged) -> Outcome<Vec<JobId>> {
        let query = JobQuery::in_state(aged.state)
            .updated(TimeWindow::before(from_micros(aged.updated_before)?))
            .signatures(aged.signatures.clone())
            .order(JobOrder::ascending(OrderField::UpdatedAt))
            .limit(aged.limit);
        let search = render_list(&query, &MySql::ManyWait, &self.shared.prefix);
        let rows = self.rows(&Statement::new(search.sql), dialect::bind(&search.values)).await?;
        rows.iter().map(|row| Ok(row.id(0)?.into())).collect()
    }
}
