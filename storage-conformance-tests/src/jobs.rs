//! Inserting, finding, saving and deleting jobs: scenarios 1 to 17.

use jobrunr_core::JobId;

use crate::{Fixture, ScenarioResult};

/// Looking for a job that never was.
pub async fn an_unknown_id_is_none(fixture: &Fixture<'_>) -> ScenarioResult {
    assert_eq!(fixture.storage().find_job(JobId::new()).await?, None);
    Ok(())
}
