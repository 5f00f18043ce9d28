//! Faults in keeping recurring jobs, servers and metadata.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{
    CompareAndSet, Heartbeat, HeartbeatReport, Metadata, MetadataStore, RecurringJobQuery, RecurringJobStore,
    RecurringSave, ServerAnnouncement, ServerRecord, ServerStore, StorageError,
};
use jobrunr_core::{RecurringJobId, ServerId, Version};

use super::Faulty;
use crate::faults::Fault;

#[async_trait]
impl RecurringJobStore for Faulty {
    async fn save_recurring_job(&self, job: &RecurringJob) -> Result<RecurringSave, StorageError> {
        if self.fault == Fault::RecurringIgnoresTheVersion {
            let job = RecurringJob { version: Version::UNSAVED, ..job.clone() };
            return self.storage.save_recurring_job(&job).await;
        }
        self.storage.save_recurring_job(job).await
    }

    async fn find_recurring_job(&self, id: &RecurringJobId) -> Result<Option<RecurringJob>, StorageError> {
        self.storage.find_recurring_job(id).await
    }

    async fn list_recurring_jobs(
        &self,
        query: &RecurringJobQuery,
    ) -> Result<Vec<RecurringJob>, StorageError> {
        if self.fault == Fault::PausedIsDue && query.due_at.is_some() {
            let all = RecurringJobQuery { due_at: None, ..query.clone() };
            let mut jobs = self.storage.list_recurring_jobs(&all).await?;
            jobs.retain(|job| job.next_run_at.is_some() && job.next_run_at <= query.due_at);
            return Ok(jobs);
        }
        self.storage.list_recurring_jobs(query).await
    }

    async fn delete_recurring_job(
        &self,
        id: &RecurringJobId,
        version: Option<Version>,
    ) -> Result<bool, StorageError> {
        let version = version.filter(|_| self.fault != Fault::DeletesStaleRecurringJobs);
        self.storage.delete_recurring_job(id, version).await
    }
}

#[async_trait]
impl ServerStore for Faulty {
    async fn storage_time(&self) -> Result<DateTime<Utc>, StorageError> {
        self.storage.storage_time().await
    }

    async fn announce_server(&self, server: &ServerAnnouncement) -> Result<DateTime<Utc>, StorageError> {
        self.memories.content().announced.insert(server.id, server.clone());
        self.storage.announce_server(server).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReport, StorageError> {
        let report = self.storage.heartbeat(heartbeat).await?;
        if self.fault == Fault::HeartbeatRevives && !report.is_announced {
            let known = self.memories.content().announced.get(&heartbeat.server_id).cloned();
            if let Some(server) = known {
                self.storage.announce_server(&server).await?;
                return self.storage.heartbeat(heartbeat).await;
            }
        }
        Ok(report)
    }

    async fn list_servers(&self) -> Result<Vec<ServerRecord>, StorageError> {
        self.storage.list_servers().await
    }

    async fn remove_server(&self, id: ServerId) -> Result<bool, StorageError> {
        self.storage.remove_server(id).await
    }

    async fn remove_silent_servers(&self, before: DateTime<Utc>) -> Result<Vec<ServerId>, StorageError> {
        match self.fault {
            Fault::SilenceIncludesTheInstant => {
                self.storage.remove_silent_servers(before + TimeDelta::microseconds(1)).await
            }
            Fault::SilentServersAreReportedTwice => {
                let removed = self.storage.remove_silent_servers(before).await?;
                let mut memory = self.memories.content();
                memory.reported_silent.extend(removed);
                Ok(memory.reported_silent.clone())
            }
            _ => self.storage.remove_silent_servers(before).await,
        }
    }
}

#[async_trait]
impl MetadataStore for Faulty {
    async fn save_metadata(&self, metadata: &Metadata) -> Result<(), StorageError> {
        if self.fault == Fault::OverwritingMovesCreatedAt {
            self.storage.delete_metadata(&metadata.name, Some(&metadata.owner)).await?;
        }
        self.storage.save_metadata(metadata).await
    }

    async fn find_metadata(&self, name: &str, owner: &str) -> Result<Option<Metadata>, StorageError> {
        self.storage.find_metadata(name, owner).await
    }

    async fn list_metadata(&self, name: &str) -> Result<Vec<Metadata>, StorageError> {
        self.storage.list_metadata(name).await
    }

    async fn delete_metadata(&self, name: &str, owner: Option<&str>) -> Result<u64, StorageError> {
        self.storage.delete_metadata(name, owner).await
    }

    async fn compare_and_set_metadata(&self, change: &CompareAndSet) -> Result<bool, StorageError> {
        let there = match self.fault {
            Fault::SetsWithoutComparing => change.expected.clone(),
            Fault::ComparesAndSetsInTwoSteps => {
                let there = self.storage.find_metadata(&change.name, &change.owner).await?;
                tokio::task::yield_now().await;
                there.map(|metadata| metadata.value)
            }
            _ => return self.storage.compare_and_set_metadata(change).await,
        };
        let fits = there == change.expected;
        if fits {
            let metadata = Metadata::new(&*change.name, &*change.owner, &*change.new, change.now);
            self.storage.save_metadata(&metadata).await?;
        }
        Ok(fits)
    }
}
