//! Labels of all sorts, orphans, and text that means something to databases.

use jobrunr_core::storage::{JobCursor, JobQuery, SignatureSelection, StorageExt};
use jobrunr_core::{Job, JobState, ServerId, StateName};

use crate::builders::{a_job, at, failure, ids, insert_all, move_to, signature, stored};
use crate::content::{find, list};
use crate::{Fixture, ScenarioResult};

const LABELS: [&str; 16] = [
    "tenant",
    "tenant:1",
    "tenant:10",
    "tenan",
    "Tenant",
    "a b",
    " a",
    "über",
    "Über",
    "it's",
    "\"quoted\"",
    "100%",
    "a,b",
    "[\"x\"]",
    "東京🦀",
    "back\\slash",
];

/// A label is what it is, to the byte; nothing in it means anything.
pub async fn labels_match_exactly_whatever_is_in_them(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = LABELS.map(|label| a_job().labelled(&["common", label]).enqueued(at(0)));
    insert_all(storage, &mut jobs).await?;

    for (job, label) in jobs.iter().zip(LABELS) {
        let query = JobQuery::all().label(label);
        assert_eq!(
            list(storage, query.clone()).await?,
            std::slice::from_ref(job),
            "only the job with the label {label:?}"
        );
        assert_eq!(storage.count_jobs(&query).await?, 1, "{label:?}");
        assert_eq!(ids(&list(storage, query.label("common")).await?), [job.id()], "{label:?} and another");
    }
    for nobody in ["", "%", "_", "t%", "a", "b", "tenant:", "x", "COMMON", "common,", "\\"] {
        assert_eq!(list(storage, JobQuery::all().label(nobody)).await?, [], "{nobody:?}");
    }
    assert_eq!(list(storage, JobQuery::all().label("common")).await?.len(), LABELS.len());
    Ok(())
}

/// The order in which labels were given is kept, and all eight are found.
pub async fn all_labels_of_a_job_are_found_and_keep_their_order(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let texts = ["h", "g", "a", "b", "f", "e", "d", "c"];
    let job = stored(storage, a_job().labelled(&texts).enqueued(at(0))).await?;
    stored(storage, a_job().labelled(&texts[..7]).enqueued(at(0))).await?;

    let query = texts.iter().fold(JobQuery::all(), |query, label| query.label(*label));

    assert_eq!(list(storage, query.clone()).await?, [job]);
    assert_eq!(list(storage, query.label("h")).await?.len(), 1, "a label asked for twice counts once");
    Ok(())
}

/// A cluster may have many servers and many types; a query names them all.
pub async fn long_lists_in_a_query_are_accepted(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut jobs = [
        a_job().of_type("type-7").in_state(StateName::Processing, at(1)),
        a_job().of_type("type-7").in_state(StateName::Processing, at(2)),
        a_job().of_type("other").in_state(StateName::Processing, at(3)),
    ];
    insert_all(storage, &mut jobs).await?;
    let held = jobs[0].server_id().ok_or("it is PROCESSING")?;
    let servers = || (0..3_000).map(|_| ServerId::new()).chain([held]);
    let types: Vec<_> = (0..1_000).map(|number| signature(&format!("type-{number}"))).collect();
    let all = JobQuery::in_states((0..100).flat_map(|_| StateName::ALL)).server_not_in(servers());
    let only = all.clone().signatures(SignatureSelection::Only(types.clone()));
    let except = all.clone().signatures(SignatureSelection::Except(types));

    for (query, expected) in [(all, &jobs[1..]), (only, &jobs[1..2]), (except, &jobs[2..])] {
        assert_eq!(list(storage, query.clone()).await?, expected);
        assert_eq!(storage.count_jobs(&query).await?, u64::try_from(expected.len())?);
    }
    Ok(())
}

/// The master looks for jobs of servers that are gone, a page at a time, and fails them.
pub async fn orphans_are_found_in_pages(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let servers: Vec<ServerId> = (0..5).map(|_| ServerId::new()).collect();
    let live = [servers[0], servers[3], ServerId::new()];
    let held_by = |number: usize| {
        let mut job = a_job().enqueued(at(0));
        let server_id = servers[number % 5];
        let state = JobState::Processing { server_id, server_name: "s".to_owned() };
        job.transition(state, at(i64::try_from(number).expect("small"))).expect("it is ENQUEUED");
        job
    };
    let mut jobs: Vec<Job> = (0..100).map(held_by).collect();
    jobs.extend((0..10).map(|number| {
        let mut ended = held_by(number);
        move_to(&mut ended, StateName::Failed, at(500));
        ended
    }));
    jobs.push(a_job().enqueued(at(0)));
    insert_all(storage, &mut jobs).await?;
    let query = JobQuery::in_state(StateName::Processing).server_not_in(live).limit(17);

    let mut orphans = Vec::new();
    loop {
        let mut page = storage.list_jobs(&query).await?;
        if page.is_empty() {
            break;
        }
        for job in &mut page {
            job.fail(failure("the server is gone"), at(600))?;
            job.enqueue(at(600))?;
        }
        assert_eq!(storage.save_all(&mut page).await?, [], "listed jobs can be saved");
        orphans.extend(ids(&page));
        assert!(orphans.len() <= jobs.len(), "orphans are found again and again");
    }

    orphans.sort();
    let mut expected: Vec<_> =
        (0..100).filter(|number| ![0, 3].contains(&(number % 5))).map(|n| jobs[n].id()).collect();
    expected.sort();
    assert_eq!(orphans, expected);
    let everybody_gone = JobQuery::in_state(StateName::Processing).server_not_in([]);
    assert_eq!(storage.count_jobs(&everybody_gone).await?, 40);
    Ok(())
}

/// Whatever happens to a job, lists know it by its present state.
pub async fn a_list_follows_a_job_from_state_to_state(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut job = stored(storage, a_job().labelled(&["one"]).scheduled(at(0), at(5))).await?;
    for (second, state) in (10..).zip([
        StateName::Enqueued,
        StateName::Processing,
        StateName::Failed,
        StateName::Enqueued,
        StateName::Processing,
        StateName::Succeeded,
    ]) {
        move_to(&mut job, state, at(second));
        storage.save_job(&mut job).await?;

        let query = JobQuery::in_state(state).label("one");
        assert_eq!(list(storage, query.clone()).await?, [job.clone()]);
        let order = query.order;
        assert_eq!(list(storage, query.after(JobCursor::after(&job, order))).await?, []);
        let by_server = job.server_id().map_or_else(JobQuery::all, |id| JobQuery::all().server_id(id));
        assert_eq!(list(storage, by_server).await?, [job.clone()], "the server it is, or was last, held by");
        let error = JobQuery::all().error_contains("on FIRE");
        assert_eq!(list(storage, error).await?.len(), usize::from(job.last_failure().is_some()));
    }
    assert_eq!(find(storage, job.id()).await?, job);
    Ok(())
}
