//! Claiming jobs: their ids are read from the index, one update marks those that are still in line with a token, and what
//! bears the token is read back, as it was marked. So a claim returns what it made of the jobs, and no job twice.

use std::cmp::Reverse;
use std::collections::HashSet;

use jobrunr_core::storage::{ClaimRequest, QueueSelection, SignatureSelection, StorageError};
use jobrunr_core::{Job, JobId, ServerId, ServerRef, StateName};
use mongodb::Collection;
use mongodb::bson::{Document, Uuid, doc};
use mongodb::options::{Hint, ReadConcern};
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::park::is_whole;
use super::uncertain::{LostClaim, Uncertain};
use super::{CHUNK, Unread, is_of, read_document, read_job};
use crate::MongoStorage;
use crate::call::{Broken, Commands};
use crate::documents::{JobDocument, id_of, micros, split_lane, state_number, uuid};
use crate::error::Failed;
use crate::indexes::READY;
use crate::marks::{Mark, Token};

pub(super) const OPERATION: &str = "claim jobs";

/// How many lanes one query merges; MongoDB would sort all their jobs if it were asked for more.
const MERGED_LANES: usize = 150;

/// A part of a claim on its way. Unless the claim ends well, its jobs count as lost, also when its future is dropped.
struct Underway<'s> {
    uncertain: &'s Uncertain,
    server: ServerId,
    token: Token,
    /// The jobs it may have taken.
    jobs: Vec<JobId>,
    /// Those that may turn up later although the claim ended well.
    left: Vec<JobId>,
    since: Instant,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let jobs = std::mem::take(&mut self.jobs);
        let (server, token, since) = (self.server, self.token, self.since);
        self.uncertain.note_claim(LostClaim { server, token, jobs, since });
    }
}

/// What the document of a job gave.
type Read = Result<Job, Unread>;

/// The document of an unreadable job that this claim has.
struct ToPark {
    unread: Unread,
    token: Token,
}

impl MongoStorage {
    pub(super) async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        let _open = self.begin(OPERATION)?;
        let wants_nothing = matches!(&request.signatures, SignatureSelection::Only(types) if types.is_empty())
            || matches!(&request.queues, QueueSelection::InOrder(queues) if queues.is_empty());
        if request.limit == 0 || wants_nothing {
            return Ok(Vec::new());
        }
        let mut claimed = Claimed::default();
        if let Err(failed) = self.claim_as_many(request, &mut claimed).await {
            if claimed.jobs.is_empty() && claimed.to_park.is_empty() {
                return Err(failed.error);
            }
            // What was claimed counts; whatever is wrong will show at the next claim.
            tracing::warn!("fewer jobs than wanted were claimed: {}", failed.error);
        }
        for ToPark { unread: (id, why), token } in std::mem::take(&mut claimed.to_park) {
            self.report_unreadable(id, &why);
            let Some(id) = id else { continue };
            if let Err(failed) = self.park(id, &why, mark_of(token)).await {
                tracing::warn!("job {id} cannot be parked now: {}", failed.error);
                let (server, jobs) = (request.server_id(), vec![id]);
                self.inner.uncertain.note_claim(LostClaim { server, token, jobs, since: Instant::now() });
            }
        }
        let mut jobs = claimed.settle();
        sort_by_place_in_line(&mut jobs, &request.queues);
        Ok(jobs)
    }

    async fn claim_as_many<'s>(
        &'s self,
        request: &ClaimRequest,
        claimed: &mut Claimed<'s>,
    ) -> Result<(), Failed> {
        for lost in self.inner.uncertain.take_claims_of(request.server_id()) {
            self.recover(lost, request.limit - claimed.jobs.len(), claimed).await?;
        }
        self.claim_in_line(request, claimed).await
    }

    /// Claims until there are enough, or nothing is left in line.
    async fn claim_in_line<'s>(
        &'s self,
        request: &ClaimRequest,
        claimed: &mut Claimed<'s>,
    ) -> Result<(), Failed> {
        let mut missed = HashSet::new();
        // Of those that were found others may be faster, but not for ever.
        for _ in 0..3 {
            let wanted = request.limit - claimed.jobs.len();
            if wanted == 0 {
                return Ok(());
            }
            // Claims of this process take turns: they would only snatch the same jobs from each other.
            let turn = self.inner.claim_turn.lock().await;
            let found = self.find_in_line(request, wanted).await?;
            let still_in_line: Vec<Uuid> =
                found.iter().map(Head::id).filter(|id| missed.remove(id)).map(uuid).collect();
            if !still_in_line.is_empty() {
                // Nobody has taken them, so they may be broken.
                self.park_broken(still_in_line, StateName::Enqueued).await?;
            }
            let mut turn = Some(turn);
            let mut chunks = found.chunks(CHUNK).peekable();
            while let Some(chunk) = chunks.next() {
                let turn = if chunks.peek().is_none() { turn.take() } else { None };
                missed.extend(self.take(request, chunk, turn, claimed).await?);
            }
            if missed.is_empty() || found.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The first jobs in line, by their ids.
    async fn find_in_line(&self, request: &ClaimRequest, wanted: usize) -> Result<Vec<Head>, Failed> {
        let jobs = self.jobs::<Document>();
        let distinct = jobs.distinct("lane", doc! { "state": state_number(StateName::Enqueued) });
        let lanes = self.limited(OPERATION, distinct.into_future()).await?;
        let lanes: Vec<&str> = lanes.iter().filter_map(|lane| lane.as_str()).collect();
        let lanes: Vec<&str> = lanes.into_iter().filter(|lane| is_of(&request.signatures, lane)).collect();
        let in_queue = |queue: &str| {
            let is_in = |lane: &&&str| split_lane(lane).is_some_and(|(of_lane, _)| of_lane == queue);
            lanes.iter().filter(is_in).copied().collect::<Vec<_>>()
        };
        let lines: Vec<Vec<&str>> = match &request.queues {
            QueueSelection::All => vec![lanes],
            QueueSelection::InOrder(queues) => {
                let mut seen = HashSet::new();
                let queues = queues.iter().filter(|queue| seen.insert(*queue));
                queues.map(|queue| in_queue(queue.as_str())).collect()
            }
        };
        let mut found = Vec::new();
        for line in lines {
            if found.len() < wanted && !line.is_empty() {
                found.extend(self.find_in_lanes(&jobs, &line, wanted - found.len()).await?);
            }
        }
        Ok(found)
    }

    /// The first jobs of some lanes, as one line.
    async fn find_in_lanes(
        &self,
        jobs: &Collection<Document>,
        lanes: &[&str],
        wanted: usize,
    ) -> Result<Vec<Head>, Failed> {
        let mut heads: Vec<Head> = Vec::new();
        for lanes in lanes.chunks(MERGED_LANES) {
            let found = async {
                let mut cursor = jobs
                    .find(doc! { "state": state_number(StateName::Enqueued), "lane": { "$in": lanes } })
                    .projection(doc! { "lane": 1, "rank": 1, "queued": 1 })
                    .sort(doc! { "rank": 1, "queued": 1, "_id": 1 })
                    .limit(i64::try_from(wanted).unwrap_or(i64::MAX))
                    .batch_size(u32::try_from(wanted).unwrap_or(u32::MAX).min(50_000))
                    .hint(Hint::Name(READY.to_owned()))
                    .await?;
                let mut heads = Vec::new();
                while cursor.advance().await? {
                    heads.extend(Head::of(&cursor.deserialize_current()?));
                }
                Ok(heads)
            };
            heads.extend(self.limited(OPERATION, found).await?);
        }
        if lanes.len() > MERGED_LANES {
            heads.sort_by_key(|head| head.place);
            heads.truncate(wanted);
        }
        Ok(heads)
    }

    /// Takes those of the jobs found that are still in line; returns the others. The turn to claim ends when they are taken.
    async fn take<'s>(
        &'s self,
        request: &ClaimRequest,
        found: &[Head],
        turn: Option<MutexGuard<'_, ()>>,
        claimed: &mut Claimed<'s>,
    ) -> Result<Vec<JobId>, Failed> {
        let token = Token::random();
        let place = claimed.begin(Underway {
            uncertain: &self.inner.uncertain,
            server: request.server_id(),
            token,
            jobs: found.iter().map(Head::id).collect(),
            left: Vec::new(),
            since: Instant::now(),
        });
        let mut lanes: Vec<String> = found.iter().map(|head| head.lane.clone()).collect();
        lanes.sort_unstable();
        lanes.dedup();
        let ids = found.iter().map(|head| uuid(head.id())).collect();
        let work = TakeJobs { ids, lanes, token, server: request.server.clone(), now: micros(request.now) };
        let take = async { work.run(self, turn).await.map_err(|broken| broken.failed(OPERATION)) };
        match self.limited_work(OPERATION, take).await {
            Ok(read) => {
                let taken: HashSet<JobId> = read.iter().filter_map(id_of_read).collect();
                claimed.add(read, token);
                Ok(found.iter().map(Head::id).filter(|id| !taken.contains(id)).collect())
            }
            Err(failed) => {
                let part = &mut claimed.underway[place];
                if !failed.is_uncertain {
                    part.jobs.clear();
                }
                // It may still be running when its connection is gone.
                part.left.clone_from(&part.jobs);
                Err(failed)
            }
        }
    }

    /// Reads the jobs among these that a claim with this token took, and that are still held.
    ///
    /// A claim whose answer was lost may never have reached a majority: a failover would undo it, and its jobs would have
    /// two owners. So they are read as a majority has them; what it has not yet is found by a later claim.
    async fn read_taken(&self, ids: Vec<Uuid>, token: Token, limit: usize) -> Result<Vec<Read>, Failed> {
        let jobs = self.jobs::<JobDocument>();
        let mut held = mark_of(token).is_last();
        held.extend(doc! { "_id": { "$in": ids }, "state": state_number(StateName::Processing) });
        let of_majority =
            if self.inner.has_transactions { ReadConcern::majority() } else { ReadConcern::local() };
        let read = async {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut cursor = jobs
                .find(held)
                .limit(limit)
                .batch_size(10_000)
                .hint(by_id())
                .read_concern(of_majority)
                .await?;
            let mut read = Vec::new();
            while cursor.advance().await? {
                read.push(read_job(&cursor));
            }
            Ok(read)
        };
        self.limited(OPERATION, read).await
    }

    /// Finds jobs that a claim took whose answer was lost.
    async fn recover<'s>(
        &'s self,
        lost: LostClaim,
        limit: usize,
        claimed: &mut Claimed<'s>,
    ) -> Result<(), Failed> {
        let ids: Vec<Uuid> = lost.jobs.iter().map(|id| uuid(*id)).collect();
        let place = claimed.begin(Underway {
            uncertain: &self.inner.uncertain,
            server: lost.server,
            token: lost.token,
            left: lost.jobs.clone(),
            jobs: lost.jobs,
            since: lost.since,
        });
        if limit == 0 {
            return Ok(());
        }
        let read = self.read_taken(ids, lost.token, limit).await?;
        if !read.is_empty() {
            tracing::warn!("{} jobs of a claim whose answer was lost were found", read.len());
        }
        let found: HashSet<JobId> = read.iter().filter_map(id_of_read).collect();
        // The others may still be taken: the command may be running without its connection.
        claimed.underway[place].left.retain(|id| !found.contains(id));
        claimed.add(read, lost.token);
        Ok(())
    }
}

/// Jobs to be taken if they are still in line, which bear the token then.
struct TakeJobs {
    ids: Vec<Uuid>,
    lanes: Vec<String>,
    token: Token,
    server: ServerRef,
    now: i64,
}

impl TakeJobs {
    /// Marks them, then reads those that bear the mark. In no transaction: one would be the dearest part of a claim.
    async fn run(
        &self,
        storage: &MongoStorage,
        turn: Option<MutexGuard<'_, ()>>,
    ) -> Result<Vec<Read>, Broken> {
        let mut in_line = is_whole();
        in_line.extend(doc! {
            "_id": { "$in": &self.ids },
            "state": state_number(StateName::Enqueued),
            // Race: a job may be gone and another one be there under its id, of a type that is not wanted.
            "lane": { "$in": &self.lanes },
        });
        let change = doc! {
            "$set": {
                "state": state_number(StateName::Processing),
                "server": uuid(self.server.id),
                "server_name": &self.server.name,
            },
            "$max": { "updated": self.now },
            "$inc": { "version": 1_i64 },
            "$push": { "marks": mark_of(self.token).pushed() },
        };
        let update = doc! { "q": in_line, "u": change, "multi": true, "hint": "_id_" };
        let collection = &storage.inner.collections.jobs;
        let mut commands = Commands { storage, session: None };
        let answer = commands.write(doc! { "update": collection, "updates": [update] }).await?;
        drop(turn);
        if answer.get_i32("n") == Ok(0) {
            return Ok(Vec::new());
        }
        let taken = doc! { "_id": { "$in": &self.ids }, "marks": mark_of(self.token).number() };
        let mut cursor = storage.jobs::<JobDocument>().find(taken).batch_size(10_000).hint(by_id()).await?;
        let mut read = Vec::new();
        while cursor.advance().await? {
            let document = cursor.deserialize_current().ok();
            // Race: it may have been deleted a moment after it was taken, and more.
            let since = document.as_ref().and_then(|document| document.since(self.token));
            let job = read_document(document, cursor.current());
            let as_taken = |job| since.unwrap_or_default().as_taken(job);
            read.extend(job.map(as_taken).transpose());
        }
        Ok(read)
    }
}

fn id_of_read(read: &Read) -> Option<JobId> {
    match read {
        Ok(job) => Some(job.id()),
        Err((id, _)) => *id,
    }
}

/// What a claim has so far.
#[derive(Default)]
struct Claimed<'s> {
    jobs: Vec<Job>,
    to_park: Vec<ToPark>,
    underway: Vec<Underway<'s>>,
}

impl<'s> Claimed<'s> {
    fn begin(&mut self, part: Underway<'s>) -> usize {
        self.underway.push(part);
        self.underway.len() - 1
    }

    fn add(&mut self, read: Vec<Read>, token: Token) {
        for read in read {
            match read {
                Ok(job) => self.jobs.push(job),
                Err(unread) => self.to_park.push(ToPark { unread, token }),
            }
        }
    }

    /// The jobs, which are the caller's from now on.
    fn settle(mut self) -> Vec<Job> {
        for part in &mut self.underway {
            part.jobs = std::mem::take(&mut part.left);
        }
        self.jobs
    }
}

/// A job in line, by its lane and its place in it.
struct Head {
    lane: String,
    place: (i64, i64, JobId),
}

impl Head {
    fn of(document: &Document) -> Option<Self> {
        let number = |name| document.get_i64(name).unwrap_or(i64::MIN);
        let place = (number("rank"), number("queued"), id_of(document)?);
        Some(Self { lane: document.get_str("lane").ok()?.to_owned(), place })
    }

    const fn id(&self) -> JobId {
        self.place.2
    }
}

/// What a claim leaves on a job: it adds the PROCESSING entry.
fn mark_of(token: Token) -> Mark {
    token.mark(1)
}

/// The index over ids, where the planner might think of others.
pub(super) fn by_id() -> Hint {
    Hint::Name("_id_".to_owned())
}

/// Puts jobs in the order in which they stood in line.
fn sort_by_place_in_line(jobs: &mut [Job], queues: &QueueSelection) {
    let rank = |job: &Job| match queues {
        QueueSelection::All => None,
        QueueSelection::InOrder(queues) => queues.iter().position(|queue| queue == job.queue()),
    };
    jobs.sort_by_cached_key(|job| {
        (rank(job), Reverse(job.priority()), job.enqueued_at(), JobId::as_bytes(&job.id()).to_owned())
    });
}
