//! Values that belong to the cluster: scenarios 57 to 60.

use std::sync::Arc;

use futures_util::future::try_join_all;
use jobrunr_core::storage::{BoxError, CompareAndSet, Metadata, StorageError, StorageProvider};

use crate::builders::{at, at_micros};
use crate::{Fixture, ScenarioResult};

fn change(owner: &str, expected: Option<&str>, new: &str) -> CompareAndSet {
    CompareAndSet {
        name: "lock".to_owned(),
        owner: owner.to_owned(),
        expected: expected.map(str::to_owned),
        new: new.to_owned(),
        now: at(9),
    }
}

async fn value(storage: &dyn StorageProvider, name: &str, owner: &str) -> Result<Option<String>, BoxError> {
    Ok(storage.find_metadata(name, owner).await?.map(|metadata| metadata.value))
}

/// By name and owner, one or all.
pub async fn metadata_is_saved_listed_and_deleted(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let given =
        [("stats", "c"), ("stats", "B"), ("stats", "a"), ("stat", "a"), ("stats2", "a"), ("stats", "")];
    let given =
        given.map(|(name, owner)| Metadata::new(name, owner, format!("{name} of {owner}"), at_micros(7)));
    assert_eq!(storage.find_metadata("stats", "a").await?, None);
    assert_eq!(storage.list_metadata("stats").await?, []);
    for metadata in &given {
        storage.save_metadata(metadata).await?;
    }

    for metadata in &given {
        assert_eq!(storage.find_metadata(&metadata.name, &metadata.owner).await?.as_ref(), Some(metadata));
    }
    let owners = async |name| {
        let listed = storage.list_metadata(name).await?;
        Ok::<_, BoxError>(listed.into_iter().map(|metadata| metadata.owner).collect::<Vec<_>>())
    };
    assert_eq!(owners("stats").await?, ["", "B", "a", "c"], "by owner, by bytes");
    assert_eq!(storage.list_metadata("stat").await?, [given[3].clone()]);

    assert_eq!(storage.delete_metadata("stats", Some("a")).await?, 1);
    assert_eq!(storage.delete_metadata("stats", Some("a")).await?, 0);
    assert_eq!(owners("stats").await?, ["", "B", "c"]);
    assert_eq!(storage.delete_metadata("stats", Some("")).await?, 1, "an empty owner is an owner");
    assert_eq!(storage.delete_metadata("stats", None).await?, 2);
    assert_eq!(storage.delete_metadata("stats", None).await?, 0);
    assert_eq!(owners("stat").await?, ["a"], "names are told apart");
    assert_eq!(owners("stats2").await?, ["a"]);
    Ok(())
}

/// When a value came to be is kept, when it was changed moves.
pub async fn overwriting_keeps_created_at_and_moves_updated_at(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    storage.save_metadata(&Metadata::new("name", "owner", "old", at_micros(1))).await?;

    storage.save_metadata(&Metadata::new("name", "owner", "new", at_micros(2))).await?;

    let expected =
        Metadata { created_at: at_micros(1), ..Metadata::new("name", "owner", "new", at_micros(2)) };
    assert_eq!(storage.find_metadata("name", "owner").await?.as_ref(), Some(&expected));
    assert_eq!(storage.list_metadata("name").await?, [expected]);
    Ok(())
}

/// Whoever knows the value may change it.
pub async fn a_value_is_replaced_only_by_who_knows_it(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let try_set = async |expected, new| storage.compare_and_set_metadata(&change("a", expected, new)).await;
    let present = async || value(storage, "lock", "a").await;

    assert!(!try_set(Some("1"), "2").await?, "there is nothing yet");
    assert!(!try_set(Some(""), "2").await?, "nothing is not the empty value");
    assert_eq!(present().await?, None);
    assert!(try_set(None, "1").await?);
    assert!(!try_set(None, "2").await?, "there is something now");
    assert_eq!(present().await?.as_deref(), Some("1"));
    assert!(!try_set(Some("2"), "3").await?, "that is not the value");
    assert!(!try_set(Some("1 "), "3").await?);
    assert_eq!(present().await?.as_deref(), Some("1"));
    assert!(try_set(Some("1"), "").await?);
    assert!(try_set(Some(""), "B").await?);
    assert!(!try_set(Some("b"), "c").await?, "case matters");
    assert!(try_set(Some("B"), "B").await?, "a value may be replaced by itself");
    assert_eq!(value(storage, "lock", "b").await?, None, "others are left alone");
    Ok(())
}

/// A change by comparison is a save like any other.
pub async fn a_compared_value_keeps_its_times_like_a_saved_one(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let at_time =
        |second, expected, new| CompareAndSet { now: at_micros(second), ..change("a", expected, new) };

    assert!(storage.compare_and_set_metadata(&at_time(1, None, "x")).await?);
    assert_eq!(storage.list_metadata("lock").await?, [Metadata::new("lock", "a", "x", at_micros(1))]);
    assert!(storage.compare_and_set_metadata(&at_time(2, Some("x"), "y")).await?);
    let expected = Metadata { created_at: at_micros(1), ..Metadata::new("lock", "a", "y", at_micros(2)) };
    assert_eq!(storage.list_metadata("lock").await?, std::slice::from_ref(&expected));
    assert!(!storage.compare_and_set_metadata(&at_time(3, Some("x"), "z")).await?);
    assert_eq!(storage.list_metadata("lock").await?, [expected], "who loses changes nothing");
    Ok(())
}

/// Sixteen tasks count together.
pub async fn increments_at_once_by_comparison_lose_none(fixture: &Fixture<'_>) -> ScenarioResult {
    let other = fixture.another_storage().await?;
    let tasks = (0..16).map(|number| {
        let storage = if number % 2 == 0 { fixture.shared_storage() } else { Arc::clone(&other) };
        tokio::spawn(async move {
            for _ in 0..5 {
                loop {
                    let old = storage.find_metadata("lock", "counter").await?.map(|metadata| metadata.value);
                    let count: u32 =
                        old.as_deref().map_or(0, |old| old.parse().expect("only numbers are set"));
                    let new = (count + 1).to_string();
                    if storage.compare_and_set_metadata(&change("counter", old.as_deref(), &new)).await? {
                        break;
                    }
                }
            }
            Ok::<_, StorageError>(())
        })
    });
    for counted in try_join_all(tasks).await? {
        counted?;
    }

    assert_eq!(value(fixture.storage(), "lock", "counter").await?.as_deref(), Some("80"));
    Ok(())
}

/// Of many who want what nobody has yet, one gets it.
pub async fn of_callers_that_expect_nothing_one_wins(fixture: &Fixture<'_>) -> ScenarioResult {
    let other = fixture.another_storage().await?;
    for round in 0..10 {
        let callers = (0..8).map(|number| {
            let storage = if number % 2 == 0 { fixture.shared_storage() } else { Arc::clone(&other) };
            let change = change(&format!("round {round}"), None, &number.to_string());
            tokio::spawn(async move {
                storage.compare_and_set_metadata(&change).await.map(|won| won.then_some(number))
            })
        });
        let mut winners = Vec::new();
        for answer in try_join_all(callers).await? {
            winners.extend(answer?);
        }

        let [winner] = <[i32; 1]>::try_from(winners).map_err(|all| format!("{all:?} won round {round}"))?;
        let stored = value(fixture.storage(), "lock", &format!("round {round}")).await?;
        assert_eq!(stored, Some(winner.to_string()));
    }
    Ok(())
}

/// Values and names of all sorts.
pub async fn large_empty_and_foreign_values_survive(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let large = "ü line\r\n".repeat(1024 * 1024 / 9);
    let given = [
        Metadata::new("large", "o", &*large, at(0)),
        Metadata::new("empty", "o", "", at(0)),
        Metadata::new("東京 🦀", "Zoë's \"%_\\ owner", "'; DROP TABLE metadata; --", at(0)),
        Metadata::new("東京 🦀", "", "{\"a\":[1]}", at(0)),
        Metadata::new("a:b", "c", "1", at(0)),
        Metadata::new("a", "b:c", "2", at(0)),
    ];
    for metadata in &given {
        storage.save_metadata(metadata).await?;
    }

    for metadata in &given {
        let found = storage.find_metadata(&metadata.name, &metadata.owner).await?;
        assert!(found.as_ref() == Some(metadata), "{} of {}", metadata.name, metadata.owner);
    }
    assert_eq!(storage.list_metadata("東京 🦀").await?.len(), 2);
    let replace = CompareAndSet {
        name: "large".to_owned(),
        owner: "o".to_owned(),
        expected: Some(large.clone()),
        new: format!("{large}!"),
        now: at(1),
    };
    assert!(storage.compare_and_set_metadata(&replace).await?, "large values can be compared");
    assert!(!storage.compare_and_set_metadata(&replace).await?);
    Ok(())
}
