//! Results: what a handler, or a signal in its place, gives, as it is kept with the job.

use serde::Serialize;

use crate::job::Job;
use crate::json_text::JsonText;
use crate::limits::MAX_RESULT_BYTES;
use crate::state::{JobState, StateName};

/// Why a value cannot be kept as the result of a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnfitResult {
    /// It cannot be written as JSON.
    #[error("the result cannot be written as JSON")]
    NotJson(#[source] serde_json::Error),
    /// It is larger than what is kept.
    #[error(
        "the result has {actual_bytes} bytes and at most {max_bytes} are kept: give a reference to what is stored \
         elsewhere"
    )]
    TooLarge {
        /// How large it is, as JSON.
        actual_bytes: usize,
        /// How large it may be.
        max_bytes: usize,
    },
}

/// The value as it is kept with a job: JSON, or nothing for `()` and whatever else is written as `null`.
///
/// # Errors
/// [`UnfitResult`] if it cannot be kept.
pub fn encode_result<T: Serialize + ?Sized>(value: &T) -> Result<Option<JsonText>, UnfitResult> {
    let result = JsonText::of(value).map_err(UnfitResult::NotJson)?;
    if result.len() > MAX_RESULT_BYTES {
        return Err(UnfitResult::TooLarge { actual_bytes: result.len(), max_bytes: MAX_RESULT_BYTES });
    }
    Ok(Some(result).filter(|result| result.as_str() != "null"))
}

impl Job {
    /// What the job's handler, or a signal, gave when it succeeded, if that was anything.
    ///
    /// A job that succeeded and was deleted afterwards still has its result; one that was requeued has none until it
    /// succeeds again.
    #[must_use]
    pub fn result(&self) -> Option<&JsonText> {
        match self.success_entry() {
            Some(JobState::Succeeded { result, .. }) => result.as_ref(),
            _ => None,
        }
    }

    /// The SUCCEEDED state the job ended with, even if it was deleted since.
    pub(crate) fn success_entry(&self) -> Option<&JobState> {
        let last = self.history().iter().rfind(|entry| entry.state.name() != StateName::Deleted);
        last.map(|entry| &entry.state).filter(|state| state.name() == StateName::Succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_what_is_written_as_null() {
        assert!(encode_result(&()).unwrap().is_none());
        assert!(encode_result(&None::<u32>).unwrap().is_none());
        assert_eq!(encode_result("x").unwrap().unwrap().as_str(), r#""x""#);
    }

    #[test]
    fn a_result_is_kept_up_to_its_limit_and_not_beyond() {
        let text = |bytes: usize| "x".repeat(bytes - 2);

        assert!(encode_result(&text(MAX_RESULT_BYTES)).unwrap().is_some());
        let refused = encode_result(&text(MAX_RESULT_BYTES + 1)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the result has 1048577 bytes and at most 1048576 are kept: give a reference to what is stored elsewhere"
        );
    }
}
