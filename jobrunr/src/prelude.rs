//! What most programs need: `use jobrunr::prelude::*;`.

pub use std::sync::Arc;
pub use std::time::Duration;

pub use async_trait::async_trait;
pub use chrono::{DateTime, TimeDelta, Utc};
pub use serde::{Deserialize, Serialize};

pub use jobrunr_core::StateName::{
    self, Awaiting, Deleted, Enqueued, Failed, Processed, Processing, Scheduled, Succeeded,
};
pub use jobrunr_core::filters::JobFilter;
pub use jobrunr_core::schedule::Cron;
pub use jobrunr_core::storage::{
    JobQuery, JobSearch, JobStore, MetadataStore, RecurringJobStore, ServerStore, StorageError, StorageExt,
    StorageProvider,
};
pub use jobrunr_core::{
    BackgroundJob, HistoryEntry, Inject, Job, JobBuilder, JobContext, JobError, JobFunction, JobHandler,
    JobId, JobRequest, JobResult, JobScheduler, JobState, QueueName, SchedulerError,
};

#[cfg(feature = "macros")]
pub use jobrunr_macros::{JobRequest, job, recurring};

#[cfg(feature = "server")]
pub use jobrunr_server::BackgroundJobServer;
