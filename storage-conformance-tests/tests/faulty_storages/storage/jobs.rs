//! Faults in keeping and handing out jobs.

use std::cmp::Reverse;
use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use jobrunr_core::storage::{
    ClaimRequest, DueReport, InsertReport, JobQuery, JobSearch, JobSelection, JobStore, SaveReport,
    SignatureSelection, StorageError,
};
use jobrunr_core::{HistoryEntry, Job, JobId, JobMetadata, JsonText, Labels, StateName};

use super::Faulty;
use crate::faults::Fault;
use crate::tools::{at_version, one_step_back, overwrite, redefined, with_rounded_times};

/// More than any scenario stores.
const ALL: usize = 1_000_000;

#[async_trait]
impl JobStore for Faulty {
    async fn insert_jobs(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        match self.fault {
            Fault::DropsALabel => {
                let dropped = |job: &Job| {
                    redefined(job, |definition| {
                        let kept = definition.labels.iter().skip(1).cloned();
                        definition.labels = Labels::new(kept).expect("they are fewer");
                    })
                };
                self.storage.insert_jobs(&jobs.iter().map(dropped).collect::<Vec<_>>()).await
            }
            Fault::TidiesPayloads => {
                let tidied = |job: &Job| {
                    let value: serde_json::Value = job.payload().decode().expect("a payload is JSON");
                    let payload = JsonText::of(&value).expect("a value is JSON");
                    redefined(job, |definition| definition.payload = payload)
                };
                self.storage.insert_jobs(&jobs.iter().map(tidied).collect::<Vec<_>>()).await
            }
            Fault::RoundsTimes => {
                self.storage.insert_jobs(&jobs.iter().map(with_rounded_times).collect::<Vec<_>>()).await
            }
            Fault::InsertOverwrites => {
                let report = self.storage.insert_jobs(jobs).await?;
                for job in jobs.iter().filter(|job| report.already_present.contains(&job.id())) {
                    overwrite(&self.storage, job).await?;
                }
                Ok(report)
            }
            Fault::InsertsBeforeCheckingSizes => {
                let mut report = InsertReport::default();
                for chunk in jobs.chunks(500) {
                    report.already_present.extend(self.storage.insert_jobs(chunk).await?.already_present);
                }
                Ok(report)
            }
            _ => self.storage.insert_jobs(jobs).await,
        }
    }

    async fn save_jobs(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        match self.fault {
            Fault::IgnoresTheVersion => self.save_whatever_the_version(jobs).await,
            Fault::RevivesPurgedJobs => {
                let mut report = self.storage.save_jobs(jobs).await?;
                for job in jobs {
                    if self.storage.find_job(job.id()).await?.is_none() {
                        overwrite(&self.storage, job).await?;
                        report.conflicts.retain(|id| *id != job.id());
                    }
                }
                Ok(report)
            }
            Fault::NamesLosersInAnotherOrder => {
                let mut report = self.storage.save_jobs(jobs).await?;
                report.conflicts.sort();
                Ok(report)
            }
            Fault::LetsTheSecondMentionWin => {
                let mut latest: Vec<Job> = Vec::new();
                for job in jobs {
                    latest.retain(|one| one.id() != job.id());
                    latest.push(job.clone());
                }
                self.storage.save_jobs(&latest).await
            }
            Fault::RewritesHistory => self.save_then_overwrite(jobs, <[HistoryEntry]>::to_vec).await,
            Fault::ShortensHistory => {
                let shortened =
                    |history: &[HistoryEntry]| history[history.len().saturating_sub(200)..].to_vec();
                self.save_then_overwrite(jobs, shortened).await
            }
            Fault::SavesInTwoSteps => self.save_in_two_steps(jobs).await,
            _ => self.storage.save_jobs(jobs).await,
        }
    }

    async fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        match self.fault {
            Fault::ClaimsTwice => {
                let claimed = self.storage.claim_jobs(request).await?;
                let mut memory = self.memories.content();
                if claimed.is_empty() && request.limit > 0 {
                    return Ok(memory.last_claim.clone());
                }
                memory.last_claim.clone_from(&claimed);
                Ok(claimed)
            }
            Fault::ForgetsTheClaimLimit if request.limit > 0 => {
                self.storage.claim_jobs(&ClaimRequest { limit: ALL, ..request.clone() }).await
            }
            Fault::ClaimsUnwantedTypes => {
                let any_type = SignatureSelection::All;
                self.storage.claim_jobs(&ClaimRequest { signatures: any_type, ..request.clone() }).await
            }
            Fault::IgnoresPriorities => self.claim_by(request, |job| (job.enqueued_at(), job.id())).await,
            Fault::ClaimsTypeByType => {
                let line = |job: &Job| {
                    (job.signature().clone(), Reverse(job.priority()), job.enqueued_at(), job.id())
                };
                self.claim_by(request, line).await
            }
            Fault::SendsGivenBackJobsToTheEnd => {
                self.claim_by(request, |job| {
                    (Reverse(job.priority()), one_step_back(job).updated_at(), job.id())
                })
                .await
            }
            Fault::DatesClaimsBack => {
                let mut claimed = self.storage.claim_jobs(request).await?;
                for job in &mut claimed {
                    let mut history = job.history().to_vec();
                    history.last_mut().expect("a job has a history").at = request.now;
                    *job = at_version(job, job.version(), &history);
                    overwrite(&self.storage, job).await?;
                }
                Ok(claimed)
            }
            Fault::ClaimsInTwoSteps => {
                let query = JobQuery::in_state(StateName::Enqueued).limit(request.limit);
                let mut ready = self.storage.list_jobs(&query).await?;
                tokio::task::yield_now().await;
                for job in &mut ready {
                    job.start_processing(&request.server, request.now).expect("it is ENQUEUED");
                    *job = at_version(job, job.version().next(), job.history());
                    overwrite(&self.storage, job).await?;
                }
                Ok(ready)
            }
            Fault::Hangs => std::future::pending().await,
            _ => self.storage.claim_jobs(request).await,
        }
    }

    async fn enqueue_due_jobs(&self, now: DateTime<Utc>, limit: usize) -> Result<DueReport, StorageError> {
        match self.fault {
            Fault::ReleasesEarly => {
                self.storage.enqueue_due_jobs(now + TimeDelta::microseconds(1), limit).await
            }
            Fault::ReleasesBeyondTheLimit => {
                self.storage.enqueue_due_jobs(now, limit.saturating_add(1)).await
            }
            Fault::ForgetsTheNextDueTime => {
                let report = self.storage.enqueue_due_jobs(now, limit).await?;
                let next_due_at = if report.released.is_empty() { None } else { report.next_due_at };
                Ok(DueReport { next_due_at, ..report })
            }
            _ => self.storage.enqueue_due_jobs(now, limit).await,
        }
    }

    async fn find_job(&self, id: JobId) -> Result<Option<Job>, StorageError> {
        self.storage.find_job(id).await
    }

    async fn delete_jobs(&self, selection: &JobSelection) -> Result<u64, StorageError> {
        let mut selection = selection.clone();
        if let JobSelection::Aged { limit, updated_before, .. } = &mut selection {
            match self.fault {
                Fault::PurgesBeyondTheLimit => *limit = ALL,
                Fault::PurgeIncludesTheInstant => *updated_before += TimeDelta::microseconds(1),
                _ => {}
            }
        }
        self.storage.delete_jobs(&selection).await
    }

    async fn save_job_metadata(&self, id: JobId, entries: &JobMetadata) -> Result<bool, StorageError> {
        let is_there = self.storage.save_job_metadata(id, entries).await?;
        if self.fault == Fault::MetadataTakesAVersion
            && let Some(job) = self.storage.find_job(id).await?
        {
            overwrite(&self.storage, &at_version(&job, job.version().next(), job.history())).await?;
        }
        Ok(is_there)
    }
}

impl Faulty {
    async fn save_whatever_the_version(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        for job in jobs {
            if let Some(there) = self.storage.find_job(job.id()).await? {
                overwrite(&self.storage, &at_version(job, there.version().next(), job.history())).await?;
            }
        }
        Ok(SaveReport::default())
    }

    /// Saves as it should, then writes the histories over what is stored.
    async fn save_then_overwrite(
        &self,
        jobs: &[Job],
        history: impl Fn(&[HistoryEntry]) -> Vec<HistoryEntry> + Send + Sync,
    ) -> Result<SaveReport, StorageError> {
        let report = self.storage.save_jobs(jobs).await?;
        let lost: HashSet<JobId> = report.conflicts.iter().copied().collect();
        for job in jobs.iter().filter(|job| !lost.contains(&job.id())) {
            overwrite(&self.storage, &at_version(job, job.version().next(), &history(job.history()))).await?;
        }
        Ok(report)
    }

    /// Looks at the versions, waits a little, then writes the version and, a little later, the history.
    async fn save_in_two_steps(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        let mut report = SaveReport::default();
        for job in jobs {
            let there = self.storage.find_job(job.id()).await?;
            let Some(there) = there.filter(|there| there.version() == job.version()) else {
                report.conflicts.push(job.id());
                continue;
            };
            tokio::task::yield_now().await;
            overwrite(&self.storage, &at_version(&there, there.version().next(), there.history())).await?;
            tokio::task::yield_now().await;
            overwrite(&self.storage, &at_version(&there, there.version().next(), job.history())).await?;
        }
        Ok(report)
    }

    /// Claims what is first by another order than the contract's.
    async fn claim_by<K: Ord>(
        &self,
        request: &ClaimRequest,
        key: impl Fn(&Job) -> K + Send + Sync,
    ) -> Result<Vec<Job>, StorageError> {
        let mut claimed = self.storage.claim_jobs(&ClaimRequest { limit: ALL, ..request.clone() }).await?;
        claimed.sort_by_key(|job| key(job));
        let given_up = claimed.split_off(request.limit.min(claimed.len()));
        for job in &given_up {
            overwrite(&self.storage, &one_step_back(job)).await?;
        }
        Ok(claimed)
    }
}
