//! How far a run has come: a bar that its handler moves and anybody can read.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::JobContext;
use crate::job::Job;

pub(super) const NAME: &str = "jobrunr-progress";

/// How far a run of a job has come, as far as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// How much is done; at most `total`.
    pub done: u64,
    /// How much there is to do.
    pub total: u64,
    /// When it was moved last.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub updated_at: DateTime<Utc>,
}

impl JobProgress {
    /// The progress in the metadata of a job, which must have been found, not listed: lists carry no metadata.
    ///
    /// `None` if no run had a bar. Of several runs the last one that had one counts.
    #[must_use]
    pub fn of(job: &Job) -> Option<Self> {
        Self::deserialize(job.metadata().get(NAME)?).ok()
    }

    /// How much is done, in percent, rounded down; 100 if there is nothing to do.
    #[must_use]
    pub fn percent(&self) -> u8 {
        let Self { done, total, .. } = *self;
        let percent = (u128::from(done.min(total)) * 100).checked_div(u128::from(total)).unwrap_or(100);
        u8::try_from(percent).unwrap_or(100)
    }
}

/// Moves the progress that is shown with a job. Cloning is cheap; all bars of a run move the same progress.
///
/// It is stored within a second and before the end of the run is, many moves in one write. Moving it never fails.
#[derive(Debug, Clone)]
pub struct ProgressBar(JobContext);

impl ProgressBar {
    pub(super) fn start(context: &JobContext, total: u64) -> Self {
        let bar = Self(context.clone());
        bar.change(|_| (0, total));
        bar
    }

    /// Notes that one more is done.
    pub fn increment(&self) {
        self.advance(1);
    }

    /// Notes that so many more are done.
    pub fn advance(&self, count: u64) {
        self.change(|JobProgress { done, total, .. }| (done.saturating_add(count), total));
    }

    /// Notes how many are done by now.
    pub fn set(&self, done: u64) {
        self.change(|JobProgress { total, .. }| (done, total));
    }

    fn change(&self, change: impl FnOnce(JobProgress) -> (u64, u64)) {
        let updated_at = self.0.run().scheduler.estimated_now();
        self.0.notebook().note(|pages| {
            let before = pages.progress.unwrap_or(JobProgress { done: 0, total: 0, updated_at });
            let (done, total) = change(before);
            pages.progress = Some(JobProgress { done: done.min(total), total, updated_at });
            pages.has_moved = true;
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_whole_and_reach_a_hundred_only_at_the_end() {
        let percent = |done, total| JobProgress { done, total, updated_at: DateTime::UNIX_EPOCH }.percent();

        assert_eq!(percent(0, 3), 0);
        assert_eq!(percent(2, 3), 66);
        assert_eq!(percent(u64::MAX - 1, u64::MAX), 99);
        assert_eq!(percent(3, 3), 100);
        assert_eq!(percent(0, 0), 100);
    }
}
