//! [`JobSearch`]: listing and counting jobs, each query by the index that has the least to look at.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::MemoryStorage;
use super::filter::Filter;
use super::indexes::InstantKey;
use super::merge::{Direction, Merge};
use super::sources::{Ordered, Source, span_of};
use super::table::JobTable;
use crate::job::Job;
use crate::names::JobSignature;
use crate::state::StateName;
use crate::storage::{JobCounts, JobQuery, JobSearch, OrderField, StorageError};

#[async_trait]
impl JobSearch for MemoryStorage {
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StorageError> {
        self.with("list jobs", |content| content.jobs.list(query))
    }

    async fn count_jobs(&self, query: &JobQuery) -> Result<u64, StorageError> {
        let count = self.with("count jobs", |content| content.jobs.count(query))?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    async fn job_counts(&self) -> Result<JobCounts, StorageError> {
        self.with("count jobs by state", |content| content.jobs.indexes.counts)
    }

    async fn list_signatures(&self, states: &[StateName]) -> Result<Vec<JobSignature>, StorageError> {
        self.with("list job types", |content| {
            let lanes = &content.jobs.indexes.updated;
            let distinct: BTreeSet<_> = states.iter().flat_map(|state| lanes.signatures(state)).collect();
            distinct.into_iter().cloned().collect()
        })
    }
}

impl JobTable {
    fn list(&self, query: &JobQuery) -> Vec<Job> {
        let filter = Filter::new(query);
        let direction = if query.order.descending { Direction::Descending } else { Direction::Ascending };
        let span = span_of(query, direction);
        let few = Source::of_few(query, &filter, &self.indexes);
        let ordered = Ordered::by(query.order.field, &filter, &self.indexes);
        match (few, ordered) {
            (few, Some(ordered)) if few.as_ref().is_none_or(|few| ordered.is_better_than(few, query)) => {
                let is_exact = ordered.is_exact;
                let keys = Merge::new(ordered.lanes, span, direction);
                self.page(query, keys.filter(|(_, id)| is_exact || filter.fits(&self.rows[id])))
            }
            (few, _) => {
                let ids = few.unwrap_or_else(|| Source::all(&filter, &self.indexes)).ids();
                let fitting = ids.map(|id| (id, &self.rows[&id])).filter(|(_, row)| filter.fits(row));
                let keys = fitting.map(|(id, row)| (row.columns.instant(query.order.field), id));
                let mut keys: Vec<_> = keys.filter(|key| span.contains(*key)).collect();
                match direction {
                    Direction::Ascending => keys.sort_unstable(),
                    Direction::Descending => keys.sort_unstable_by(|one, other| other.cmp(one)),
                }
                self.page(query, keys.into_iter())
            }
        }
    }

    fn page(&self, query: &JobQuery, keys: impl Iterator<Item = InstantKey>) -> Vec<Job> {
        let keys = keys.skip(query.offset).take(query.effective_limit());
        keys.map(|(_, id)| self.rows[&id].job(id)).collect()
    }

    fn count(&self, query: &JobQuery) -> usize {
        let filter = Filter::new(query);
        if filter.is_by_lane {
            let all = Ordered::by(OrderField::UpdatedAt, &filter, &self.indexes);
            return all.map_or(0, |all| all.len());
        }
        let source = Source::of_few(query, &filter, &self.indexes);
        let ids = source.unwrap_or_else(|| Source::all(&filter, &self.indexes)).ids();
        ids.filter(|id| filter.fits(&self.rows[id])).count()
    }
}
