//! What the macros find, and what they say.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jobrunr_core::{JobBuilder, JobRequest, JobScheduler, MemoryStorage};
use jobrunr_server::testing::{assert_enqueued, assert_not_enqueued, assert_scheduled, enqueued};
// Its `impl PartialEq<Value> for u32` must not make numbers ambiguous.
#[expect(unused_imports, reason = "what it implements is what matters")]
use serde_json::Value;

use crate::{Other, Work, kit_that_counts, work};

#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    number: u64,
    email: Option<String>,
    lines: Vec<String>,
}

impl JobRequest for Order {
    const JOB_TYPE: &'static str = "order";
}

/// What a macro panics with.
async fn complaint<T>(assertion: impl Future<Output = T>) -> String {
    let panic = AssertUnwindSafe(assertion).catch_unwind().await.err().expect("it should have panicked");
    panic.downcast_ref::<String>().expect("the message is made by the kit").clone()
}

#[tokio::test]
async fn a_job_is_found_by_some_of_its_fields_by_its_type_or_by_a_closure() {
    let kit = kit_that_counts();
    let first = kit.scheduler().enqueue(work(1)).await.unwrap();
    let second = kit.scheduler().create(JobBuilder::new(work(2)).labels(["b"])).await.unwrap();
    let number = 2;

    assert_eq!(assert_enqueued!(kit, Work).id(), first);
    assert_eq!(assert_enqueued!(kit, Work {}).id(), first);
    assert_eq!(assert_enqueued!(kit, Work { note: "note 2" }).id(), second);
    assert_eq!(
        assert_enqueued!(kit, crate::Work { note: format!("note {number}"), number: number }).id(),
        second
    );
    assert_eq!(assert_enqueued!(kit, |work: &Work| work.number > 1).id(), second);
    assert_eq!(assert_enqueued!(kit, |work: &Work| work.number == number).labels().iter().count(), 1);
    assert_not_enqueued!(kit, Work { number: 3 });
    assert_not_enqueued!(kit, Other);
}

#[tokio::test]
async fn fields_of_any_type_that_can_be_compared_will_do() {
    let kit = kit_that_counts();
    let email = Some("ada@example.org".to_owned());
    let order = Order { number: 7, email: email.clone(), lines: vec!["tea".into(), "milk".into()] };
    kit.scheduler().enqueue(order).await.unwrap();

    assert_enqueued!(kit, Order { number: 7, email: email, lines: ["tea", "milk"] });
}

#[tokio::test]
async fn values_mean_what_they_mean_outside_even_if_they_are_named_as_fields() {
    let kit = kit_that_counts();
    kit.scheduler().enqueue(Work { number: 1, note: "2".into() }).await.unwrap();
    let (number, note) = ("2", 1);

    assert_enqueued!(kit, Work { number: note, note: number });
}

#[tokio::test]
async fn jobs_are_looked_for_wherever_there_is_a_storage() {
    let memory = MemoryStorage::new();
    let storage: Arc<dyn jobrunr_core::storage::StorageProvider> = Arc::new(memory.clone());
    let scheduler = JobScheduler::new(Arc::clone(&storage));
    scheduler.enqueue_all([work(1), work(2)]).await.unwrap();

    assert_enqueued!(memory, Work);
    assert_enqueued!(storage, Work);
    assert_enqueued!(storage.as_ref(), Work);
    assert_enqueued!(Arc::new(memory), Work);
    assert_enqueued!(&scheduler, Work);
    assert_eq!(enqueued::<Work>(&scheduler).await, [work(1), work(2)]);
    let in_a_task = tokio::spawn(async move { assert_enqueued!(scheduler, Work { number: 2 }) });
    assert_eq!(in_a_task.await.unwrap().signature().as_str(), "work");
}

#[tokio::test]
async fn a_job_that_waits_for_its_time_is_scheduled_and_not_enqueued() {
    let kit = kit_that_counts();
    let in_an_hour = kit.now() + chrono::TimeDelta::hours(1);
    kit.scheduler().schedule(in_an_hour, work(1)).await.unwrap();

    let job = assert_scheduled!(kit, Work { number: 1 });
    let message = complaint(async { assert_enqueued!(kit, Work { number: 1 }) }).await;
    let unwanted = complaint(async { assert_not_enqueued!(kit, Work) }).await;

    assert_eq!(job.scheduled_at(), Some(in_an_hour));
    let line = "\n  SCHEDULED   work  {\"number\":1,\"note\":\"note 1\"}  for 2030-01-01 01:00:00 UTC";
    assert_eq!(
        message,
        format!("no ENQUEUED job is Work {{ number: 1 }}; of the type `work` there are:{line}")
    );
    assert_eq!(unwanted, format!("there should be no waiting job that is Work, but there is:{line}"));
    assert!(enqueued::<Work>(&kit).await.is_empty());
}

#[tokio::test]
async fn where_nothing_fits_the_message_lists_the_jobs_of_that_type_whatever_became_of_them() {
    let kit = kit_that_counts();
    kit.scheduler().enqueue(work(1)).await.unwrap();
    kit.run_all_enqueued().await.assert_all_succeeded();
    kit.scheduler().enqueue(work(2)).await.unwrap();
    kit.scheduler().enqueue(Other::default()).await.unwrap();

    let message = complaint(async { assert_enqueued!(kit, Work { number: 1, note: "note 1" }) }).await;
    let closure = complaint(async { assert_enqueued!(kit, |work: &Work| work.number == 9) }).await;

    let lines = "of the type `work` there are:\
                 \n  SUCCEEDED   work  {\"number\":1,\"note\":\"note 1\"}\
                 \n  ENQUEUED    work  {\"number\":2,\"note\":\"note 2\"}";
    assert_eq!(message, format!("no ENQUEUED job is Work {{ number: 1, note: \"note 1\" }}; {lines}"));
    assert_eq!(closure, format!("no ENQUEUED job is |work: &Work| work.number == 9; {lines}"));
}

#[tokio::test]
async fn where_there_is_no_job_of_that_type_the_message_lists_what_waits() {
    let kit = kit_that_counts();

    let nothing = complaint(async { assert_enqueued!(kit, Work) }).await;
    kit.scheduler().schedule_in(Duration::from_secs(1), Other::default()).await.unwrap();
    let others = complaint(async { assert_enqueued!(kit, Work) }).await;

    let none = "no ENQUEUED job is Work; there is no job of the type `work` at all, ";
    assert_eq!(nothing, format!("{none}and nothing else waits"));
    assert_eq!(
        others,
        format!("{none}what waits is:\n  SCHEDULED   other  {{}}  for 2030-01-01 00:00:01 UTC")
    );
}

#[tokio::test]
async fn a_long_list_is_cut_and_says_so() {
    let kit = kit_that_counts();
    kit.scheduler().enqueue_all((0..2_345).map(work)).await.unwrap();

    let message = complaint(async { assert_enqueued!(kit, Work { number: 9_999 }) }).await;

    assert_eq!(message.lines().count(), 22, "{message}");
    assert!(message.ends_with("\n  … and 2325 more"), "{message}");
    assert_enqueued!(kit, Work { number: 2_344 });
}
