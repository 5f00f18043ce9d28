//! Making a database ready, and telling whether it is.

use futures_util::future::try_join_all;
use jobrunr_core::storage::{SetUp, StorageError, StorageProvider};

use crate::builders::{a_claim, an_enqueued_job, at, stored};
use crate::content::everything;
use crate::fixture::schema_faults;
use crate::harness::Ability;
use crate::{Fixture, ScenarioResult};

/// What a harness declares is what its database has: nothing is left out unnoticed.
pub async fn the_declared_abilities_are_those_there_are(fixture: &Fixture<'_>) -> ScenarioResult {
    let database = fixture.database();
    let declared = fixture.abilities();
    for ability in Ability::ALL {
        let is_there = match ability {
            Ability::ChangeFeed => fixture.storage().changes().is_some(),
            Ability::Schema => database.schema_faults().is_some(),
            Ability::UnreadableRows => database.row_faults().is_some(),
            Ability::Connections => database.connection_faults().is_some(),
            Ability::CallerTransactions => database.caller_transactions().is_some(),
            // Both are told by the scenarios that need them only.
            Ability::Prefixes | Ability::Durability => declared.contains(&ability),
        };
        assert_eq!(is_there, declared.contains(&ability), "{ability:?}");
    }
    let name = fixture.storage().name();
    assert!(!name.is_empty() && name == name.to_lowercase(), "{name:?}");
    Ok(())
}

/// Every process sets up when it starts.
pub async fn setting_up_again_keeps_what_is_there(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let job = stored(storage, an_enqueued_job()).await?;

    for set_up in [SetUp::Migrate, SetUp::Validate, SetUp::Nothing, SetUp::Migrate] {
        storage.set_up(set_up).await?;
        assert_eq!(everything(&*fixture.another_storage().await?).await?, std::slice::from_ref(&job));
    }
    assert_eq!(everything(storage).await?, [job]);
    Ok(())
}

/// A cluster is started on an empty database.
pub async fn eight_callers_set_up_an_empty_database_at_once(fixture: &Fixture<'_>) -> ScenarioResult {
    for _ in 0..3 {
        let database = fixture.untouched_database().await?;
        let mut storages = Vec::new();
        for _ in 0..8 {
            storages.push(database.open(None).await?);
        }
        let callers = storages.iter().map(|storage| {
            let storage = std::sync::Arc::clone(storage);
            tokio::spawn(async move {
                storage.set_up(SetUp::Migrate).await?;
                storage.insert_jobs(&[an_enqueued_job()]).await
            })
        });
        for answer in try_join_all(callers).await? {
            answer?;
        }

        storages[0].set_up(SetUp::Validate).await?;
        assert_eq!(storages[7].claim_jobs(&a_claim(10, at(1))).await?.len(), 8);
        for storage in storages {
            storage.close().await;
        }
    }
    Ok(())
}

fn mismatch(answer: Result<(), StorageError>) -> String {
    match answer {
        Err(StorageError::SchemaMismatch { what, .. }) => what,
        other => panic!("expected a mismatch of the schema, got {other:?}"),
    }
}

/// Where the schema is somebody else's business, what is missing is told and nothing is changed.
pub async fn validating_an_empty_database_says_what_is_missing(fixture: &Fixture<'_>) -> ScenarioResult {
    let database = fixture.untouched_database().await?;
    let storage = database.open(None).await?;

    storage.set_up(SetUp::Nothing).await?;
    assert!(!mismatch(storage.set_up(SetUp::Validate).await).is_empty());
    assert!(!mismatch(storage.set_up(SetUp::Validate).await).is_empty(), "validating creates nothing");

    storage.set_up(SetUp::Migrate).await?;
    storage.set_up(SetUp::Validate).await?;
    storage.close().await;
    Ok(())
}

/// An old program must not touch what a newer one has migrated.
pub async fn a_newer_schema_is_refused_and_left_alone(fixture: &Fixture<'_>) -> ScenarioResult {
    let database = fixture.untouched_database().await?;
    let storage = database.open(None).await?;
    storage.set_up(SetUp::Migrate).await?;
    let job = stored(&*storage, an_enqueued_job()).await?;
    schema_faults(&*database)?.make_schema_newer(None).await?;

    for _ in 0..2 {
        let starting: std::sync::Arc<dyn StorageProvider> = database.open(None).await?;
        assert!(!mismatch(starting.set_up(SetUp::Migrate).await).is_empty());
        assert!(!mismatch(starting.set_up(SetUp::Validate).await).is_empty());
        starting.close().await;
    }

    assert_eq!(everything(&*storage).await?, [job], "what runs goes on");
    storage.close().await;
    Ok(())
}
