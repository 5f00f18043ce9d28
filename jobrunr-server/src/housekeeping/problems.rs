//! Telling the log of what is wrong with the cluster as a whole: once each time it begins.

use std::collections::BTreeSet;
use std::sync::Arc;

use jobrunr_core::problems::{Problem, list_problems};
use jobrunr_core::storage::StorageError;
use tokio::sync::Notify;

use super::Rounds;
use crate::engine::Engine;

/// Looks for problems, as long as this server is the master, until it stops.
pub(crate) async fn keep_looking(engine: Arc<Engine>) {
    let mut rounds = Rounds::new(&engine, "look for job types that no server handles");
    let mut known = Known::default();
    let never_woken = Notify::new();
    while rounds.next(&never_woken).await {
        rounds.note(look(&engine, &mut known).await);
    }
}

async fn look(engine: &Engine, known: &mut Known) -> Result<(), StorageError> {
    if !engine.membership.is_master() {
        *known = Known::default();
        return Ok(());
    }
    for problem in known.note(list_problems(engine.storage.as_ref()).await?) {
        tracing::warn!("{problem}");
    }
    Ok(())
}

/// What was there the last time.
#[derive(Debug, Default)]
struct Known {
    /// Seen once: it may be that a server is just starting.
    suspected: BTreeSet<Problem>,
    told: BTreeSet<Problem>,
}

impl Known {
    /// Notes what is there now; returns what to tell of: what was there the last time too and has not been told of since it
    /// began.
    fn note(&mut self, present: Vec<Problem>) -> Vec<Problem> {
        let present: BTreeSet<Problem> = present.into_iter().collect();
        self.told.retain(|problem| present.contains(problem));
        let lasting = present.intersection(&self.suspected).filter(|problem| !self.told.contains(*problem));
        let news: Vec<Problem> = lasting.cloned().collect();
        self.told.extend(news.iter().cloned());
        self.suspected = present;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_of_when_it_lasts_and_again_when_it_comes_back() {
        let problem = || vec![Problem::UnhandledType { signature: "other".parse().unwrap() }];
        let mut known = Known::default();

        let told: Vec<usize> = [true, true, true, false, true, true, true]
            .map(|is_there| known.note(if is_there { problem() } else { Vec::new() }).len())
            .to_vec();

        assert_eq!(told, [0, 1, 0, 0, 0, 1, 0]);
    }
}
