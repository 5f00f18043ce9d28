//! Looking at the whole content of a storage, and checking what must hold of any content.

use std::collections::HashSet;

use jobrunr_core::storage::{
    BoxError, JobCounts, JobCursor, JobOrder, JobQuery, OrderField, StorageProvider,
};
use jobrunr_core::{Job, JobId, StateName};

/// More than any scenario stores.
pub(crate) const UNBOUNDED: usize = 1_000_000;

/// The job as it is stored; it must be there.
pub(crate) async fn find(storage: &dyn StorageProvider, id: JobId) -> Result<Job, BoxError> {
    storage.find_job(id).await?.ok_or_else(|| format!("job {id} is gone").into())
}

/// Every job that fits, without a limit.
pub(crate) async fn list(storage: &dyn StorageProvider, query: JobQuery) -> Result<Vec<Job>, BoxError> {
    Ok(storage.list_jobs(&query.limit(UNBOUNDED)).await?)
}

/// Every stored job, without metadata, by id.
pub(crate) async fn everything(storage: &dyn StorageProvider) -> Result<Vec<Job>, BoxError> {
    let mut jobs = list(storage, JobQuery::all()).await?;
    jobs.sort_by_key(Job::id);
    Ok(jobs)
}

/// Every stored job, read page by page from cursor to cursor.
pub(crate) async fn everything_in_pages(
    storage: &dyn StorageProvider,
    page: usize,
) -> Result<Vec<Job>, BoxError> {
    let order = JobOrder::ascending(OrderField::CreatedAt);
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        let mut query = JobQuery::all().order(order).limit(page);
        if let Some(last) = jobs.last() {
            query = query.after(JobCursor::after(last, order));
        }
        let next = storage.list_jobs(&query).await?;
        if next.is_empty() {
            return Ok(jobs);
        }
        jobs.extend(next);
        assert!(jobs.len() <= UNBOUNDED, "the pages never end");
    }
}

/// How many jobs there are by state, counted one by one.
pub(crate) fn recount(jobs: &[Job], succeeded_all_time: u64) -> JobCounts {
    let mut counts = JobCounts::default();
    counts.succeeded_all_time = succeeded_all_time;
    for job in jobs {
        counts.set(job.state_name(), counts.in_state(job.state_name()) + 1);
    }
    counts
}

/// Checks what must hold of every job in any storage at any time.
pub(crate) fn assert_sound(jobs: &[Job]) {
    let distinct: HashSet<JobId> = jobs.iter().map(Job::id).collect();
    assert_eq!(distinct.len(), jobs.len(), "a job was listed twice");
    for job in jobs {
        assert_legal_history(job);
    }
}

/// Checks that a history begins well, moves only along the table of states, and never goes back in time.
pub(crate) fn assert_legal_history(job: &Job) {
    let history = job.history();
    let first = history[0].state.name();
    assert!(first.can_be_first(), "job {} began as {first}", job.id());
    for pair in history.windows(2) {
        let (from, to) = (pair[0].state.name(), pair[1].state.name());
        assert!(from.can_become(to), "job {} went from {from} to {to}: {history:?}", job.id());
        assert!(pair[0].at <= pair[1].at, "the history of job {} goes back in time: {history:?}", job.id());
    }
}

/// Checks that each save wrote one entry: true of jobs inserted with one entry and always saved with one more.
pub(crate) fn assert_one_version_an_entry(job: &Job) {
    let entries = u64::try_from(job.history().len()).expect("histories are short");
    assert_eq!(job.version().number(), entries, "job {} at version {}", job.id(), job.version());
}

/// Checks that the job is in the list of its state, and in no other.
pub(crate) async fn assert_listed_in_its_state_only(
    storage: &dyn StorageProvider,
    job: &Job,
) -> Result<(), BoxError> {
    for state in StateName::ALL {
        let listed = list(storage, JobQuery::in_state(state)).await?;
        let is_there = listed.iter().any(|one| one.id() == job.id());
        assert_eq!(is_there, state == job.state_name(), "a {} job in the list of {state}", job.state_name());
    }
    Ok(())
}
