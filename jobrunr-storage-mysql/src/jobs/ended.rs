//! Counting what has ended: how many jobs of each lane are SUCCEEDED, FAILED and DELETED, and all successes there ever were.
//!
//! What has not ended is counted by an index when somebody asks.

use std::collections::BTreeMap;

use jobrunr_core::{HistoryEntry, StateName};

use super::signed;
use crate::error::Outcome;
use crate::session::Session;
use crate::values::{Rows, Values};

/// What one transaction changes about the counts, by lane: sorted, so that two transactions never wait for each other.
#[derive(Debug, Default)]
pub(super) struct Ended(BTreeMap<i32, Changes>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    succeeded: i64,
    failed: i64,
    deleted: i64,
    all_time: i64,
}

impl Changes {
    const fn add(&mut self, state: StateName, by: i64) {
        match state {
            StateName::Succeeded => self.succeeded += by,
            StateName::Failed => self.failed += by,
            StateName::Deleted => self.deleted += by,
            _ => {}
        }
    }
}

impl Ended {
    /// Notes that a job has left one state and come to another.
    pub(super) fn count(&mut self, lane: i32, from: Option<StateName>, to: Option<StateName>) {
        let is_counted = |state: Option<StateName>| state.is_some_and(StateName::is_final);
        if from == to || !(is_counted(from) || is_counted(to)) {
            return;
        }
        let changes = self.0.entry(lane).or_default();
        if let Some(from) = from {
            changes.add(from, -1);
        }
        if let Some(to) = to {
            changes.add(to, 1);
        }
    }

    /// Notes successes.
    pub(super) fn count_successes(&mut self, lane: i32, successes: i64) {
        if successes > 0 {
            self.0.entry(lane).or_default().all_time += successes;
        }
    }
}

/// How many times a job with these entries succeeded.
pub(super) fn successes(entries: &[HistoryEntry]) -> i64 {
    signed(entries.iter().filter(|entry| entry.state.name() == StateName::Succeeded).count())
}

impl Session<'_> {
    /// Writes what was counted: once a transaction and at its end, so that its locks are held for no longer than needed.
    pub(super) async fn write_ended(&mut self, ended: Ended) -> Outcome<()> {
        let mut rows = Rows::new();
        let mut is_empty = true;
        for (lane, changes) in ended.0 {
            let Changes { succeeded, failed, deleted, all_time } = changes;
            if changes == Changes::default() {
                continue;
            }
            is_empty = false;
            let row = rows.row_of_number(i64::from(lane));
            row.number(succeeded).number(failed).number(deleted).number(all_time).end_row();
        }
        if is_empty {
            return Ok(());
        }
        let values = Values::new().number(self.shared.shard).text(&rows.finish());
        self.execute(&self.shared.statements.count_ended, values).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_is_counted() {
        let mut ended = Ended::default();

        ended.count(16, Some(StateName::Enqueued), Some(StateName::Processing));
        ended.count(16, None, Some(StateName::Scheduled));
        ended.count(16, Some(StateName::Failed), Some(StateName::Failed));
        assert!(ended.0.is_empty());

        ended.count(16, Some(StateName::Processing), Some(StateName::Succeeded));
        ended.count(16, Some(StateName::Succeeded), Some(StateName::Deleted));
        ended.count(16, Some(StateName::Failed), None);
        ended.count_successes(16, 1);
        let changes = Changes { succeeded: 0, failed: -1, deleted: 1, all_time: 1 };
        assert_eq!(ended.0[&16], changes);
    }
}
