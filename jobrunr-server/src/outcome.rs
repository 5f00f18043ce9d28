//! From how a run ended to the states its job enters: success, failure with or without a retry, snooze, give-back.

use std::time::Duration;

use jobrunr_core::handler::Wish;
use jobrunr_core::{Failure, Job, JobState, JsonText};

use crate::engine::Engine;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Well, with this result.
    Succeeded(Option<JsonText>),
    /// Badly, and this is what is wished to be done about it.
    Failed(Failure, Wish),
    /// The handler asked to be run again in this much time.
    Snoozed(Duration),
    /// Before its end, through no fault of its own.
    GivenBack,
    /// The job is not this server's any more; there is nothing to save.
    Dropped,
}

/// Moves the job to the states that follow from how its run ended, as the filters elect them; `None` = nothing to save.
pub(crate) fn elect(engine: &Engine, mut job: Job, ending: Ending) -> Option<Job> {
    let now = engine.now();
    let states = match ending {
        Ending::Dropped => return None,
        Ending::GivenBack => {
            return job.give_back("the server stopped", now).ok().map(|()| job);
        }
        Ending::Succeeded(_) if job.definition().settings.external => vec![JobState::Processed {}],
        Ending::Succeeded(result) => vec![job.success(result, now.max(job.updated_at()))],
        Ending::Snoozed(delay) => {
            let reason = format!("its handler asked to be run again in {delay:?}");
            vec![JobState::scheduled_in(delay, reason, now)]
        }
        Ending::Failed(failure, wish) => engine.retries.states_after_failure(&job, failure, wish, now),
    };
    engine.filters.enter_elected(&mut job, states, now);
    Some(job)
}
