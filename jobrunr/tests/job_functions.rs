//! `#[job]` on functions: callable as before, a request to create, and what a server takes.
#![cfg(feature = "macros")]

use std::path::PathBuf;

use jobrunr::handler::Provided;
use jobrunr::prelude::*;
use jobrunr::{JobDraft, JobRun, MemoryStorage, ServerId, ServerRef, UnlimitedLease};
use tokio_util::sync::CancellationToken;

struct ImageStore {
    folder: &'static str,
}

struct Mailer;

/// Makes an image smaller.
#[job(name = "Resize {path} to {width:>5}", retries = 5, labels = ["images"], queue = "images", timeout = "30s")]
async fn resize(
    path: String,
    width: u32,
    context: JobContext,
    images: Inject<ImageStore>,
) -> JobResult<String> {
    Ok(format!("{}/{path} {width} {}", images.folder, context.name()))
}

fn draft(request: impl JobRequest) -> JobDraft {
    JobBuilder::new(request).draft(DateTime::UNIX_EPOCH).expect("the request keeps every rule")
}

fn payload(request: impl JobRequest) -> String {
    draft(request).definition.payload.as_str().to_owned()
}

/// The context of a run of the job for this request.
fn context(request: impl JobRequest) -> JobContext {
    let job = draft(request).into_job(DateTime::UNIX_EPOCH).expect("every job may be enqueued");
    JobContext::from(JobRun {
        job,
        retries: 0,
        server: ServerRef { id: ServerId::new(), name: "here".into() },
        cancellation: CancellationToken::new(),
        scheduler: JobScheduler::new(Arc::new(MemoryStorage::new())),
        lease: Arc::new(UnlimitedLease),
    })
}

/// Runs the function as a server would.
async fn run<F: JobFunction>(function: F, request: F::Request, provided: Provided) -> JobResult<F::Output> {
    let payload = payload(request);
    let stored = || -> F::Request { serde_json::from_str(&payload).expect("it was written by serde_json") };
    function.run(stored(), context(stored()), Arc::new(provided)).await
}

#[tokio::test]
async fn the_function_stays_callable() {
    let images = Inject::new(Arc::new(ImageStore { folder: "/img" }));

    let result = resize("cat.png".to_owned(), 200, context(resize::job("cat.png", 200)), images).await;

    assert_eq!(result.unwrap(), "/img/cat.png 200 Resize cat.png to   200");
}

#[test]
fn the_arguments_become_the_request() {
    let draft = draft(resize::job("cat.png", 200));

    assert_eq!(draft.definition.signature, "resize");
    assert_eq!(draft.definition.payload.as_str(), r#"{"path":"cat.png","width":200}"#);
    assert_eq!(draft.definition.name, "Resize cat.png to   200");
    assert_eq!(draft.definition.queue, "images");
    assert_eq!(draft.definition.settings.retries, Some(5));
    assert_eq!(draft.definition.settings.timeout, Some(Duration::from_secs(30)));
}

#[test]
fn the_request_has_a_type_with_the_arguments_as_fields() {
    let ResizeJob { path, width } = resize::job("cat.png", 200);

    assert_eq!((path.as_str(), width), ("cat.png", 200));
    assert_eq!(ResizeJob::JOB_TYPE, "resize");
}

#[test]
fn debug_does_not_show_the_arguments() {
    assert_eq!(format!("{:?}", resize::job("secret", 1)), "ResizeJob { .. }");
    assert_eq!(format!("{resize:?}"), "resize");
}

#[tokio::test]
async fn a_server_runs_it_with_what_was_provided() {
    let mut provided = Provided::default();
    provided.insert(ImageStore { folder: "/img" });

    let result = run(resize, resize::job("cat.png", 200), provided).await;

    assert_eq!(result.unwrap(), "/img/cat.png 200 Resize cat.png to   200");
}

#[tokio::test]
async fn a_dependency_that_was_not_provided_is_named_and_not_retried() {
    let error = run(resize, resize::job("cat.png", 200), Provided::default()).await.unwrap_err();

    let failure = error.into_failure();
    assert!(failure.message.contains("ImageStore"), "{}", failure.message);
    assert!(failure.do_not_retry);
}

#[job]
async fn notify(mail: Inject<Mailer>, images: Inject<ImageStore>) {
    let _ = (mail, images);
}

#[test]
fn every_injected_parameter_is_a_dependency() {
    let names: Vec<_> = notify.dependencies().iter().map(|dependency| dependency.type_name).collect();

    assert!(names[0].ends_with("Mailer") && names[1].ends_with("ImageStore"), "{names:?}");
    assert_eq!(resize.dependencies().len(), 1);
    assert_eq!(tick.dependencies().len(), 0);
}

#[job(type = "clock-tick", aliases = ["tick"])]
async fn tick() {}

#[tokio::test]
async fn a_function_needs_neither_arguments_nor_a_result() {
    tick().await;

    run(tick, tick::job(), Provided::default()).await.unwrap();

    assert_eq!(payload(tick::job()), "{}");
    assert_eq!((TickJob::JOB_TYPE, TickJob::ALIASES), ("clock-tick", ["tick"].as_slice()));
}

#[job]
fn checksum(context: &JobContext, mut path: PathBuf, salt: u64) -> JobResult<String> {
    path.set_extension("sum");
    let thread = std::thread::current().id();
    Ok(format!("{} {salt} {} {thread:?}", path.display(), context.attempt()))
}

#[tokio::test]
async fn a_blocking_function_runs_apart_from_the_tasks() {
    let here = format!("{:?}", std::thread::current().id());

    let direct = checksum(&context(checksum::job("a.txt", 1)), "a.txt".into(), 1).unwrap();
    let ran = run(checksum, checksum::job("a.txt", 1), Provided::default()).await.unwrap();

    assert_eq!(direct, format!("a.sum 1 1 {here}"));
    assert!(ran.starts_with("a.sum 1 1 ThreadId") && !ran.ends_with(&here), "{ran} on {here}");
}

#[job]
async fn borrow(word: String, context: &JobContext) -> JobResult<usize> {
    tokio::task::yield_now().await;
    Ok(word.len() + context.name().len())
}

#[tokio::test]
async fn the_context_can_be_borrowed() {
    assert_eq!(borrow("four".into(), &context(borrow::job("four"))).await.unwrap(), 10);
    assert_eq!(run(borrow, borrow::job("four"), Provided::default()).await.unwrap(), 10);
}

#[job]
async fn parse(text: String) -> Result<u8, std::num::ParseIntError> {
    text.parse()
}

#[tokio::test]
async fn a_function_may_fail_with_an_error_of_its_own() {
    assert_eq!(run(parse, parse::job("7"), Provided::default()).await.unwrap(), 7);

    let failure = run(parse, parse::job("x"), Provided::default()).await.unwrap_err().into_failure();
    assert_eq!(failure.message, "invalid digit found in string");
    assert!(failure.error_type.unwrap().ends_with("ParseIntError"));
}

#[job]
async fn countdown(countdown: u32) -> JobResult<String> {
    let next = countdown.checked_sub(1).map(countdown::job);
    Ok(next.map(payload).unwrap_or_default())
}

#[tokio::test]
async fn the_body_may_use_the_name_of_the_function_for_a_value_and_for_the_next_job() {
    assert_eq!(countdown(3).await.unwrap(), r#"{"countdown":2}"#);
}

#[job]
async fn renamed(
    #[serde(rename = "to", default)] whom: String,
    #[serde(default)] r#type: u8,
) -> JobResult<u8> {
    Ok(r#type + u8::try_from(whom.len())?)
}

#[tokio::test]
async fn an_argument_may_say_how_it_is_stored() {
    assert_eq!(payload(renamed::job("Ada", 1)), r#"{"to":"Ada","type":1}"#);

    let old: RenamedJob = serde_json::from_str("{}").unwrap();
    assert_eq!(run(renamed, old, Provided::default()).await.unwrap(), 0);
}

#[cfg(any())]
#[job]
async fn not_here(missing: NoSuchType) -> JobResult {}

#[job]
#[cfg(any())]
async fn not_here_either(missing: NoSuchType) -> JobResult {}

#[job]
#[expect(clippy::needless_range_loop, reason = "shows that an attribute reaches the function")]
async fn lint(words: Vec<String>) -> usize_result::Length {
    let mut length = 0;
    for index in 0..words.len() {
        length += words[index].len();
    }
    Ok(length)
}

mod usize_result {
    pub(super) type Length = Result<usize, std::convert::Infallible>;
}

#[tokio::test]
async fn the_result_may_go_by_another_name() {
    assert_eq!(lint(vec!["a".into(), "bc".into()]).await, Ok(3));
}

#[test]
fn jobs_can_be_written_inside_a_function() {
    #[job]
    fn local(word: Box<str>) {
        let _ = word;
    }

    assert_eq!(payload(local::job("hi")), r#"{"word":"hi"}"#);
}

mod library {
    use jobrunr::prelude::*;

    /// A job for the users of a library.
    #[job(crate = "jobrunr")]
    pub async fn shared(word: String) -> JobResult<String> {
        Ok(word)
    }
}

#[tokio::test]
async fn a_job_is_as_visible_as_its_function() {
    let library::SharedJob { word } = library::shared::job("hi");

    assert_eq!(library::shared(word).await.unwrap(), "hi");
}

// Generated code must not lean on names that happen to be in scope.
#[no_implicit_prelude]
mod bare {
    #[::jobrunr::job(name = "Hold {word}", labels = ["bare"], timeout = "1s", aliases = ["hold"])]
    pub(super) async fn keep(
        word: ::std::string::String,
        context: ::jobrunr::JobContext,
        store: ::jobrunr::Inject<super::ImageStore>,
    ) -> ::jobrunr::JobResult<::std::string::String> {
        let _ = (context, store);
        ::std::result::Result::Ok(word)
    }

    #[derive(::jobrunr::serde::Serialize, ::jobrunr::serde::Deserialize, ::jobrunr::JobRequest)]
    #[serde(crate = "::jobrunr::serde")]
    #[job(name = "Keep {0}", queue = "bare", priority = 1)]
    pub(super) struct Keep(pub(super) u8);
}

#[test]
fn the_generated_code_needs_nothing_in_scope() {
    assert_eq!(bare::keep::job("it").options().name.unwrap(), "Hold it");
    assert_eq!(bare::Keep(7).options().name.unwrap(), "Keep 7");
}
