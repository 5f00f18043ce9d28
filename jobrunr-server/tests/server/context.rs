//! What a run leaves with its job: metadata, log lines, progress, steps; and that a late run leaves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jobrunr_core::limits::MAX_LOG_LINES;
use jobrunr_core::{
    Job, JobBuilder, JobContext, JobError, JobLog, JobProgress, JobResult, MetadataError, StateName,
};
use tokio::sync::{Semaphore, mpsc};

use crate::faulty::{Fault, Faulty};
use crate::world::{Doing, Work, World, next, pass, states, work};

fn texts(job: &Job) -> Vec<String> {
    JobLog::of(job).lines.into_iter().map(|line| line.text).collect()
}

#[tokio::test(start_paused = true)]
async fn saved_metadata_is_durable_at_once_and_found_by_the_next_run() {
    let world = World::new();
    let memory = world.memory.clone();
    let server = world
        .server()
        .handle::<Work, _>(Doing(move |_: Work, context: JobContext| {
            let storage = memory.clone();
            async move {
                if let Some(cursor) = context.get::<u64>("cursor")? {
                    assert!(!context.save_if_absent("cursor", &0).await?);
                    return Ok(cursor);
                }
                let claimed = context.job().clone();
                assert!(context.save_if_absent("cursor", &1).await?);
                context.save("cursor", &42).await?;
                let stored = jobrunr_core::storage::JobStore::find_job(&storage, context.job_id()).await?;
                let stored = stored.ok_or("the job is there")?;
                assert_eq!(stored.metadata()["cursor"], 42);
                assert_eq!(stored.version(), claimed.version(), "saving metadata is no change of the job");
                assert_eq!(context.get::<u64>("cursor")?, Some(42));
                Err("once more".into())
            }
        }))
        .start()
        .await
        .unwrap();

    let id = world.enqueue(1).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(job.result().unwrap().as_str(), "42");
    assert_eq!(job.failures(), 1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_saved_says_why() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| {
            for name in ["", "jobrunr-progress", &"x".repeat(257)] {
                assert!(matches!(context.save(name, &1).await, Err(MetadataError::Name { .. })), "{name}");
            }
            let large = "x".repeat(1024 * 1024);
            assert!(matches!(context.save("a", &large).await, Err(MetadataError::TooLarge { .. })));
            context.save("a", "text").await?;
            assert!(matches!(context.get::<u64>("a"), Err(MetadataError::Unfit { .. })));
            Ok(())
        }))
        .start()
        .await
        .unwrap();

    let id = world.create(JobBuilder::new(work(1)).retries(0)).await;

    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_log_lines_and_the_progress_beside_them_are_few_writes() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let server = world
        .server_over(storage.shared())
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| {
            let bar = context.progress(1_500);
            for number in 0..1_500 {
                context.log().info(format!("line {number}"));
                bar.increment();
                tokio::task::yield_now().await;
            }
            Ok(())
        }))
        .start()
        .await
        .unwrap();

    let id = world.enqueue(1).await;
    let job = world.job_in(id, StateName::Succeeded).await;
    server.stop().await;

    let writes = storage.calls()["save_job_metadata"];
    assert!(writes <= 2, "{writes} writes");
    let log = JobLog::of(&job);
    assert!(log.is_cut, "there were more than {MAX_LOG_LINES}");
    assert_eq!((log.lines.len(), log.lines[999].text.as_str()), (MAX_LOG_LINES, "line 999"));
    let progress = JobProgress::of(&job).unwrap();
    assert_eq!((progress.done, progress.total, progress.percent()), (1_500, 1_500, 100));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_writes_nothing_down_costs_no_write() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let done = Doing(async |_: Work, context: JobContext| {
        context.flush().await?;
        Ok(context.get::<u64>("nothing")?)
    });
    let server = world.server_over(storage.shared()).handle::<Work, _>(done).start().await.unwrap();

    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;

    assert_eq!(storage.calls().get("save_job_metadata"), None);
}

#[tokio::test(start_paused = true)]
async fn log_lines_and_progress_are_seen_while_the_run_goes_on() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| {
            let bar = context.progress(100);
            for percent in 0..100 {
                bar.set(percent + 1);
                context.log().warn(format!("{percent}"));
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            Ok(())
        }))
        .start()
        .await
        .unwrap();
    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Processing).await;

    pass(Duration::from_secs(251)).await;

    let job = world.job(id).await;
    assert_eq!(job.state_name(), StateName::Processing);
    assert_eq!(JobProgress::of(&job).unwrap().done, 26);
    assert_eq!(texts(&job).len(), 26);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_run_logged_before_it_failed_panicked_or_was_aborted_is_kept() {
    let world = World::new();
    let server = world
        .server()
        .cancellation_grace(Duration::ZERO)
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| -> JobResult {
            context.log().info(format!("attempt {}", context.attempt()));
            match context.attempt() {
                1 => Err("no".into()),
                2 => panic!("boom"),
                3 => std::future::pending().await,
                _ => Ok(()),
            }
        }))
        .start()
        .await
        .unwrap();

    let id = world.create(JobBuilder::new(work(1)).timeout(Duration::from_millis(100))).await;

    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(texts(&job), ["attempt 1", "attempt 2", "attempt 3", "attempt 4"]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_is_done_once_over_retries_and_the_death_of_a_server() {
    let world = World::new();
    let (charged, shipped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (told, mut telling) = mpsc::unbounded_channel();
    let handler = || {
        let (charged, shipped, told) = (Arc::clone(&charged), Arc::clone(&shipped), told.clone());
        Doing(move |_: Work, context: JobContext| {
            let (charged, shipped, told) = (Arc::clone(&charged), Arc::clone(&shipped), told.clone());
            async move {
                let charge = async { Ok(charged.fetch_add(1, Ordering::Relaxed) + 1) };
                let receipt: u32 = context.run_step_once("charge", charge).await?;
                let ship = async {
                    match shipped.fetch_add(1, Ordering::Relaxed) {
                        0 => Err(JobError::from("no van is free")),
                        _ => Ok(()),
                    }
                };
                context.run_step_once("ship", ship).await?;
                told.send(context.server().name.clone())?;
                if context.server().name == "dying" {
                    std::future::pending::<()>().await;
                }
                Ok(receipt)
            }
        })
    };
    let dying = world.server().name("dying").handle::<Work, _>(handler()).start().await.unwrap();
    let id = world.enqueue(1).await;
    assert_eq!(next(&mut telling).await.as_deref(), Some("dying"));
    drop(dying);

    let rescuer = world.server().name("rescuer").handle::<Work, _>(handler()).start().await.unwrap();

    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(job.result().unwrap().as_str(), "1");
    assert_eq!(job.failures(), 2, "a shipment that failed, and a server that died");
    assert_eq!(charged.load(Ordering::Relaxed), 1);
    assert_eq!(shipped.load(Ordering::Relaxed), 2, "the step that failed was done again, once");
    rescuer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_is_not_done_side_by_side_with_itself_but_steps_of_other_names_are() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| {
            let step = |name: &'static str, number: u32| {
                let context = context.clone();
                async move {
                    let work = async {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        Ok(number)
                    };
                    context.run_step_once(name, work).await
                }
            };
            let (one, again, other) = tokio::join!(step("a", 1), step("a", 2), step("b", 3));
            assert!(again.unwrap_err().into_failure().message.contains("under way"));
            let later = step("a", 4).await?;
            assert!(step("", 5).await.is_err());
            Ok((one?, other?, later))
        }))
        .start()
        .await
        .unwrap();

    let id = world.create(JobBuilder::new(work(1)).retries(0)).await;

    assert_eq!(world.job_in(id, StateName::Succeeded).await.result().unwrap().as_str(), "[1,3,1]");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_delays_what_a_run_saves_and_fails_nothing() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    let server = world
        .server_over(storage.shared())
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| {
            context.log().info("before");
            context.save("a", &1).await?;
            context.log().info("after");
            Ok(())
        }))
        .start()
        .await
        .unwrap();
    storage.fail(|operation| match operation {
        "save_job_metadata" => Fault::BeforeEffect,
        _ => Fault::None,
    });
    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Processing).await;

    pass(Duration::from_secs(600)).await;
    assert_eq!(world.job(id).await.state_name(), StateName::Processing);
    storage.mend();

    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(texts(&job), ["before", "after"]);
    assert_eq!((job.metadata()["a"].as_u64(), job.failures()), (Some(1), 0));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn log_lines_that_the_storage_refuses_change_nothing_about_the_outcome() {
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    storage.fail(|operation| match operation {
        "save_job_metadata" => Fault::Refused,
        _ => Fault::None,
    });
    let server = world
        .server_over(storage.shared())
        .handle::<Work, _>(Doing(async |_: Work, context: JobContext| {
            context.log().info("lost");
            tokio::time::sleep(Duration::from_secs(5)).await;
            context.log().info("lost too");
            Ok(())
        }))
        .start()
        .await
        .unwrap();

    let id = world.enqueue(1).await;

    assert!(texts(&world.job_in(id, StateName::Succeeded).await).is_empty());
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_late_run_of_a_former_life_saves_nothing_over_what_its_successor_has_saved() {
    let world = World::new();
    let cut_off = Faulty::new(&world.memory);
    let (told, mut telling) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let slow = Doing(move |_: Work, context: JobContext| {
        let (told, gate) = (told.clone(), Arc::clone(&gate));
        // On a task of its own, which goes on when the run is aborted.
        tokio::spawn(async move {
            told.send("started".to_owned()).unwrap();
            gate.acquire().await.unwrap().forget();
            context.log().info("late");
            context.progress(1).increment();
            let saved = context.save("who", "the first").await;
            told.send(format!("{saved:?}")).unwrap();
        });
        std::future::pending::<JobResult>()
    });
    let first = world.server_over(cut_off.shared()).handle::<Work, _>(slow).start().await.unwrap();
    let id = world.enqueue(1).await;
    assert_eq!(next(&mut telling).await.unwrap(), "started");
    let quick = Doing(async |_: Work, context: JobContext| {
        context.log().info("in time");
        Ok(context.save("who", "the second").await?)
    });
    let second = world.server().name("second").handle::<Work, _>(quick).start().await.unwrap();

    // It is cut off but for its metadata, which goes through at once.
    cut_off
        .fail(|operation| if operation == "save_job_metadata" { Fault::None } else { Fault::BeforeEffect });
    pass(Duration::from_secs(50)).await;
    open.add_permits(1);
    let job = world.job_in(id, StateName::Succeeded).await;
    cut_off.mend();

    assert!(next(&mut telling).await.unwrap().contains("RunIsOver"));
    pass(Duration::from_secs(60)).await;
    assert_eq!(world.job(id).await, job, "the late run has changed nothing");
    assert_eq!(job.metadata()["who"], "the second");
    assert_eq!(texts(&job), ["in time"]);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_job_was_deleted_and_one_that_has_ended_save_nothing_any_more() {
    let world = World::new();
    let (told, mut telling) = mpsc::unbounded_channel();
    let server = world
        .server()
        .handle::<Work, _>(Doing(move |Work { number }: Work, context: JobContext| {
            let told = told.clone();
            async move {
                if number == 1 {
                    context.cancellation_token().cancelled().await;
                    told.send(context.save("a", &1).await)?;
                } else {
                    let context = context.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(10)).await;
                        context.log().info("nobody listens");
                        told.send(context.save("a", &1).await)
                    });
                }
                Ok(())
            }
        }))
        .start()
        .await
        .unwrap();

    let deleted = world.enqueue(1).await;
    world.job_in(deleted, StateName::Processing).await;
    world.scheduler.delete(deleted, "not needed").await.unwrap();
    assert!(matches!(next(&mut telling).await, Some(Err(MetadataError::RunIsOver(id))) if id == deleted));
    let ended = world.enqueue(2).await;
    assert!(matches!(next(&mut telling).await, Some(Err(MetadataError::RunIsOver(id))) if id == ended));

    assert!(world.job(deleted).await.metadata().is_empty());
    assert!(world.job(ended).await.metadata().is_empty());
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_asked_to_end_by_a_stop_may_still_save_where_it_is() {
    let world = World::new();
    let handler = || {
        Doing(async |_: Work, context: JobContext| {
            if let Some(place) = context.get::<u32>("place")? {
                return Ok(place);
            }
            context.cancellation_token().cancelled().await;
            context.save("place", &7).await?;
            Err("it was interrupted".into())
        })
    };
    let first = world.server().handle::<Work, _>(handler()).start().await.unwrap();
    let id = world.enqueue(1).await;
    world.job_in(id, StateName::Processing).await;

    first.stop().await;
    let second = world.server().handle::<Work, _>(handler()).start().await.unwrap();

    let job = world.job_in(id, StateName::Succeeded).await;
    assert_eq!(job.result().unwrap().as_str(), "7");
    assert_eq!(states(&job), ["ENQUEUED", "PROCESSING", "ENQUEUED", "PROCESSING", "SUCCEEDED"]);
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_creates_follow_ups() {
    let world = World::new();
    let server = world
        .server()
        .handle::<Work, _>(Doing(async |Work { number }: Work, context: JobContext| {
            if number > 0 {
                context.enqueue(work(number - 1)).await?;
            }
            Ok(())
        }))
        .start()
        .await
        .unwrap();

    world.enqueue(3).await;

    world.until_count(StateName::Succeeded, 4).await;
    server.stop().await;
}
