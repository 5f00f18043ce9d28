//! Lists in pages.

use std::collections::HashMap;

use jobrunr_core::storage::{DEFAULT_LIST_LIMIT, JobCursor, JobOrder, JobQuery, OrderField, StorageError};
use jobrunr_core::{Job, JobId, StateName};
use tokio::sync::mpsc;

use super::population::{expected, insert_population};
use crate::builders::{a_job, at, enqueued_jobs, ids, insert_all, numbered_id};
use crate::content::{UNBOUNDED, everything, everything_in_pages};
use crate::{Fixture, ScenarioResult};

const ALL_ORDERS: [(OrderField, bool); 6] = [
    (OrderField::CreatedAt, false),
    (OrderField::CreatedAt, true),
    (OrderField::UpdatedAt, false),
    (OrderField::UpdatedAt, true),
    (OrderField::ScheduledAt, false),
    (OrderField::ScheduledAt, true),
];

/// A window of the list, also one that lies behind its end.
pub async fn limit_and_offset_cut_a_window_out_of_the_list(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let jobs = insert_population(storage).await?;
    let order = JobOrder::descending(OrderField::UpdatedAt);
    let all = ids(&expected(&jobs, order, |_| true));
    let windows = [
        (0, 0),
        (0, 1),
        (0, 7),
        (7, 7),
        (310, 7),
        (310, 10),
        (310, 11),
        (319, 5),
        (320, 5),
        (9_999, 5),
        (3, UNBOUNDED),
    ];

    for (offset, limit) in windows {
        let found = storage.list_jobs(&JobQuery::all().order(order).offset(offset).limit(limit)).await?;

        let window: Vec<JobId> = all.iter().copied().skip(offset).take(limit).collect();
        assert_eq!(ids(&found), window, "{limit} from {offset} on");
    }
    let failed = ids(&expected(&jobs, order, |job| job.state_name() == StateName::Failed));
    let query = JobQuery::in_state(StateName::Failed).order(order).offset(5).limit(6);
    assert_eq!(ids(&storage.list_jobs(&query).await?), failed[5..11], "of what fits");
    Ok(())
}

/// Whoever says nothing gets a page; whoever says "as many as there are" gets all.
pub async fn a_list_is_bounded_unless_it_is_asked_not_to_be(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    insert_all(storage, &mut enqueued_jobs(DEFAULT_LIST_LIMIT + 1)).await?;

    assert_eq!(storage.list_jobs(&JobQuery::all()).await?.len(), DEFAULT_LIST_LIMIT);
    let all = storage.list_jobs(&JobQuery::all().limit(usize::MAX)).await?;
    assert_eq!(all.len(), DEFAULT_LIST_LIMIT + 1);
    assert_eq!(storage.list_jobs(&JobQuery::all().offset(usize::MAX)).await?, []);
    Ok(())
}

/// From cursor to cursor, in each order, with many equal instants.
pub async fn going_on_from_a_cursor_sees_each_job_once(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let jobs = insert_population(storage).await?;
    for (field, descending) in ALL_ORDERS {
        let order = JobOrder { field, descending };
        for page in [1, 7, 320] {
            let query = JobQuery::all().order(order).limit(page);
            let mut seen: Vec<Job> = Vec::new();
            let mut next = storage.list_jobs(&query).await?;
            while let Some(last) = next.last() {
                let cursor = JobCursor::after(last, order);
                seen.extend(next);
                assert!(seen.len() <= jobs.len(), "{order:?} by {page}: jobs are seen again and again");
                next = storage.list_jobs(&query.clone().after(cursor)).await?;
            }
            assert_eq!(ids(&seen), ids(&expected(&jobs, order, |_| true)), "{order:?} by {page}");
        }
    }
    Ok(())
}

/// A cursor is a place: the job it was made from may be gone, and conditions still hold.
pub async fn a_cursor_goes_with_conditions_and_needs_no_job(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let jobs = insert_population(storage).await?;
    let order = JobOrder::descending(OrderField::CreatedAt);
    let cursor = JobCursor { instant: at(20), id: numbered_id(777_777) };
    let fits =
        |job: &Job| job.queue() == "high" && (job.created_at(), job.id()) < (cursor.instant, cursor.id);
    let expected = ids(&expected(&jobs, order, fits));
    let query = JobQuery::all().queue(crate::builders::queue("high")).order(order).after(cursor);

    assert_eq!(ids(&storage.list_jobs(&query.clone().limit(UNBOUNDED)).await?), expected);
    assert_eq!(ids(&storage.list_jobs(&query.clone().offset(3).limit(4)).await?), expected[3..7]);
    let in_all = jobs.iter().filter(|job| job.queue() == "high").count();
    assert_eq!(storage.count_jobs(&query).await?, u64::try_from(in_all)?, "a count is of all pages");
    Ok(())
}

/// Ten thousand jobs are paged through while a thousand more arrive at all places.
pub async fn paging_sees_each_job_once_while_others_are_inserted(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs: Vec<Job> =
        (0..10_000).map(|number| a_job().id(numbered_id(2 * number)).enqueued(at_place(number))).collect();
    insert_all(storage, &mut jobs).await?;
    let (turned_page, mut turned_pages) = mpsc::unbounded_channel();
    let writer = fixture.shared_storage();
    let inserting = tokio::spawn(async move {
        let mut number = 0;
        while turned_pages.recv().await.is_some() {
            let batch: Vec<Job> = (number..number + 25)
                .map(|number| {
                    let place = number * 389 % 10_000;
                    a_job().id(numbered_id(2 * place + 1)).enqueued(at_place(place))
                })
                .collect();
            writer.insert_jobs(&batch).await?;
            number += 25;
        }
        Ok::<_, StorageError>(number)
    });

    let order = JobOrder::ascending(OrderField::CreatedAt);
    let mut seen: HashMap<JobId, usize> = HashMap::new();
    let mut query = JobQuery::all().order(order).limit(250);
    loop {
        let page = storage.list_jobs(&query).await?;
        let Some(last) = page.last() else { break };
        query = query.after(JobCursor::after(last, order));
        for job in &page {
            let times = seen.entry(job.id()).or_default();
            *times += 1;
            assert_eq!(*times, 1, "a job was seen twice");
        }
        // Fails only if the writer failed, which its result tells below.
        let _ = turned_page.send(());
    }
    drop(turned_page);
    let inserted = inserting.await??;

    assert!(jobs.iter().all(|job| seen.contains_key(&job.id())), "a job was passed over");
    assert!(inserted >= 1_000, "{inserted}");
    let mut all = everything_in_pages(storage, 1_000).await?;
    all.sort_by_key(Job::id);
    assert!(all == everything(storage).await?);
    Ok(())
}

/// Many jobs at each instant.
fn at_place(number: u64) -> chrono::DateTime<chrono::Utc> {
    at(i64::try_from(number / 40).expect("small"))
}
