//! Calls whose answer was lost: what came of them is found out when the caller tries again.
//!
//! A save that took effect unseen would look like a conflict the second time, an insert like a job that was there before, and
//! the jobs of a claim would stay with a server that does not know of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use jobrunr_core::{JobId, ServerId, Version};
use tokio::time::{Duration, Instant};

use crate::marks::Token;

/// How long an uncertain call is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// How many are remembered at most; beyond that the oldest are forgotten.
const MOST: usize = 50_000;

/// How many tries of one write are remembered.
const TRIES: usize = 16;

/// What is remembered of calls whose outcome is not known.
#[derive(Debug, Default)]
pub(crate) struct Uncertain {
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    /// The tokens of all tries: any of them may be the one that took effect.
    writes: HashMap<(JobId, Write), (Vec<Token>, Instant)>,
    claims: Vec<LostClaim>,
    /// Saves in no transaction that nobody counts yet if they took effect.
    uncounted: HashSet<(JobId, Token)>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostClaim {
    pub(crate) server: ServerId,
    /// What its jobs are marked with.
    pub(crate) token: Token,
    /// The jobs that it may have taken, and that nobody has been given since.
    pub(crate) jobs: Vec<JobId>,
    /// When it was lost.
    pub(crate) since: Instant,
}

impl Uncertain {
    fn with<R>(&self, work: impl FnOnce(&mut Content) -> R) -> R {
        work(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes writes with this token that may have taken effect.
    pub(crate) fn note_writes(&self, token: Token, writes: impl Iterator<Item = (JobId, Write)>) {
        let now = Instant::now();
        self.with(|content| {
            for write in writes {
                let (tokens, since) = content.writes.entry(write).or_insert_with(|| (Vec::new(), now));
                *since = now;
                if tokens.len() < TRIES {
                    tokens.push(token);
                }
            }
            content.writes.retain(|_, (_, since)| now - *since < MEMORY);
            if content.writes.len() > MOST {
                let mut times: Vec<Instant> = content.writes.values().map(|(_, since)| *since).collect();
                times.sort_unstable();
                let oldest_kept = times[times.len() - MOST];
                content.writes.retain(|_, (_, since)| *since >= oldest_kept);
            }
        });
    }

    /// The tokens of earlier tries of this write, one of which may have taken effect.
    pub(crate) fn tokens_of(&self, id: JobId, write: Write) -> Vec<Token> {
        self.with(|content| content.writes.get(&(id, write)).map(|(tokens, _)| tokens.clone()))
            .unwrap_or_default()
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

    /// Notes saves with this token that are to be counted if they took effect.
    pub(crate) fn note_uncounted(&self, token: Token, ids: impl Iterator<Item = JobId>) {
        self.with(|content| content.uncounted.extend(ids.map(|id| (id, token))));
    }

    /// Whether nobody has counted such a save; whoever is told so counts it, or knows that it took no effect.
    pub(crate) fn take_uncounted(&self, id: JobId, token: Token) -> bool {
        self.with(|content| content.uncounted.remove(&(id, token)))
    }

    /// Notes a claim that may have taken jobs.
    pub(crate) fn note_claim(&self, claim: LostClaim) {
        if !claim.jobs.is_empty() {
            self.with(|content| content.claims.push(claim));
        }
    }

    /// Hands out the lost claims of a server. Whoever gets them gives back what they have not found: a command whose
    /// connection broke may still be running.
    pub(crate) fn take_claims_of(&self, server: ServerId) -> Vec<LostClaim> {
        self.with(|content| {
            if content.claims.is_empty() {
                return Vec::new();
            }
            content.claims.retain(|claim| claim.since.elapsed() < MEMORY);
            content.claims.extract_if(.., |claim| claim.server == server).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_claim(server: ServerId) -> LostClaim {
        LostClaim { server, token: Token::random(), jobs: vec![JobId::new()], since: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_uncertain_is_remembered_for_a_while_and_per_version() {
        let uncertain = Uncertain::default();
        let (id, server) = (JobId::new(), ServerId::new());
        let (token, again) = (Token::random(), Token::random());
        uncertain.note_writes(token, [(id, Write::Save(Version::FIRST))].into_iter());
        uncertain.note_writes(again, [(id, Write::Save(Version::FIRST))].into_iter());
        uncertain.note_claim(a_claim(server));

        assert_eq!(uncertain.tokens_of(id, Write::Save(Version::FIRST)), [token, again]);
        assert_eq!(uncertain.tokens_of(id, Write::Save(Version::FIRST.next())), []);
        assert_eq!(uncertain.take_claims_of(ServerId::new()), []);

        tokio::time::advance(MEMORY).await;

        assert_eq!(uncertain.take_claims_of(server), []);
        uncertain.note_writes(token, std::iter::empty());
        assert_eq!(uncertain.tokens_of(id, Write::Save(Version::FIRST)), []);
    }

    #[tokio::test]
    async fn a_lost_claim_is_handed_out_once() {
        let uncertain = Uncertain::default();
        let server = ServerId::new();
        uncertain.note_claim(a_claim(server));

        assert_eq!(uncertain.take_claims_of(server).len(), 1);
        assert_eq!(uncertain.take_claims_of(server), [], "two calls at once cannot find the same jobs");
    }

    #[tokio::test]
    async fn what_is_known_is_forgotten() {
        let uncertain = Uncertain::default();
        let write = (JobId::new(), Write::Insert);
        uncertain.note_writes(Token::random(), [write].into_iter());

        uncertain.forget_writes([write].into_iter());

        assert_eq!(uncertain.tokens_of(write.0, write.1), []);
    }
}
