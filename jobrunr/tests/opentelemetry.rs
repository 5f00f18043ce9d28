//! The bridge to OpenTelemetry that `docs/observability.md` shows, with the real thing on both sides.
#![cfg(all(feature = "macros", feature = "server"))]

use jobrunr::prelude::*;
use jobrunr::trace::{TraceCarrier, TraceParent};
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

struct Bridge;

impl TraceCarrier for Bridge {
    /// Asked where a job is created.
    fn current(&self) -> Option<TraceParent> {
        let context = tracing::Span::current().context();
        let creator = context.span().span_context().clone();
        let (trace, span) = (creator.trace_id().to_bytes(), creator.span_id().to_bytes());
        TraceParent::from_ids(trace, span, creator.trace_flags().to_u8()).ok()
    }

    /// Told when the job runs, before the span of the run is entered.
    fn link(&self, run: &tracing::Span, creator: &TraceParent) {
        run.add_link(SpanContext::new(
            TraceId::from_bytes(creator.trace_id()),
            SpanId::from_bytes(creator.span_id()),
            TraceFlags::new(creator.flags()),
            true,
            TraceState::default(),
        ));
    }
}

#[job]
async fn work() -> JobResult {
    Ok(())
}

fn named<'s>(spans: &'s [SpanData], name: &str) -> &'s SpanData {
    spans
        .iter()
        .find(|span| span.name == name)
        .unwrap_or_else(|| panic!("there is a span {name} in {spans:?}"))
}

#[tokio::test]
async fn the_run_of_a_job_is_linked_to_the_span_it_was_created_in() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let storage = jobrunr::connect("memory:").await.expect("memory is always there");
    let scheduler = JobScheduler::new(Arc::clone(&storage)).traces(Bridge);
    let server = BackgroundJobServer::builder(storage).job(work).traces(Bridge).start().await;
    let server = server.expect("all it needs was given");

    let order = tracing::info_span!("order");
    let id = scheduler.enqueue(work::job()).instrument(order).await.expect("memory takes it");
    scheduler.await_result::<()>(id, Duration::from_secs(30)).await.expect("it succeeds");
    server.stop().await;

    let spans = exporter.get_finished_spans().expect("the exporter is still there");
    let (order, run) = (named(&spans, "order"), named(&spans, "job"));
    let links: Vec<_> = run.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(links, [order.span_context.span_id()]);
    assert_eq!(run.links.links[0].span_context.trace_id(), order.span_context.trace_id());
    assert_ne!(run.span_context.trace_id(), order.span_context.trace_id(), "a link, not a parent");
}
