//! Filters and retry policies for some job types only.

use std::fmt;

use async_trait::async_trait;

use crate::filters::{JobFilter, StateElection};
use crate::job::Job;
use crate::names::JobSignature;
use crate::request::{JobDraft, JobRequest};
use crate::retry::{FailedRun, RetryDecision, RetryPolicy};
use crate::state::{Failure, HistoryEntry};

/// A [filter](JobFilter) or a [retry policy](RetryPolicy) that is asked about jobs of one type only.
///
/// It takes its turn among the others, those for all jobs included, in the order they were added in.
///
/// ```
/// # use std::time::Duration;
/// use jobrunr_core::OnJobType;
/// use jobrunr_core::retry::{FixedDelays, Retries};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct SendEmail;
/// # impl jobrunr_core::JobRequest for SendEmail { const JOB_TYPE: &'static str = "send-email"; }
///
/// let every_minute = FixedDelays::new([Duration::from_secs(60)]);
/// let retries = Retries::default()
///     .policy(OnJobType::of::<SendEmail>(every_minute.clone()))
///     .policy(OnJobType::named(["resize", "crop"], every_minute));
/// # let _ = retries;
/// ```
#[derive(Clone)]
pub struct OnJobType<T> {
    names: Vec<String>,
    inner: T,
}

impl<T> OnJobType<T> {
    /// For jobs of type `R`, under its present name and all former ones.
    #[must_use]
    pub fn of<R: JobRequest>(inner: T) -> Self {
        Self::named([R::JOB_TYPE].iter().chain(R::ALIASES).copied(), inner)
    }

    /// For jobs of the types of these names.
    #[must_use]
    pub fn named<N: Into<String>>(names: impl IntoIterator<Item = N>, inner: T) -> Self {
        Self { names: names.into_iter().map(Into::into).collect(), inner }
    }

    fn concerns(&self, signature: &JobSignature) -> bool {
        self.names.iter().any(|name| signature.as_str() == name)
    }
}

impl<T> fmt::Debug for OnJobType<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnJobType").field("names", &self.names).finish_non_exhaustive()
    }
}

#[async_trait]
impl<T: JobFilter> JobFilter for OnJobType<T> {
    fn on_creating(&self, draft: &mut JobDraft) {
        if self.concerns(&draft.definition.signature) {
            self.inner.on_creating(draft);
        }
    }

    async fn on_created(&self, job: &Job) {
        if self.concerns(job.signature()) {
            self.inner.on_created(job).await;
        }
    }

    fn elect_state(&self, election: &mut StateElection<'_>) {
        if self.concerns(election.job().signature()) {
            self.inner.elect_state(election);
        }
    }

    async fn on_state_applied(&self, job: &Job, entry: &HistoryEntry) {
        if self.concerns(job.signature()) {
            self.inner.on_state_applied(job, entry).await;
        }
    }

    async fn on_processing(&self, job: &Job) {
        if self.concerns(job.signature()) {
            self.inner.on_processing(job).await;
        }
    }

    async fn on_succeeded(&self, job: &Job) {
        if self.concerns(job.signature()) {
            self.inner.on_succeeded(job).await;
        }
    }

    async fn on_failed(&self, job: &Job, failure: &Failure) {
        if self.concerns(job.signature()) {
            self.inner.on_failed(job, failure).await;
        }
    }

    async fn on_failed_after_retries(&self, job: &Job, failure: &Failure) {
        if self.concerns(job.signature()) {
            self.inner.on_failed_after_retries(job, failure).await;
        }
    }
}

impl<T: RetryPolicy> RetryPolicy for OnJobType<T> {
    fn decide(&self, failed: &FailedRun<'_>) -> Option<RetryDecision> {
        if self.concerns(failed.job.signature()) { self.inner.decide(failed) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;
    use crate::handler::Wish;
    use crate::retry::{FixedDelays, Retries};
    use crate::state::{FailureKind, JobState};
    use crate::{JobDefinition, JobId, JsonText};

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Mail;

    impl JobRequest for Mail {
        const JOB_TYPE: &'static str = "mail";
        const ALIASES: &'static [&'static str] = &["post"];
    }

    fn decision(retries: &Retries, job_type: &str) -> RetryDecision {
        let definition = JobDefinition::new(job_type.parse().unwrap(), JsonText::of(&()).unwrap());
        let job = Job::new(JobId::new(), definition, JobState::enqueued(), DateTime::UNIX_EPOCH).unwrap();
        let failure = Failure::new(FailureKind::Error, "no");
        retries.decide(&FailedRun { job: &job, failure: &failure, failures: 1 }, Wish::Retry)
    }

    #[test]
    fn a_policy_decides_about_its_type_under_all_its_names_and_leaves_others_to_the_next() {
        let delay = |seconds| FixedDelays::new([Duration::from_secs(seconds)]);
        let retries = Retries::default()
            .policy(OnJobType::of::<Mail>(delay(1)))
            .policy(OnJobType::named(["mail", "fax"], delay(2)))
            .policy(delay(3));
        let expected = [("mail", 1), ("post", 1), ("fax", 2), ("mails", 3)];

        for (job_type, seconds) in expected {
            let expected = RetryDecision::RetryIn(Duration::from_secs(seconds));
            assert_eq!(decision(&retries, job_type), expected, "{job_type}");
        }
    }
}
