//! Calls whose futures are dropped midway.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::poll_fn;
use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{
    BoxError, CompareAndSet, JobSelection, Metadata, StorageError, StorageExt, StorageProvider,
};
use jobrunr_core::{Job, JobId, JobMetadata, StateName, Version};
use serde_json::json;

use crate::builders::{
    a_claim, a_job, a_recurring_job, an_announcement, an_enqueued_job, at, enqueued_jobs, ids, insert_all,
    server, signature, stored,
};
use crate::content::{UNBOUNDED, assert_sound, everything};
use crate::dice::Dice;
use crate::{Fixture, ScenarioResult};

/// At how many points each call is tried.
const POINTS: u64 = 50;

/// When a call is given up: after so many polls, or so much time, whichever comes first.
struct Patience {
    polls: usize,
    time: Duration,
}

impl Patience {
    fn random(dice: &mut Dice) -> Self {
        let micros = *dice.one_of(&[0, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000]);
        Self { polls: 1 + dice.below(6), time: Duration::from_micros(micros) }
    }

    /// Polls the call as long as there is patience, then drops it.
    async fn with<T>(
        &self,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<Option<T>, StorageError> {
        let mut call = pin!(call);
        let mut polls = 0;
        let limited = poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => {
                polls += 1;
                if polls >= self.polls { Poll::Ready(None) } else { Poll::Pending }
            }
        });
        match tokio::time::timeout(self.time, limited).await {
            Ok(Some(result)) => result.map(Some),
            Ok(None) | Err(_) => Ok(None),
        }
    }
}

/// Checks that a job is one of these, or missing where that is one of them.
async fn assert_one_of(storage: &dyn StorageProvider, id: JobId, allowed: &[Option<Job>]) -> ScenarioResult {
    let found = storage.find_job(id).await?;
    assert!(allowed.contains(&found), "job {id} is neither old nor new but {found:?}");
    Ok(())
}

/// The points at which a call is given up.
fn points(seed: u64) -> impl Iterator<Item = Patience> {
    let mut dice = Dice::new(seed);
    (0..POINTS).map(move |_| Patience::random(&mut dice))
}

/// Checks that the storage works as ever after all that.
async fn assert_usable(storage: &dyn StorageProvider) -> ScenarioResult {
    assert_sound(&everything(storage).await?);
    let mut job = a_job().of_type("after all").enqueued(at(0));
    assert!(storage.insert_job(&mut job).await?);
    let claim = a_claim(1, at(900)).of_signatures([signature("after all")]);
    let mut claimed = storage.claim_jobs(&claim).await?;
    assert_eq!(claimed.len(), 1, "the storage is not usable any more");
    claimed[0].succeed(None, at(901))?;
    storage.save_job(&mut claimed[0]).await?;
    Ok(())
}

/// Each job is there whole, or not at all.
pub async fn a_dropped_insert_leaves_jobs_whole_or_absent(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for patience in points(1) {
        let metadata = JobMetadata::from([("m".to_owned(), json!(1))]);
        let batch: Vec<Job> = (0..20)
            .map(|number| a_job().labelled(&["l"]).in_state(StateName::ALL[number % 8], at(0)))
            .map(|job| job.with_metadata(metadata.clone()))
            .collect();
        let done = patience.with(storage.insert_jobs(&batch)).await?;
        for job in &batch {
            let allowed = [Some(job.clone()), None];
            let allowed = if done.is_some() { &allowed[..1] } else { &allowed[..] };
            assert_one_of(storage, job.id(), allowed).await?;
        }
        storage.insert_jobs(&batch).await?;
        for job in batch {
            assert_one_of(storage, job.id(), &[Some(job.clone())]).await?;
        }
    }
    assert_usable(storage).await
}

/// The save is there whole, with its version, or not at all.
pub async fn a_dropped_save_leaves_the_job_old_or_new(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for patience in points(2) {
        let mut jobs = enqueued_jobs(10);
        insert_all(storage, &mut jobs).await?;
        let before = jobs.clone();
        for job in &mut jobs {
            job.start_processing(&server("a"), at(1))?;
            job.succeed(None, at(2))?;
        }
        let done = patience.with(storage.save_jobs(&jobs)).await?;
        for (old, new) in before.into_iter().zip(&mut jobs) {
            new.mark_saved();
            let allowed = [Some(new.clone()), Some(old)];
            let allowed = if done.is_some() { &allowed[..1] } else { &allowed[..] };
            assert_one_of(storage, new.id(), allowed).await?;
        }
    }
    assert_usable(storage).await
}

/// The job is claimed, history and version and all, or still in line.
pub async fn a_dropped_claim_leaves_the_jobs_in_line_or_claimed(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for patience in points(3) {
        let mut jobs = enqueued_jobs(10);
        insert_all(storage, &mut jobs).await?;
        let claim = a_claim(UNBOUNDED, at(1));
        let done = patience.with(storage.claim_jobs(&claim)).await?;
        for job in &jobs {
            let mut claimed = job.clone();
            claimed.start_processing(&claim.server, at(1))?;
            claimed.mark_saved();
            let allowed = [Some(claimed), Some(job.clone())];
            let allowed = if done.is_some() { &allowed[..1] } else { &allowed[..] };
            assert_one_of(storage, job.id(), allowed).await?;
        }
        storage.delete_jobs(&JobSelection::Ids(ids(&jobs))).await?;
    }
    assert_usable(storage).await
}

/// Released with its entry, or still waiting.
pub async fn a_dropped_release_leaves_the_jobs_scheduled_or_enqueued(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    for patience in points(4) {
        let mut jobs: Vec<Job> = (0..10).map(|_| a_job().scheduled(at(0), at(1))).collect();
        insert_all(storage, &mut jobs).await?;
        let done = patience.with(storage.enqueue_due_jobs(at(1), UNBOUNDED)).await?;
        for job in &jobs {
            let mut released = job.clone();
            released.enqueue(at(1))?;
            released.mark_saved();
            let allowed = [Some(released), Some(job.clone())];
            let allowed = if done.is_some() { &allowed[..1] } else { &allowed[..] };
            assert_one_of(storage, job.id(), allowed).await?;
        }
    }
    assert_usable(storage).await
}

/// Gone with all that belonged to it, or untouched.
pub async fn a_dropped_deletion_leaves_the_jobs_whole_or_gone(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for patience in points(5) {
        let mut jobs: Vec<Job> =
            (0..10).map(|_| a_job().labelled(&["l"]).in_state(StateName::Failed, at(0))).collect();
        insert_all(storage, &mut jobs).await?;
        let selection = JobSelection::Ids(ids(&jobs));
        let done = patience.with(storage.delete_jobs(&selection)).await?;
        for job in &jobs {
            let allowed = [None, Some(job.clone())];
            let allowed = if done.is_some() { &allowed[..1] } else { &allowed[..] };
            assert_one_of(storage, job.id(), allowed).await?;
        }
    }
    assert_usable(storage).await
}

/// All names of one call, or none of them.
pub async fn dropped_job_metadata_is_saved_whole_or_not_at_all(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for patience in points(6) {
        let job = stored(storage, an_enqueued_job()).await?;
        let entries =
            JobMetadata::from([("a".to_owned(), json!(1)), ("b".to_owned(), json!("x".repeat(1_000)))]);
        let done = patience.with(storage.save_job_metadata(job.id(), &entries)).await?;
        let allowed = [Some(job.clone().with_metadata(entries)), Some(job.clone())];
        let allowed = if done.is_some() { &allowed[..1] } else { &allowed[..] };
        assert_one_of(storage, job.id(), allowed).await?;
    }
    assert_usable(storage).await
}

/// The small stores: recurring jobs, servers, metadata.
pub async fn other_dropped_calls_leave_what_they_change_old_or_new(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for patience in points(7) {
        let recurring = a_recurring_job(&JobId::new().to_string());
        patience.with(storage.save_recurring_job(&recurring)).await?;
        let found = storage.find_recurring_job(&recurring.id).await?;
        let saved = RecurringJob { version: Version::FIRST, ..recurring.clone() };
        assert!(found.is_none_or(|found| found == saved));
        patience.with(storage.delete_recurring_job(&recurring.id, None)).await?;

        let name = recurring.id.as_str();
        let metadata = Metadata::new(name, "owner", "old", at(0));
        storage.save_metadata(&metadata).await?;
        let change = CompareAndSet {
            name: name.to_owned(),
            owner: "owner".to_owned(),
            expected: Some("old".to_owned()),
            new: "new".to_owned(),
            now: at(1),
        };
        patience.with(storage.compare_and_set_metadata(&change)).await?;
        let changed = Metadata { value: "new".to_owned(), updated_at: at(1), ..metadata.clone() };
        let found = value(storage, name).await?;
        assert!(found == metadata || found == changed, "{found:?}");

        let server = an_announcement("server");
        patience.with(storage.announce_server(&server)).await?;
        let listed = storage.list_servers().await?;
        let found = listed.into_iter().find(|record| record.announcement.id == server.id);
        assert!(found.is_none_or(|record| record.announcement == server));
        patience.with(storage.remove_server(server.id)).await?;
    }
    assert_usable(storage).await
}

async fn value(storage: &dyn StorageProvider, name: &str) -> Result<Metadata, BoxError> {
    storage.find_metadata(name, "owner").await?.ok_or_else(|| "the value is gone".into())
}
