//! What the macros look for, and what they say if it is not there.

use std::fmt::Debug;

use jobrunr_core::storage::{JobCursor, JobQuery, SignatureSelection, StorageProvider};
use jobrunr_core::{Job, JobRequest, JobScheduler, JobSignature, JobState, MemoryStorage, StateName};
use std::sync::Arc;

use super::kit::TestKit;
use crate::health::with_sources;
use crate::server::BackgroundJobServer;

/// How many jobs of a type a message shows.
const MOST_SHOWN: usize = 20;
/// How many jobs one list holds.
const PAGE: usize = 1_000;
/// What waits to be run.
const WAITING: [StateName; 2] = [StateName::Enqueued, StateName::Scheduled];

/// Something that jobs can be looked for in.
pub trait HasStorage {
    /// Where the jobs are.
    fn storage(&self) -> &dyn StorageProvider;
}

impl HasStorage for dyn StorageProvider {
    fn storage(&self) -> &dyn StorageProvider {
        self
    }
}

impl HasStorage for MemoryStorage {
    fn storage(&self) -> &dyn StorageProvider {
        self
    }
}

impl HasStorage for Arc<dyn StorageProvider> {
    fn storage(&self) -> &dyn StorageProvider {
        self.as_ref()
    }
}

impl<S: StorageProvider> HasStorage for Arc<S> {
    fn storage(&self) -> &dyn StorageProvider {
        self.as_ref()
    }
}

impl HasStorage for JobScheduler {
    fn storage(&self) -> &dyn StorageProvider {
        self.storage().as_ref()
    }
}

impl HasStorage for BackgroundJobServer {
    fn storage(&self) -> &dyn StorageProvider {
        self.scheduler().storage().as_ref()
    }
}

impl HasStorage for TestKit {
    fn storage(&self) -> &dyn StorageProvider {
        self.storage().as_ref()
    }
}

impl<T: HasStorage + ?Sized> HasStorage for &T {
    fn storage(&self) -> &dyn StorageProvider {
        (**self).storage()
    }
}

/// The requests of the ENQUEUED jobs of one type, in the order of their creation: to count them, or to compare them all.
///
/// ```
/// # use std::sync::Arc;
/// # use jobrunr_core::{JobRequest, JobScheduler, MemoryStorage};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct SendEmail { to: String }
/// # impl JobRequest for SendEmail { const JOB_TYPE: &'static str = "send-email"; }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), jobrunr_core::SchedulerError> {
/// use jobrunr_server::testing::enqueued;
///
/// let scheduler = JobScheduler::new(Arc::new(MemoryStorage::new()));
/// scheduler.enqueue_all(["ada", "grace"].map(|to| SendEmail { to: to.into() })).await?;
///
/// assert_eq!(enqueued::<SendEmail>(&scheduler).await.len(), 2);
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// If the storage fails, or a payload does not fit the type.
pub async fn enqueued<R: JobRequest>(storage: &(impl HasStorage + ?Sized)) -> Vec<R> {
    let jobs = list(storage.storage(), JobQuery::in_state(StateName::Enqueued).signatures(of::<R>())).await;
    let request = |job: &Job| match job.payload().decode() {
        Ok(request) => request,
        Err(error) => panic!("the payload of job {} does not fit `{}`: {error}", job.id(), R::JOB_TYPE),
    };
    jobs.iter().map(request).collect()
}

/// A request as a macro was given it.
#[must_use]
pub fn described(request: &str, fields: &[(&str, &dyn Debug)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    if fields.is_empty() { request.to_owned() } else { format!("{request} {{ {} }}", fields.join(", ")) }
}

/// The first ENQUEUED job that fits.
///
/// # Errors
/// The message, if there is none.
pub async fn find_enqueued<R: JobRequest>(
    storage: &(impl HasStorage + ?Sized),
    wanted: String,
    fits: impl Fn(&R) -> bool,
) -> Result<Job, String> {
    find_one(storage.storage(), StateName::Enqueued, &wanted, fits).await
}

/// The first SCHEDULED job that fits.
///
/// # Errors
/// The message, if there is none.
pub async fn find_scheduled<R: JobRequest>(
    storage: &(impl HasStorage + ?Sized),
    wanted: String,
    fits: impl Fn(&R) -> bool,
) -> Result<Job, String> {
    find_one(storage.storage(), StateName::Scheduled, &wanted, fits).await
}

/// Nothing, if no job that waits fits.
///
/// # Errors
/// The message, if there is one.
pub async fn find_none<R: JobRequest>(
    storage: &(impl HasStorage + ?Sized),
    unwanted: String,
    fits: impl Fn(&R) -> bool,
) -> Result<(), String> {
    let waiting = list(storage.storage(), JobQuery::in_states(WAITING).signatures(of::<R>())).await;
    let found: Vec<Job> = waiting.into_iter().filter(|job| is_wanted(job, &fits)).collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(format!("there should be no waiting job that is {unwanted}, but there is:{}", lines(&found)))
}

async fn find_one<R: JobRequest>(
    storage: &dyn StorageProvider,
    state: StateName,
    wanted: &str,
    fits: impl Fn(&R) -> bool,
) -> Result<Job, String> {
    let of_type = list(storage, JobQuery::all().signatures(of::<R>())).await;
    let found = of_type.iter().find(|job| job.state_name() == state && is_wanted(job, &fits));
    match found {
        Some(job) => Ok(job.clone()),
        None => Err(explain(storage, state, wanted, R::JOB_TYPE, &of_type).await),
    }
}

async fn explain(
    storage: &dyn StorageProvider,
    state: StateName,
    wanted: &str,
    job_type: &str,
    of_type: &[Job],
) -> String {
    let message = format!("no {state} job is {wanted}");
    if !of_type.is_empty() {
        return format!("{message}; of the type `{job_type}` there are:{}", lines(of_type));
    }
    let waiting = list(storage, JobQuery::in_states(WAITING)).await;
    let waits =
        if waiting.is_empty() { "and nothing else waits".to_owned() } else { "what waits is:".to_owned() };
    format!("{message}; there is no job of the type `{job_type}` at all, {waits}{}", lines(&waiting))
}

/// A line for each job, as far as they are worth showing.
fn lines(jobs: &[Job]) -> String {
    let mut text = String::new();
    for job in jobs.iter().take(MOST_SHOWN) {
        text += &format!("\n  {:<10}  {}  {}", job.state_name(), job.signature(), job.payload().as_str());
        if let JobState::Scheduled { scheduled_at, .. } = job.state() {
            text += &format!("  for {}", scheduled_at.format("%F %T%.f UTC"));
        }
    }
    match jobs.len().saturating_sub(MOST_SHOWN) {
        0 => text,
        more => format!("{text}\n  … and {more} more"),
    }
}

fn is_wanted<R: JobRequest>(job: &Job, fits: impl Fn(&R) -> bool) -> bool {
    job.payload().decode().is_ok_and(|request: R| fits(&request))
}

/// All jobs that fit the query, in the order of their creation.
async fn list(storage: &dyn StorageProvider, query: JobQuery) -> Vec<Job> {
    let mut query = query.limit(PAGE);
    let mut jobs = Vec::new();
    loop {
        let page = match storage.list_jobs(&query).await {
            Ok(page) => page,
            Err(error) => panic!("jobs cannot be looked for: {}", with_sources(&error)),
        };
        let is_last_page = page.len() < PAGE;
        query.after = page.last().map(|job| JobCursor::after(job, query.order));
        jobs.extend(page);
        if is_last_page {
            return jobs;
        }
    }
}

/// The type, under its present name and the former ones.
fn of<R: JobRequest>() -> SignatureSelection {
    let names = [R::JOB_TYPE].into_iter().chain(R::ALIASES.iter().copied());
    // A name that is none has no jobs.
    SignatureSelection::Only(names.filter_map(|name| JobSignature::new(name).ok()).collect())
}
