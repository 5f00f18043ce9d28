//! What running code saves with its job.

use std::sync::Arc;

use futures_util::future::try_join_all;
use jobrunr_core::storage::{JobQuery, JobSelection, SaveConflict, StorageExt};
use jobrunr_core::{JobId, JobMetadata};
use serde_json::{Value, json};

use crate::builders::{a_claim, an_enqueued_job, at, server, stored};
use crate::content::{find, list};
use crate::{Fixture, ScenarioResult};

fn entries<const N: usize>(entries: [(&str, Value); N]) -> JobMetadata {
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whoever loads a job to run or show it gets its metadata; lists stay small.
pub async fn metadata_comes_with_a_job_that_is_found_or_claimed(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let given =
        entries([("steps", json!({ "paid": true })), ("🦀 'n\"ame", json!("")), ("none", json!(null))]);
    let id = stored(storage, an_enqueued_job().with_metadata(given.clone())).await?.id();
    let added = entries([("numbers", json!([i64::MIN, u64::MAX, 0.1, -1.5e300]))]);
    assert!(storage.save_job_metadata(id, &added).await?);
    let all: JobMetadata = given.into_iter().chain(added).collect();

    assert_eq!(*find(storage, id).await?.metadata(), all);
    assert!(list(storage, JobQuery::all()).await?[0].metadata().is_empty(), "lists are without metadata");
    assert_eq!(*storage.claim_jobs(&a_claim(1, at(1))).await?[0].metadata(), all);
    Ok(())
}

/// Metadata is written beside the job, not as a move of it.
pub async fn saving_metadata_changes_neither_version_nor_time(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut job = stored(storage, an_enqueued_job()).await?;
    job.start_processing(&server("a"), at(1))?;
    storage.save_job(&mut job).await?;
    let given = entries([("progress", json!(50))]);

    assert!(storage.save_job_metadata(job.id(), &given).await?);

    assert_eq!(find(storage, job.id()).await?, job.clone().with_metadata(given));
    job.succeed(None, at(2))?;
    storage.save_job(&mut job).await?;
    Ok(())
}

/// Each name is a value of its own.
pub async fn metadata_is_saved_name_by_name(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let id = stored(storage, an_enqueued_job()).await?.id();

    assert!(storage.save_job_metadata(id, &entries([("a", json!(1)), ("b", json!(1))])).await?);
    assert!(storage.save_job_metadata(id, &entries([("b", json!({ "two": 2 })), ("c", json!([3]))])).await?);

    let expected = entries([("a", json!(1)), ("b", json!({ "two": 2 })), ("c", json!([3]))]);
    assert_eq!(*find(storage, id).await?.metadata(), expected, "a map is replaced, not merged into");
    Ok(())
}

/// Running code names what it saves as it likes: no name is changed, cut, or taken for another one.
pub async fn any_text_up_to_256_bytes_names_metadata(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let long = "x".repeat(256);
    let names =
        ["a", "A", "a ", "a.b", "a.b.c", "$set", "a$b", "é", "e", "0", "jobrunr-log-1-0", "'\"`", &long];
    let given: JobMetadata = names.iter().map(|name| ((*name).to_owned(), json!(name))).collect();
    let inserted = stored(storage, an_enqueued_job().with_metadata(given.clone())).await?.id();
    let saved = stored(storage, an_enqueued_job()).await?.id();

    assert!(storage.save_job_metadata(saved, &given).await?);
    for name in names {
        let entry = JobMetadata::from([(name.to_owned(), json!({ "again": name }))]);
        assert!(storage.save_job_metadata(inserted, &entry).await?);
    }

    assert_eq!(*find(storage, saved).await?.metadata(), given);
    let again = names.iter().map(|name| ((*name).to_owned(), json!({ "again": name }))).collect();
    assert_eq!(*find(storage, inserted).await?.metadata(), again, "each over its own and no other");
    Ok(())
}

/// The completer saves jobs as they were claimed; what the handler wrote since must survive that.
pub async fn a_save_leaves_metadata_alone(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let old = entries([("step", json!(1)), ("kept", json!("yes"))]);
    stored(storage, an_enqueued_job().with_metadata(old)).await?;
    let mut claimed = storage.claim_jobs(&a_claim(1, at(1))).await?.remove(0);
    let id = claimed.id();

    storage.save_job_metadata(id, &entries([("step", json!(2))])).await?;
    claimed.succeed(None, at(2))?;
    storage.save_job(&mut claimed).await?;

    let expected = entries([("step", json!(2)), ("kept", json!("yes"))]);
    assert_eq!(*find(storage, id).await?.metadata(), expected);
    let mut listed = list(storage, JobQuery::all()).await?.remove(0);
    listed.delete(None, at(3))?;
    storage.save_job(&mut listed).await?;
    assert_eq!(*find(storage, id).await?.metadata(), expected, "also of a job that was listed without it");
    Ok(())
}

/// Who writes progress of a job that was purged meanwhile must learn that.
pub async fn metadata_of_an_unknown_job_is_not_saved(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    assert!(!storage.save_job_metadata(JobId::new(), &entries([("a", json!(1))])).await?);
    assert!(!storage.save_job_metadata(JobId::new(), &JobMetadata::new()).await?);

    let job = stored(storage, an_enqueued_job().with_metadata(entries([("a", json!(1))]))).await?;
    storage.delete_jobs(&JobSelection::Ids(vec![job.id()])).await?;
    assert!(!storage.save_job_metadata(job.id(), &entries([("b", json!(2))])).await?);

    let again = stored(storage, job.with_metadata(JobMetadata::new())).await?;
    assert_eq!(find(storage, again.id()).await?, again, "metadata goes with its job");
    Ok(())
}

/// A handler's parts write progress at once, while its job is saved.
pub async fn metadata_written_at_once_is_all_there(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.shared_storage();
    let mut job = stored(fixture.storage(), an_enqueued_job()).await?;
    let id = job.id();
    let writers = (0..16).map(|writer| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move {
            for step in 0..5 {
                let entry = JobMetadata::from([(format!("writer {writer} step {step}"), json!(step))]);
                assert!(storage.save_job_metadata(id, &entry).await?);
            }
            Ok::<_, jobrunr_core::storage::StorageError>(())
        })
    });
    let saver = {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move {
            for second in 0..10 {
                job.start_processing(&server("a"), at(second)).expect("it is ENQUEUED");
                storage.save_job(&mut job).await?;
                job.give_back("again", at(second)).expect("it is PROCESSING");
                storage.save_job(&mut job).await?;
            }
            Ok::<_, SaveConflict>(job)
        })
    };

    for written in try_join_all(writers).await? {
        written?;
    }
    let saved = saver.await??;

    let found = find(&*storage, id).await?;
    assert_eq!(found.metadata().len(), 80);
    assert_eq!((found.version(), found.history()), (saved.version(), saved.history()));
    Ok(())
}

/// A log or a result may be large.
pub async fn large_metadata_survives(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let id = stored(storage, an_enqueued_job()).await?.id();
    let large = entries([("log", json!("line ü\n".repeat(40_000))), ("many", json!(vec![7; 10_000]))]);

    assert!(storage.save_job_metadata(id, &large).await?);

    assert_eq!(*find(storage, id).await?.metadata(), large);
    Ok(())
}
