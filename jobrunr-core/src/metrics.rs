//! The one metric that servers and schedulers both record: what became of runs. Whoever saves it counts it.
//!
//! The others are in `metrics.rs` of the server; `docs/observability.md` lists all of them.

use std::sync::Arc;

use metrics::counter;

use crate::job::Job;
use crate::state::{HistoryEntry, JobState, StateName};

/// The counter of outcomes by type and outcome.
pub const OUTCOMES: &str = "jobrunr_outcomes_total";

/// Counts what became of a job's run, or of its wait for a signal, when these entries of it were saved.
pub fn count_saved(job: &Job, entries: &[HistoryEntry]) {
    count(job, outcome_of(job, entries));
}

/// Counts that what became of a job's run was not saved, because the job was somebody else's by then.
pub fn count_lost(job: &Job) {
    count(job, "lost");
}

fn count(job: &Job, outcome: &'static str) {
    counter!(OUTCOMES, "type" => Arc::<str>::from(job.signature().as_str()), "outcome" => outcome)
        .increment(1);
}

/// In one word what these entries of a job say, of which the last is its state.
fn outcome_of(job: &Job, entries: &[HistoryEntry]) -> &'static str {
    let has_failed = entries.iter().any(|entry| matches!(entry.state, JobState::Failed(_)));
    match job.state_name() {
        StateName::Succeeded => "succeeded",
        StateName::Processed => "processed",
        StateName::Failed => "failed",
        StateName::Deleted => "deleted",
        _ if has_failed => "retried",
        StateName::Scheduled | StateName::Awaiting => "snoozed",
        StateName::Enqueued | StateName::Processing => "given_back",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;
    use crate::state::{Failure, FailureKind};
    use crate::{JobDefinition, JobId, JsonText, ServerId, ServerRef};

    const NOW: DateTime<chrono::Utc> = DateTime::UNIX_EPOCH;

    /// The outcome of a run that ends in these states.
    fn outcome(ending: impl FnOnce(&Job) -> Vec<JobState>) -> &'static str {
        let definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
        let mut job = Job::new(JobId::new(), definition, JobState::enqueued(), NOW).unwrap();
        job.start_processing(&ServerRef { id: ServerId::new(), name: "one".into() }, NOW).unwrap();
        job.mark_saved();
        for state in ending(&job) {
            job.transition(state, NOW).unwrap();
        }
        outcome_of(&job, job.new_entries())
    }

    #[test]
    fn the_page_has_the_table_of_the_outcomes() {
        let failed = || JobState::failed(Failure::new(FailureKind::Error, "no"));
        let later = || JobState::scheduled_in(Duration::from_secs(1), "later", NOW);
        let outcomes = [
            outcome(|job| vec![job.success(None, NOW)]),
            outcome(|_| vec![JobState::Processed {}]),
            outcome(|_| vec![failed(), later()]),
            outcome(|_| vec![failed()]),
            outcome(|_| vec![later()]),
            outcome(|_| vec![JobState::enqueued()]),
            outcome(|_| vec![JobState::Deleted { reason: None }]),
            "lost",
        ];

        let page = include_str!("../../docs/observability.md");
        let (_, table) = page.split_once("| `outcome` |").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let written: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
        assert_eq!(written, outcomes);
    }
}
