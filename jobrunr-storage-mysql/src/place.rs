//! Where a job stands: the three columns that one index sorts all jobs by.

use jobrunr_core::StateName;
use jobrunr_storage_sql::HotColumns;

/// The smallest number of a lane; smaller numbers are the indexes of states.
pub(crate) const FIRST_LANE: i32 = 16;

/// Stands for no instant in columns that are never NULL; no calendar reaches it.
pub(crate) const NEVER: i64 = i64::MIN;

/// The place of jobs in a state other than ENQUEUED.
pub(crate) fn place_of_state(state: StateName) -> i32 {
    i32::from(state.index())
}

/// The state that a place stands for; `None` if it stands for none.
pub(crate) fn state_of_place(place: i64) -> Option<StateName> {
    if place >= i64::from(FIRST_LANE) {
        return Some(StateName::Enqueued);
    }
    let state = u8::try_from(place).ok().and_then(StateName::from_index)?;
    (state != StateName::Enqueued).then_some(state)
}

/// The priority turned round: the higher it is, the smaller the rank. No priority is out of range.
const fn rank_of_priority(priority: i32) -> i32 {
    !priority
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of its lane while it is ENQUEUED, else that of its state.
    pub(crate) place: i32,
    /// The smaller, the earlier in line.
    pub(crate) rank: i32,
    /// What the index sorts by after that.
    pub(crate) at: i64,
}

impl Place {
    pub(crate) fn of(columns: &HotColumns, lane: i32, priority: i32) -> Self {
        let HotColumns { state, queued_at, updated_at, scheduled_at, .. } = columns;
        match state {
            StateName::Enqueued => {
                Self { place: lane, rank: rank_of_priority(priority), at: queued_at.unwrap_or(*updated_at) }
            }
            StateName::Scheduled => {
                Self { place: place_of_state(*state), rank: 0, at: scheduled_at.unwrap_or(*updated_at) }
            }
            state => Self { place: place_of_state(*state), rank: 0, at: *updated_at },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_tells_its_state() {
        for state in StateName::ALL {
            let place = if state == StateName::Enqueued { FIRST_LANE } else { place_of_state(state) };
            assert_eq!(state_of_place(i64::from(place)), Some(state));
        }
        assert_eq!(state_of_place(2), None, "ENQUEUED jobs stand in a lane");
        assert_eq!(state_of_place(15), None);
        assert_eq!(state_of_place(-1), None);
    }

    #[test]
    fn turning_a_priority_round_puts_the_higher_first() {
        let ranks: Vec<i32> = [i32::MAX, 1, 0, -1, i32::MIN].into_iter().map(rank_of_priority).collect();

        assert!(ranks.is_sorted_by(|higher, lower| higher < lower), "{ranks:?}");
    }
}
