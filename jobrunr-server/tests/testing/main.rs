//! The test kit: that it runs jobs as a server does, within the call, at the time it is told; and what it says.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod assertions;
mod kit;
mod server_like;
mod time;

use std::sync::{Arc, Mutex};

use jobrunr_core::{JobContext, JobHandler, JobRequest, JobResult};
use jobrunr_server::testing::TestKit;
use serde::{Deserialize, Serialize};

/// The job of the tests; what it does is up to the handler of the test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Work {
    number: u32,
    note: String,
}

impl JobRequest for Work {
    const JOB_TYPE: &'static str = "work";
    const ALIASES: &'static [&'static str] = &["labour"];
}

/// A job of another type.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Other {}

impl JobRequest for Other {
    const JOB_TYPE: &'static str = "other";
}

fn work(number: u32) -> Work {
    Work { number, note: format!("note {number}") }
}

/// A handler that is a closure.
struct Doing<F>(F);

impl<R, T, F, Run> JobHandler<R> for Doing<F>
where
    R: JobRequest,
    T: Serialize + Send,
    F: Fn(R, JobContext) -> Run + Send + Sync + 'static,
    Run: Future<Output = JobResult<T>> + Send,
{
    type Output = T;

    async fn run(&self, request: R, context: &JobContext) -> JobResult<T> {
        self.0(request, context.clone()).await
    }
}

/// A kit whose jobs do this.
fn kit<T, F, Run>(handler: F) -> TestKit
where
    T: Serialize + Send + 'static,
    F: Fn(Work, JobContext) -> Run + Send + Sync + 'static,
    Run: Future<Output = JobResult<T>> + Send + 'static,
{
    TestKit::new(|server| server.handle::<Work, _>(Doing(handler)))
}

/// A kit whose jobs return their number.
fn kit_that_counts() -> TestKit {
    kit(async |work: Work, _| Ok(work.number))
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
