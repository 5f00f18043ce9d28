//! Finding jobs by what they are.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use jobrunr_core::storage::{JobCounts, JobQuery, JobSearch, StorageError};
use jobrunr_core::{Job, JobId, JobSignature, StateName};
use jobrunr_storage_sql::{Search, render_count, render_list};

use crate::MySqlStorage;
use crate::columns::Columns;
use crate::dialect::{self, MySql};
use crate::error::Outcome;
use crate::place::state_of_place;
use crate::rows::{WholeJob, WithMetadata};
use crate::session::Session;
use crate::statements::Statement;
use crate::values::{Rows, Values};

/// How many jobs of a list are loaded at once.
const PAGE: usize = 1_000;

#[async_trait]
impl JobSearch for MySqlStorage {
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StorageError> {
        let render = |dialect| render_list(query, &dialect, &self.shared.prefix);
        let (search, where_few_wait) = (render(MySql::ManyWait), render(MySql::FewWait));
        let where_few_wait = (where_few_wait != search).then_some(where_few_wait);
        let found = self
            .shared
            .read("list jobs", move |session| {
                let (search, where_few_wait) = (search.clone(), where_few_wait.clone());
                Box::pin(async move {
                    let search = match where_few_wait {
                        Some(other) if do_few_wait(session).await? => other,
                        _ => search,
                    };
                    list_jobs(session, search).await
                })
            })
            .await?;
        let mut jobs = Vec::with_capacity(found.len());
        for WholeJob { id, job, is_intact: _ } in found {
            match job {
                Ok(job) => jobs.push(job),
                Err(unreadable) => self.shared.report_unreadable(id, &unreadable),
            }
        }
        Ok(jobs)
    }

    async fn count_jobs(&self, query: &JobQuery) -> Result<u64, StorageError> {
        let search = render_count(query, &MySql::ManyWait, &self.shared.prefix);
        self.shared
            .call("count jobs", move |session| {
                let Search { sql, values } = search.clone();
                Box::pin(async move {
                    let row = session.row(&Statement::new(sql), dialect::bind(&values)).await?;
                    count(row.map_or(Ok(0), |row| row.number(0))?)
                })
            })
            .await
    }

    async fn job_counts(&self) -> Result<JobCounts, StorageError> {
        self.shared.call("count jobs", |session| Box::pin(job_counts(session))).await
    }

    async fn list_signatures(&self, states: &[StateName]) -> Result<Vec<JobSignature>, StorageError> {
        let states = states.to_vec();
        self.shared
            .call("list job types", move |session| {
                let states = states.clone();
                Box::pin(async move { list_signatures(session, &states).await })
            })
            .await
    }
}

fn count(number: i64) -> Outcome<u64> {
    Ok(u64::try_from(number).unwrap_or(0))
}

/// Whether few jobs are ENQUEUED or SCHEDULED.
async fn do_few_wait(session: &mut Session<'_>) -> Outcome<bool> {
    let row = session.row(&session.shared.statements.few_wait, Values::new()).await?;
    Ok(row.map_or(Ok(0), |row| row.number(0))? != 0)
}

async fn list_jobs(session: &mut Session<'_>, search: Search) -> Outcome<Vec<WholeJob>> {
    let found = session.rows(&Statement::new(search.sql), dialect::bind(&search.values)).await?;
    let ids = found.iter().map(|row| Ok(row.id(0)?.into())).collect::<Outcome<Vec<JobId>>>()?;
    let mut jobs = Vec::with_capacity(ids.len());
    for page in ids.chunks(PAGE) {
        let values = Values::new().text(&Rows::of_ids(page));
        let rows = session.rows(&session.shared.statements.load_jobs, values).await?;
        let whole = session.whole_jobs(rows, WithMetadata::No).await?;
        let mut by_id: HashMap<JobId, WholeJob> =
            whole.into_iter().filter_map(|job| job.id.map(|id| (id, job))).collect();
        jobs.extend(page.iter().filter_map(|id| by_id.remove(id)));
    }
    Ok(jobs)
}

async fn job_counts(session: &mut Session<'_>) -> Outcome<JobCounts> {
    let mut counts = JobCounts::default();
    for row in session.rows(&session.shared.statements.count_jobs, Values::new()).await? {
        match row.number(0)? {
            -1 => {
                counts.set(StateName::Succeeded, count(row.number(1)?)?);
                counts.set(StateName::Failed, count(row.number(2)?)?);
                counts.set(StateName::Deleted, count(row.number(3)?)?);
                counts.succeeded_all_time = count(row.number(4)?)?;
            }
            2 => counts.set(StateName::Enqueued, count(row.number(1)?)?),
            place => {
                if let Some(state) = state_of_place(place) {
                    counts.set(state, count(row.number(1)?)?);
                }
            }
        }
    }
    Ok(counts)
}

async fn list_signatures(session: &mut Session<'_>, states: &[StateName]) -> Outcome<Vec<JobSignature>> {
    let rows = session.rows(&session.shared.statements.list_signatures, Values::new()).await?;
    let mut found = BTreeSet::new();
    for row in &rows {
        let (place, lane) = (row.number(0)?, row.small(1)?);
        let is_in_state = if place == -1 {
            let ended = [(StateName::Succeeded, 2), (StateName::Failed, 3), (StateName::Deleted, 4)];
            ended.iter().any(|(state, column)| {
                states.contains(state) && row.number(*column).is_ok_and(|count| count > 0)
            })
        } else {
            state_of_place(place).is_some_and(|state| states.contains(&state))
        };
        if is_in_state {
            found.insert(lane);
        }
    }
    let lanes = session.lanes_with(found.iter().copied()).await?;
    let signatures = found.iter().filter_map(|lane| lanes.get(*lane)).map(|lane| lane.signature.clone());
    Ok(signatures.collect::<BTreeSet<_>>().into_iter().collect())
}
