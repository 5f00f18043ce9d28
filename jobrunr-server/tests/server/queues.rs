//! Which queues a server serves: by rank, by weight, and several servers with different ones.

use std::time::Duration;

use jobrunr_core::{JobBuilder, JobContext, StateName};
use jobrunr_server::{BackgroundJobServer, BackgroundJobServerBuilder};
use tokio::sync::mpsc;

use crate::world::{Doing, Work, World, next, work};

/// Starts a server whose jobs tell in which queue they waited.
async fn telling(
    builder: BackgroundJobServerBuilder,
) -> (BackgroundJobServer, mpsc::UnboundedReceiver<String>) {
    let (sender, told) = mpsc::unbounded_channel();
    let handler = Doing(move |_: Work, context: JobContext| {
        let sender = sender.clone();
        async move {
            // So that one run follows another, and no claim finds all jobs done already.
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(sender.send(context.queue().to_string())?)
        }
    });
    (builder.handle::<Work, _>(handler).start().await.unwrap(), told)
}

async fn fill(world: &World, queue: &str, jobs: u32) {
    let builders = (0..jobs).map(|number| JobBuilder::new(work(number)).queue(queue));
    world.scheduler.create_all(builders).await.unwrap();
}

/// Of which queues the next jobs are that are run.
async fn queues_of(told: &mut mpsc::UnboundedReceiver<String>, jobs: usize) -> Vec<String> {
    let mut queues = Vec::with_capacity(jobs);
    for _ in 0..jobs {
        queues.push(next(told).await.expect("the server runs on"));
    }
    queues
}

fn count(queues: &[String], queue: &str) -> usize {
    queues.iter().filter(|of_job| *of_job == queue).count()
}

#[tokio::test(start_paused = true)]
async fn busy_queues_get_shares_by_weight_and_what_one_leaves_goes_to_the_others() {
    fastrand::seed(7);
    let world = World::new();
    fill(&world, "high", 1_000).await;
    fill(&world, "low", 2_000).await;
    let queues = [("high", 5), ("low", 1), ("empty", 100)];
    let builder = world.server().workers(1).prefetch(0).queues(queues);

    let (server, mut told) = telling(builder).await;
    let while_both_are_busy = queues_of(&mut told, 1_000).await;
    let all_the_others = queues_of(&mut told, 2_000).await;

    let low = count(&while_both_are_busy, "low");
    assert!((130..=205).contains(&low), "a sixth of 1 000 jobs is about 167, not {low}");
    assert_eq!(count(&all_the_others, "low"), 2_000 - low, "no job of a light queue is forgotten");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn shares_by_weight_hold_for_claims_of_many_jobs_too() {
    fastrand::seed(11);
    let world = World::new();
    fill(&world, "high", 6_000).await;
    fill(&world, "low", 6_000).await;
    let builder = world.server().workers(8).prefetch(8).queues([("high", 2), ("low", 1)]);

    let (server, mut told) = telling(builder).await;
    let while_both_are_busy = queues_of(&mut told, 6_000).await;

    let low = count(&while_both_are_busy, "low");
    assert!((1_700..=2_300).contains(&low), "a third of 6 000 jobs is 2 000, not {low}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_lower_rank_waits_for_all_jobs_of_the_higher_one() {
    let world = World::new();
    fill(&world, "low", 50).await;
    fill(&world, "high", 50).await;

    let (server, mut told) = telling(world.server().workers(1).prefetch(3).queues(["high", "low"])).await;
    let order = queues_of(&mut told, 100).await;

    assert!(order[..50].iter().all(|queue| queue == "high"), "{order:?}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn servers_with_different_queues_run_their_own_jobs_only() {
    let world = World::new();
    let (mails, mut mails_told) = telling(world.server().queues(["mail"])).await;
    let (images, mut images_told) = telling(world.server().queues([("image", 3), ("video", 1)])).await;

    for (queue, jobs) in [("mail", 20), ("image", 20), ("video", 20), ("nobody", 5)] {
        fill(&world, queue, jobs).await;
    }
    let of_mails = queues_of(&mut mails_told, 20).await;
    let of_images = queues_of(&mut images_told, 40).await;

    assert_eq!(count(&of_mails, "mail"), 20);
    assert_eq!((count(&of_images, "image"), count(&of_images, "video")), (20, 20));
    world.until_count(StateName::Succeeded, 60).await;
    assert_eq!(world.count(StateName::Enqueued).await, 5, "what nobody serves waits");
    mails.stop().await;
    images.stop().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_dead_server_go_to_the_next_one_that_serves_their_queue() {
    let world = World::new();
    fill(&world, "mail", 1).await;
    let stuck = Doing(async |_: Work, _| std::future::pending::<jobrunr_core::JobResult>().await);
    let doomed = world.server().queues(["mail"]).handle::<Work, _>(stuck).start().await.unwrap();
    world.until_count(StateName::Processing, 1).await;
    let (others, mut others_told) = telling(world.server().queues(["image"])).await;

    drop(doomed);
    world.until_count(StateName::Enqueued, 1).await;
    let (heir, mut heir_told) = telling(world.server().queues(["mail", "image"])).await;

    assert_eq!(next(&mut heir_told).await.as_deref(), Some("mail"));
    assert!(others_told.try_recv().is_err(), "the master put it back, and left it alone");
    others.stop().await;
    heir.stop().await;
}
