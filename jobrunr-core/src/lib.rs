#![doc = include_str!("../README.md")]

pub mod clock;
mod ids;
mod job;
mod json_text;
pub mod limits;
mod names;
pub mod recurring;
mod state;
pub mod storage;

pub use ids::{JobId, ServerId, Version};
pub use job::{Job, JobDefinition, JobMetadata, JobSettings, ServerRef, StoredJob};
pub use json_text::JsonText;
pub use names::{InvalidName, JobSignature, Label, Labels, QueueName, RecurringJobId, TooManyLabels};
pub use state::{Failure, FailureKind, HistoryEntry, IllegalTransition, JobState, StateName, UnknownState};
