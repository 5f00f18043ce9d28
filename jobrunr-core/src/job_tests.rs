use super::*;
use crate::state::FailureKind;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn server() -> ServerRef {
    ServerRef { id: ServerId::new(), name: "one".into() }
}

fn enqueued_job() -> Job {
    let definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
    Job::new(JobId::new(), definition, JobState::enqueued(), at(0)).unwrap()
}

#[test]
fn a_job_begins_in_a_first_state_only() {
    let definition = enqueued_job().definition().clone();

    let begun = Job::new(JobId::new(), definition, JobState::Processed {}, at(0));

    assert!(begun.is_err());
}

#[test]
fn an_illegal_move_changes_nothing() {
    let mut job = enqueued_job();
    let before = job.clone();

    let refused = job.succeed(None, at(1));

    assert_eq!(refused, Err(IllegalTransition { from: StateName::Enqueued, to: StateName::Succeeded }));
    assert_eq!(job, before);
}

#[test]
fn a_history_never_goes_backwards() {
    let mut job = enqueued_job();

    job.start_processing(&server(), at(-5)).unwrap();

    assert_eq!(job.updated_at(), at(0));
}

#[test]
fn a_success_tells_how_long_it_waited_and_ran() {
    let mut job = enqueued_job();
    job.start_processing(&server(), at(3)).unwrap();

    job.succeed(None, at(10)).unwrap();

    let expected = JobState::Succeeded {
        latency: Duration::from_secs(3),
        processing_duration: Duration::from_secs(7),
        result: None,
    };
    assert_eq!(*job.state(), expected);
}

#[test]
fn a_job_given_back_keeps_its_place_in_line() {
    let mut job = enqueued_job();
    for second in [1, 3] {
        job.start_processing(&server(), at(second)).unwrap();
        job.give_back("stopped", at(second + 1)).unwrap();
    }

    assert_eq!(job.enqueued_at(), Some(at(0)));
    assert_eq!(job.failures(), 0);
}

#[test]
fn a_retried_job_queues_anew() {
    let mut job = enqueued_job();
    job.start_processing(&server(), at(1)).unwrap();
    job.fail(Failure::new(FailureKind::Error, "no"), at(2)).unwrap();
    job.schedule(at(5), Some("retry 1 of 10".into()), at(2)).unwrap();
    job.enqueue(at(6)).unwrap();

    assert_eq!(job.enqueued_at(), Some(at(6)));
    assert_eq!(job.scheduled_at(), Some(at(5)));
    assert_eq!(job.failures(), 1);
}

#[test]
fn failures_are_counted_anew_after_a_requeue() {
    let mut job = enqueued_job();
    job.start_processing(&server(), at(1)).unwrap();
    job.fail(Failure::new(FailureKind::Error, "no"), at(2)).unwrap();

    job.requeue(None, at(3)).unwrap();

    assert_eq!(job.failures(), 0);
    assert_eq!(job.last_failure().unwrap().message, "no");
}

#[test]
fn only_entries_added_since_the_last_save_are_new() {
    let mut job = enqueued_job();
    job.mark_inserted();
    job.start_processing(&server(), at(1)).unwrap();
    assert_eq!(job.new_entries().len(), 1);

    job.mark_saved();

    assert!(job.new_entries().is_empty());
    assert_eq!(job.version(), Version::FIRST.next());
}

#[test]
fn a_long_name_is_cut() {
    let named = enqueued_job().definition().clone().named(&"é".repeat(200));

    assert_eq!(named.name.len(), MAX_NAME_BYTES);
}
