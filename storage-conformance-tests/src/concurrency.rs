//! Several tasks that do anything at once, and what must be true afterwards: scenario 76.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join_all;
use jobrunr_core::storage::{
    BoxError, JobQuery, JobSelection, SignatureSelection, StorageExt, StorageProvider,
};
use jobrunr_core::{HistoryEntry, Job, JobId, JobMetadata, JobState, StateName, Version};
use serde_json::json;

use crate::builders::{a_claim, a_job, at, ids, move_to, numbered_id};
use crate::content::{assert_one_version_an_entry, assert_sound, everything, find, recount};
use crate::dice::Dice;
use crate::{Fixture, ScenarioResult};

const TASKS: u64 = 4;
const ROUNDS: usize = 250;
/// How many of each task's latest jobs are looked for: few, so that the tasks meet.
const RECENT: usize = 15;

/// What one task was told by the storage.
#[derive(Default)]
struct Told {
    task: u64,
    /// How many ids this task has given to new jobs. None is given twice: a save that was loaded from a job that is gone
    /// could win against another one under its id that has come to the same version.
    ids_given: u64,
    /// Versions of jobs that were given to this task, by claim, release or won save.
    versions: Vec<(JobId, Version)>,
    /// How often an id was new, and how often it was removed.
    inserted: HashMap<JobId, usize>,
    removed: HashMap<JobId, usize>,
    /// Jobs removed by age, of which only the number is told.
    purged: u64,
    succeeded: u64,
    /// The longest history seen of each life of a job; a life begins with its first entry.
    histories: HashMap<(JobId, DateTime<Utc>), Vec<HistoryEntry>>,
    metadata: HashMap<(JobId, DateTime<Utc>), HashSet<String>>,
}

/// Inserts, claims, saves, releases, deletes and lists at once; then every invariant is checked over the whole content.
pub async fn tasks_that_do_anything_at_once_keep_every_invariant(fixture: &Fixture<'_>) -> ScenarioResult {
    let other = fixture.another_storage().await?;
    let tasks = (0..TASKS).map(|number| {
        let storage = if number % 2 == 0 { fixture.shared_storage() } else { Arc::clone(&other) };
        tokio::spawn(async move { work(&*storage, number).await.map_err(|error| error.to_string()) })
    });
    let mut told = Vec::new();
    for one in try_join_all(tasks).await? {
        told.push(one?);
    }

    let storage = fixture.storage();
    let left = everything(storage).await?;
    assert_sound(&left);
    left.iter().for_each(assert_one_version_an_entry);
    for job in &left {
        assert_never_early(job);
        assert_eq!(find(storage, job.id()).await?.history(), job.history());
    }
    assert_no_version_was_given_twice(&told);
    assert_nothing_is_lost(&told, &left)?;
    assert_histories_only_grew(&told, &left);
    assert_metadata_is_kept(storage, &told, &left).await?;
    let succeeded = told.iter().map(|one| one.succeeded).sum();
    assert_eq!(storage.job_counts().await?, recount(&left, succeeded));
    Ok(())
}

async fn work(storage: &dyn StorageProvider, number: u64) -> Result<Told, BoxError> {
    let mut dice = Dice::new(number);
    let mut told = Told { task: number, ..Told::default() };
    for round in 0..ROUNDS {
        // Every job's first entry has a time of its own, so that two lives under one id can be told apart.
        let round = i64::try_from(round)?;
        let now = at(10 * round) + TimeDelta::microseconds(i64::try_from(number)?);
        match dice.below(12) {
            0..=2 => insert(storage, &mut dice, &mut told, now).await?,
            3..=4 => claim_and_end(storage, &mut dice, &mut told, now).await?,
            5..=6 => change_some(storage, &mut dice, &mut told, now).await?,
            7 => told.note_released(storage, now).await?,
            8 => remove_some(storage, &mut dice, &mut told, now).await?,
            9 => save_metadata(storage, &mut dice, &mut told, round).await?,
            _ => look(storage, &mut dice, &mut told).await?,
        }
    }
    Ok(told)
}

async fn insert(
    storage: &dyn StorageProvider,
    dice: &mut Dice,
    told: &mut Told,
    now: DateTime<Utc>,
) -> ScenarioResult {
    let batch: Vec<Job> = (0..4)
        .map(|place| {
            // Now and then an id comes twice in a batch.
            if place == 0 || dice.below(8) > 0 {
                told.ids_given += 1;
            }
            let job = a_job().id(id_of(told.task, told.ids_given)).labelled(&["any"]);
            if dice.below(2) == 0 {
                job.enqueued(now)
            } else {
                job.scheduled(now, now + TimeDelta::seconds(25))
            }
        })
        .collect();
    let mut present = storage.insert_jobs(&batch).await?.already_present;
    // Of several mentions in the batch the first can be new; the report names the others, from the front.
    for job in batch.iter().rev() {
        if let Some(place) = present.iter().rposition(|id| *id == job.id()) {
            present.remove(place);
        } else {
            *told.inserted.entry(job.id()).or_default() += 1;
        }
    }
    Ok(())
}

async fn claim_and_end(
    storage: &dyn StorageProvider,
    dice: &mut Dice,
    told: &mut Told,
    now: DateTime<Utc>,
) -> ScenarioResult {
    let mut claimed = storage.claim_jobs(&a_claim(5, now)).await?;
    told.note_versions(&claimed);
    for job in &mut claimed {
        let end = [StateName::Succeeded, StateName::Failed, StateName::Enqueued, StateName::Processed];
        move_to(job, *dice.one_of(&end), now);
    }
    told.save(storage, claimed).await
}

async fn change_some(
    storage: &dyn StorageProvider,
    dice: &mut Dice,
    told: &mut Told,
    now: DateTime<Utc>,
) -> ScenarioResult {
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let id = told.some_id(dice)?;
        jobs.extend(storage.find_job(id).await?);
    }
    for job in &mut jobs {
        told.note_history(job);
        let from = job.state_name();
        let mut legal: Vec<StateName> =
            StateName::ALL.into_iter().filter(|to| from.can_become(*to)).collect();
        // What leaves SCHEDULED before its time does so only by being deleted, here.
        legal.retain(|to| from != StateName::Scheduled || *to == StateName::Deleted);
        move_to(job, *dice.one_of(&legal), now);
    }
    told.save(storage, jobs).await
}

async fn remove_some(
    storage: &dyn StorageProvider,
    dice: &mut Dice,
    told: &mut Told,
    now: DateTime<Utc>,
) -> ScenarioResult {
    if dice.below(2) == 0 {
        let id = told.some_id(dice)?;
        if storage.delete_jobs(&JobSelection::Ids(vec![id])).await? == 1 {
            *told.removed.entry(id).or_default() += 1;
        }
    } else {
        let selection = JobSelection::Aged {
            state: *dice.one_of(&[StateName::Deleted, StateName::Succeeded]),
            updated_before: now - TimeDelta::seconds(50),
            signatures: SignatureSelection::All,
            limit: 3,
        };
        told.purged += storage.delete_jobs(&selection).await?;
    }
    Ok(())
}

async fn save_metadata(
    storage: &dyn StorageProvider,
    dice: &mut Dice,
    told: &mut Told,
    round: i64,
) -> ScenarioResult {
    let id = told.some_id(dice)?;
    let Some(before) = storage.find_job(id).await? else { return Ok(()) };
    let name = format!("{round} by {id}");
    let entry = JobMetadata::from([(name.clone(), json!(round))]);
    if storage.save_job_metadata(id, &entry).await? {
        // Race: the job may have been removed and come again in between; then this was for its next life.
        let after = storage.find_job(id).await?;
        if after.is_some_and(|after| after.created_at() == before.created_at()) {
            told.metadata.entry((id, before.created_at())).or_default().insert(name);
        }
    }
    Ok(())
}

async fn look(storage: &dyn StorageProvider, dice: &mut Dice, told: &mut Told) -> ScenarioResult {
    let state = *dice.one_of(&StateName::ALL);
    for job in storage.list_jobs(&JobQuery::in_state(state).label("any").limit(20)).await? {
        assert_eq!(job.state_name(), state, "a list shows a job in another state than was asked for");
        assert_sound(std::slice::from_ref(&job));
        assert_one_version_an_entry(&job);
        told.note_history(&job);
    }
    storage.job_counts().await?;
    Ok(())
}

/// The id that a task gives to its job of this number.
fn id_of(task: u64, number: u64) -> JobId {
    numbered_id(10_000 * task + number)
}

impl Told {
    /// The id of a job that this task, or another one at about the same time, may have inserted lately.
    fn some_id(&self, dice: &mut Dice) -> Result<JobId, BoxError> {
        let tasks = usize::try_from(TASKS)?;
        let age = u64::try_from(dice.below(RECENT))?;
        Ok(id_of(u64::try_from(dice.below(tasks))?, self.ids_given.saturating_sub(age)))
    }

    fn note_versions(&mut self, jobs: &[Job]) {
        for job in jobs {
            self.versions.push((job.id(), job.version()));
            self.note_history(job);
        }
    }

    fn note_history(&mut self, job: &Job) {
        let seen = self.histories.entry((job.id(), job.created_at())).or_default();
        if seen.len() < job.history().len() {
            *seen = job.history().to_vec();
        }
    }

    async fn save(&mut self, storage: &dyn StorageProvider, mut jobs: Vec<Job>) -> ScenarioResult {
        let loaded: Vec<Version> = jobs.iter().map(Job::version).collect();
        storage.save_all(&mut jobs).await?;
        let mut versions = loaded.into_iter();
        jobs.retain(|job| versions.next() != Some(job.version()));
        let succeeded = jobs.iter().filter(|job| job.state_name() == StateName::Succeeded).count();
        self.succeeded += u64::try_from(succeeded)?;
        self.note_versions(&jobs);
        Ok(())
    }

    async fn note_released(&mut self, storage: &dyn StorageProvider, now: DateTime<Utc>) -> ScenarioResult {
        let report = storage.enqueue_due_jobs(now, 5).await?;
        assert!(report.released.len() <= 5);
        for id in report.released {
            if let Some(job) = storage.find_job(id).await? {
                self.note_history(&job);
            }
        }
        Ok(())
    }
}

/// A job leaves SCHEDULED by release, at its time or later.
fn assert_never_early(job: &Job) {
    for pair in job.history().windows(2) {
        if let (JobState::Scheduled { scheduled_at, .. }, JobState::Enqueued { .. }) =
            (&pair[0].state, &pair[1].state)
        {
            assert!(pair[1].at >= *scheduled_at, "job {} was released early: {:?}", job.id(), job.history());
        }
    }
}

fn assert_no_version_was_given_twice(told: &[Told]) {
    // Within one life of a job; a version may come again only after the job was removed.
    let lives =
        |id: &JobId| 1 + told.iter().map(|one| one.inserted.get(id).copied().unwrap_or(0)).sum::<usize>();
    let mut given: HashMap<(JobId, Version), usize> = HashMap::new();
    for key in told.iter().flat_map(|one| &one.versions) {
        *given.entry(*key).or_default() += 1;
    }
    for ((id, version), times) in given {
        assert!(times < lives(&id), "version {version} of job {id} was given to {times}");
    }
}

/// What was inserted and not removed is there; removals by age are known only in sum.
fn assert_nothing_is_lost(told: &[Told], left: &[Job]) -> ScenarioResult {
    let sum =
        |of: fn(&Told) -> &HashMap<JobId, usize>| told.iter().flat_map(|one| of(one).values()).sum::<usize>();
    let purged: u64 = told.iter().map(|one| one.purged).sum();
    let (inserted, removed) = (sum(|one| &one.inserted), sum(|one| &one.removed));
    assert_eq!(
        inserted,
        left.len() + removed + usize::try_from(purged)?,
        "inserted = left + removed + purged"
    );
    let known: HashSet<JobId> = told.iter().flat_map(|one| one.inserted.keys().copied()).collect();
    assert!(ids(left).iter().all(|id| known.contains(id)), "a job is there that nobody inserted");
    Ok(())
}

/// Whatever anybody saw of a history is how it still begins.
fn assert_histories_only_grew(told: &[Told], left: &[Job]) {
    for job in left {
        for seen in told.iter().filter_map(|one| one.histories.get(&(job.id(), job.created_at()))) {
            assert!(
                job.history().starts_with(seen),
                "the history of job {} was seen as {seen:?} and is {:?}",
                job.id(),
                job.history()
            );
        }
    }
}

async fn assert_metadata_is_kept(
    storage: &dyn StorageProvider,
    told: &[Told],
    left: &[Job],
) -> ScenarioResult {
    for job in left {
        let metadata = find(storage, job.id()).await?.metadata().clone();
        for names in told.iter().filter_map(|one| one.metadata.get(&(job.id(), job.created_at()))) {
            assert!(
                names.iter().all(|name| metadata.contains_key(name)),
                "metadata of job {} was lost",
                job.id()
            );
        }
    }
    Ok(())
}
