//! Whether and when a failed job is tried again.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::handler::Wish;
use crate::job::Job;
use crate::limits::DEFAULT_RETRIES;
use crate::state::{Failure, JobState};

/// Decides about failed runs. The first policy that has an answer decides.
pub trait RetryPolicy: Send + Sync + fmt::Debug {
    /// What is to become of this run's job; `None` leaves it to the next policy.
    ///
    /// Not asked where the handler said `do_not_retry` or `retry_in`, nor once the job's retries are used up.
    fn decide(&self, failed: &FailedRun<'_>) -> Option<RetryDecision>;
}

/// A run that failed.
#[derive(Debug, Clone, Copy)]
pub struct FailedRun<'a> {
    /// The job, as it was while it ran.
    pub job: &'a Job,
    /// Why it failed.
    pub failure: &'a Failure,
    /// How often it has failed by now, counting this run: 1 after the first.
    pub failures: u32,
}

/// What is to become of a job that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// It is tried again after this much time.
    RetryIn(Duration),
    /// It stays FAILED.
    GiveUp,
}

/// Waits longer after each failure: before retry n, `base`ⁿ seconds, give or take the jitter, up to a cap.
///
/// With the default base of 3 that is 3 s, 9 s, 27 s, 81 s, … 59 049 s before the tenth.
///
/// ```
/// # use std::time::Duration;
/// # use jobrunr_core::retry::ExponentialBackOff;
/// let back_off = ExponentialBackOff::default();
/// assert_eq!(back_off.delay_before(3), Duration::from_secs(27));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExponentialBackOff {
    base: f64,
    cap: Duration,
    jitter_percent: u8,
}

impl Default for ExponentialBackOff {
    fn default() -> Self {
        Self { base: 3.0, cap: Duration::from_secs(24 * 60 * 60), jitter_percent: 10 }
    }
}

impl ExponentialBackOff {
    /// With this base instead of 3; at least 1, anything else counts as 1.
    #[must_use]
    pub fn base(mut self, base: f64) -> Self {
        self.base = if base.is_finite() { base.max(1.0) } else { 1.0 };
        self
    }

    /// With this longest delay instead of 24 h.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Spread by this much both ways instead of 10 %; at most 100.
    #[must_use]
    pub fn jitter_percent(mut self, percent: u8) -> Self {
        self.jitter_percent = percent.min(100);
        self
    }

    /// The delay before retry number `retry`, counting from 1, without jitter.
    #[must_use]
    pub fn delay_before(&self, retry: u32) -> Duration {
        let seconds = self.base.powf(f64::from(retry));
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).min(self.cap)
    }
}

impl RetryPolicy for ExponentialBackOff {
    fn decide(&self, failed: &FailedRun<'_>) -> Option<RetryDecision> {
        let delay = self.delay_before(failed.failures);
        // Seeded by job and run, so that a decision can be repeated while jobs that failed together still spread.
        let (high, low) = failed.job.id().as_uuid().as_u64_pair();
        let mut random = fastrand::Rng::with_seed(high ^ low.rotate_left(32) ^ u64::from(failed.failures));
        let spread = f64::from(self.jitter_percent) / 100.0;
        let factor = 1.0 + spread * (2.0 * random.f64() - 1.0);
        Some(RetryDecision::RetryIn(delay.mul_f64(factor)))
    }
}

/// Waits as a list says: its nth entry before retry n, its last one before every later retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedDelays(Vec<Duration>);

impl FixedDelays {
    /// With these delays; none at all means to retry at once.
    #[must_use]
    pub fn new(delays: impl IntoIterator<Item = Duration>) -> Self {
        Self(delays.into_iter().collect())
    }
}

impl RetryPolicy for FixedDelays {
    fn decide(&self, failed: &FailedRun<'_>) -> Option<RetryDecision> {
        let index = usize::try_from(failed.failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let delay = self.0.get(index).or(self.0.last()).copied().unwrap_or_default();
        Some(RetryDecision::RetryIn(delay))
    }
}

/// Asks another policy, but only about failures that fit.
pub struct OnFailure<F, P> {
    fits: F,
    policy: P,
}

impl<F, P> OnFailure<F, P>
where
    F: Fn(&Failure) -> bool + Send + Sync,
    P: RetryPolicy,
{
    /// Leaves failures to `policy` for which `fits` is true, and all others to the next policy.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use jobrunr_core::{FailureKind, retry::{FixedDelays, OnFailure}};
    /// let at_once = FixedDelays::new([Duration::ZERO]);
    /// let policy = OnFailure::new(|failure| failure.kind == FailureKind::TimedOut, at_once);
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub const fn new(fits: F, policy: P) -> Self {
        Self { fits, policy }
    }
}

impl<F, P: fmt::Debug> fmt::Debug for OnFailure<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnFailure").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<F, P> RetryPolicy for OnFailure<F, P>
where
    F: Fn(&Failure) -> bool + Send + Sync,
    P: RetryPolicy,
{
    fn decide(&self, failed: &FailedRun<'_>) -> Option<RetryDecision> {
        if (self.fits)(failed.failure) { self.policy.decide(failed) } else { None }
    }
}

/// Never retries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NeverRetry;

impl RetryPolicy for NeverRetry {
    fn decide(&self, _: &FailedRun<'_>) -> Option<RetryDecision> {
        Some(RetryDecision::GiveUp)
    }
}

/// How a server retries: how often, and by which policies in which order.
#[derive(Debug, Clone)]
pub struct Retries {
    default_retries: u32,
    policies: Vec<Arc<dyn RetryPolicy>>,
    last: ExponentialBackOff,
}

impl Default for Retries {
    fn default() -> Self {
        Self { default_retries: DEFAULT_RETRIES, policies: Vec::new(), last: ExponentialBackOff::default() }
    }
}

impl Retries {
    /// With this number of retries for jobs that say nothing themselves, instead of 10.
    #[must_use]
    pub const fn default_retries(mut self, retries: u32) -> Self {
        self.default_retries = retries;
        self
    }

    /// With this policy after those added before; exponential back-off comes after all of them.
    #[must_use]
    pub fn policy(mut self, policy: impl RetryPolicy + 'static) -> Self {
        self.policies.push(Arc::new(policy));
        self
    }

    /// How often this job is retried.
    #[must_use]
    pub fn retries_of(&self, job: &Job) -> u32 {
        job.definition().settings.retries.unwrap_or(self.default_retries)
    }

    /// What is to become of a run's job, of which its handler wishes this.
    #[must_use]
    pub fn decide(&self, failed: &FailedRun<'_>, wish: Wish) -> RetryDecision {
        if failed.failure.do_not_retry || failed.failures > self.retries_of(failed.job) {
            return RetryDecision::GiveUp;
        }
        if let Wish::RetryIn(delay) = wish {
            return RetryDecision::RetryIn(delay);
        }
        let mut decisions = self.policies.iter().filter_map(|policy| policy.decide(failed));
        decisions.next().or_else(|| self.last.decide(failed)).unwrap_or(RetryDecision::GiveUp)
    }

    /// How long to wait before the job is tried again, and as which retry; `None` = it stays FAILED.
    ///
    /// A policy that panics is passed over: the job backs off exponentially then.
    #[must_use]
    pub fn next_retry(&self, job: &Job, failure: &Failure, wish: Wish) -> Option<(Duration, String)> {
        let failed = FailedRun { job, failure, failures: job.failures().saturating_add(1) };
        let decision = std::panic::catch_unwind(AssertUnwindSafe(|| self.decide(&failed, wish)));
        let decision = decision.unwrap_or_else(|_| {
            tracing::error!(job.id = %job.id(), "a retry policy panicked, so the job backs off exponentially");
            self.last.decide(&failed).unwrap_or(RetryDecision::GiveUp)
        });
        let RetryDecision::RetryIn(delay) = decision else { return None };
        Some((delay, format!("retry {} of {}", failed.failures, self.retries_of(job))))
    }

    /// The states that a job enters whose run failed like this: FAILED, and SCHEDULED if it is to be tried again.
    #[must_use]
    pub fn states_after_failure(
        &self,
        job: &Job,
        failure: Failure,
        wish: Wish,
        now: DateTime<Utc>,
    ) -> Vec<JobState> {
        let retry = self.next_retry(job, &failure, wish);
        let mut states = vec![JobState::failed(failure)];
        if let Some((delay, reason)) = retry {
            states.push(JobState::scheduled_in(delay, reason, now));
        }
        states
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::state::FailureKind;
    use crate::{JobDefinition, JobId, JobState, JsonText};

    fn job() -> Job {
        let definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
        Job::new(JobId::new(), definition, JobState::enqueued(), DateTime::UNIX_EPOCH).unwrap()
    }

    fn decide(retries: &Retries, failure: &Failure, failures: u32) -> RetryDecision {
        decide_wishing(retries, failure, failures, Wish::Retry)
    }

    fn decide_wishing(retries: &Retries, failure: &Failure, failures: u32, wish: Wish) -> RetryDecision {
        retries.decide(&FailedRun { job: &job(), failure, failures }, wish)
    }

    #[test]
    fn the_delays_are_the_powers_of_three() {
        let delays: Vec<u64> =
            (1..=10).map(|n| ExponentialBackOff::default().delay_before(n).as_secs()).collect();

        assert_eq!(delays, [3, 9, 27, 81, 243, 729, 2_187, 6_561, 19_683, 59_049]);
    }

    #[test]
    fn a_delay_is_capped_and_never_overflows() {
        assert_eq!(ExponentialBackOff::default().delay_before(u32::MAX), Duration::from_secs(86_400));
    }

    #[test]
    fn jobs_that_fail_together_come_back_spread_by_a_tenth() {
        let failure = Failure::new(FailureKind::Error, "no");
        let delays: Vec<f64> = (0..200)
            .map(|_| match decide(&Retries::default(), &failure, 3) {
                RetryDecision::RetryIn(delay) => delay.as_secs_f64(),
                RetryDecision::GiveUp => panic!("retries are left"),
            })
            .collect();

        assert!(delays.iter().all(|delay| (24.3..=29.7).contains(delay)));
        assert!(delays.iter().any(|delay| *delay < 26.0) && delays.iter().any(|delay| *delay > 28.0));
    }

    #[test]
    fn ten_retries_and_no_more() {
        let failure = Failure::new(FailureKind::Error, "no");

        assert!(matches!(decide(&Retries::default(), &failure, 10), RetryDecision::RetryIn(_)));
        assert_eq!(decide(&Retries::default(), &failure, 11), RetryDecision::GiveUp);
    }

    #[test]
    fn the_handler_has_the_last_word() {
        let failure = Failure::new(FailureKind::Error, "no").do_not_retry();

        assert_eq!(decide(&Retries::default(), &failure, 1), RetryDecision::GiveUp);
    }

    #[test]
    fn a_handler_that_says_when_to_retry_is_heard_before_every_policy_while_retries_are_left() {
        let retries = Retries::default().policy(NeverRetry);
        let failure = Failure::new(FailureKind::Error, "busy");
        let wish = Wish::RetryIn(Duration::from_secs(60));

        let wished = RetryDecision::RetryIn(Duration::from_secs(60));
        assert_eq!(decide_wishing(&retries, &failure, 10, wish), wished);
        assert_eq!(decide_wishing(&retries, &failure, 11, wish), RetryDecision::GiveUp);
    }

    #[test]
    fn the_first_policy_with_an_answer_decides() {
        let at_once = OnFailure::new(|failure| failure.kind == FailureKind::TimedOut, FixedDelays::new([]));
        let retries = Retries::default().policy(at_once).policy(NeverRetry);

        let timed_out = Failure::new(FailureKind::TimedOut, "slow");
        assert_eq!(decide(&retries, &timed_out, 1), RetryDecision::RetryIn(Duration::ZERO));
        let other = Failure::new(FailureKind::Error, "no");
        assert_eq!(decide(&retries, &other, 1), RetryDecision::GiveUp);
    }

    #[test]
    fn the_last_fixed_delay_is_repeated() {
        let seconds = |n| Duration::from_secs(n);
        let retries = Retries::default().policy(FixedDelays::new([seconds(1), seconds(5)]));
        let failure = Failure::new(FailureKind::Error, "no");

        let delays: Vec<_> = (1..=3).map(|n| decide(&retries, &failure, n)).collect();

        assert_eq!(delays, [1, 5, 5].map(|n| RetryDecision::RetryIn(seconds(n))));
    }
}
