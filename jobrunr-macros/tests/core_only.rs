//! For those who use `jobrunr-core` without the facade: every path of the generated code can begin elsewhere.

use jobrunr_core::{JobContext, JobRequest, JobResult};
use jobrunr_macros::{JobRequest, job};
use serde::{Deserialize, Serialize};

/// Stands for a crate that hands the engine on under a name of its own.
mod engine {
    pub(crate) use jobrunr_core::__private;
}

#[job(crate = "jobrunr_core", queue = "images")]
async fn resize(path: String, context: &JobContext) -> JobResult<usize> {
    Ok(path.len() + context.name().len())
}

#[derive(Serialize, Deserialize, JobRequest)]
#[job(crate = "crate::engine", queue = "mail")]
struct SendEmail {
    to: String,
}

#[test]
fn the_crate_can_be_named() {
    assert_eq!(resize::job("cat.png").options().queue.unwrap(), "images");
    assert_eq!(SendEmail { to: String::new() }.options().queue.unwrap(), "mail");
}
