//! Whether a row fits a query.

use super::lanes::Wanted;
use super::table::Row;
use crate::state::{JobState, StateName};
use crate::storage::{JobQuery, TimeWindow};

/// The conditions of a query, prepared for being asked of many rows.
pub(super) struct Filter<'q> {
    query: &'q JobQuery,
    /// The states that fit, each once.
    pub(super) states: Vec<StateName>,
    /// The types that fit.
    pub(super) wanted: Wanted<'q>,
    /// Whether state and type are the only conditions.
    pub(super) is_by_lane: bool,
}

impl<'q> Filter<'q> {
    pub(super) fn new(query: &'q JobQuery) -> Self {
        let fits = |state: &StateName| query.states.is_empty() || query.states.contains(state);
        Self {
            query,
            states: StateName::ALL.into_iter().filter(fits).collect(),
            wanted: Wanted::from(&query.signatures),
            is_by_lane: is_by_lane(query),
        }
    }

    /// Whether the row fits every condition.
    pub(super) fn fits(&self, row: &Row) -> bool {
        let Row { columns, definition, .. } = row;
        let query = self.query;
        self.states.contains(&columns.state)
            && self.wanted.contains(&definition.signature)
            && query.labels.iter().all(|label| definition.labels.contains(label))
            && query.queue.as_ref().is_none_or(|queue| definition.queue == *queue)
            && query
                .recurring_job_id
                .as_ref()
                .is_none_or(|id| definition.settings.recurring_job_id.as_ref() == Some(id))
            && query.server_id.is_none_or(|id| columns.server_id == Some(id))
            && query
                .server_not_in
                .as_ref()
                .is_none_or(|live| columns.server_id.is_some_and(|id| !live.contains(&id)))
            && query.awaited_job_id.is_none_or(|id| columns.awaited_job_id == Some(id))
            && query.created.contains(columns.created_at)
            && query.updated.contains(columns.updated_at)
            && (!query.scheduled.is_bounded()
                || columns.scheduled_at.is_some_and(|at| query.scheduled.contains(at)))
            && query.name_contains.as_ref().is_none_or(|text| contains(&definition.name, text))
            && query
                .error_contains
                .as_ref()
                .is_none_or(|text| last_failure_message(row).is_some_and(|message| contains(message, text)))
    }
}

/// Whether a query has no conditions but those on state and type.
fn is_by_lane(query: &JobQuery) -> bool {
    let JobQuery {
        states: _,
        labels,
        queue: None,
        signatures: _,
        name_contains: None,
        recurring_job_id: None,
        server_id: None,
        server_not_in: None,
        awaited_job_id: None,
        created,
        updated,
        scheduled,
        error_contains: None,
        order: _,
        after: _,
        offset: _,
        limit: _,
    } = query
    else {
        return false;
    };
    labels.is_empty() && ![created, updated, scheduled].into_iter().any(TimeWindow::is_bounded)
}

fn last_failure_message(row: &Row) -> Option<&str> {
    row.history.iter().rev().find_map(|entry| match &entry.state {
        JobState::Failed(failure) => Some(failure.message.as_str()),
        _ => None,
    })
}

/// Whether `text` occurs in `whole`, ASCII letters matching in either case.
fn contains(whole: &str, text: &str) -> bool {
    // Windows of no bytes do not exist.
    text.is_empty()
        || whole.as_bytes().windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_as_it_stands_but_for_the_case_of_ascii_letters() {
        for (whole, text) in [("100% Sure", "% sURE"), ("a_b", "_"), ("größe", "öß"), ("x", ""), ("", "")]
        {
            assert!(contains(whole, text), "{text:?} in {whole:?}");
        }
        for (whole, text) in [("100 sure", "%"), ("ab", "a_b"), ("a", "ab"), ("b", "a")] {
            assert!(!contains(whole, text), "{text:?} in {whole:?}");
        }
    }
}
