//! [`JobSearch`]: listing and counting jobs, each query by the sorted sets that have the least to look at.

mod filter;
mod source;
mod walk;

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use jobrunr_core::storage::{JobCounts, JobQuery, JobSearch, StorageError};
use jobrunr_core::{Job, JobId, JobMetadata, JobSignature, StateName};
use redis::cmd;

use crate::RedisStorage;
use crate::calls::Call;
use crate::encoding::{Member, decode_id, encode_place, encode_time};
use crate::error::Failed;
use crate::jobs::Row;
use filter::Filter;
use source::Plan;
use walk::Walk;

/// How many jobs are looked at by one call of the server.
const PAGE: usize = 200;

/// How many jobs are loaded whole at once.
const LOADED_AT_ONCE: usize = 50;

#[async_trait]
impl JobSearch for RedisStorage {
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StorageError> {
        let call = self.begin("list jobs")?;
        if query.effective_limit() == 0 {
            return Ok(Vec::new());
        }
        let filter = Filter::new(query);
        let plan = call.plan(query, &filter).await?;
        let jobs = if plan.is_ordered {
            call.list_in_order(query, &filter, &plan).await?
        } else {
            call.list_sorted(query, &filter, &plan).await?
        };
        Ok(jobs)
    }

    async fn count_jobs(&self, query: &JobQuery) -> Result<u64, StorageError> {
        let call = self.begin("count jobs")?;
        let filter = Filter::new(query);
        if filter.is_by_lane() {
            return Ok(call.count_by_lane(query, &filter).await?);
        }
        let plan = call.smallest_source(query, &filter).await?;
        let mut walk = Walk::new(&plan, false);
        let mut seen = HashSet::new();
        let mut count = 0;
        loop {
            let page = walk.next_page(&call, PAGE).await?;
            if page.is_empty() {
                return Ok(count);
            }
            let fitting = call.fitting(page, &filter, &plan).await?;
            // A job that moves on while this counts may be met twice.
            let new = fitting.into_iter().filter(|found| seen.insert(found.member.id().to_owned())).count();
            count += u64::try_from(new).unwrap_or(u64::MAX);
        }
    }

    async fn job_counts(&self) -> Result<JobCounts, StorageError> {
        let call = self.begin("count jobs by state")?;
        let mut counts = JobCounts::default();
        for (field, count) in call.counts().await? {
            match state_and_lane(&field) {
                Some((state, _)) => counts.set(state, counts.in_state(state) + count),
                None => counts.succeeded_all_time = count,
            }
        }
        Ok(counts)
    }

    async fn list_signatures(&self, states: &[StateName]) -> Result<Vec<JobSignature>, StorageError> {
        let call = self.begin("list job types")?;
        let counts = call.counts().await?;
        let there = counts.iter().filter(|(_, count)| **count > 0);
        let wanted = there.filter_map(|(field, _)| state_and_lane(field));
        let lanes: Vec<&str> =
            wanted.filter(|(state, _)| states.contains(state)).map(|(_, lane)| lane).collect();
        let known = call.lanes_with(lanes.iter().copied()).await?;
        let signatures = lanes.iter().filter_map(|lane| known.find(lane)).map(|(_, signature)| signature);
        let distinct: BTreeSet<&JobSignature> = signatures.collect();
        Ok(distinct.into_iter().cloned().collect())
    }
}

/// What a field of the counts is about; `None` for the successes.
fn state_and_lane(field: &str) -> Option<(StateName, &str)> {
    let (lane, state) = field.split_at_checked(crate::encoding::LANE)?;
    Some((StateName::from_index(state.parse().ok()?)?, lane))
}

/// A job that fits, with the place that decides its order.
pub(crate) struct Found {
    pub(crate) place: String,
    pub(crate) member: Member,
}

impl Call<'_> {
    async fn counts(&self) -> Result<HashMap<String, u64>, Failed> {
        let mut read = cmd("HGETALL");
        read.arg(self.storage.inner.keys.counts());
        self.read_one(&read).await
    }

    async fn count_by_lane(&self, query: &JobQuery, filter: &Filter<'_>) -> Result<u64, Failed> {
        let counts = self.counts().await?;
        let wanted = counts.iter().filter_map(|(field, count)| {
            let (state, lane) = state_and_lane(field)?;
            (query.states.is_empty() || query.states.contains(&state)).then_some((lane, *count))
        });
        let wanted: Vec<(&str, u64)> = wanted.filter(|(_, count)| *count > 0).collect();
        let known = self.lanes_with(wanted.iter().map(|(lane, _)| *lane)).await?;
        let fits = |lane: &str| known.find(lane).is_some_and(|lane| filter.fits_lane(lane));
        Ok(wanted.into_iter().filter(|(lane, _)| fits(lane)).map(|(_, count)| count).sum())
    }

    /// Reads in the order of the query until the page is full.
    async fn list_in_order(
        &self,
        query: &JobQuery,
        filter: &Filter<'_>,
        plan: &Plan,
    ) -> Result<Vec<Job>, Failed> {
        let mut walk = Walk::new(plan, query.order.descending);
        if let Some(cursor) = query.after {
            walk.go_on_after(&encode_place(cursor.instant, cursor.id));
        }
        let (mut jobs, mut seen) = (Vec::new(), HashSet::new());
        let (mut to_pass_over, limit) = (query.offset, query.effective_limit());
        while jobs.len() < limit {
            let left = to_pass_over.saturating_add(limit - jobs.len());
            let page = walk.next_page(self, left.clamp(LOADED_AT_ONCE, PAGE)).await?;
            if page.is_empty() {
                break;
            }
            let mut fitting = self.fitting(page, filter, plan).await?;
            fitting.retain(|found| seen.insert(found.member.id().to_owned()));
            let passed_over = to_pass_over.min(fitting.len());
            to_pass_over -= passed_over;
            let wanted = fitting.into_iter().skip(passed_over).map(|found| found.member);
            self.load_jobs(wanted, filter, limit, &mut jobs).await?;
        }
        Ok(jobs)
    }

    /// Finds all that fit, then sorts them.
    async fn list_sorted(
        &self,
        query: &JobQuery,
        filter: &Filter<'_>,
        plan: &Plan,
    ) -> Result<Vec<Job>, Failed> {
        let cursor = query.after.map(|cursor| encode_place(cursor.instant, cursor.id));
        let follows = |place: &str| match &cursor {
            None => true,
            Some(cursor) if query.order.descending => place < cursor.as_str(),
            Some(cursor) => place > cursor.as_str(),
        };
        let mut walk = Walk::new(plan, false);
        let mut found: HashMap<String, Found> = HashMap::new();
        loop {
            let page = walk.next_page(self, PAGE).await?;
            if page.is_empty() {
                break;
            }
            for fitting in self.fitting(page, filter, plan).await? {
                if follows(&fitting.place) {
                    found.insert(fitting.member.id().to_owned(), fitting);
                }
            }
        }
        let mut found: Vec<Found> = found.into_values().collect();
        found.sort_unstable_by(|one, other| one.place.cmp(&other.place));
        if query.order.descending {
            found.reverse();
        }
        let wanted = found.into_iter().skip(query.offset).map(|found| found.member);
        let mut jobs = Vec::new();
        self.load_jobs(wanted, filter, query.effective_limit(), &mut jobs).await?;
        Ok(jobs)
    }

    /// Loads jobs whole, in the order given, until there are enough; those that have changed and fit no more are left out.
    async fn load_jobs(
        &self,
        members: impl Iterator<Item = Member>,
        filter: &Filter<'_>,
        limit: usize,
        jobs: &mut Vec<Job>,
    ) -> Result<(), Failed> {
        let mut members = members.peekable();
        while jobs.len() < limit && members.peek().is_some() {
            let count = LOADED_AT_ONCE.min(limit - jobs.len());
            let batch: Vec<Member> = members.by_ref().take(count).collect();
            let ids: Vec<&str> = batch.iter().map(Member::id).collect();
            for (id, fields) in ids.iter().zip(self.load_rows(&ids).await?) {
                let Some(id) = decode_id::<JobId>(id).filter(|_| !fields.is_empty()) else { continue };
                let row = Row::read(fields).and_then(|row| {
                    let state = row.head.state;
                    Ok((state, row.into_job(id, JobMetadata::new())?))
                });
                match row {
                    // Race: it may have moved on since it was found.
                    Ok((state, job)) if filter.fits_state(state) => jobs.push(job),
                    Ok(_) => {}
                    Err(what) => tracing::debug!("job {id} cannot be read and is left out of a list: {what}"),
                }
            }
        }
        Ok(())
    }
}

/// The bounds of a window in the order of an instant, as `ZRANGEBYLEX` takes them.
fn bounds(window: jobrunr_core::storage::TimeWindow) -> (String, String) {
    let from = window.from.map_or_else(|| "-".to_owned(), |from| format!("[{}", encode_time(from)));
    let before = window.before.map_or_else(|| "+".to_owned(), |before| format!("({}", encode_time(before)));
    (from, before)
}
