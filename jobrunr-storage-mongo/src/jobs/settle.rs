//! Saves on a server alone whose answer was lost: those that took effect are counted, also if nobody tries them again.

use std::collections::HashMap;

use jobrunr_core::JobId;
use mongodb::bson::{Document, doc};
use tokio::time::Instant;

use super::counting::{FIRST_PAUSE, LONGEST_PAUSE, OPERATION};
use super::counts::Deltas;
use super::save::{SaveJobs, loaded_state, marks_of};
use crate::MongoStorage;
use crate::call::Commands;
use crate::documents::{id_of, uuid, version_number};
use crate::error::Failed;
use crate::marks::Since;

impl MongoStorage {
    /// Looks, beside everything else, what became of a save. A later try that finds it has won may be faster and count it.
    pub(super) fn settle(&self, save: SaveJobs) {
        self.inner.uncertain.note_uncounted(save.token, save.jobs.iter().map(|job| job.id()));
        let storage = self.clone();
        self.inner.under_way.spawn(async move { storage.look_until_settled(save).await });
    }

    async fn look_until_settled(&self, mut save: SaveJobs) {
        let mut pause = FIRST_PAUSE;
        let mut first_look = None;
        loop {
            match self.settle_what_is_known(&mut save).await {
                Ok(()) => _ = first_look.get_or_insert_with(Instant::now),
                Err(Failed { error, .. }) if error.is_retryable() => {
                    tracing::debug!("it cannot be seen now what became of a save: {error}");
                }
                Err(Failed { error, .. }) => {
                    tracing::error!(
                        "{} jobs may have been saved and are not counted: {error}",
                        save.jobs.len()
                    );
                    break;
                }
            }
            // The command may be running without its connection, but not for ever.
            let was_long = first_look.is_some_and(|first| first.elapsed() > self.inner.options.call_timeout);
            if save.jobs.is_empty() || was_long || self.inner.under_way.is_closed() {
                break;
            }
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        for job in &save.jobs {
            self.inner.uncertain.take_uncounted(job.id(), save.token);
        }
    }

    /// Counts the jobs that were saved, and keeps those of which it is not known yet.
    async fn settle_what_is_known(&self, save: &mut SaveJobs) -> Result<(), Failed> {
        let ids: Vec<_> = save.jobs.iter().map(|job| uuid(job.id())).collect();
        let fields = doc! { "version": 1, "marks": 1 };
        let look = async {
            let (collection, these) = (&self.inner.collections.jobs, doc! { "_id": { "$in": ids } });
            let mut commands = Commands { storage: self, session: None };
            let found = commands.find_by_id(collection, these, fields, save.jobs.len()).await;
            found.map_err(|broken| broken.failed(OPERATION))
        };
        let found = self.limited_work(OPERATION, look).await?;
        let found: HashMap<JobId, &Document> =
            found.iter().filter_map(|document| Some((id_of(document)?, document))).collect();
        let mut counts = Deltas::default();
        save.jobs.retain(|job| {
            let document = found.get(&job.id());
            let is_as_loaded =
                |document: &&&Document| document.get_i64("version") == Ok(version_number(job.version()));
            let was_saved =
                document.is_some_and(|document| Since::of(&marks_of(document), save.token).is_some());
            // Else it is gone, or somebody else was faster: the save never takes effect any more.
            let is_open = !was_saved && document.filter(is_as_loaded).is_some();
            if !is_open && self.inner.uncertain.take_uncounted(job.id(), save.token) && was_saved {
                counts.add_save(job, loaded_state(job));
            }
            is_open
        });
        self.count_surely(counts).await;
        Ok(())
    }
}
