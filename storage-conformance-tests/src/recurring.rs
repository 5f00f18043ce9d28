//! Recurring jobs: scenarios 47 to 51.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use jobrunr_core::limits::MAX_RECURRING_JOB_ID_BYTES;
use jobrunr_core::recurring::{MisfirePolicy, OverlapPolicy, RecurringJob};
use jobrunr_core::schedule::{Cron, CustomSchedule, Interval, RecurringSchedule, Tz};
use jobrunr_core::storage::{BoxError, RecurringJobQuery, RecurringSave, StorageProvider};
use jobrunr_core::{JsonText, RecurringJobId, Version};
use serde_json::json;

use crate::builders::{
    MICROSECOND, a_recurring_job, at, at_micros, labels, numbered_id, queue, recurring_id,
};
use crate::{Fixture, ScenarioResult};

fn with_version(mut job: RecurringJob, version: Version) -> RecurringJob {
    job.version = version;
    job
}

async fn save(storage: &dyn StorageProvider, mut job: RecurringJob) -> Result<RecurringJob, BoxError> {
    match storage.save_recurring_job(&job).await? {
        RecurringSave::Saved(version) => job.version = version,
        RecurringSave::Conflict => return Err(format!("{} was not saved", job.id).into()),
    }
    Ok(job)
}

async fn list(storage: &dyn StorageProvider) -> Result<Vec<RecurringJob>, BoxError> {
    Ok(storage.list_recurring_jobs(&RecurringJobQuery::default()).await?)
}

/// From its first save to its deletion.
pub async fn a_recurring_job_is_saved_replaced_and_deleted(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let id = recurring_id("report");
    assert_eq!(storage.find_recurring_job(&id).await?, None);
    assert!(!storage.delete_recurring_job(&id, None).await?);

    let first = a_recurring_job("report");
    assert_eq!(storage.save_recurring_job(&first).await?, RecurringSave::Saved(Version::FIRST));
    let first = with_version(first, Version::FIRST);
    assert_eq!(storage.find_recurring_job(&id).await?, Some(first.clone()));
    save(storage, a_recurring_job("bystander")).await?;

    let mut second = a_recurring_job("report");
    second.template.name = "another report".to_owned();
    assert_eq!(storage.save_recurring_job(&second).await?, RecurringSave::Saved(Version::new(2)));
    let second = with_version(second, Version::new(2));
    assert_eq!(storage.find_recurring_job(&id).await?, Some(second), "an unsaved one replaces what is there");
    assert_eq!(list(storage).await?.len(), 2);

    assert!(storage.delete_recurring_job(&id, None).await?);
    assert!(!storage.delete_recurring_job(&id, None).await?);
    assert_eq!(storage.find_recurring_job(&id).await?, None);
    assert_eq!(list(storage).await?.len(), 1);
    assert_eq!(storage.save_recurring_job(&first).await?, RecurringSave::Conflict, "what is gone stays gone");
    assert_eq!(storage.find_recurring_job(&id).await?, None);
    assert_eq!(save(storage, a_recurring_job("report")).await?.version, Version::FIRST);
    Ok(())
}

/// By bytes of the id, complete, and in pages.
pub async fn recurring_jobs_are_listed_by_id_all_5_000_of_them(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let names = ["job", "Job", "job_", "job-"];
    let given = (0..5_000_usize).map(|number| format!("{}{}", names[number % 4], number * 7_919 % 5_000));
    // Many at once, so that a storage which gathers its writes can.
    let saving = stream::iter(given).map(|id| save(storage, a_recurring_job(&id))).buffered(32);
    let mut expected: Vec<RecurringJob> = saving.try_collect().await?;
    expected.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));

    assert!(list(storage).await? == expected, "complete and in the order of the bytes of the ids");

    let mut pages = Vec::new();
    let mut query = RecurringJobQuery { limit: Some(999), ..RecurringJobQuery::default() };
    loop {
        let page = storage.list_recurring_jobs(&query).await?;
        let Some(last) = page.last() else { break };
        query.after = Some(last.id.clone());
        pages.extend(page);
        assert!(pages.len() <= expected.len(), "the pages never end");
    }
    assert!(pages == expected, "in pages too");
    Ok(())
}

/// Everything that can be said of one.
pub async fn every_field_of_a_recurring_job_survives(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut full = a_recurring_job("full");
    let data = json!({ "n": [u64::MAX, i64::MIN, 0.5, null], "text": "Zoë's \"%_\\ 🦀" });
    full.schedule = CustomSchedule::new("tides", data).into();
    full.template.payload = JsonText::parse(r#"{ "b":1.0, "a":[18446744073709551615,"é\u0000"], "a":2 }"#)?;
    full.template.name = "Zoë's \"report\" 100% 🦀".to_owned();
    full.template.labels = labels(&["b", "a", "it's"]);
    full.template.queue = queue("low.prio-1_x");
    full.template.priority = i32::MIN;
    full.template.retries = Some(u32::MAX);
    full.paused = true;
    full.last_tick_at = Some(at_micros(123_456));
    full.next_run_at = Some(at_micros(60_123_457));
    full.delete_at = Some(at_micros(999_999_999_999));
    full.updated_at = at_micros(7);
    full.template.timeout = Some(Duration::from_micros(86_400_000_001));
    full.open_runs = (1..=100).map(numbered_id).rev().collect();
    for misfire in [MisfirePolicy::Skip, MisfirePolicy::RunOnce, MisfirePolicy::RunAll { at_most: 7 }] {
        for overlap in [
            OverlapPolicy::Skip,
            OverlapPolicy::Allow,
            OverlapPolicy::QueueOne,
            OverlapPolicy::CancelPrevious,
        ] {
            let given = RecurringJob { misfire, overlap, ..full.clone() };

            let saved = save(storage, RecurringJob { version: Version::UNSAVED, ..given }).await?;

            assert_eq!(storage.find_recurring_job(&saved.id).await?, Some(saved.clone()));
            assert_eq!(list(storage).await?, [saved]);
        }
    }
    Ok(())
}

/// Each kind of schedule is data of its own.
pub async fn every_kind_of_schedule_survives(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let schedules: [RecurringSchedule; 4] = [
        Cron::daily().into(),
        Cron::weekly().in_zone(Tz::America__St_Johns).into(),
        Interval::new(Duration::from_micros(90_000_001), at_micros(3))?.into(),
        CustomSchedule::new("tides", json!(null)).into(),
    ];
    for (number, schedule) in schedules.into_iter().enumerate() {
        let given = RecurringJob { schedule, ..a_recurring_job(&format!("kind-{number}")) };

        let saved = save(storage, given).await?;

        assert_eq!(storage.find_recurring_job(&saved.id).await?, Some(saved));
    }
    Ok(())
}

/// The master looks only at what is due.
pub async fn due_recurring_jobs_are_those_not_paused_whose_time_has_come(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    let next_run =
        |id: &str, next_run_at, paused| RecurringJob { next_run_at, paused, ..a_recurring_job(id) };
    let early = save(storage, next_run("early", Some(at(10)), false)).await?;
    let just = save(storage, next_run("just", Some(at(60)), false)).await?;
    save(storage, next_run("not-yet", Some(at(60) + MICROSECOND), false)).await?;
    save(storage, next_run("paused", Some(at(10)), true)).await?;
    save(storage, next_run("never", None, false)).await?;
    let due = |after: Option<RecurringJobId>, limit| RecurringJobQuery { due_at: Some(at(60)), after, limit };

    assert_eq!(storage.list_recurring_jobs(&due(None, None)).await?, [early.clone(), just.clone()]);
    assert_eq!(storage.list_recurring_jobs(&due(None, Some(1))).await?, std::slice::from_ref(&early));
    assert_eq!(
        storage.list_recurring_jobs(&due(Some(early.id.clone()), None)).await?,
        std::slice::from_ref(&just)
    );
    assert_eq!(storage.list_recurring_jobs(&due(None, Some(0))).await?, []);

    let advanced = save(storage, RecurringJob { next_run_at: Some(at(120)), ..early }).await?;
    assert_eq!(storage.list_recurring_jobs(&due(None, None)).await?, [just], "{} moved on", advanced.id);
    Ok(())
}

/// Two masters advance the same tick: one wins.
pub async fn a_stale_recurring_job_is_a_conflict(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    let loaded = save(storage, a_recurring_job("report")).await?;
    let advanced = |tick| RecurringJob { last_tick_at: Some(at(tick)), ..loaded.clone() };

    assert_eq!(storage.save_recurring_job(&advanced(60)).await?, RecurringSave::Saved(Version::new(2)));
    assert_eq!(other.save_recurring_job(&advanced(61)).await?, RecurringSave::Conflict);

    let expected = with_version(advanced(60), Version::new(2));
    assert_eq!(storage.find_recurring_job(&loaded.id).await?, Some(expected.clone()));
    let ahead = with_version(advanced(62), Version::new(3));
    assert_eq!(other.save_recurring_job(&ahead).await?, RecurringSave::Conflict, "nor one from the future");
    assert_eq!(other.find_recurring_job(&loaded.id).await?, Some(expected));
    Ok(())
}

/// Who removes one because its time is over may have looked at it before it was given more time.
pub async fn a_recurring_job_saved_anew_outlives_its_removal(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    let looked_at = save(storage, a_recurring_job("report")).await?;
    let given_time = RecurringJob { delete_at: Some(at(999)), ..looked_at.clone() };
    let given_time = save(&*other, given_time).await?;

    assert!(!storage.delete_recurring_job(&looked_at.id, Some(looked_at.version)).await?);
    assert!(!storage.delete_recurring_job(&looked_at.id, Some(Version::new(3))).await?, "nor one to come");

    assert_eq!(storage.find_recurring_job(&looked_at.id).await?, Some(given_time.clone()));
    assert_eq!(list(storage).await?, std::slice::from_ref(&given_time));
    assert!(storage.delete_recurring_job(&given_time.id, Some(given_time.version)).await?);
    assert!(!storage.delete_recurring_job(&given_time.id, Some(given_time.version)).await?, "it is gone");
    assert_eq!(list(storage).await?, []);
    Ok(())
}

/// Saves and guarded removals race: whatever was saved last is there, unless it was removed as it is.
pub async fn removals_and_saves_of_a_recurring_job_at_once_lose_no_save(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    for _ in 0..10 {
        let current = save(storage, a_recurring_job("report")).await?;
        let saves = (0..2).map(|_| (fixture.shared_storage(), None)).collect::<Vec<_>>();
        let removals = (0..2).map(|_| (Arc::clone(&other), Some(current.version)));
        let racers = saves.into_iter().chain(removals).map(|(storage, removed)| {
            let job = current.clone();
            tokio::spawn(async move {
                match removed {
                    Some(version) => storage.delete_recurring_job(&job.id, Some(version)).await,
                    None => Ok(matches!(storage.save_recurring_job(&job).await?, RecurringSave::Saved(_))),
                }
            })
        });
        let won: Vec<bool> = try_join_all(racers).await?.into_iter().collect::<Result<_, _>>()?;

        assert_eq!(won.iter().filter(|won| **won).count(), 1, "each wanted what the others changed: {won:?}");
        let left = storage.find_recurring_job(&current.id).await?.map(|left| left.version);
        assert_eq!(left, (won[0] || won[1]).then(|| current.version.next()));
        storage.delete_recurring_job(&current.id, None).await?;
    }
    Ok(())
}

/// However many masters there are, each tick is advanced once.
pub async fn of_masters_that_advance_a_tick_at_once_one_wins(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    let mut current = save(storage, a_recurring_job("report")).await?;
    for tick in 1..=10 {
        let masters = (0..8).map(|number| {
            let storage = if number % 2 == 0 { fixture.shared_storage() } else { Arc::clone(&other) };
            let name = format!("master {number}");
            let mut mine = RecurringJob { last_tick_at: Some(at(60 * tick)), ..current.clone() };
            mine.template.name = name;
            tokio::spawn(async move { storage.save_recurring_job(&mine).await.map(|save| (save, mine)) })
        });
        let mut winners = Vec::new();
        for answer in try_join_all(masters).await? {
            match answer? {
                (RecurringSave::Saved(version), mine) => winners.push(with_version(mine, version)),
                (RecurringSave::Conflict, _) => {}
            }
        }

        let [winner] =
            <[RecurringJob; 1]>::try_from(winners).map_err(|all| format!("{} winners", all.len()))?;
        assert_eq!(winner.version, current.version.next());
        assert_eq!(storage.find_recurring_job(&winner.id).await?.as_ref(), Some(&winner));
        current = winner;
    }
    Ok(())
}

/// Ids are told apart by every byte.
pub async fn ids_of_recurring_jobs_may_be_long_and_hold_all_allowed_characters(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    let longest = "x".repeat(MAX_RECURRING_JOB_ID_BYTES);
    let nearly = format!("{}y", "x".repeat(MAX_RECURRING_JOB_ID_BYTES - 1));
    let all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.,()-";
    let mut ids =
        vec![&*longest, &*nearly, all, "a", "A", "a.b", "a,b", "a_b", "(a)", "-", "--", ".", "NULL"];
    for id in &ids {
        save(storage, a_recurring_job(id)).await?;
    }

    for id in &ids {
        let found = storage.find_recurring_job(&recurring_id(id)).await?;
        assert_eq!(found.map(|job| job.id), Some(recurring_id(id)));
    }
    ids.sort_unstable();
    assert_eq!(list(storage).await?.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ids);
    assert!(storage.delete_recurring_job(&recurring_id("A"), None).await?);
    assert!(storage.find_recurring_job(&recurring_id("a")).await?.is_some(), "case matters");
    Ok(())
}
