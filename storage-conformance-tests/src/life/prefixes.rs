//! Several storages in one database, kept apart by prefixes.

use jobrunr_core::storage::{
    BoxError, Heartbeat, JobSelection, Metadata, RecurringJobQuery, ServerLoad, SetUp, StorageProvider,
};
use jobrunr_core::{JobId, ServerId, StateName};

use crate::builders::{
    a_claim, a_job, a_recurring_job, an_announcement, an_enqueued_job, at, recurring_id, stored,
};
use crate::content::everything;
use crate::{Fixture, ScenarioResult};

/// Puts one of everything into a storage.
async fn fill(storage: &dyn StorageProvider, mark: &str) -> Result<ServerId, BoxError> {
    stored(storage, a_job().id(JobId::from_name("shared")).named(mark).labelled(&[mark]).enqueued(at(0)))
        .await?;
    stored(storage, a_job().of_type(mark).scheduled(at(0), at(5))).await?;
    let mut recurring = a_recurring_job("shared");
    recurring.template.name = mark.to_owned();
    storage.save_recurring_job(&recurring).await?;
    storage.save_metadata(&Metadata::new("shared", "owner", mark, at(0))).await?;
    let server = an_announcement(mark);
    storage.announce_server(&server).await?;
    Ok(server.id)
}

/// Checks that a storage holds what [`fill`] put there, and nothing else.
async fn assert_holds_its_own(storage: &dyn StorageProvider, mark: &str) -> ScenarioResult {
    let jobs = everything(storage).await?;
    assert_eq!(jobs.len(), 2, "under {mark}");
    assert_eq!(storage.job_counts().await?.total(), 2);
    let shared = storage.find_job(JobId::from_name("shared")).await?.ok_or("the shared id is gone")?;
    assert_eq!(shared.name(), mark);
    assert_eq!(storage.list_signatures(&[StateName::Scheduled]).await?.len(), 1);
    let recurring = storage.list_recurring_jobs(&RecurringJobQuery::default()).await?;
    assert_eq!(recurring.iter().map(|job| &*job.template.name).collect::<Vec<_>>(), [mark]);
    let metadata = storage.list_metadata("shared").await?;
    assert_eq!(metadata.iter().map(|metadata| &*metadata.value).collect::<Vec<_>>(), [mark]);
    let servers = storage.list_servers().await?;
    assert_eq!(servers.iter().map(|server| &*server.announcement.name).collect::<Vec<_>>(), [mark]);
    Ok(())
}

/// Neither sees, claims, releases, counts nor deletes what is the other's.
pub async fn two_prefixes_in_one_database_see_nothing_of_each_other(fixture: &Fixture<'_>) -> ScenarioResult {
    let database = fixture.database();
    // Prefixes of each other, and one that a wildcard would take for another.
    let prefixes = ["app_", "app_b_", "appxb_", "a"];
    let mut storages = vec![("none", fixture.shared_storage())];
    for prefix in prefixes {
        let storage = database.open(Some(prefix)).await?;
        storage.set_up(SetUp::Migrate).await?;
        storages.push((prefix, storage));
    }
    let mut servers = Vec::new();
    for (mark, storage) in &storages {
        servers.push(fill(&**storage, mark).await?);
    }
    for (mark, storage) in &storages {
        assert_holds_its_own(&**storage, mark).await?;
    }

    let (_, first) = &storages[1];
    assert_eq!(first.enqueue_due_jobs(at(5), 10).await?.released.len(), 1);
    assert_eq!(first.claim_jobs(&a_claim(10, at(6))).await?.len(), 2);
    assert_eq!(first.delete_jobs(&JobSelection::Ids(vec![JobId::from_name("shared")])).await?, 1);
    assert!(first.delete_recurring_job(&recurring_id("shared"), None).await?);
    assert_eq!(first.delete_metadata("shared", None).await?, 1);
    let heartbeat = Heartbeat { server_id: servers[2], load: ServerLoad::default() };
    assert!(!first.heartbeat(&heartbeat).await?.is_announced);
    assert!(first.remove_server(servers[1]).await?);

    for (mark, storage) in storages.iter().filter(|(mark, _)| *mark != prefixes[0]) {
        assert_holds_its_own(&**storage, mark).await?;
    }
    for (_, storage) in &storages[1..] {
        storage.close().await;
    }
    Ok(())
}

/// What would break out of a name is refused, not escaped.
pub async fn a_hostile_prefix_is_refused(fixture: &Fixture<'_>) -> ScenarioResult {
    let job = stored(fixture.storage(), an_enqueued_job()).await?;
    let hostile = [
        "\"; drop table",
        "\"; drop table jobs; --",
        "'; drop table jobs; --",
        "`; drop table jobs; --",
        "a b",
        "a\"b",
        "a'b",
        "a`b",
        "a;b",
        "a\\b",
        "a\nb",
        "a\0b",
        "a--b",
        "../up",
        "a/*b",
    ];

    for prefix in hostile {
        if let Ok(storage) = fixture.database().open(Some(prefix)).await {
            let set_up = storage.set_up(SetUp::Migrate).await;
            storage.close().await;
            assert!(set_up.is_err(), "the prefix {prefix:?} was accepted");
        }
    }

    assert_eq!(everything(fixture.storage()).await?, [job]);
    Ok(())
}

/// Databases cut long names; a prefix that would be cut must be refused.
pub async fn long_prefixes_are_refused_or_kept_apart(fixture: &Fixture<'_>) -> ScenarioResult {
    for length in [20, 40, 60, 100, 250] {
        let head = "p".repeat(length);
        let mut storages = Vec::new();
        for last in ["a_", "b_"] {
            let Ok(storage) = fixture.database().open(Some(&format!("{head}{last}"))).await else { continue };
            if storage.set_up(SetUp::Migrate).await.is_ok() {
                storages.push((last, storage));
            }
        }
        assert!(storages.len() != 1, "of two prefixes of {length} bytes only one is accepted");
        for (mark, storage) in &storages {
            fill(&**storage, mark).await?;
        }
        for (mark, storage) in &storages {
            assert_holds_its_own(&**storage, mark)
                .await
                .map_err(|error| format!("{length} bytes: {error}"))?;
            storage.close().await;
        }
    }
    Ok(())
}
