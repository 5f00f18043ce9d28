//! Dealing with due ticks: first their runs are created, then the recurring jobs are moved on to their next tick.
//!
//! Whoever does it, and however often: the id of a run follows from its tick, so it is created once; a recurring job is moved
//! on under its version, so one of several who try wins. Dying between the two loses nothing, because the tick is still due
//! then, and doubles nothing, because its run is found to exist.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;

use chrono::{DateTime, Utc};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use jobrunr_core::recurring::{DueTicks, RecurringJob};
use jobrunr_core::storage::{RecurringSave, StorageError};
use jobrunr_core::{Job, JobId, JobState, RecurringJobId, StateName};

use super::overlap::{self, Start};
use super::recurring::Complaints;
use crate::completer::Saved;
use crate::engine::Engine;
use crate::health::with_sources;

/// How many recurring jobs are looked after at once.
const AT_ONCE: usize = 16;

/// One recurring job whose ticks are being dealt with.
struct Due {
    recurring: RecurringJob,
    ticks: Option<DueTicks>,
    /// The runs to be created, in order.
    runs: Vec<Job>,
}

/// Creates the runs of due ticks and moves their recurring jobs on; returns when these are due next.
///
/// What is wrong with one recurring job is said and keeps none of the others.
///
/// # Errors
/// If the storage is not available; everything is still to be done, or done again, then.
pub(super) async fn deal_with(
    engine: &Engine,
    recurring: Vec<RecurringJob>,
    now: DateTime<Utc>,
    complaints: &mut Complaints,
) -> Result<Vec<DateTime<Utc>>, StorageError> {
    let mut due = Vec::with_capacity(recurring.len());
    for recurring in recurring {
        match due_ticks(engine, &recurring, now) {
            Ok(ticks) => due.push(Due { recurring, ticks, runs: Vec::new() }),
            Err(why) => complaints.say(&recurring.id, format!("its ticks cannot be told: {why}")),
        }
    }
    let prepared = stream::iter(due).map(|due| prepare(engine, due, now)).buffer_unordered(AT_ONCE);
    let mut due = Vec::new();
    for (id, prepared) in prepared.try_collect::<Vec<_>>().await? {
        match prepared {
            Ok(one) => due.push(one),
            Err(error) => complaints.say(&id, format!("its earlier runs cannot be looked at: {error}")),
        }
    }
    let created = create(engine, &mut due, complaints).await?;
    let moved = stream::iter(due).map(|due| move_on(engine, due, now, &created)).buffer_unordered(AT_ONCE);
    let mut next_runs = Vec::new();
    for (id, moved) in moved.collect::<Vec<_>>().await {
        match moved {
            Ok(next_run) => {
                complaints.withdraw(&id);
                next_runs.extend(next_run);
            }
            Err(error) if error.is_retryable() || is_closed(&error) => return Err(error),
            Err(error) => complaints.say(&id, format!("it cannot be moved on: {}", with_sources(&error))),
        }
    }
    Ok(next_runs)
}

const fn is_closed(error: &StorageError) -> bool {
    matches!(error, StorageError::Closed { .. })
}

/// Asks the schedule, which may be somebody's own code.
fn due_ticks(engine: &Engine, job: &RecurringJob, now: DateTime<Utc>) -> Result<Option<DueTicks>, String> {
    let on_time = engine.settings.server_timeout;
    let ask = AssertUnwindSafe(|| job.due_ticks(engine.scheduler.schedules(), now, on_time));
    match std::panic::catch_unwind(ask) {
        Ok(Ok(ticks)) => Ok(ticks),
        Ok(Err(error)) => Err(with_sources(&error)),
        Err(_) => Err(format!("the schedule {} panicked", job.schedule)),
    }
}

/// Decides which runs begin, and how, and makes them. An error within belongs to this recurring job alone.
async fn prepare(
    engine: &Engine,
    mut due: Due,
    now: DateTime<Utc>,
) -> Result<(RecurringJobId, Result<Due, StorageError>), StorageError> {
    let id = due.recurring.id.clone();
    let Some(ticks) = &due.ticks else { return Ok((id, Ok(due))) };
    let starts = match overlap::starts(engine, &mut due.recurring, &ticks.to_run).await {
        Ok(starts) => starts,
        Err(error) if error.is_retryable() || is_closed(&error) => return Err(error),
        Err(error) => return Ok((id, Err(error))),
    };
    for (tick, start) in starts {
        match run_of(engine, &due.recurring, tick, start, now) {
            Ok(run) => due.runs.push(run),
            Err(why) => {
                tracing::error!(recurring_job.id = %id, "the tick at {tick} is passed over: filters spoil its run: {why}");
            }
        }
    }
    Ok((id, Ok(due)))
}

/// The run of a tick as it is to be inserted: SCHEDULED for its tick, which has come, and so where it is to go from there.
fn run_of(
    engine: &Engine,
    recurring: &RecurringJob,
    tick: DateTime<Utc>,
    start: Start,
    now: DateTime<Utc>,
) -> Result<Job, String> {
    let mut draft = recurring.run_of_tick(tick);
    let id = draft.id;
    engine.filters.creating(&mut draft);
    // The id is what keeps the tick from being run twice, and the other one what its runs are found by.
    draft.id = id;
    draft.definition.settings.recurring_job_id = Some(recurring.id.clone());
    let mut run = draft.into_job(now).map_err(|error| with_sources(&error))?;
    // A filter may have moved it to another time or state; then that counts.
    if matches!(run.state(), JobState::Scheduled { scheduled_at, .. } if *scheduled_at <= now) {
        run.enqueue(now).map_err(|illegal| illegal.to_string())?;
        if let Start::After(previous) = start {
            let reason = Some("the run before has not ended".to_owned());
            let waits = JobState::Awaiting { job: Some(previous), reason };
            run.transition(waits, now).map_err(|illegal| illegal.to_string())?;
        }
    }
    Ok(run)
}

/// Inserts the runs of all; returns those that are new. A run that the storage refuses is passed over.
async fn create(
    engine: &Engine,
    due: &mut [Due],
    complaints: &mut Complaints,
) -> Result<HashSet<JobId>, StorageError> {
    let mut runs: Vec<Job> = due.iter().flat_map(|due| due.runs.iter().cloned()).collect();
    if runs.is_empty() {
        return Ok(HashSet::new());
    }
    let already_present = match engine.storage.insert_jobs(&runs).await {
        Ok(report) => report.already_present,
        Err(error) if error.is_retryable() || is_closed(&error) => return Err(error),
        Err(_) => {
            let (accepted, present) = create_one_by_one(engine, due, complaints).await?;
            runs.retain(|run| accepted.contains(&run.id()));
            present
        }
    };
    let present: HashSet<JobId> = already_present.into_iter().collect();
    let new: Vec<Job> = runs.into_iter().filter(|run| !present.contains(&run.id())).collect();
    let ids = new.iter().map(Job::id).collect();
    if new.iter().any(|run| run.state_name() == StateName::Enqueued) {
        engine.expect_work();
    }
    if new.iter().any(|run| run.state_name() == StateName::Awaiting) {
        // Race: the run it waits for may have ended before it began to wait.
        engine.recurring_run_ended.notify_one();
    }
    if !engine.filters.is_empty() {
        new.into_iter().for_each(|run| engine.tell_filters(Saved::new(run)));
    }
    Ok(ids)
}

/// Inserts run by run, because the storage refuses one of them; returns those it takes, and which of them were there.
async fn create_one_by_one(
    engine: &Engine,
    due: &mut [Due],
    complaints: &mut Complaints,
) -> Result<(HashSet<JobId>, Vec<JobId>), StorageError> {
    let (mut accepted, mut present) = (HashSet::new(), Vec::new());
    for Due { recurring, runs, .. } in due {
        for run in std::mem::take(runs) {
            match engine.storage.insert_jobs(std::slice::from_ref(&run)).await {
                Ok(report) => {
                    present.extend(report.already_present);
                    accepted.insert(run.id());
                    runs.push(run);
                }
                Err(error) if error.is_retryable() || is_closed(&error) => return Err(error),
                Err(error) => {
                    recurring.open_runs.retain(|open| *open != run.id());
                    let why = with_sources(&error);
                    complaints
                        .say(&recurring.id, format!("its run is refused, so its tick is passed over: {why}"));
                }
            }
        }
    }
    Ok((accepted, present))
}

/// Saves that the ticks were dealt with; returns when the recurring job is due next.
async fn move_on(
    engine: &Engine,
    due: Due,
    now: DateTime<Utc>,
    created: &HashSet<JobId>,
) -> (RecurringJobId, Result<Option<DateTime<Utc>>, StorageError>) {
    let Due { mut recurring, ticks, runs } = due;
    let id = recurring.id.clone();
    if let Some(DueTicks { last_tick_at, next_tick_at, .. }) = ticks {
        recurring.last_tick_at = Some(last_tick_at);
        recurring.set_next_tick(next_tick_at);
        recurring.updated_at = now;
        match engine.storage.save_recurring_job(&recurring).await {
            Ok(RecurringSave::Saved(_)) => {}
            Ok(RecurringSave::Conflict) => {
                let mine = runs.iter().filter(|run| created.contains(&run.id()));
                return (id.clone(), withdraw_if_deleted(engine, &id, mine).await.map(|()| None));
            }
            Err(error) => return (id, Err(error)),
        }
    }
    if recurring.is_over(now) {
        return (id.clone(), remove(engine, &id).await.map(|()| None));
    }
    (id, Ok(recurring.next_run_at))
}

/// Race: the recurring job was deleted after it was read, and its runs that had not started with it; these came too late.
async fn withdraw_if_deleted(
    engine: &Engine,
    id: &RecurringJobId,
    runs: impl Iterator<Item = &Job>,
) -> Result<(), StorageError> {
    if engine.storage.find_recurring_job(id).await?.is_some() {
        return Ok(());
    }
    for run in runs {
        overlap::delete_run(engine, run.id(), &format!("the recurring job {id} was deleted"), |run| {
            run.server_id().is_none()
        })
        .await?;
    }
    Ok(())
}

/// Removes a recurring job that is over; one that was given more time meanwhile stays.
pub(super) async fn remove(engine: &Engine, id: &RecurringJobId) -> Result<(), StorageError> {
    let is_over = |job: &RecurringJob| job.is_over(engine.now());
    // Race: who saves it between the look and the removal wins, and what was saved is looked at again.
    while let Some(job) = engine.storage.find_recurring_job(id).await?.filter(is_over) {
        if engine.storage.delete_recurring_job(id, Some(job.version)).await? {
            tracing::info!(recurring_job.id = %id, "a recurring job has come to its end and was removed");
            break;
        }
    }
    Ok(())
}
