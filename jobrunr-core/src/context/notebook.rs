//! What a run writes down with its job: values at once, log lines and progress a little later, one write after the other.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use super::log::{LogMark, LogPages};
use super::progress::{self, JobProgress};
use super::{JobRun, MetadataError};
use crate::job::JobMetadata;

/// How long log lines and progress are gathered before they are written.
const GATHERING: Duration = Duration::from_millis(500);
/// The pauses between two tries while the storage is away.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What a run writes down with its job.
#[derive(Debug, Default)]
pub(super) struct Notebook {
    pages: Mutex<Pages>,
    /// Something came that is to be written a little later, or the run has ended.
    news: Notify,
    /// Held by whoever writes: what is written later must not be overtaken.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct Pages {
    /// What this run has saved.
    saved: JobMetadata,
    pub(super) log: LogPages,
    pub(super) progress: Option<JobProgress>,
    pub(super) has_moved: bool,
    /// The steps that are under way.
    pub(super) steps: HashSet<String>,
    is_closed: bool,
}

impl Pages {
    const fn has_news(&self) -> bool {
        self.has_moved || self.log.has_news()
    }
}

/// What was gathered for one write.
struct Gathered {
    entries: JobMetadata,
    log: LogMark,
    progress: Option<JobProgress>,
}

impl Notebook {
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Pages) -> T) -> T {
        work(&mut self.pages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes something that is to be written a little later, if `note` says that there is anything; nothing once it is
    /// closed.
    pub(super) fn note(&self, note: impl FnOnce(&mut Pages) -> bool) {
        if self.with(|pages| !pages.is_closed && note(pages)) {
            self.news.notify_one();
        }
    }

    /// The value under this name, by this run or before it.
    pub(super) fn find(&self, run: &JobRun, name: &str) -> Option<Value> {
        let saved = self.with(|pages| pages.saved.get(name).cloned());
        saved.or_else(|| run.job.metadata().get(name).cloned())
    }

    pub(super) async fn save(&self, run: &JobRun, name: &str, value: Value) -> Result<(), MetadataError> {
        let _turn = self.turn.lock().await;
        self.write(run, Some((name, value))).await
    }

    pub(super) async fn save_if_absent(
        &self,
        run: &JobRun,
        name: &str,
        value: Value,
    ) -> Result<bool, MetadataError> {
        let _turn = self.turn.lock().await;
        if self.find(run, name).is_some() {
            return Ok(false);
        }
        self.write(run, Some((name, value))).await.map(|()| true)
    }

    /// Writes what is there to be written.
    pub(super) async fn flush(&self, run: &JobRun) -> Result<(), MetadataError> {
        let _turn = self.turn.lock().await;
        self.write(run, None).await
    }

    /// Writes log lines and progress a little after they came, until the notebook is closed and nothing is left.
    pub(super) async fn keep_flushing(&self, run: &JobRun) {
        loop {
            self.news.notified().await;
            if !self.with(|pages| pages.is_closed) {
                let _ = tokio::time::timeout(GATHERING, self.closed()).await;
            }
            if let Err(error) = self.flush(run).await {
                tracing::debug!(job.id = %run.job.id(), "log lines or progress were not stored: {error}");
                return self.closed().await;
            }
            // Race: what came while the last write was under way is written too.
            if self.with(|pages| pages.is_closed && !pages.has_news()) {
                return;
            }
            if self.with(|pages| pages.is_closed) {
                self.news.notify_one();
            }
        }
    }

    /// Notes that the run has ended: what is there is written, and nothing more is taken on; tells whether anything is there
    /// that is not written yet.
    pub(super) fn close(&self) -> bool {
        let has_news = self.with(|pages| {
            pages.is_closed = true;
            pages.has_news()
        });
        self.news.notify_one();
        has_news
    }

    /// Waits until the notebook is closed; only the task that keeps flushing may wait for it.
    async fn closed(&self) {
        while !self.with(|pages| pages.is_closed) {
            self.news.notified().await;
        }
    }

    /// Writes a value, and whatever else there is, in one go. Only for who has the turn.
    async fn write(&self, run: &JobRun, own: Option<(&str, Value)>) -> Result<(), MetadataError> {
        let Gathered { mut entries, log, progress } = self.with(|pages| gather(pages, run));
        let own = own.map(|(name, value)| (name.to_owned(), value));
        entries.extend(own.clone());
        if entries.is_empty() {
            return Ok(());
        }
        if own.is_some() && self.with(|pages| pages.is_closed) {
            return Err(MetadataError::RunIsOver(run.job.id()));
        }
        store(run, &entries).await?;
        self.with(|pages| {
            pages.log.stored(log);
            pages.has_moved &= pages.progress != progress;
            pages.saved.extend(own);
        });
        Ok(())
    }
}

fn gather(pages: &Pages, run: &JobRun) -> Gathered {
    let mut entries = JobMetadata::new();
    let log = pages.log.gather(run.job.version(), &mut entries);
    if pages.has_moved {
        let progress = pages.progress.and_then(|progress| serde_json::to_value(progress).ok());
        entries.extend(progress.map(|progress| (progress::NAME.to_owned(), progress)));
    }
    Gathered { entries, log, progress: pages.progress }
}

/// Stores entries with the job, trying again while the storage is away, as long as the run has its job.
///
/// Race: the job may be taken over between the question and the write. What a late run writes then is as good as what
/// it wrote a moment before; see decision 0076.
async fn store(run: &JobRun, entries: &JobMetadata) -> Result<(), MetadataError> {
    let id = run.job.id();
    let mut pause = PAUSES.0;
    loop {
        if !run.lease.is_held().await {
            return Err(MetadataError::RunIsOver(id));
        }
        match run.scheduler.storage().save_job_metadata(id, entries).await {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(MetadataError::JobIsGone(id)),
            Err(error) if error.is_retryable() && !run.cancellation.is_cancelled() => {
                tracing::debug!(job.id = %id, "what a run saves with its job waits: {error}");
                let _ = tokio::time::timeout(pause, run.cancellation.cancelled()).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_engine_names_its_own_entries_as_no_handler_may() {
        assert!(super::progress::NAME.starts_with(crate::context::metadata::RESERVED));
    }
}
