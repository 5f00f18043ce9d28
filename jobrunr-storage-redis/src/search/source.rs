//! Where to look for the jobs that fit a query: the sorted sets among which all of them are.

use jobrunr_core::StateName;
use jobrunr_core::storage::{JobQuery, OrderField, TimeWindow};
use redis::{Pipeline, cmd};

use super::bounds;
use super::filter::Filter;
use crate::calls::Call;
use crate::encoding::encode_id;
use crate::error::Failed;

/// Sorted sets that together hold every job that fits.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) keys: Vec<String>,
    /// Between these bounds.
    pub(crate) bounds: (String, String),
    /// Whether their members begin with the instant that the query is ordered by.
    pub(crate) is_ordered: bool,
    /// Whether all that is in them fits, but for queue and type, which members tell.
    pub(crate) is_exact: bool,
    size: u64,
}

fn window(query: &JobQuery, field: OrderField) -> TimeWindow {
    match field {
        OrderField::CreatedAt => query.created,
        OrderField::UpdatedAt => query.updated,
        OrderField::ScheduledAt => query.scheduled,
    }
}

impl Call<'_> {
    /// Every place to look, each with how much there is to look at.
    async fn sources(&self, query: &JobQuery, filter: &Filter<'_>) -> Result<Vec<Plan>, Failed> {
        let keys = &self.storage.inner.keys;
        let source = |keys: Vec<String>, field: OrderField, is_exact: bool| Plan {
            keys,
            bounds: bounds(window(query, field)),
            is_ordered: field == query.order.field,
            is_exact,
            size: 0,
        };
        let states: Vec<StateName> =
            StateName::ALL.into_iter().filter(|state| filter.fits_state(*state)).collect();
        let only = |field| filter.has_only_state_and(field);
        let mut sources = vec![
            source(
                states.iter().map(|state| keys.state(*state)).collect(),
                OrderField::UpdatedAt,
                only(OrderField::UpdatedAt),
            ),
            source(
                vec![keys.created()],
                OrderField::CreatedAt,
                query.states.is_empty() && only(OrderField::CreatedAt),
            ),
        ];
        if states == [StateName::Scheduled] {
            let field = OrderField::ScheduledAt;
            sources.push(source(vec![keys.due()], field, only(field)));
        }
        for label in &query.labels {
            sources.push(source(vec![keys.label(label)], OrderField::CreatedAt, false));
        }
        if let Some(id) = &query.recurring_job_id {
            let of = states.iter().map(|state| keys.recurring(*state, id.as_str())).collect();
            sources.push(source(of, OrderField::CreatedAt, false));
        }
        if let Some(id) = query.awaited_job_id {
            sources.push(source(vec![keys.awaiting(&encode_id(id))], OrderField::CreatedAt, false));
        }
        let mut sizes = Pipeline::new();
        for source in &sources {
            for key in &source.keys {
                let mut size = cmd("ZLEXCOUNT");
                size.arg(key).arg(&source.bounds.0).arg(&source.bounds.1);
                sizes.add_command(size);
            }
        }
        let mut sizes = self.read_all::<u64>(&sizes).await?.into_iter();
        for source in &mut sources {
            source.size = sizes.by_ref().take(source.keys.len()).sum();
        }
        Ok(sources)
    }

    /// Where there is the least to look at.
    pub(super) async fn smallest_source(
        &self,
        query: &JobQuery,
        filter: &Filter<'_>,
    ) -> Result<Plan, Failed> {
        let sources = self.sources(query, filter).await?;
        let smallest = sources.into_iter().min_by_key(|source| (source.size, !source.is_exact));
        Ok(smallest.expect("there is always the set of all jobs"))
    }

    /// Where to look for a page: where least is looked at until it is full.
    ///
    /// With f of n jobs fitting, spread evenly, a page of p is full after about p × n / f of them in order; all f must be
    /// found to be sorted.
    pub(super) async fn plan(&self, query: &JobQuery, filter: &Filter<'_>) -> Result<Plan, Failed> {
        let sources = self.sources(query, filter).await?;
        let page = u64::try_from(query.offset.saturating_add(query.effective_limit())).unwrap_or(u64::MAX);
        let cost_in_order = |source: &Plan, smallest: u64| {
            if source.is_exact {
                page.min(source.size)
            } else {
                source.size.min(page.saturating_mul(source.size) / smallest.max(1))
            }
        };
        let smallest = sources.iter().map(|source| source.size).min().unwrap_or(0);
        let cost = |source: &Plan| {
            if source.is_ordered { cost_in_order(source, smallest) } else { source.size }
        };
        let cheapest = sources.into_iter().min_by_key(|source| (cost(source), !source.is_ordered));
        Ok(cheapest.expect("there is always the set of all jobs"))
    }
}
