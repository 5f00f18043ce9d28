//! Jobs whose end somebody in this process waits for: what this process ends itself need not be told by the database.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::StorageProvider;
use crate::ids::JobId;
use crate::job::Job;

/// Jobs whose end somebody in this process waits for; each storage keeps one such list.
#[derive(Debug, Default)]
pub struct AwaitedJobs {
    /// How many waits there are, so that where there are none the end of a job costs one look at this.
    count: AtomicUsize,
    waits: Mutex<HashMap<JobId, Vec<Arc<Notify>>>>,
}

impl AwaitedJobs {
    /// Begins a wait, which lasts as long as what is returned. An end from here on is noted.
    pub fn begin_wait(&self, id: JobId) -> JobWait<'_> {
        let news = Arc::new(Notify::new());
        self.count.fetch_add(1, Ordering::SeqCst);
        self.lock().entry(id).or_default().push(Arc::clone(&news));
        JobWait { jobs: self, id, news }
    }

    /// Tells who waits for these jobs, of those that have ended, that they have.
    pub fn tell<'a>(&self, saved: impl IntoIterator<Item = &'a Job>) {
        // Race: a wait begins before its first look. If it is not seen here, that look comes after the save.
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waits = self.lock();
        for job in saved {
            if job.state_name().is_final() {
                waits.get(&job.id()).into_iter().flatten().for_each(|news| news.notify_one());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Vec<Arc<Notify>>>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait for the end of one job.
#[derive(Debug)]
#[must_use = "the wait ends when it is dropped"]
pub struct JobWait<'a> {
    jobs: &'a AwaitedJobs,
    id: JobId,
    news: Arc<Notify>,
}

impl JobWait<'_> {
    /// Returns when somebody in this process has saved that the job has ended; at once if that was before.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for JobWait<'_> {
    fn drop(&mut self) {
        let mut waits = self.jobs.lock();
        if let Some(others) = waits.get_mut(&self.id) {
            others.retain(|other| !Arc::ptr_eq(other, &self.news));
            if others.is_empty() {
                waits.remove(&self.id);
            }
        }
        self.jobs.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl dyn StorageProvider {
    /// Tells who waits in this process for these jobs, of those that have ended, that they have; for who has saved them.
    pub fn tell_ended<'a>(&self, saved: impl IntoIterator<Item = &'a Job>) {
        self.awaited_jobs().tell(saved);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{JobDefinition, JobState, JsonText};

    fn a_job() -> Job {
        let definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
        Job::new(JobId::new(), definition, JobState::enqueued(), chrono::DateTime::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn everybody_who_waits_for_a_job_hears_of_its_end_and_nobody_else() {
        let jobs = AwaitedJobs::default();
        let (mut job, other) = (a_job(), a_job());
        let waits = [jobs.begin_wait(job.id()), jobs.begin_wait(job.id()), jobs.begin_wait(other.id())];

        jobs.tell([&job]);
        assert!(waits.iter().all(|wait| wait.news().now_or_never().is_none()), "it has not ended");
        job.delete(None, chrono::DateTime::UNIX_EPOCH).unwrap();
        jobs.tell([&job]);

        let heard = waits.iter().map(|wait| wait.news().now_or_never().is_some()).collect::<Vec<_>>();
        assert_eq!(heard, [true, true, false]);
        drop(waits);
        assert!(jobs.lock().is_empty(), "what is not waited for any more is forgotten");
        assert_eq!(jobs.count.load(Ordering::SeqCst), 0);
    }
}
