use jobrunr_core::{Failure, FailureKind, JobDefinition, JsonText, ServerId, Version};
use proptest::prelude::*;

use super::*;
use crate::row::{encode_entries, last_error};

fn at(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_700_000_000_000_000 + micros).unwrap()
}

fn server() -> ServerRef {
    ServerRef { id: ServerId::new(), name: "one".to_owned() }
}

fn new_job(state: JobState) -> Job {
    let definition = JobDefinition::new("mail".parse().unwrap(), JsonText::of(&()).unwrap());
    Job::new(JobId::new(), definition, state, at(0)).unwrap()
}

fn decoded(job: &Job, archived: &[HistoryEntry]) -> Vec<HistoryEntry> {
    let EncodedHistory { columns, server, result, .. } = encode_history(job, 0);
    columns.history(archived.to_vec(), server.as_ref(), result.cloned()).unwrap()
}

#[test]
fn the_life_of_an_ordinary_job_archives_nothing() {
    let mut job = new_job(JobState::scheduled(at(1)));
    job.enqueue(at(2)).unwrap();
    job.start_processing(&server(), at(3)).unwrap();
    job.succeed(Some(JsonText::of(&42).unwrap()), at(4)).unwrap();
    job.transition(JobState::Deleted { reason: Some("old".to_owned()) }, at(5)).unwrap();

    let encoded = encode_history(&job, 0);

    assert!(encoded.to_archive.is_empty());
    assert_eq!(encoded.columns.archived_entries, 0);
    assert_eq!(encoded.result.unwrap().as_str(), "42");
    assert_eq!(decoded(&job, &[]), job.history());
}

#[test]
fn a_failure_archives_everything_once_with_its_message() {
    let mut job = new_job(JobState::enqueued());
    job.start_processing(&server(), at(1)).unwrap();
    job.transition(JobState::failed(Failure::new(FailureKind::Error, "no")), at(2)).unwrap();
    job.schedule(at(9), Some("retry 1 of 10".to_owned()), at(2)).unwrap();

    let first = encode_history(&job, 0);

    assert_eq!(first.to_archive, job.history());
    assert_eq!(last_error(first.to_archive), Some("no"));
    assert_eq!(first.columns.tail, Tail::default());
    assert_eq!(first.columns.scheduled_at, Some(micros(at(9))));

    job.enqueue(at(9)).unwrap();

    let then = encode_history(&job, 4);
    assert!(then.to_archive.is_empty());
    assert_eq!(then.columns.tail.enqueued_entry_at, Some(micros(at(9))));
}

#[test]
fn a_success_that_says_something_else_than_its_columns_is_archived() {
    let mut job = new_job(JobState::enqueued());
    job.start_processing(&server(), at(1)).unwrap();
    let odd = JobState::Succeeded {
        latency: Duration::from_secs(7),
        processing_duration: Duration::ZERO,
        result: None,
    };
    job.transition(odd, at(2)).unwrap();

    assert_eq!(encode_history(&job, 0).to_archive, job.history());
}

#[test]
fn columns_that_do_not_fit_the_archive_are_unreadable() {
    let mut job = new_job(JobState::enqueued());
    job.start_processing(&server(), at(1)).unwrap();
    let EncodedHistory { columns, .. } = encode_history(&job, 0);

    assert!(
        columns.history(job.history().to_vec(), Some(&server()), None).is_err(),
        "entries that are not archived"
    );
    assert!(columns.history(Vec::new(), None, None).is_err(), "a server that is not known");
    let other_state = HotColumns { state: StateName::Failed, ..columns };
    assert!(
        other_state.history(Vec::new(), Some(&server()), None).is_err(),
        "a state that is not in the history"
    );
}

fn any_state() -> impl Strategy<Value = JobState> {
    let text = || proptest::option::of("[a-z]{0,3}");
    prop_oneof![
        (0_i64..9, text(), any::<bool>()).prop_map(|(due, reason, starts_afresh)| JobState::Scheduled {
            scheduled_at: at(due),
            reason,
            starts_afresh
        }),
        Just(JobState::enqueued()),
        Just(JobState::scheduled(at(3))),
        (text(), any::<bool>())
            .prop_map(|(reason, starts_afresh)| JobState::Enqueued { reason, starts_afresh }),
        Just(JobState::Processing { server_id: ServerId::new(), server_name: "two".to_owned() }),
        Just(JobState::Processed {}),
        Just(JobState::failed(Failure::new(FailureKind::TimedOut, "late"))),
        text().prop_map(|reason| JobState::Deleted { reason }),
        Just(JobState::Deleted { reason: Some("x".repeat(MAX_REASON_BYTES + 1)) }),
        Just(JobState::Awaiting { job: Some(JobId::new()), reason: None }),
        (0_u64..3, 0_u64..3).prop_map(|(latency, processing)| JobState::Succeeded {
            latency: Duration::from_micros(latency),
            processing_duration: Duration::from_micros(processing),
            result: None
        }),
    ]
}

/// One step: a state that may be odd, or the plain success, whose durations follow from the history.
fn any_steps() -> impl Strategy<Value = Vec<(Option<JobState>, i64)>> {
    proptest::collection::vec((proptest::option::weighted(0.7, any_state()), 0_i64..3), 0..24)
}

proptest! {
    /// Every history, written entry by entry as a storage does, comes back as it was; nothing archived is touched again.
    #[test]
    fn every_history_comes_back_as_it_was(steps in any_steps()) {
        let mut job = new_job(JobState::enqueued());
        let mut archive: Vec<HistoryEntry> = Vec::new();
        let mut now = 0;
        for (state, pause) in steps {
            now += pause;
            let moved = match state {
                Some(state) => job.transition(state, at(now)),
                None => job.succeed(Some(JsonText::of(&now).unwrap()), at(now)),
            };
            if moved.is_err() {
                continue;
            }

            let encoded = encode_history(&job, archive.len());
            let texts = encode_entries(encoded.to_archive);
            archive.extend(serde_json::from_str::<Vec<HistoryEntry>>(&texts).unwrap());
            let history =
                encoded.columns.history(archive.clone(), encoded.server.as_ref(), encoded.result.cloned()).unwrap();

            prop_assert_eq!(history.as_slice(), job.history());
            prop_assert_eq!(encoded.columns.archived_entries, tail_start(job.history()));
            prop_assert_eq!(job.version(), Version::FIRST);
        }
    }
}
