//! What is run by a call, in what order, and what is told of it.

use std::sync::Arc;

use jobrunr_core::{FailureKind, JobBuilder, JobContext, JobError, StateName};
use jobrunr_server::testing::TestKit;

use crate::{Diary, Doing, Other, Work, kit, kit_that_counts, work};

#[tokio::test]
async fn what_is_enqueued_and_what_follows_from_it_is_run_in_one_call_in_order() {
    let kit = kit(async |work: Work, context: JobContext| {
        if work.number < 10 {
            context.enqueue(crate::work(work.number + 10)).await?;
        }
        Ok(work.number)
    });
    for number in [1, 2, 3] {
        kit.scheduler().enqueue(work(number)).await.unwrap();
    }
    kit.scheduler().create(JobBuilder::new(work(4)).priority(1)).await.unwrap();

    let runs = kit.run_all_enqueued().await;

    let results: Vec<u32> = runs.iter().map(|run| run.result()).collect();
    assert_eq!(results, [4, 1, 2, 3, 14, 11, 12, 13]);
    assert_eq!(runs.assert_all_succeeded().of::<Work>().len(), 8);
}

#[tokio::test]
async fn a_run_tells_what_ran_and_how_it_ended() {
    let kit =
        kit(
            async |work: Work, _| {
                if work.number == 2 { Err(JobError::do_not_retry("no such number")) } else { Ok(work.note) }
            },
        );
    let good = kit.scheduler().enqueue(work(1)).await.unwrap();
    let bad = kit.scheduler().enqueue(work(2)).await.unwrap();

    let runs = kit.run_all_enqueued().await;

    assert_eq!((runs[0].id(), runs[0].state(), runs[0].attempt()), (good, StateName::Succeeded, 1));
    assert_eq!((runs[0].request::<Work>(), runs[0].result::<String>()), (work(1), "note 1".to_owned()));
    assert_eq!((runs[1].state(), runs[1].started_at()), (StateName::Failed, kit.now()));
    assert_eq!(runs[1].failure().unwrap().message, "no such number");
    assert_eq!((runs.of_job(bad).len(), runs.failed().len()), (1, 1));
    assert_eq!(kit.job(bad).await, *runs[1].job());
    assert_eq!(runs.to_string(), "  work (attempt 1) SUCCEEDED\n  work (attempt 1) FAILED (no such number)");
}

#[tokio::test]
#[should_panic = "not everything succeeded:\n  work (attempt 1) FAILED (too heavy) SCHEDULED for 2030-01-01 00:00:0"]
async fn runs_that_failed_are_shown_where_all_should_have_succeeded() {
    let kit = kit(async |_, _| Err::<(), _>("too heavy".into()));
    kit.scheduler().enqueue(work(1)).await.unwrap();

    kit.run_all_enqueued().await.assert_all_succeeded();
}

#[tokio::test]
#[should_panic = "other stays ENQUEUED: nobody here handles `other` in `default`"]
async fn a_job_without_a_handler_is_no_success() {
    let kit = kit_that_counts();
    kit.scheduler().enqueue(Other::default()).await.unwrap();

    let runs = kit.run_all_enqueued().await;

    assert_eq!((runs.len(), runs.left().len()), (0, 1));
    runs.assert_all_succeeded();
}

#[tokio::test]
async fn a_panic_is_the_failure_of_its_job_alone() {
    let kit = kit(async |work: Work, _| {
        assert!(work.number != 1, "one is not enough");
        Ok(())
    });
    kit.scheduler().enqueue(work(1)).await.unwrap();
    kit.scheduler().enqueue(work(2)).await.unwrap();

    let runs = kit.run_all_enqueued().await;

    let failure = runs[0].failure().unwrap();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Panicked, "one is not enough"));
    assert_eq!(runs[1].state(), StateName::Succeeded);
}

#[tokio::test]
#[should_panic = "there were 7 runs and no end in sight"]
async fn a_job_that_enqueues_itself_for_ever_is_found_out() {
    let kit = kit(async |work: Work, context: JobContext| {
        context.enqueue(work).await?;
        Ok(())
    });
    kit.scheduler().enqueue(work(1)).await.unwrap();

    let _ = kit.limit_runs(7).run_all_enqueued().await;
}

#[tokio::test]
async fn a_kit_cannot_be_asked_to_run_jobs_within_a_job() {
    let slot: Arc<std::sync::OnceLock<TestKit>> = Arc::default();
    let own = Arc::clone(&slot);
    let kit = kit(move |_, _| {
        let own = Arc::clone(&own);
        async move {
            let _ = own.get().unwrap().run_all_enqueued().await;
            Ok(())
        }
    });
    slot.set(kit).unwrap();
    let kit = slot.get().unwrap();
    kit.scheduler().enqueue(work(1)).await.unwrap();

    let runs = kit.run_all_enqueued().await;

    let failure = runs[0].failure().unwrap();
    assert!(failure.message.contains("one place at a time"), "{}", failure.message);
}

#[tokio::test]
async fn nothing_is_left_behind_between_two_calls() {
    let diary = Diary::default();
    let own = diary.clone();
    let kit = kit(move |_, context: JobContext| {
        own.note(format!("{} servers", "run"));
        async move {
            let servers = context.scheduler().storage().list_servers().await?;
            Ok(servers.len())
        }
    });
    kit.scheduler().enqueue(work(1)).await.unwrap();

    let runs = kit.run_all_enqueued().await;
    kit.scheduler().enqueue(work(2)).await.unwrap();
    tokio::task::yield_now().await;

    assert_eq!(runs[0].result::<usize>(), 1, "while a job runs there is a server");
    assert_eq!(kit.storage().list_servers().await.unwrap(), []);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(diary.lines().len(), 1, "what is enqueued now waits for the next call");
}

#[tokio::test]
async fn two_kits_that_are_told_the_same_do_the_same() {
    let play = async || {
        let kit = kit(async |work: Work, context: JobContext| {
            if !work.number.is_multiple_of(3) && context.attempt() < 3 {
                return Err(JobError::retry_in(std::time::Duration::from_secs(work.number.into())));
            }
            Ok(work.number)
        });
        for number in 0..20 {
            let priority = i32::try_from(number % 4).unwrap();
            kit.scheduler().create(JobBuilder::new(work(number)).priority(priority)).await.unwrap();
        }
        kit.run_for(std::time::Duration::from_secs(60)).await.to_string()
    };

    let (one, other) = (play().await, play().await);

    assert_eq!(one.lines().count(), 7 + 13 * 3);
    assert_eq!(one, other);
}

#[test]
#[should_panic = "would not start: there are two handlers for the job type \"work\""]
fn a_server_that_would_not_start_makes_no_kit() {
    let _ = TestKit::new(|server| {
        let server = server.handle::<Work, _>(Doing(async |_: Work, _| Ok(())));
        server.handle::<Work, _>(Doing(async |_: Work, _| Ok(())))
    });
}
