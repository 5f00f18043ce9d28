//! Steps of a run that are done once: their results are kept over retries and crashes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::JobContext;
use super::metadata::{decode, encode};
use super::notebook::Notebook;
use crate::handler::{JobError, JobResult};
use crate::limits::{MAX_METADATA_NAME_BYTES, MAX_STEP_NAME_BYTES};

const PREFIX: &str = "jobrunr-step-";
const _: () =
    assert!(PREFIX.len() + MAX_STEP_NAME_BYTES <= MAX_METADATA_NAME_BYTES, "every name of a step is kept");

impl JobContext {
    /// Does a step of the work unless an earlier run has done it, and returns its result either way.
    ///
    /// The result is stored, durably, before this returns; every later run of the job, also after a crash, gets it
    /// without doing the step again. A step that fails is done again by the next run. If the process dies after a step
    /// has had its effect and before its result is stored, it is done again too: at least once, like jobs as a whole.
    ///
    /// Each step of a job needs a name of its own. Also a job that is requeued after it has succeeded keeps its results.
    ///
    /// ```
    /// # use jobrunr_core::{JobContext, JobResult};
    /// # async fn charge() -> JobResult<u64> { Ok(7) }
    /// # async fn ship(receipt: u64) -> JobResult<u64> { Ok(receipt) }
    /// async fn run(context: &JobContext) -> JobResult<u64> {
    ///     let receipt = context.run_step_once("charge", async { charge().await }).await?;
    ///     context.run_step_once("ship", ship(receipt)).await
    /// }
    /// ```
    ///
    /// # Errors
    /// The error of the step. An error that says so if its result cannot be stored, or if a stored one does not fit `T`
    /// any more; if the name is empty or longer than [`MAX_STEP_NAME_BYTES`]; if a step of this name is under way in this
    /// run.
    pub async fn run_step_once<T, F>(&self, name: &str, step: F) -> JobResult<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
        F: Future<Output = JobResult<T>> + Send,
    {
        let key = key_of(name)?;
        let Some(_under_way) = UnderWay::begin(self.notebook(), name) else {
            return Err(JobError::do_not_retry(format!("step {name:?} is under way already in this run")));
        };
        if let Some(result) = self.notebook().find(self.run(), &key) {
            return decode(&key, &result).map_err(JobError::do_not_retry);
        }
        let result = step.await?;
        let value = encode(&key, &result).map_err(JobError::do_not_retry)?;
        self.notebook().save(self.run(), &key, value).await?;
        Ok(result)
    }
}

fn key_of(name: &str) -> JobResult<String> {
    if !(1..=MAX_STEP_NAME_BYTES).contains(&name.len()) {
        return Err(JobError::do_not_retry(format!(
            "the name of a step has 1 to {MAX_STEP_NAME_BYTES} bytes, not {}",
            name.len()
        )));
    }
    Ok(format!("{PREFIX}{name}"))
}

/// That a step is under way: two futures of one run must not do it side by side.
struct UnderWay<'a> {
    notebook: &'a Notebook,
    name: &'a str,
}

impl<'a> UnderWay<'a> {
    fn begin(notebook: &'a Notebook, name: &'a str) -> Option<Self> {
        notebook.with(|pages| pages.steps.insert(name.to_owned())).then_some(Self { notebook, name })
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.notebook.with(|pages| pages.steps.remove(self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_step_has_as_many_bytes_as_the_limit_says_and_no_more() {
        for name in ["a".repeat(MAX_STEP_NAME_BYTES), "s".to_owned()] {
            assert_eq!(key_of(&name).unwrap(), format!("jobrunr-step-{name}"));
        }
        for name in ["a".repeat(MAX_STEP_NAME_BYTES + 1), "é".repeat(MAX_STEP_NAME_BYTES), String::new()] {
            let refused = key_of(&name).unwrap_err().into_failure();
            assert!(
                refused.message.starts_with("the name of a step has 1 to 200 bytes, not "),
                "{}",
                refused.message
            );
            assert!(refused.do_not_retry);
        }
    }
}
