//! Recurring jobs and their runs, as core makes them of the contract: by several processes on one database.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::try_join_all;
use jobrunr_core::recurring::{OverlapPolicy, RecurringJobBuilder};
use jobrunr_core::storage::{JobQuery, RecurringJobQuery, RecurringSave, StorageExt};
use jobrunr_core::{JobId, StateName};

use crate::builders::ids;
use crate::content::list;
use crate::house::{Film, House};
use crate::{Fixture, ScenarioResult};

/// What one process says counts for all, at once.
pub async fn a_recurring_job_is_paused_resumed_triggered_and_deleted_by_any_process(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let hour = Duration::from_secs(3_600);
    let id = house.here.schedule_recurrently("films", hour, Film { number: 1 }).await?;
    let saved = house.there.find_recurring_job(&id).await?.ok_or("it is gone")?;
    let next = saved.next_tick_at().ok_or("it has no next tick")?;
    assert_eq!(next - saved.created_at, TimeDelta::hours(1), "the next run is visible ahead of time");
    let in_a_day = RecurringJobQuery { due_at: Some(next + TimeDelta::days(1)), ..Default::default() };

    house.there.pause_recurring_job(&id).await?;
    assert_eq!(house.near.list_recurring_jobs(&in_a_day).await?, []);
    house.here.resume_recurring_job(&id).await?;
    let resumed = house.far.list_recurring_jobs(&in_a_day).await?;
    assert_eq!(resumed.iter().map(|job| job.next_run_at).collect::<Vec<_>>(), [Some(next)]);

    let started = house.there.trigger_recurring_job(&id).await?;
    assert_eq!(house.claim().await?.id(), started);
    let waiting = house.there.trigger_recurring_job(&id).await?;
    let open_runs = house.here.find_recurring_job(&id).await?.map(|job| job.open_runs);
    assert_eq!(open_runs, Some(vec![started, waiting]));

    let half = Duration::from_secs(1_800);
    house.there.schedule_recurrently("films", half, Film { number: 2 }).await?;
    let changed = house.here.find_recurring_job(&id).await?.ok_or("it is gone")?;
    assert!(changed.next_tick_at().is_some_and(|changed| changed < next), "another schedule counts at once");

    assert!(house.there.delete_recurring_job(&id).await?);
    assert_eq!(house.here.list_recurring_jobs().await?, []);
    assert_eq!(house.seen(waiting).await?.state_name(), StateName::Deleted, "it had not started");
    assert_eq!(house.seen(started).await?.state_name(), StateName::Processing, "it goes on");
    assert!(!house.here.delete_recurring_job(&id).await?);
    Ok(())
}

/// A tick has one run, and one of those who deal with it moves the recurring job on.
pub async fn a_tick_has_one_run_however_many_masters_create_it(fixture: &Fixture<'_>) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let builder = RecurringJobBuilder::new(Duration::from_secs(60), Film { number: 1 });
    let builder = builder.id("films").overlap(OverlapPolicy::Allow);
    let id = house.here.save_recurring_job(builder).await?;
    let mut expected: Vec<JobId> = Vec::new();
    for _ in 0..5 {
        let job = house.here.find_recurring_job(&id).await?.ok_or("it is gone")?;
        let tick = job.next_tick_at().ok_or("it has no next tick")?;
        let masters = (0..8).map(|number| {
            let storage = Arc::clone(if number % 2 == 0 { &house.near } else { &house.far });
            let mut job = job.clone();
            tokio::spawn(async move {
                let mut run = job.run_of_tick(tick).into_job(tick)?;
                let is_new = storage.insert_job(&mut run).await?;
                job.last_tick_at = Some(tick);
                job.set_next_tick(Some(tick + TimeDelta::seconds(60)));
                let is_first = storage.save_recurring_job(&job).await? != RecurringSave::Conflict;
                Ok::<_, jobrunr_core::storage::BoxError>((is_new, is_first))
            })
        });
        let mut came_first = (0, 0);
        for answer in try_join_all(masters).await? {
            let (is_new, is_first) = answer?;
            came_first = (came_first.0 + usize::from(is_new), came_first.1 + usize::from(is_first));
        }

        assert_eq!(came_first, (1, 1), "one created the run, one moved the recurring job on");
        expected.push(JobId::of_tick(&id, tick));
    }

    let mut runs = ids(&list(&*house.near, JobQuery::all().recurring_job_id(id)).await?);
    runs.sort();
    expected.sort();
    assert_eq!(runs, expected);
    Ok(())
}
