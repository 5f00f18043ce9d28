//! Random sequences of operations, compared with the in-memory storage: scenario 75.

mod operation;
mod shrinking;
mod step;

use std::sync::Arc;

use jobrunr_core::memory::MemoryStorage;
use jobrunr_core::storage::{BoxError, SetUp};

use self::operation::{Operation, random_operations};
use self::step::Pair;
use crate::{Fixture, ScenarioResult};

/// How many sequences are tried.
const SEEDS: u64 = 20;
/// How many operations each of them has.
const OPERATIONS: usize = 500;

/// Whatever is done in whatever order, every answer is the model's answer.
pub async fn random_operations_give_the_results_of_the_model(fixture: &Fixture<'_>) -> ScenarioResult {
    for seed in 0..SEEDS {
        let operations = random_operations(seed, OPERATIONS)?;
        if let Some(difference) = first_difference(fixture, &operations).await? {
            let shortest = shrinking::shrink(fixture, operations, difference).await?;
            return Err(format!("seed {seed}: {shortest}").into());
        }
    }
    Ok(())
}

/// Where two storages first answered differently, and how.
struct Difference {
    /// The number of the operation.
    place: usize,
    what: String,
}

/// Runs a sequence on an empty database of its own and on the model.
async fn first_difference(
    fixture: &Fixture<'_>,
    operations: &[Operation],
) -> Result<Option<Difference>, BoxError> {
    let database = fixture.untouched_database().await?;
    let storage = database.open(None).await?;
    storage.set_up(SetUp::Migrate).await?;
    let mut pair = Pair::new(Arc::clone(&storage), Arc::new(MemoryStorage::new()));
    let mut difference = None;
    for (place, operation) in operations.iter().enumerate() {
        if let Err(what) = pair.step(operation).await {
            difference = Some(Difference { place, what });
            break;
        }
    }
    if difference.is_none() {
        difference =
            pair.compare_content().await.err().map(|what| Difference { place: operations.len(), what });
    }
    storage.close().await;
    Ok(difference)
}
