//! Everything together, on the in-memory storage: what is enqueued is run, with macros and without.
#![cfg(feature = "server")]

use jobrunr::prelude::*;
use tokio::sync::mpsc;

/// Tells of every job that has ended.
struct Ended(mpsc::UnboundedSender<Job>);

#[async_trait]
impl JobFilter for Ended {
    async fn on_succeeded(&self, job: &Job) {
        let _ = self.0.send(job.clone());
    }

    async fn on_failed_after_retries(&self, job: &Job, _failure: &jobrunr::Failure) {
        let _ = self.0.send(job.clone());
    }
}

/// The next job that ends, within a limit.
async fn next(ended: &mut mpsc::UnboundedReceiver<Job>) -> Job {
    let job = tokio::time::timeout(Duration::from_secs(10), ended.recv()).await;
    job.expect("a job ends within ten seconds").expect("the server is there")
}

/// What the job's handler returned, as JSON.
fn result(job: &Job) -> &str {
    match job.state() {
        JobState::Succeeded { result: Some(result), .. } => result.as_str(),
        other => panic!("{other:?} has no result"),
    }
}

#[derive(Serialize, Deserialize)]
struct Add {
    left: u32,
    right: u32,
}

impl JobRequest for Add {
    const JOB_TYPE: &'static str = "add";
    const ALIASES: &'static [&'static str] = &["sum"];
}

struct Calculator {
    unit: &'static str,
}

impl JobHandler<Add> for Calculator {
    type Output = String;

    async fn run(&self, request: Add, context: &JobContext) -> JobResult<String> {
        let sum = request.left.checked_add(request.right);
        let sum = sum.ok_or_else(|| JobError::do_not_retry("the sum is too large"))?;
        Ok(format!("{sum} {} in {}", self.unit, context.queue()))
    }
}

#[tokio::test]
async fn without_any_macro_a_handler_runs_its_requests() {
    let storage = jobrunr::connect("memory:").await.unwrap();
    let scheduler = JobScheduler::new(Arc::clone(&storage));
    let (sender, mut ended) = mpsc::unbounded_channel();
    let server = BackgroundJobServer::builder(Arc::clone(&storage))
        .handle::<Add, _>(Calculator { unit: "apples" })
        .filter(Ended(sender))
        .start()
        .await
        .unwrap();

    let id = scheduler.enqueue(Add { left: 2, right: 3 }).await.unwrap();
    let good = next(&mut ended).await;
    scheduler.enqueue(Add { left: u32::MAX, right: 1 }).await.unwrap();
    let bad = next(&mut ended).await;
    server.stop().await;

    assert_eq!((good.id(), result(&good)), (id, r#""5 apples in default""#));
    assert_eq!(bad.state_name(), Failed);
}

#[tokio::test]
async fn a_job_enqueued_under_a_former_name_of_its_type_is_run() {
    #[derive(Serialize, Deserialize)]
    struct Sum {
        left: u32,
        right: u32,
    }
    impl JobRequest for Sum {
        const JOB_TYPE: &'static str = "sum";
    }
    let storage = jobrunr::connect("memory:").await.unwrap();
    JobScheduler::new(Arc::clone(&storage)).enqueue(Sum { left: 1, right: 1 }).await.unwrap();

    let (sender, mut ended) = mpsc::unbounded_channel();
    let server = BackgroundJobServer::builder(storage)
        .handle::<Add, _>(Calculator { unit: "pears" })
        .filter(Ended(sender))
        .start()
        .await
        .unwrap();
    let job = next(&mut ended).await;
    server.stop().await;

    assert_eq!(result(&job), r#""2 pears in default""#);
}

#[cfg(feature = "macros")]
mod with_macros {
    use super::*;

    struct Greetings {
        word: &'static str,
    }

    #[job(queue = "talk")]
    async fn greet(whom: String, context: JobContext, greetings: Inject<Greetings>) -> JobResult<String> {
        context.scheduler().enqueue(shout::job(whom.clone())).await?;
        Ok(format!("{} {whom}", greetings.word))
    }

    #[job]
    fn shout(whom: String, greetings: Inject<Greetings>) -> JobResult<String> {
        Ok(format!("{} {whom}!", greetings.word.to_uppercase()))
    }

    #[tokio::test]
    async fn job_functions_run_with_what_the_server_provides_and_enqueue_others() {
        let storage = jobrunr::connect("memory:").await.unwrap();
        let (sender, mut ended) = mpsc::unbounded_channel();
        let server = BackgroundJobServer::builder(Arc::clone(&storage))
            .job(greet)
            .job(shout)
            .provide(Greetings { word: "Hello" })
            .filter(Ended(sender))
            .start()
            .await
            .unwrap();

        JobScheduler::new(storage).enqueue(greet::job("Ada")).await.unwrap();
        let jobs = [next(&mut ended).await, next(&mut ended).await];
        server.stop().await;

        let mut results = jobs.each_ref().map(result);
        results.sort_unstable();
        assert_eq!(results, [r#""HELLO Ada!""#, r#""Hello Ada""#]);
    }

    #[tokio::test]
    async fn a_server_without_what_a_job_needs_does_not_start() {
        let storage = jobrunr::connect("memory:").await.unwrap();

        let refused = BackgroundJobServer::builder(storage).job(greet).start().await;

        let error = refused.expect_err("nothing was provided").to_string();
        assert!(error.contains("greet") && error.contains("Greetings"), "{error}");
    }
}
