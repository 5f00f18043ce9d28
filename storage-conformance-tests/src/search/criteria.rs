//! Every criterion of a query, alone and with every other.

use jobrunr_core::StateName;
use jobrunr_core::storage::{JobOrder, JobQuery, OrderField};

use super::population::{CRITERIA, Criterion, expected, insert_population};
use crate::builders::ids;
use crate::content::{UNBOUNDED, list};
use crate::{Fixture, ScenarioResult};

const ORDERS: [JobOrder; 6] = [
    JobOrder::ascending(OrderField::CreatedAt),
    JobOrder::descending(OrderField::CreatedAt),
    JobOrder::ascending(OrderField::UpdatedAt),
    JobOrder::descending(OrderField::UpdatedAt),
    JobOrder::ascending(OrderField::ScheduledAt),
    JobOrder::descending(OrderField::ScheduledAt),
];

/// Each condition by itself, in each order, whole jobs.
pub async fn each_criterion_finds_what_it_says(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let jobs = insert_population(storage).await?;
    for criterion in CRITERIA {
        for order in ORDERS {
            let expected = expected(&jobs, order, criterion.fits);
            let query = (criterion.add)(JobQuery::all()).order(order);

            let found = list(storage, query.clone()).await?;

            assert_eq!(ids(&found), ids(&expected), "{} in {order:?}", criterion.name);
            assert!(found == expected, "{}: the jobs listed are not whole", criterion.name);
            let count = storage.count_jobs(&query).await?;
            assert_eq!(count, u64::try_from(expected.len())?, "the count of {}", criterion.name);
        }
    }
    Ok(())
}

/// A query that keeps both conditions, if there is one: some share a field.
fn both(first: &Criterion, second: &Criterion) -> Option<JobQuery> {
    let forth = (second.add)((first.add)(JobQuery::all()));
    let back = (first.add)((second.add)(JobQuery::all()));
    let mut sorted = [forth.clone(), back];
    for query in &mut sorted {
        query.labels.sort();
    }
    (sorted[0] == sorted[1]).then_some(forth)
}

/// Each condition with each other; lists and counts.
pub async fn every_pair_of_criteria_finds_what_fits_both(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let jobs = insert_population(storage).await?;
    let mut pairs = 0_usize;
    for (place, first) in CRITERIA.iter().enumerate() {
        for second in &CRITERIA[place + 1..] {
            let Some(query) = both(first, second) else { continue };
            let order = ORDERS[pairs % ORDERS.len()];
            let expected = expected(&jobs, order, |job| (first.fits)(job) && (second.fits)(job));
            pairs += 1;

            let found = list(storage, query.clone().order(order)).await?;

            assert_eq!(ids(&found), ids(&expected), "{} and {} in {order:?}", first.name, second.name);
            let count = storage.count_jobs(&query).await?;
            assert_eq!(
                count,
                u64::try_from(expected.len())?,
                "the count of {} and {}",
                first.name,
                second.name
            );
        }
    }
    assert!(pairs > 350, "only {pairs} pairs can be asked for");
    Ok(())
}

/// All conditions at once that one job can fulfil, and then one that it does not.
pub async fn many_criteria_at_once_must_all_hold(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let jobs = insert_population(storage).await?;
    let wanted = jobs.iter().find(|job| {
        job.last_failure().is_some()
            && !job.labels().is_empty()
            && job.scheduled_at().is_some()
            && job.recurring_job_id().is_some()
            && job.state_name() == StateName::Failed
    });
    let wanted = wanted.ok_or("the population has such a job")?;
    let window =
        |instant| jobrunr_core::storage::TimeWindow::between(instant, instant + crate::builders::MICROSECOND);
    let mut query = JobQuery::in_states([StateName::Failed, StateName::Deleted])
        .queue(wanted.queue().clone())
        .signature(wanted.signature().clone())
        .name_contains(wanted.name().to_ascii_uppercase())
        .recurring_job_id(wanted.recurring_job_id().ok_or("it has one")?.clone())
        .server_id(wanted.server_id().ok_or("it ran somewhere")?)
        .server_not_in([])
        .created(window(wanted.created_at()))
        .updated(window(wanted.updated_at()))
        .scheduled(window(wanted.scheduled_at().ok_or("it was scheduled")?))
        .error_contains(wanted.last_failure().ok_or("it failed")?.message.as_str());
    for label in wanted.labels() {
        query = query.label(label.as_str());
    }

    assert_eq!(list(storage, query.clone()).await?, std::slice::from_ref(wanted));
    assert_eq!(storage.count_jobs(&query).await?, 1);
    assert_eq!(storage.count_jobs(&query.clone().label("one more")).await?, 0);
    assert_eq!(list(storage, query.label("one more")).await?, []);
    Ok(())
}

/// Ties are decided by id, in the direction of the order, whatever the rest of the query.
pub async fn equal_instants_are_ordered_by_id(fixture: &Fixture<'_>) -> ScenarioResult {
    use crate::builders::{a_job, at, insert_all, numbered_id};
    let storage = fixture.storage();
    let mut jobs = Vec::new();
    for number in [5, 2, 4, 1, 3] {
        jobs.push(a_job().id(numbered_id(number)).scheduled(at(0), at(9)));
        jobs.push(a_job().id(numbered_id(10 + number)).enqueued(at(0)));
    }
    insert_all(storage, &mut jobs).await?;

    for order in ORDERS {
        let found = storage.list_jobs(&JobQuery::all().order(order).limit(UNBOUNDED)).await?;
        assert_eq!(ids(&found), ids(&expected(&jobs, order, |_| true)), "{order:?}");
    }
    Ok(())
}
