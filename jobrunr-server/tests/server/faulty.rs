//! A storage that fails on command, before or after what it was asked for has taken effect, and counts its calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{
    AwaitedJobs, ChangeFeed, ChangeHub, ClaimRequest, CompareAndSet, DueReport, Heartbeat, HeartbeatReport,
    InsertReport, JobCounts, JobQuery, JobSearch, JobSelection, JobStore, Metadata, MetadataStore,
    RecurringJobQuery, RecurringJobStore, RecurringSave, SaveReport, ServerAnnouncement, ServerRecord,
    ServerStore, SetUp, SignatureSelection, StorageError, StorageProvider,
};
use jobrunr_core::{
    Job, JobId, JobMetadata, JobSignature, MemoryStorage, RecurringJobId, ServerId, StateName, Version,
};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It is not available, and nothing has happened.
    BeforeEffect,
    /// It has happened, but the answer is lost.
    AfterEffect,
    /// The database refuses, and trying again does not help.
    Refused,
    /// The code of the storage panics.
    Panic,
    /// It never answers.
    Hang,
    /// It has happened, and is answered so much later.
    Late(Duration),
}

/// What becomes of the hints of the storage.
#[derive(Clone)]
enum Hints {
    All,
    None,
    Silent(Arc<ChangeHub>),
}

/// The calls of one method.
#[derive(Debug, Clone, Copy, Default)]
struct Calls {
    count: usize,
    under_way: usize,
    most_at_once: usize,
}

type Rule = Box<dyn Fn(&'static str) -> Fault + Send + Sync>;

/// Wraps a storage; clones share the rule and the counts.
#[derive(Clone)]
pub(crate) struct Faulty {
    inner: Arc<dyn StorageProvider>,
    rule: Arc<Mutex<Rule>>,
    calls: Arc<Mutex<BTreeMap<&'static str, Calls>>>,
    /// Whether the next claim takes jobs of any type.
    claims_any_type: Arc<AtomicBool>,
    /// Refuses saves of more jobs than this, and those of these jobs.
    poison: Arc<Mutex<Option<JobId>>>,
    hints: Hints,
    /// Not those of the inner one: who waits beside this wrapper is another process to who uses that.
    awaited: Arc<AwaitedJobs>,
    /// The servers that were announced through this wrapper, where it shows no others.
    own_servers: Option<Arc<Mutex<Vec<ServerId>>>>,
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    pub(crate) fn new(inner: &MemoryStorage) -> Self {
        Self::over(Arc::new(inner.clone()))
    }

    pub(crate) fn over(inner: Arc<dyn StorageProvider>) -> Self {
        Self {
            inner,
            rule: Arc::new(Mutex::new(Box::new(|_| Fault::None))),
            calls: Arc::default(),
            claims_any_type: Arc::default(),
            poison: Arc::default(),
            hints: Hints::All,
            awaited: Arc::default(),
            own_servers: None,
        }
    }

    /// The same storage for servers that get no hints.
    pub(crate) fn without_hints(mut self) -> Self {
        self.hints = Hints::None;
        self
    }

    /// The same storage with a feed that never says anything.
    pub(crate) fn with_silent_hints(mut self) -> Self {
        self.hints = Hints::Silent(Arc::default());
        self
    }

    /// The same storage for a server that sees no other servers, and so takes itself for the master; its calls take their
    /// turns with those of others.
    pub(crate) fn seeing_no_other_servers(mut self) -> Self {
        self.own_servers = Some(Arc::default());
        self
    }

    pub(crate) fn shared(&self) -> Arc<dyn StorageProvider> {
        Arc::new(self.clone())
    }

    /// From now on calls go wrong like this.
    pub(crate) fn fail(&self, rule: impl Fn(&'static str) -> Fault + Send + Sync + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// From now on nothing goes wrong.
    pub(crate) fn mend(&self) {
        self.fail(|_| Fault::None);
    }

    /// The next claim takes jobs of any type, whether or not there are handlers for them.
    pub(crate) fn claim_any_type_once(&self) {
        self.claims_any_type.store(true, Ordering::Relaxed);
    }

    /// Refuses every save that this job is part of, unless it is to become FAILED.
    pub(crate) fn refuse_saves_of(&self, id: JobId) {
        *self.poison.lock().unwrap() = Some(id);
    }

    /// How often each method was called.
    pub(crate) fn calls(&self) -> BTreeMap<&'static str, usize> {
        self.calls.lock().unwrap().iter().map(|(operation, calls)| (*operation, calls.count)).collect()
    }

    /// How many calls of a method were under way at once, at most.
    pub(crate) fn most_at_once(&self, operation: &str) -> usize {
        self.calls.lock().unwrap().get(operation).map_or(0, |calls| calls.most_at_once)
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        {
            let mut calls = self.calls.lock().unwrap();
            let calls = calls.entry(operation).or_default();
            calls.count += 1;
            calls.under_way += 1;
            calls.most_at_once = calls.most_at_once.max(calls.under_way);
        }
        let answer = self.answer(operation, call).await;
        self.calls.lock().unwrap().entry(operation).or_default().under_way -= 1;
        answer
    }

    async fn answer<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        if self.own_servers.is_some() {
            for _ in 0..fastrand::u8(..4) {
                tokio::task::yield_now().await;
            }
        }
        let fault = (self.rule.lock().unwrap())(operation);
        let source = || "on command".into();
        match fault {
            Fault::None => call.await,
            Fault::BeforeEffect => {
                Err(StorageError::Unavailable { provider: "faulty", operation, source: source() })
            }
            Fault::AfterEffect => {
                call.await?;
                Err(StorageError::Unavailable { provider: "faulty", operation, source: source() })
            }
            Fault::Panic => panic!("on command"),
            Fault::Hang => std::future::pending().await,
            Fault::Late(delay) => {
                let answer = call.await;
                tokio::time::sleep(delay).await;
                answer
            }
            Fault::Refused => Err(StorageError::Backend { provider: "faulty", operation, source: source() }),
        }
    }
}

#[async_trait]
impl JobStore for Faulty {
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        self.call("insert_jobs", self.inner.insert_jobs(jobs)).await
    }

    async fn save_jobs(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        let poison = *self.poison.lock().unwrap();
        let is_refused = |job: &Job| Some(job.id()) == poison && job.state_name() != StateName::Failed;
        if jobs.iter().any(is_refused) {
            let (provider, operation) = ("faulty", "save jobs");
            return Err(StorageError::Backend { provider, operation, source: "poison".into() });
        }
        self.call("save_jobs", self.inner.save_jobs(jobs)).await
    }

    async fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        let mut request = request.clone();
        if self.claims_any_type.swap(false, Ordering::Relaxed) {
            request.signatures = SignatureSelection::All;
        }
        self.call("claim_jobs", self.inner.claim_jobs(&request)).await
    }

    async fn enqueue_due_jobs(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError> {
        self.call("enqueue_due_jobs", self.inner.enqueue_due_jobs(now, limit)).await
    }

    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError> {
        self.call("find_job", self.inner.find_job(id)).await
    }

    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        self.call("delete_jobs", self.inner.delete_jobs(selection)).await
    }

    async fn save_job_metadata(&self, id: JobId, entries: &JobMetadata) -> Result<bool, StorageError> {
        self.call("save_job_metadata", self.inner.save_job_metadata(id, entries)).await
    }
}

#[async_trait]
impl JobSearch for Faulty {
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StorageError> {
        self.call("list_jobs", self.inner.list_jobs(query)).await
    }

    async fn count_jobs(&self, query: &JobQuery) -> Result<u64, StorageError> {
        self.call("count_jobs", self.inner.count_jobs(query)).await
    }

    async fn job_counts(&self) -> Result<JobCounts, StorageError> {
        self.call("job_counts", self.inner.job_counts()).await
    }

    async fn list_signatures(&self, states: &[StateName]) -> Result<Vec<JobSignature>, StorageError> {
        self.call("list_signatures", self.inner.list_signatures(states)).await
    }
}

#[async_trait]
impl RecurringJobStore for Faulty {
    async fn save_recurring_job(&self, job: &RecurringJob) -> Result<RecurringSave, StorageError> {
        self.call("save_recurring_job", self.inner.save_recurring_job(job)).await
    }

    async fn find_recurring_job(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError> {
        self.call("find_recurring_job", self.inner.find_recurring_job(id)).await
    }

    async fn list_recurring_jobs(
        &self,
        query: &RecurringJobQuery,
    ) -> Result<Vec<RecurringJob>, StorageError> {
        self.call("list_recurring_jobs", self.inner.list_recurring_jobs(query)).await
    }

    async fn delete_recurring_job(
        &self,
        id: &RecurringJobId,
        version: Option<Version>,
    ) -> Result<bool, StorageError> {
        self.call("delete_recurring_job", self.inner.delete_recurring_job(id, version)).await
    }
}

#[async_trait]
impl ServerStore for Faulty {
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError> {
        self.call("storage_time", self.inner.storage_time()).await
    }

    async fn announce_server(&self, server: &ServerAnnouncement) -> Result<DateTime<Utc>, StorageError> {
        if let Some(own) = &self.own_servers {
            own.lock().unwrap().push(server.id);
        }
        self.call("announce_server", self.inner.announce_server(server)).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError> {
        self.call("heartbeat", self.inner.heartbeat(heartbeat)).await
    }

    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError> {
        let mut servers = self.call("list_servers", self.inner.list_servers()).await?;
        if let Some(own) = &self.own_servers {
            let own = own.lock().unwrap();
            servers.retain(|server| own.contains(&server.announcement.id));
        }
        Ok(servers)
    }

    async fn remove_server(&self, id: ServerId) -> Result<bool, StorageError> {
        self.call("remove_server", self.inner.remove_server(id)).await
    }

    async fn remove_silent_servers(&self, before: DateTime<Utc>) -> Result<Vec<ServerId>, StorageError> {
        self.call("remove_silent_servers", self.inner.remove_silent_servers(before)).await
    }
}

#[async_trait]
impl MetadataStore for Faulty {
    async fn save_metadata(&self, metadata: &Metadata) -> Result<(), StorageError> {
        self.call("save_metadata", self.inner.save_metadata(metadata)).await
    }

    async fn find_metadata(&self, name: &str, owner: &str) -> Result<Option<Metadata>, StorageError> {
        self.call("find_metadata", self.inner.find_metadata(name, owner)).await
    }

    async fn list_metadata(&self, name: &str) -> Result<Vec<Metadata>, StorageError> {
        self.call("list_metadata", self.inner.list_metadata(name)).await
    }

    async fn delete_metadata(&self, name: &str, owner: Option<&str>) -> Result<u64, StorageError> {
        self.call("delete_metadata", self.inner.delete_metadata(name, owner)).await
    }

    async fn compare_and_set_metadata(&self, change: &CompareAndSet) -> Result<bool, StorageError> {
        self.call("compare_and_set_metadata", self.inner.compare_and_set_metadata(change)).await
    }
}

#[async_trait]
impl StorageProvider for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn set_up(&self, set_up: SetUp) -> Result<(), StorageError> {
        self.inner.set_up(set_up).await
    }

    fn changes(&self) -> Option<&dyn ChangeFeed> {
        match &self.hints {
            Hints::All => self.inner.changes(),
            Hints::None => None,
            Hints::Silent(hub) => Some(&**hub),
        }
    }

    fn awaited_jobs(&self) -> &AwaitedJobs {
        &self.awaited
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
