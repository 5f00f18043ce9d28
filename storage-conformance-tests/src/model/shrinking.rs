//! Making a failing sequence short enough to be read.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use jobrunr_core::storage::BoxError;

use super::operation::Operation;
use super::{Difference, first_difference};
use crate::Fixture;

/// How long may be spent on it: well within the time limit of a scenario.
const TIME: Duration = Duration::from_secs(40);

/// Leaves out whatever is not needed to see a difference, in ever smaller pieces; renders what is left.
pub(super) async fn shrink(
    fixture: &Fixture<'_>,
    mut operations: Vec<Operation>,
    mut difference: Difference,
) -> Result<String, BoxError> {
    let begun = Instant::now();
    operations.truncate(difference.place + 1);
    let mut piece = operations.len().div_ceil(2);
    while piece > 0 && begun.elapsed() < TIME {
        let mut has_shrunk = false;
        let mut start = 0;
        while start < operations.len() && begun.elapsed() < TIME {
            let mut fewer = operations.clone();
            fewer.drain(start..(start + piece).min(operations.len()));
            if let Some(still) = first_difference(fixture, &fewer).await? {
                fewer.truncate(still.place + 1);
                (operations, difference) = (fewer, still);
                has_shrunk = true;
            } else {
                start += piece;
            }
        }
        piece = if has_shrunk { piece.min(operations.len()) } else { piece / 2 };
    }
    Ok(render(&operations, &difference))
}

fn render(operations: &[Operation], difference: &Difference) -> String {
    let mut text = format!("after these {} operations\n", operations.len());
    for (place, operation) in operations.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {place}: {operation:?}");
    }
    text + &difference.what
}
