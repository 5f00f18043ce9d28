//! What is wrong with the cluster as a whole.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobrunr_core::problems::{Problem, list_problems};
use jobrunr_server::BackgroundJobServerBuilder;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::world::{Doing, Other, Work, World, pass, work};

fn idle(builder: BackgroundJobServerBuilder) -> BackgroundJobServerBuilder {
    builder.handle::<Work, _>(Doing(async |_: Work, _| Ok(())))
}

/// Keeps the texts of what is logged as a warning.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Visit for Warnings {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.is_event()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn unhandled(signature: &str) -> Problem {
    Problem::UnhandledType { signature: signature.parse().unwrap() }
}

#[tokio::test(start_paused = true)]
async fn a_job_type_that_waits_and_that_no_live_server_handles_is_a_problem() {
    let world = World::new();
    let server = idle(world.server()).start().await.unwrap();

    assert_eq!(server.problems().await.unwrap(), []);
    world.scheduler.enqueue(Other {}).await.unwrap();
    assert_eq!(server.problems().await.unwrap(), [unhandled("other")]);

    let handler = Doing(async |_: Other, _| Ok(()));
    let second = world.server().handle::<Other, _>(handler).start().await.unwrap();
    assert_eq!(server.problems().await.unwrap(), []);
    second.stop().await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_master_warns_of_a_type_that_waits_and_that_nobody_handles_and_once() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let world = World::new();
    let master = idle(world.server()).start().await.unwrap();
    pass(Duration::from_secs(1)).await;
    let other = idle(world.server()).start().await.unwrap();
    world.scheduler.enqueue(Other {}).await.unwrap();

    pass(Duration::from_secs(120)).await;

    assert!(master.is_master() && !other.is_master());
    assert_eq!(warnings.all(), [unhandled("other").to_string()]);
    master.stop().await;
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_dead_but_not_removed_yet_handles_nothing() {
    let world = World::new();
    let server = idle(world.server()).start().await.unwrap();
    drop(server);
    world.scheduler.enqueue(work(1)).await.unwrap();

    assert_eq!(list_problems(&world.memory).await.unwrap(), [], "it may only be slow");
    pass(Duration::from_secs(61)).await;

    assert_eq!(list_problems(&world.memory).await.unwrap(), [unhandled("work")]);
}

#[tokio::test(start_paused = true)]
async fn a_type_that_waits_for_its_time_is_no_problem_yet() {
    let world = World::new();
    world.scheduler.schedule_in(Duration::from_secs(60), Other {}).await.unwrap();

    assert_eq!(list_problems(&world.memory).await.unwrap(), []);
}
