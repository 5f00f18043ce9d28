//! Inserting jobs and finding them again.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use jobrunr_core::limits::{DEFAULT_MAX_PAYLOAD_BYTES, MAX_ENTRY_TEXT_BYTES};
use jobrunr_core::storage::{JobQuery, StorageError, StorageProvider};
use jobrunr_core::{
    Failure, FailureKind, Job, JobId, JobMetadata, JobSettings, JobState, JsonText, StateName, StoredJob,
    Version,
};
use serde_json::json;

use crate::builders::{
    a_job, an_enqueued_job, at, at_micros, enqueued_jobs, ids, insert_all, move_to, numbered_id,
    recurring_id, server, stored,
};
use crate::content::{everything, find};
use crate::{Fixture, ScenarioResult};

/// Text that breaks whatever is quoted, escaped or cut wrongly somewhere on the way.
const AWKWARD: &str = "Zoë's \"naïve\" \\ '; DROP TABLE jobs; -- %_ 東京 🦀 {} [] $1 ? :name \t";

/// Payloads must come back as they were given, byte for byte.
const AWKWARD_PAYLOADS: [&str; 9] = [
    "null",
    "\"\"",
    "{}",
    r#"{"z":1,"a":{"z":[[],[{}],""]},"m":null,"a\"b":"\\"}"#,
    "[-9223372036854775808,9223372036854775807,18446744073709551615]",
    "[0.1,-0.0,1.0,1e308,2.2250738585072014e-308,1E5,0.30000000000000004]",
    r#"{ "spaces" : [ 1 , 2 ] ,  "same":1, "same":2 }"#,
    r#"["\u0000","\ud83e\udd80","🦀","é","e\u0301"]"#,
    r#""'; DROP TABLE jobs; --""#,
];

/// Everything that can be said of a job is said of one.
pub async fn a_new_job_is_found_again_equal_in_every_field(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let settings = JobSettings {
        retries: Some(0),
        timeout: Some(Duration::from_micros(1_500_001)),
        external: true,
        recurring_job_id: Some(recurring_id("Nightly.report_(a,b)-1")),
    };
    let job = a_job()
        .of_type(AWKWARD.trim_end())
        .named(AWKWARD)
        .in_queue("high-prio_2.x")
        .priority(-7)
        .labelled(&["tenant:ü", "100% \"sure\"", "a,b", "it's", "a_b", " "])
        .settings(settings)
        .enqueued(at_micros(123_456));
    let metadata = JobMetadata::from([
        ("progress".to_owned(), json!({ "done": u64::MAX, "of": i64::MIN, "ratio": 0.1 })),
        (AWKWARD.to_owned(), json!(["", null, AWKWARD])),
    ]);
    let job = stored(storage, job.with_metadata(metadata)).await?;

    let found = find(storage, job.id()).await?;

    assert_eq!(found, job);
    assert_eq!(found.version(), Version::FIRST);
    assert_eq!(found.new_entries(), [], "what was just read has nothing to write");
    Ok(())
}

/// Payloads are text; nobody may tidy them up.
pub async fn payloads_come_back_byte_for_byte(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    for payload in AWKWARD_PAYLOADS {
        let job = stored(storage, a_job().payload(payload).enqueued(at(0))).await?;

        let found = find(storage, job.id()).await?;

        assert_eq!(found.payload().as_str(), payload);
    }
    Ok(())
}

/// The largest payload that everybody must take.
pub async fn a_payload_of_exactly_the_limit_is_stored(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let text = format!("\"{}\"", "é".repeat(DEFAULT_MAX_PAYLOAD_BYTES / 2 - 1));
    assert_eq!(text.len(), DEFAULT_MAX_PAYLOAD_BYTES);
    let job = stored(storage, a_job().payload(text).enqueued(at(0))).await?;

    assert_eq!(find(storage, job.id()).await?, job);
    Ok(())
}

/// The ends of what fields can hold.
pub async fn extreme_priorities_names_and_times_survive(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let instant = |micros| DateTime::<Utc>::from_timestamp_micros(micros).expect("within the calendar");
    let mut jobs = vec![
        a_job().priority(i32::MIN).named("").enqueued(instant(1)),
        a_job().priority(i32::MAX).named(&"n".repeat(256)).enqueued(instant(999_999)),
        a_job()
            .of_type(&"s".repeat(128))
            .in_queue(&"q".repeat(64))
            .enqueued(instant(253_402_300_799_999_999)),
        a_job().labelled(&["1", "2", "3", "4", "5", "6", "7", &"é".repeat(32)]).enqueued(at_micros(1)),
        a_job().scheduled(at(0), instant(253_402_300_799_999_999)),
        a_job().scheduled(at(0), instant(1)),
    ];
    insert_all(storage, &mut jobs).await?;

    for job in &jobs {
        assert_eq!(find(storage, job.id()).await?, *job);
    }
    Ok(())
}

/// A job may begin in three states, each with something to say.
pub async fn each_first_state_keeps_what_belongs_to_it(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let reason = || Some(AWKWARD.to_owned());
    let states = [
        JobState::Awaiting { job: Some(JobId::new()), reason: reason() },
        JobState::Awaiting { job: None, reason: None },
        JobState::Scheduled { scheduled_at: at_micros(7), reason: reason(), starts_afresh: true },
        JobState::scheduled(at_micros(8)),
        JobState::Enqueued { reason: reason(), starts_afresh: true },
        JobState::Enqueued { reason: Some(String::new()), starts_afresh: false },
        JobState::enqueued(),
    ];
    for state in states {
        let job = stored(storage, a_job().first(state, at_micros(6))).await?;

        assert_eq!(find(storage, job.id()).await?, job);
    }
    Ok(())
}

/// An inserted job may have lived already: a migration from elsewhere, a restore.
pub async fn a_job_is_inserted_with_its_whole_history(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut veteran = an_enqueued_job();
    veteran.start_processing(&server(AWKWARD), at_micros(1))?;
    veteran.give_back("the server stopped", at_micros(2))?;
    veteran.start_processing(&server(""), at_micros(2))?;
    let failure = Failure::new(FailureKind::Panicked, "x".repeat(2 * MAX_ENTRY_TEXT_BYTES))
        .with_causes([AWKWARD.to_owned(), String::new()])
        .with_backtrace("at main.rs:1\nat lib.rs:2")
        .with_error_type("std::io::Error")
        .do_not_retry();
    veteran.fail(failure, at_micros(3))?;
    veteran.schedule(at(60), Some("retry 1 of 10".to_owned()), at_micros(3))?;
    veteran.enqueue(at(60))?;
    veteran.start_processing(&server("b"), at(61))?;
    veteran.park(at(62))?;
    veteran.succeed(Some(JsonText::parse(AWKWARD_PAYLOADS[3])?), at(63))?;
    veteran.requeue(Some("once more".to_owned()), at(64))?;
    veteran.delete(Some(AWKWARD.to_owned()), at(65))?;
    let veteran = stored(storage, veteran).await?;

    assert_eq!(find(storage, veteran.id()).await?, veteran);

    for state in StateName::ALL {
        let job = stored(storage, a_job().in_state(state, at(100))).await?;
        assert_eq!(find(storage, job.id()).await?, job, "a job that is {state} from the beginning");
    }
    Ok(())
}

/// Versions are not counted from one by the storage.
pub async fn a_job_is_inserted_at_the_version_it_carries(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let model = an_enqueued_job();
    let job = Job::from_stored(StoredJob {
        id: model.id(),
        version: Version::new(41),
        definition: model.shared_definition(),
        history: model.history().to_vec(),
        metadata: JobMetadata::new(),
    });
    let mut job = stored(storage, job).await?;

    job.start_processing(&server("a"), at(1))?;
    assert_eq!(storage.save_jobs(std::slice::from_ref(&job)).await?.conflicts, []);

    assert_eq!(find(storage, job.id()).await?.version(), Version::new(42));
    Ok(())
}

/// Looking for a job that never was.
pub async fn an_unknown_id_is_none(fixture: &Fixture<'_>) -> ScenarioResult {
    stored(fixture.storage(), an_enqueued_job()).await?;

    assert_eq!(fixture.storage().find_job(JobId::new()).await?, None);
    Ok(())
}

/// A batch may be larger than any limit of a database's statements.
pub async fn batches_of_every_size_store_each_job_once(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut expected: Vec<Job> = Vec::new();
    for size in [1, 2, 999, 5_000, 20_000] {
        let mut batch: Vec<Job> =
            (0..size).map(|_| a_job().labelled(&["batch", "imported"]).enqueued(at(0))).collect();
        insert_all(storage, &mut batch).await?;
        for job in [&batch[0], &batch[size / 2], &batch[size - 1]] {
            assert_eq!(find(storage, job.id()).await?, *job, "in a batch of {size}");
        }
        expected.extend(batch);
    }

    let all = everything(storage).await?;

    expected.sort_by_key(Job::id);
    assert_eq!(all.len(), expected.len());
    assert!(all == expected, "what is stored is not what was inserted");
    assert_eq!(storage.count_jobs(&JobQuery::all().label("imported")).await?, 26_002);
    Ok(())
}

/// Nothing to do is done.
pub async fn an_empty_batch_does_nothing(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let job = stored(storage, an_enqueued_job()).await?;

    assert_eq!(storage.insert_jobs(&[]).await?.already_present, []);
    assert_eq!(storage.save_jobs(&[]).await?.conflicts, []);
    let nothing = jobrunr_core::storage::JobSelection::Ids(Vec::new());
    assert_eq!(storage.delete_jobs(&nothing).await?, 0);
    assert!(storage.save_job_metadata(job.id(), &JobMetadata::new()).await?);

    assert_eq!(everything(storage).await?, [job]);
    Ok(())
}

/// Whoever enqueues the same id twice gets one job: the first.
pub async fn an_id_that_exists_is_reported_and_the_rest_inserted(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let metadata = JobMetadata::from([("kept".to_owned(), json!(true))]);
    let mut there = an_enqueued_job().with_metadata(metadata);
    insert_all(storage, std::slice::from_mut(&mut there)).await?;
    there.start_processing(&server("a"), at(1))?;
    assert_eq!(storage.save_jobs(std::slice::from_ref(&there)).await?.conflicts, []);
    there.mark_saved();
    let also_there = stored(storage, an_enqueued_job()).await?;
    let usurper = |id| {
        let metadata = JobMetadata::from([("usurped".to_owned(), json!(true))]);
        a_job().id(id).named("usurper").labelled(&["usurper"]).enqueued(at(9)).with_metadata(metadata)
    };
    let new = enqueued_jobs(3);

    let batch =
        [new[0].clone(), usurper(also_there.id()), new[1].clone(), usurper(there.id()), new[2].clone()];
    let report = storage.insert_jobs(&batch).await?;

    assert_eq!(report.already_present, [also_there.id(), there.id()], "named, in the order given");
    assert_eq!(find(storage, there.id()).await?, there, "the stored job is left alone");
    assert_eq!(find(storage, also_there.id()).await?, also_there);
    assert_eq!(storage.count_jobs(&JobQuery::all().label("usurper")).await?, 0);
    for job in &new {
        assert_eq!(find(storage, job.id()).await?, *job, "the rest of the batch is inserted");
    }
    Ok(())
}

/// Doubles are found also where a large batch is split.
pub async fn the_same_id_twice_in_one_batch_is_inserted_once(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut batch = enqueued_jobs(6_000);
    let first = batch[0].clone();
    for place in [1, 3_000, 5_999] {
        batch[place] = a_job().id(first.id()).named("double").enqueued(at(place.try_into()?));
    }

    let report = storage.insert_jobs(&batch).await?;

    assert_eq!(report.already_present, [first.id(); 3]);
    assert_eq!(find(storage, first.id()).await?, first, "the first of them wins");
    assert_eq!(storage.count_jobs(&JobQuery::all()).await?, 5_997);
    Ok(())
}

/// Two masters create the jobs of the same ticks.
pub async fn of_tasks_that_insert_the_same_ids_at_once_one_wins_each(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let other: Arc<dyn StorageProvider> = fixture.another_storage().await?;
    let batch: Arc<Vec<Job>> =
        Arc::new((0..300).map(|number| a_job().id(numbered_id(number)).enqueued(at(0))).collect());
    let tasks = (0..8).map(|task| {
        let storage = if task % 2 == 0 { fixture.shared_storage() } else { Arc::clone(&other) };
        let mut batch = Vec::clone(&batch);
        // Race: in opposite orders, so that a storage that locks rows as they come is likely to meet itself.
        if task >= 4 {
            batch.reverse();
        }
        async move { storage.insert_jobs(&batch).await.map(|report| 300 - report.already_present.len()) }
    });

    let inserted: usize =
        try_join_all(tasks.map(tokio::spawn)).await?.into_iter().sum::<Result<usize, _>>()?;

    assert_eq!(inserted, 300, "each job is inserted by one task only");
    assert_eq!(ids(&everything(fixture.storage()).await?), ids(&batch));
    Ok(())
}

/// A batch is refused before any of it is written.
pub async fn a_payload_over_the_limit_is_refused_with_its_whole_batch(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    let text = format!("\"{}\"", "x".repeat(DEFAULT_MAX_PAYLOAD_BYTES - 1));
    let mut batch = enqueued_jobs(1_500);
    batch.push(a_job().payload(text).enqueued(at(0)));

    let refused = storage.insert_jobs(&batch).await;

    match refused {
        Err(StorageError::TooLarge { actual_bytes, max_bytes, .. }) => {
            assert_eq!((actual_bytes, max_bytes), (DEFAULT_MAX_PAYLOAD_BYTES + 1, DEFAULT_MAX_PAYLOAD_BYTES));
        }
        other => panic!("a payload over the limit was answered with {other:?}"),
    }
    assert_eq!(storage.count_jobs(&JobQuery::all()).await?, 0, "nothing is half-stored");
    Ok(())
}

/// Times are kept as they are, also where clocks stood still.
pub async fn entries_at_the_same_instant_keep_their_order(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut job = a_job().enqueued(at(0));
    for state in [StateName::Processing, StateName::Failed, StateName::Scheduled, StateName::Enqueued] {
        move_to(&mut job, state, at(0));
    }
    let job = stored(storage, job).await?;

    assert_eq!(find(storage, job.id()).await?, job);
    Ok(())
}
