//! The span of a run, and the trace that its job was created in.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use jobrunr_core::trace::{TRACE_PARENT, TraceCarrier, TraceParent};
use jobrunr_core::{JobBuilder, JobContext, JobError, StateName};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::world::{Doing, Other, Work, World, work};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

type Fields = BTreeMap<&'static str, String>;

/// Keeps the fields of every span called `job`.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<u64, Fields>>>, Arc<AtomicU64>);

impl Spans {
    fn all(&self) -> Vec<Fields> {
        self.0.lock().unwrap().values().cloned().collect()
    }
}

struct FieldsOf<'a>(&'a mut Fields);

impl Visit for FieldsOf<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.name() == "job"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.1.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::new();
        span.record(&mut FieldsOf(&mut fields));
        self.0.lock().unwrap().insert(id, fields);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut FieldsOf(self.0.lock().unwrap().entry(span.into_u64()).or_default()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Says that everything goes on in one trace, and keeps what runs are linked to.
#[derive(Clone, Default)]
struct Bridge(Arc<Mutex<Vec<TraceParent>>>);

impl TraceCarrier for Bridge {
    fn current(&self) -> Option<TraceParent> {
        TraceParent::new(PARENT).ok()
    }

    fn link(&self, run: &tracing::Span, creator: &TraceParent) {
        assert_eq!(run.metadata().map(Metadata::name), Some("job"));
        self.0.lock().unwrap().push(*creator);
    }
}

struct Broken;

impl TraceCarrier for Broken {
    fn current(&self) -> Option<TraceParent> {
        panic!("no context here")
    }

    fn link(&self, _: &tracing::Span, _: &TraceParent) {
        panic!("no links either")
    }
}

#[tokio::test(start_paused = true)]
async fn the_span_of_a_run_tells_of_job_type_attempt_queue_and_server() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let world = World::new();
    let once = Doing(async |_: Work, context: JobContext| match context.attempt() {
        1 => Err(JobError::retry_in(std::time::Duration::from_secs(1))),
        _ => Ok(()),
    });
    let server = world.server().handle::<Work, _>(once).start().await.unwrap();

    let id = world.create(JobBuilder::new(work(1)).queue("mail")).await;
    world.job_in(id, StateName::Succeeded).await;
    server.stop().await;

    let [first, second] = spans.all().try_into().unwrap();
    assert_eq!(first["attempt"], "1");
    assert_eq!(second["attempt"], "2");
    for fields in [first, second] {
        let shown = ["id", "type", "queue", "server"].map(|name| fields[name].clone());
        assert_eq!(shown, [id.to_string(), "work".to_owned(), "mail".to_owned(), "one".to_owned()]);
        assert!(!fields.contains_key("traceparent"), "nobody said where the job comes from");
    }
}

#[tokio::test(start_paused = true)]
async fn the_trace_of_the_creator_reaches_the_span_of_the_run_and_follow_up_jobs() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let bridge = Bridge::default();
    let world = World::new();
    let scheduler = world.scheduler.clone().traces(bridge.clone());
    let follow_up = Doing(async |_: Work, context: JobContext| Ok(context.enqueue(Other {}).await?));
    let server = world
        .server()
        .traces(bridge.clone())
        .handle::<Work, _>(follow_up)
        .handle::<Other, _>(Doing(async |_: Other, _| Ok(())))
        .start()
        .await
        .unwrap();

    let id = scheduler.enqueue(work(1)).await.unwrap();
    world.until_count(StateName::Succeeded, 2).await;
    server.stop().await;

    assert_eq!(world.job(id).await.metadata()[TRACE_PARENT], PARENT);
    assert_eq!(*bridge.0.lock().unwrap(), [TraceParent::new(PARENT).unwrap(); 2]);
    let told: Vec<String> = spans.all().iter().map(|fields| fields["traceparent"].clone()).collect();
    assert_eq!(told, [PARENT; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_job_without_a_trace_carries_no_metadata() {
    let world = World::new();

    let id = world.enqueue(1).await;

    assert!(world.job(id).await.metadata().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_job_was_given_to_carry_is_not_replaced() {
    let given = PARENT.replace("b7ad", "aaaa");
    let world = World::new();
    let scheduler = world.scheduler.clone().traces(Bridge::default());

    let builder = JobBuilder::new(work(1)).metadata(TRACE_PARENT, given.as_str());
    let id = scheduler.create(builder).await.unwrap();

    let parent = TraceParent::of(&world.job(id).await).unwrap();
    assert_eq!(parent.to_string(), given);
}

#[tokio::test(start_paused = true)]
async fn a_trace_carrier_that_panics_keeps_no_job_from_being_created_or_run() {
    let world = World::new();
    let scheduler = world.scheduler.clone().traces(Broken);
    let run = Doing(async |_: Work, _| Ok(()));
    let server = world.server().traces(Broken).handle::<Work, _>(run).start().await.unwrap();

    let without = scheduler.enqueue(work(1)).await.unwrap();
    let with = scheduler.create(JobBuilder::new(work(2)).metadata(TRACE_PARENT, PARENT)).await.unwrap();

    world.job_in(without, StateName::Succeeded).await;
    world.job_in(with, StateName::Succeeded).await;
    server.stop().await;
}
