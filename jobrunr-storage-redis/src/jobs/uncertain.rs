//! Calls whose answer was lost: what came of them is found out when the caller tries again.
//!
//! A save that took effect unseen would look like a conflict the second time, an insert like a job that was there before, and
//! the jobs of a claim would stay with a server that does not know of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jobrunr_core::{JobId, ServerId, Version};
use tokio::time::{Duration, Instant};

use crate::error::Failed;

/// How long an uncertain call is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// How many are remembered at most; beyond that the oldest are forgotten.
const MOST: usize = 50_000;

/// What is remembered of calls whose outcome is not known.
#[derive(Debug, Default)]
pub(crate) struct Uncertain {
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    writes: HashMap<(JobId, Write), Instant>,
    claims: Vec<LostClaim>,
}

/// What was to be written of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    /// The job itself.
    Insert,
    /// What follows this version.
    Save(Version),
}

/// A claim whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LostClaim {
    pub(crate) server: ServerId,
    /// What its jobs are marked with.
    pub(crate) token: u64,
    /// When it was lost.
    since: Instant,
}

impl LostClaim {
    pub(crate) fn new(server: ServerId, token: u64) -> Self {
        Self { server, token, since: Instant::now() }
    }
}

impl Uncertain {
    fn with<R>(&self, work: impl FnOnce(&mut Content) -> R) -> R {
        work(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes writes that may have taken effect.
    pub(crate) fn note_writes(&self, writes: impl Iterator<Item = (JobId, Write)>) {
        let now = Instant::now();
        self.with(|content| {
            content.writes.extend(writes.map(|write| (write, now)));
            content.writes.retain(|_, since| now - *since < MEMORY);
            if content.writes.len() > MOST {
                let mut times: Vec<Instant> = content.writes.values().copied().collect();
                times.sort_unstable();
                let oldest_kept = times[times.len() - MOST];
                content.writes.retain(|_, since| *since >= oldest_kept);
            }
        });
    }

    /// Whether an earlier try of this write may have taken effect.
    pub(crate) fn may_be_written(&self, id: JobId, write: Write) -> bool {
        self.with(|content| content.writes.contains_key(&(id, write)))
    }

    /// Forgets writes whose outcome is known now.
    pub(crate) fn forget_writes(&self, writes: impl Iterator<Item = (JobId, Write)>) {
        self.with(|content| {
            if !content.writes.is_empty() {
                writes.for_each(|write| {
                    content.writes.remove(&write);
                });
            }
        });
    }

    /// Notes a claim that may have taken jobs.
    pub(crate) fn note_claim(&self, claim: LostClaim) {
        self.with(|content| content.claims.push(claim));
    }

    /// The lost claims of a server. They are asked for again and again for a while, since a statement whose connection
    /// broke may still be running.
    pub(crate) fn claims_of(&self, server: ServerId) -> Vec<LostClaim> {
        self.with(|content| {
            if content.claims.is_empty() {
                return Vec::new();
            }
            content.claims.retain(|claim| claim.since.elapsed() < MEMORY);
            content.claims.iter().filter(|claim| claim.server == server).copied().collect()
        })
    }
}

/// Writes that were sent; whoever drops this before their outcome is known leaves them noted.
pub(super) struct PendingWrites<'u> {
    uncertain: &'u Uncertain,
    writes: Vec<(JobId, Write)>,
}

impl<'u> PendingWrites<'u> {
    pub(super) fn new(uncertain: &'u Uncertain, writes: impl Iterator<Item = (JobId, Write)>) -> Self {
        Self { uncertain, writes: writes.collect() }
    }

    /// The outcome of all of them is known.
    pub(super) fn end(mut self) {
        self.uncertain.forget_writes(std::mem::take(&mut self.writes).into_iter());
    }

    /// They came to this error, which may leave their outcome open. What was noted of earlier tries stays.
    pub(super) fn failed(mut self, failed: &Failed) {
        if !failed.is_uncertain {
            self.writes.clear();
        }
    }
}

impl Drop for PendingWrites<'_> {
    fn drop(&mut self) {
        if !self.writes.is_empty() {
            self.uncertain.note_writes(std::mem::take(&mut self.writes).into_iter());
        }
    }
}

/// A claim that was sent; whoever drops this before its jobs were handed out leaves it noted.
pub(super) struct PendingClaim<'u> {
    uncertain: &'u Uncertain,
    claim: Option<LostClaim>,
}

impl<'u> PendingClaim<'u> {
    pub(super) fn new(uncertain: &'u Uncertain, claim: LostClaim) -> Self {
        Self { uncertain, claim: Some(claim) }
    }

    /// Its jobs are handed out.
    pub(super) fn end(mut self) {
        self.claim = None;
    }
}

impl Drop for PendingClaim<'_> {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.uncertain.note_claim(claim);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_uncertain_is_remembered_for_a_while_and_per_version() {
        let uncertain = Uncertain::default();
        let (id, server) = (JobId::new(), ServerId::new());
        uncertain.note_writes([(id, Write::Save(Version::FIRST))].into_iter());
        uncertain.note_claim(LostClaim::new(server, 7));

        assert!(uncertain.may_be_written(id, Write::Save(Version::FIRST)));
        assert!(!uncertain.may_be_written(id, Write::Save(Version::FIRST.next())));
        assert_eq!(uncertain.claims_of(server).len(), 1);
        assert_eq!(uncertain.claims_of(ServerId::new()), []);

        tokio::time::advance(MEMORY).await;

        assert_eq!(uncertain.claims_of(server), []);
        uncertain.note_writes(std::iter::empty());
        assert!(!uncertain.may_be_written(id, Write::Save(Version::FIRST)));
    }

    #[tokio::test]
    async fn what_is_known_is_forgotten() {
        let uncertain = Uncertain::default();
        let write = (JobId::new(), Write::Insert);
        uncertain.note_writes([write].into_iter());

        uncertain.forget_writes([write].into_iter());

        assert!(!uncertain.may_be_written(write.0, write.1));
    }
}
