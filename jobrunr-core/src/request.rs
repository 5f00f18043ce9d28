//! From a request to a job: job types, the options of one job, and the builder that checks them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ids::JobId;
use crate::job::{Job, JobDefinition, JobMetadata, JobSettings};
use crate::json_text::JsonText;
use crate::names::{InvalidName, JobSignature, Label, Labels, QueueName, TooManyLabels};
use crate::state::{IllegalTransition, JobState};

/// What to do, as data: a serde value with a stable job type.
///
/// `#[derive(JobRequest)]` writes this; by hand it is four lines:
///
/// ```
/// # use jobrunr_core::JobRequest;
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct SendEmail { to: String }
///
/// impl JobRequest for SendEmail {
///     const JOB_TYPE: &'static str = "send-email";
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the request of a job",
    note = "derive `JobRequest` for a struct; of a function with `#[job]`, pass the request: `function::job(…)`"
)]
pub trait JobRequest: Serialize + DeserializeOwned + Send + 'static {
    /// The stable name of the type, at most 128 bytes. Jobs that wait are found by it: do not change it lightly.
    const JOB_TYPE: &'static str;

    /// Names that the type had before; jobs enqueued under them are run too.
    const ALIASES: &'static [&'static str] = &[];

    /// What jobs of this type are like unless their builder says otherwise.
    fn options(&self) -> JobOptions {
        JobOptions::default()
    }
}

/// What one job is like, apart from what it does. What is not set is left to the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobOptions {
    /// What people call it; default the job type. Cut at 256 bytes.
    pub name: Option<String>,
    /// What it is found by: at most 8 labels of at most 64 bytes.
    pub labels: Option<Vec<String>>,
    /// The queue it waits in; default `default`.
    pub queue: Option<String>,
    /// Jobs of a higher priority leave their queue first; default 0.
    pub priority: Option<i32>,
    /// How often it is retried; default what the server says, 10 if it says nothing.
    pub retries: Option<u32>,
    /// How long one run may take; default as long as it likes.
    pub timeout: Option<Duration>,
}

impl JobOptions {
    /// The same options with this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same options with these labels instead of any others.
    #[must_use]
    pub fn labels<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.labels = Some(labels.into_iter().map(Into::into).collect());
        self
    }

    /// The same options with this queue.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// The same options with this priority.
    #[must_use]
    pub const fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// The same options with this number of retries.
    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// The same options with this timeout for one run.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// These options where they are set, `defaults` where they are not.
    #[must_use]
    pub fn or(self, defaults: Self) -> Self {
        Self {
            name: self.name.or(defaults.name),
            labels: self.labels.or(defaults.labels),
            queue: self.queue.or(defaults.queue),
            priority: self.priority.or(defaults.priority),
            retries: self.retries.or(defaults.retries),
            timeout: self.timeout.or(defaults.timeout),
        }
    }
}

/// Why a job was refused at its creation. Nothing was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJob {
    /// A label, the queue or the job type breaks its rule.
    #[error("the job was not created")]
    Name(#[from] InvalidName),
    /// There are too many labels.
    #[error("the job was not created")]
    Labels(#[from] TooManyLabels),
    /// The request cannot be written as JSON.
    #[error("the job was not created: its request cannot be written as JSON")]
    Payload(#[source] serde_json::Error),
    /// No job can begin in the state it was given.
    #[error("the job was not created")]
    State(#[from] IllegalTransition),
}

/// When a job is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Now,
    At(DateTime<Utc>),
    After(Duration),
}

/// One job to be created: a request, and whatever should differ from the defaults of its type.
#[derive(Debug, Clone)]
pub struct JobBuilder<R> {
    request: R,
    id: Option<JobId>,
    options: JobOptions,
    start: Start,
    external: bool,
    metadata: JobMetadata,
}

impl<R: JobRequest> JobBuilder<R> {
    /// A job that runs as soon as a worker is free.
    #[must_use]
    pub fn new(request: R) -> Self {
        Self {
            request,
            id: None,
            options: JobOptions::default(),
            start: Start::Now,
            external: false,
            metadata: JobMetadata::new(),
        }
    }

    /// A job that waits in PROCESSED, after its handler has run, until it is signalled to have succeeded or failed.
    #[must_use]
    pub fn external(request: R) -> Self {
        Self { external: true, ..Self::new(request) }
    }

    /// Under this id; if a job with it exists, nothing is created. Default a new UUIDv7.
    #[must_use]
    pub const fn id(mut self, id: JobId) -> Self {
        self.id = Some(id);
        self
    }

    /// Not before this instant.
    #[must_use]
    pub const fn scheduled_at(mut self, instant: DateTime<Utc>) -> Self {
        self.start = Start::At(instant);
        self
    }

    /// Not before this much time has passed.
    #[must_use]
    pub const fn scheduled_in(mut self, delay: Duration) -> Self {
        self.start = Start::After(delay);
        self
    }

    /// Called this; cut at 256 bytes.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options = self.options.name(name);
        self
    }

    /// Found by these labels, instead of those of the job type.
    #[must_use]
    pub fn labels<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.options = self.options.labels(labels);
        self
    }

    /// In this queue.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.options = self.options.queue(queue);
        self
    }

    /// With this priority; higher ones leave their queue first.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.options = self.options.priority(priority);
        self
    }

    /// Retried so often; 0 = never.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.options = self.options.retries(retries);
        self
    }

    /// With this limit for one run.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// With this value among its metadata from the beginning.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Checks everything and makes the job out of it that is created at `now`.
    ///
    /// # Errors
    /// [`InvalidJob`] saying what breaks which rule.
    pub fn draft(self, now: DateTime<Utc>) -> Result<JobDraft, InvalidJob> {
        let payload = JsonText::of(&self.request).map_err(InvalidJob::Payload)?;
        let options = self.options.or(self.request.options());
        let labels = options.labels.unwrap_or_default();
        let labels = labels.into_iter().map(Label::try_from).collect::<Result<Vec<_>, _>>()?;

        let mut definition = JobDefinition::new(JobSignature::new(R::JOB_TYPE)?, payload);
        if let Some(name) = options.name {
            definition = definition.named(&name);
        }
        definition.labels = Labels::new(labels)?;
        definition.queue = options.queue.map(QueueName::try_from).transpose()?.unwrap_or_default();
        definition.priority = options.priority.unwrap_or_default();
        definition.settings = JobSettings {
            retries: options.retries,
            timeout: options.timeout,
            external: self.external,
            recurring_job_id: None,
        };

        let state = match self.start {
            Start::Now => JobState::enqueued(),
            Start::At(instant) => JobState::scheduled(instant),
            Start::After(delay) => {
                let delay = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
                JobState::scheduled(now.checked_add_signed(delay).unwrap_or(DateTime::<Utc>::MAX_UTC))
            }
        };
        Ok(JobDraft { id: self.id.unwrap_or_else(JobId::new), definition, state, metadata: self.metadata })
    }
}

/// A job that is about to be created; filters may still change it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDraft {
    /// The id it will have.
    pub id: JobId,
    /// What will be written once.
    pub definition: JobDefinition,
    /// The state it will begin in.
    pub state: JobState,
    /// The metadata it will have from the beginning.
    pub metadata: JobMetadata,
}

impl JobDraft {
    /// Makes the job, created at `now`.
    ///
    /// # Errors
    /// [`InvalidJob::State`] if no job can begin in the draft's state.
    pub fn into_job(self, now: DateTime<Utc>) -> Result<Job, InvalidJob> {
        let job = Job::new(self.id, self.definition, self.state, now)?;
        Ok(job.with_metadata(self.metadata))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateName;

    #[derive(Debug, Clone, Serialize, serde::Deserialize)]
    struct Greet {
        whom: String,
    }

    impl JobRequest for Greet {
        const JOB_TYPE: &'static str = "greet";

        fn options(&self) -> JobOptions {
            JobOptions::default().name(format!("Greet {}", self.whom)).labels(["polite"]).retries(3)
        }
    }

    fn greet() -> JobBuilder<Greet> {
        JobBuilder::new(Greet { whom: "Ada".into() })
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_000, 0).unwrap()
    }

    #[test]
    fn what_the_builder_says_wins_over_what_the_type_says() {
        let draft = greet().name("Hello").retries(0).draft(now()).unwrap();

        assert_eq!(draft.definition.name, "Hello");
        assert_eq!(draft.definition.settings.retries, Some(0));
        assert!(draft.definition.labels.contains("polite"));
        assert_eq!(draft.definition.payload.as_str(), r#"{"whom":"Ada"}"#);
    }

    #[test]
    fn a_delay_counts_from_the_creation() {
        let draft = greet().scheduled_in(Duration::from_secs(30)).draft(now()).unwrap();

        assert_eq!(draft.state, JobState::scheduled(now() + TimeDelta::seconds(30)));
        assert_eq!(draft.into_job(now()).unwrap().state_name(), StateName::Scheduled);
    }

    #[test]
    fn a_delay_without_end_is_the_end_of_time_and_no_overflow() {
        let draft = greet().scheduled_in(Duration::MAX).draft(now()).unwrap();

        assert_eq!(draft.state, JobState::scheduled(DateTime::<Utc>::MAX_UTC));
    }

    #[test]
    fn a_label_over_the_limit_refuses_the_job() {
        let refused = greet().labels(["x".repeat(65)]).draft(now());

        assert!(matches!(refused, Err(InvalidJob::Name(_))));
    }

    #[test]
    fn a_hostile_queue_refuses_the_job() {
        let refused = greet().queue("q'; drop table jobs").draft(now());

        assert!(matches!(refused, Err(InvalidJob::Name(_))));
    }
}
