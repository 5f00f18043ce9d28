//! Where to look for the jobs that fit a query: through few jobs found by one condition, or through many in order.

use std::collections::BTreeSet;
use std::ops::Bound;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::filter::Filter;
use super::indexes::{Indexes, InstantKey};
use super::lanes::Wanted;
use super::merge::{Direction, Span};
use crate::ids::JobId;
use crate::state::StateName;
use crate::storage::{JobQuery, OrderField, TimeWindow};

/// Jobs in no particular order, among which are all that fit a query.
pub(super) enum Source<'a> {
    Ids(Vec<&'a BTreeSet<JobId>>),
    Keys(Vec<&'a BTreeSet<InstantKey>>, Span<InstantKey>),
}

impl<'a> Source<'a> {
    /// The jobs that fit one condition of the query which likely few jobs fit, if it has such a condition.
    pub(super) fn of_few(query: &JobQuery, filter: &Filter<'_>, indexes: &'a Indexes) -> Option<Self> {
        let labelled = query.labels.iter().map(|label| Vec::from_iter(indexes.labelled.of(label.as_str())));
        let recurring = query.recurring_job_id.iter().map(|id| {
            let states = filter.states.iter();
            states.filter_map(|state| indexes.recurring.of(&(id.clone(), *state))).collect()
        });
        let awaiting = query.awaited_job_id.iter().map(|id| Vec::from_iter(indexes.awaiting.of(id)));
        let sets = labelled.chain(recurring).chain(awaiting);
        let smallest = sets.min_by_key(|sets: &Vec<_>| sets.iter().map(|set| set.len()).sum::<usize>());
        smallest.map(Self::Ids).or_else(|| Self::of_window(query, filter, indexes))
    }

    fn of_window(query: &JobQuery, filter: &Filter<'_>, indexes: &'a Indexes) -> Option<Self> {
        let fields = [OrderField::UpdatedAt, OrderField::CreatedAt, OrderField::ScheduledAt];
        let bounded = fields.into_iter().filter(|field| window_of(query, *field).is_bounded());
        bounded.into_iter().find_map(|field| {
            let lanes = Ordered::by(field, filter, indexes)?.lanes;
            Some(Self::Keys(lanes, span_of_window(window_of(query, field))))
        })
    }

    /// All jobs of the states and types that fit.
    pub(super) fn all(filter: &Filter<'_>, indexes: &'a Indexes) -> Self {
        let lanes = filter.states.iter().flat_map(|state| indexes.updated.of(state, &filter.wanted));
        Self::Keys(lanes.collect(), Span::ALL)
    }

    /// The jobs.
    pub(super) fn ids(self) -> Box<dyn Iterator<Item = JobId> + 'a> {
        match self {
            Self::Ids(sets) => Box::new(sets.into_iter().flatten().copied()),
            Self::Keys(lanes, span) => {
                Box::new(lanes.into_iter().filter_map(move |lane| span.of(lane)).flatten().map(|(_, id)| *id))
            }
        }
    }

    /// Whether there are at most so many, looking no further than that.
    fn is_at_most(&self, count: usize) -> bool {
        match self {
            Self::Ids(sets) => sets.iter().map(|set| set.len()).sum::<usize>() <= count,
            Self::Keys(lanes, span) => {
                let keys = lanes.iter().filter_map(|lane| span.of(lane)).flatten();
                keys.take(count.saturating_add(1)).count() <= count
            }
        }
    }
}

/// All jobs of the states that fit, in the order of one instant.
pub(super) struct Ordered<'a> {
    pub(super) lanes: Vec<&'a BTreeSet<InstantKey>>,
    /// Whether there is no job in them that does not fit.
    pub(super) is_exact: bool,
}

impl<'a> Ordered<'a> {
    /// The jobs ordered by this field, if there is an index for that.
    pub(super) fn by(field: OrderField, filter: &Filter<'_>, indexes: &'a Indexes) -> Option<Self> {
        let index = match field {
            OrderField::CreatedAt => &indexes.created,
            OrderField::UpdatedAt => &indexes.updated,
            OrderField::ScheduledAt if filter.states == [StateName::Scheduled] => {
                let is_exact = filter.is_by_lane && matches!(filter.wanted, Wanted::All);
                return Some(Self { lanes: vec![&indexes.due], is_exact });
            }
            OrderField::ScheduledAt => return None,
        };
        let lanes = filter.states.iter().flat_map(|state| index.of(state, &filter.wanted));
        Some(Self { lanes: lanes.collect(), is_exact: filter.is_by_lane })
    }

    /// How many jobs there are in it.
    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.len()).sum()
    }

    /// Whether less is looked at by reading in order until the page is full than by going through all of `few`.
    ///
    /// With f of n jobs fitting, spread evenly, a page of p is full after about p × n / f of them.
    pub(super) fn is_better_than(&self, few: &Source<'_>, query: &JobQuery) -> bool {
        let page = query.offset.saturating_add(query.effective_limit());
        !few.is_at_most(page.saturating_mul(self.len()).isqrt())
    }
}

/// The part of the query's order that its cursor, and its window on the instant it is ordered by, leave.
pub(super) fn span_of(query: &JobQuery, direction: Direction) -> Span<InstantKey> {
    let mut span = span_of_window(window_of(query, query.order.field));
    let Some(cursor) = query.after else { return span };
    let place = (cursor.instant, cursor.id);
    match direction {
        Direction::Ascending if starts_by(span.start, place) => span.start = Bound::Excluded(place),
        Direction::Descending if ends_after(span.end, place) => span.end = Bound::Excluded(place),
        Direction::Ascending | Direction::Descending => {}
    }
    span
}

fn window_of(query: &JobQuery, field: OrderField) -> TimeWindow {
    match field {
        OrderField::CreatedAt => query.created,
        OrderField::UpdatedAt => query.updated,
        OrderField::ScheduledAt => query.scheduled,
    }
}

fn span_of_window(window: TimeWindow) -> Span<InstantKey> {
    let first_at = |instant: DateTime<Utc>| (instant, JobId::from(Uuid::nil()));
    Span {
        start: window.from.map_or(Bound::Unbounded, |from| Bound::Included(first_at(from))),
        end: window.before.map_or(Bound::Unbounded, |before| Bound::Excluded(first_at(before))),
    }
}

fn starts_by(start: Bound<InstantKey>, place: InstantKey) -> bool {
    match start {
        Bound::Included(start) | Bound::Excluded(start) => start <= place,
        Bound::Unbounded => true,
    }
}

fn ends_after(end: Bound<InstantKey>, place: InstantKey) -> bool {
    match end {
        Bound::Included(end) | Bound::Excluded(end) => place <= end,
        Bound::Unbounded => true,
    }
}
