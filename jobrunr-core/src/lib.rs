#![doc = include_str!("../README.md")]

#[doc(hidden)]
pub mod __private;
mod background_job;
pub mod clock;
mod context;
pub mod filters;
pub mod handler;
mod ids;
mod job;
mod json_text;
pub mod limits;
pub mod memory;
#[cfg(feature = "metrics")]
pub mod metrics;
mod names;
mod on_job_type;
pub mod problems;
pub mod recurring;
mod request;
pub mod results;
pub mod retry;
pub mod schedule;
mod scheduler;
mod state;
pub mod storage;
pub mod trace;

pub use background_job::{AlreadyInitialised, BackgroundJob};
pub use context::{
    JobContext, JobLog, JobLogLine, JobLogger, JobProgress, JobRun, LogLevel, MetadataError, ProgressBar,
    RunLease, UnlimitedLease,
};
pub use handler::{Inject, JobError, JobFunction, JobHandler, JobResult};
pub use ids::{JobId, ServerId, Version};
pub use job::{Job, JobDefinition, JobMetadata, JobSettings, ServerRef, StoredJob};
pub use json_text::JsonText;
pub use memory::{MemoryStorage, MemoryStorageOptions};
pub use names::{InvalidName, JobSignature, Label, Labels, QueueName, RecurringJobId, TooManyLabels};
pub use on_job_type::OnJobType;
pub use request::{InvalidJob, JobBuilder, JobDraft, JobOptions, JobRequest};
pub use results::UnfitResult;
pub use scheduler::{AwaitError, JobScheduler, SchedulerError, Signal, SignalError};
pub use state::{Failure, FailureKind, HistoryEntry, IllegalTransition, JobState, StateName, UnknownState};
