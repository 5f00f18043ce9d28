//! What ran, and how it ended.

use std::fmt;
use std::ops::Index;

use chrono::{DateTime, Utc};
use jobrunr_core::{
    Failure, HistoryEntry, Job, JobId, JobRequest, JobSignature, JobState, JsonText, StateName,
};
use serde::de::DeserializeOwned;

/// One run of a job, and what came of it.
#[derive(Debug, Clone)]
pub struct Run {
    job: Job,
    attempt: u32,
    /// How many entries the history had when the job was claimed, that of the claim included.
    claimed_entries: usize,
}

impl Run {
    /// A run of the job as it was claimed, and as it was found afterwards.
    pub(super) fn new(claimed: Job, after: Option<Job>) -> Self {
        let (attempt, claimed_entries) = (claimed.failures().saturating_add(1), claimed.history().len());
        Self { job: after.unwrap_or(claimed), attempt, claimed_entries }
    }

    /// The job as it was stored right after the run; as it was claimed if it is gone.
    #[must_use]
    pub const fn job(&self) -> &Job {
        &self.job
    }

    /// The id of the job.
    #[must_use]
    pub const fn id(&self) -> JobId {
        self.job.id()
    }

    /// The type of the job.
    #[must_use]
    pub fn signature(&self) -> &JobSignature {
        self.job.signature()
    }

    /// Which attempt it was, counting from 1 since the job was made or last requeued.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When it began, by the clock of the kit.
    #[must_use]
    pub fn started_at(&self) -> DateTime<Utc> {
        self.job.history()[self.claimed_entries - 1].at
    }

    /// The states that the job entered because of it: one or, if it failed and is retried, two.
    #[must_use]
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.job.history()[self.claimed_entries..]
    }

    /// The state that the job was in afterwards: SUCCEEDED, or SCHEDULED for a retry, or whatever else it came to.
    #[must_use]
    pub fn state(&self) -> StateName {
        self.job.state_name()
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.entries().iter().find_map(|entry| match &entry.state {
            JobState::Failed(failure) => Some(failure.as_ref()),
            _ => None,
        })
    }

    /// The request of the job.
    ///
    /// # Panics
    /// If the job is of another type.
    #[must_use]
    #[track_caller]
    pub fn request<R: JobRequest>(&self) -> R {
        assert!(is_of::<R>(self.signature()), "a job of type `{}` is no `{}`", self.signature(), R::JOB_TYPE);
        match self.job.payload().decode() {
            Ok(request) => request,
            Err(error) => panic!("the payload of a `{}` does not fit its type: {error}", self.signature()),
        }
    }

    /// What the handler returned; `()` if that was nothing.
    ///
    /// # Panics
    /// If the run did not succeed, or its result is of another type.
    #[must_use]
    #[track_caller]
    pub fn result<T: DeserializeOwned>(&self) -> T {
        let JobState::Succeeded { result, .. } = self.job.state() else {
            panic!("there is no result: {self}");
        };
        match serde_json::from_str(result.as_ref().map_or("null", JsonText::as_str)) {
            Ok(result) => result,
            Err(error) => panic!("the result is no `{}` ({error}): {self}", std::any::type_name::<T>()),
        }
    }
}

/// One line: what ran, which attempt, and what came of it.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (attempt {})", self.job.name(), self.attempt)?;
        for entry in self.entries() {
            write!(f, " {}", entry.state.name())?;
            match &entry.state {
                JobState::Failed(failure) => write!(f, " ({})", failure.message)?,
                JobState::Scheduled { scheduled_at, reason, .. } => {
                    write!(f, " for {}", scheduled_at.format("%F %T%.f"))?;
                    reason.iter().try_for_each(|reason| write!(f, " ({reason})"))?;
                }
                JobState::Enqueued { reason: Some(reason), .. }
                | JobState::Deleted { reason: Some(reason) } => write!(f, " ({reason})")?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What ran within one call, in order, and what could not run.
///
/// Printed, it is a line for each.
#[derive(Debug, Clone, Default)]
#[must_use = "runs may have failed: look at them, or say `assert_all_succeeded()`"]
pub struct Runs {
    runs: Vec<Run>,
    left: Vec<Job>,
}

impl Runs {
    pub(super) fn push(&mut self, run: Run) {
        self.runs.push(run);
    }

    pub(super) fn leave(&mut self, left: Vec<Job>) {
        self.left = left;
    }

    /// How many there were.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether nothing ran.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Run> {
        self.runs.iter()
    }

    /// Those of one job, in order.
    #[must_use]
    pub fn of_job(&self, id: JobId) -> Vec<&Run> {
        self.iter().filter(|run| run.id() == id).collect()
    }

    /// Those of one type, in order.
    #[must_use]
    pub fn of<R: JobRequest>(&self) -> Vec<&Run> {
        self.iter().filter(|run| is_of::<R>(run.signature())).collect()
    }

    /// Those that failed, whether or not they are retried.
    #[must_use]
    pub fn failed(&self) -> Vec<&Run> {
        self.iter().filter(|run| run.failure().is_some()).collect()
    }

    /// The jobs that stayed ENQUEUED: there is no handler for their type, or their queue is not served.
    #[must_use]
    pub fn left(&self) -> &[Job] {
        &self.left
    }

    /// Makes sure that each run was a success and that no job stayed ENQUEUED; a job that parks until it is signalled
    /// counts as a success.
    ///
    /// # Panics
    /// If that is not so; the message tells of every run.
    #[track_caller]
    pub fn assert_all_succeeded(&self) -> &Self {
        let is_fine = |run: &Run| matches!(run.state(), StateName::Succeeded | StateName::Processed);
        assert!(self.iter().all(is_fine) && self.left.is_empty(), "not everything succeeded:\n{self}");
        self
    }
}

impl Index<usize> for Runs {
    type Output = Run;

    fn index(&self, index: usize) -> &Run {
        &self.runs[index]
    }
}

impl<'a> IntoIterator for &'a Runs {
    type Item = &'a Run;
    type IntoIter = std::slice::Iter<'a, Run>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() && self.left.is_empty() {
            return f.write_str("  nothing ran");
        }
        let runs = self.runs.iter().map(ToString::to_string);
        let left = |job: &Job| {
            format!(
                "{} stays ENQUEUED: nobody here handles `{}` in `{}`",
                job.name(),
                job.signature(),
                job.queue()
            )
        };
        let lines: Vec<_> = runs.chain(self.left.iter().map(left)).map(|line| format!("  {line}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Whether a job of this type is an `R`, under its present name or a former one.
pub(super) fn is_of<R: JobRequest>(signature: &JobSignature) -> bool {
    signature.as_str() == R::JOB_TYPE || R::ALIASES.contains(&signature.as_str())
}
