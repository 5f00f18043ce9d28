//! Claims and saves that are under way at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobrunr_core::StateName;
use jobrunr_server::BackgroundJobServer;

use crate::faulty::{Fault, Faulty};
use crate::world::{Doing, Work, World, pass, work};

/// What ran, in the order it was started in.
type Ran = Arc<Mutex<Vec<u32>>>;

async fn start(world: &World, storage: &Faulty, workers: usize) -> (BackgroundJobServer, Ran) {
    let ran = Ran::default();
    let seen = Arc::clone(&ran);
    let handler = Doing(move |work: Work, _| {
        seen.lock().unwrap().push(work.number);
        async { Ok(()) }
    });
    let server = world.server_over(storage.shared()).workers(workers).handle::<Work, _>(handler);
    (server.start().await.unwrap(), ran)
}

fn slow_claims_and_saves(operation: &str) -> Fault {
    match operation {
        "claim_jobs" | "save_jobs" => Fault::Late(Duration::from_millis(20)),
        _ => Fault::None,
    }
}

/// Has a server run so many jobs while its storage answers like this; returns their numbers in the order they were started in.
async fn run_all(
    world: &World,
    jobs: u32,
    workers: usize,
    rule: impl Fn(&'static str) -> Fault + Send + Sync + 'static,
) -> (Faulty, Vec<u32>) {
    let storage = Faulty::new(&world.memory);
    storage.fail(rule);
    world.scheduler.enqueue_all((0..jobs).map(work)).await.unwrap();
    let (server, ran) = start(world, &storage, workers).await;
    world.until_count(StateName::Succeeded, u64::from(jobs)).await;
    server.stop().await;
    let ran = ran.lock().unwrap().clone();
    (storage, ran)
}

#[tokio::test(start_paused = true)]
async fn while_there_is_much_to_do_two_claims_and_two_saves_are_under_way() {
    const JOBS: u32 = 20_000;
    let world = World::new();

    let (storage, mut ran) = run_all(&world, JOBS, 32, slow_claims_and_saves).await;

    ran.sort_unstable();
    assert!(ran.into_iter().eq(0..JOBS), "each ran once");
    assert_eq!(storage.most_at_once("claim_jobs"), 2);
    assert_eq!(storage.most_at_once("save_jobs"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_with_one_worker_claims_one_after_the_other_and_keeps_the_order_of_the_line() {
    const JOBS: u32 = 5_000;
    let world = World::new();

    let (storage, ran) = run_all(&world, JOBS, 1, slow_claims_and_saves).await;

    assert!(ran.into_iter().eq(0..JOBS));
    assert_eq!(storage.most_at_once("claim_jobs"), 1);
}

#[tokio::test(start_paused = true)]
async fn claims_that_lose_their_answers_beside_others_lose_no_job_and_run_none_twice() {
    const JOBS: u32 = 10_000;
    let world = World::new();
    let claims = AtomicUsize::new(0);
    let rule = move |operation| match operation {
        "claim_jobs" if claims.fetch_add(1, Ordering::Relaxed) % 4 == 3 => Fault::AfterEffect,
        operation => slow_claims_and_saves(operation),
    };

    let (storage, mut ran) = run_all(&world, JOBS, 32, rule).await;

    ran.sort_unstable();
    assert!(ran.into_iter().eq(0..JOBS));
    assert_eq!(storage.most_at_once("claim_jobs"), 2);
    assert_eq!(world.count(StateName::Processing).await, 0, "no job is held that nobody knows of");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_while_claims_are_under_way_gives_their_jobs_back() {
    const JOBS: u32 = 20_000;
    let world = World::new();
    let storage = Faulty::new(&world.memory);
    storage.fail(slow_claims_and_saves);
    world.scheduler.enqueue_all((0..JOBS).map(work)).await.unwrap();
    let (server, _) = start(&world, &storage, 32).await;
    pass(Duration::from_millis(130)).await;

    server.stop().await;

    let left = world.count(StateName::Enqueued).await;
    let done = world.count(StateName::Succeeded).await;
    assert_eq!(left + done, u64::from(JOBS), "nothing is held any more");
    assert!(left > 0 && done > 0, "{left} and {done}");
    assert_eq!(storage.most_at_once("claim_jobs"), 2);
}
