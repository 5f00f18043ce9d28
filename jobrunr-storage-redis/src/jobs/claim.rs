//! Claiming jobs: scripts give them to a server, then they are read.
//!
//! What they carry may be large. Read inside of the script it would hold up everybody; and it never changes.

use jobrunr_core::storage::{ClaimRequest, StorageError};
use jobrunr_core::{Job, JobMetadata, JobState, ServerRef, Version};
use redis::Cmd;

use super::CHUNK;
use super::line::Line;
use super::rows::Row;
use super::uncertain::{LostClaim, PendingClaim};
use crate::RedisStorage;
use crate::calls::{Call, Keeps};
use crate::encoding::{decode_id, encode_server, encode_time};
use crate::error::{Failed, corrupt};
use crate::head::TOKEN;
use crate::lanes::Lanes;
use crate::scripts::{ADOPT, CLAIM};

const OPERATION: &str = "claim jobs";

/// How often a claim is tried while others keep adding lanes, or are faster.
const TRIES: usize = 20;

/// A job that was claimed, as far as the script tells.
struct Claimed {
    id: String,
    version: Version,
    entries: usize,
}

/// What one script took.
#[derive(Default)]
struct Chunk {
    claimed: Vec<Claimed>,
    /// Whether there may be more to take.
    may_be_followed: bool,
}

impl RedisStorage {
    pub(super) async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        let call = self.begin(OPERATION)?;
        if request.limit == 0 {
            return Ok(Vec::new());
        }
        let token = fastrand::u64(..);
        let lost = self.inner.uncertain.claims_of(request.server.id);
        let pending = PendingClaim::new(&self.inner.uncertain, LostClaim::new(request.server.id, token));
        let claimed = async {
            let adopted = call.adopt(request, token, &lost).await?;
            let limit = request.limit - adopted.len().min(request.limit);
            let mut jobs = call.read_claimed(adopted).await?;
            jobs.extend(call.take(request, token, limit).await?);
            Ok::<_, Failed>(jobs)
        };
        // Whatever a step took before another failed is marked, and noted when `pending` goes.
        let jobs = claimed.await?;
        pending.end();
        Ok(jobs)
    }
}

fn token_text(token: u64) -> String {
    format!("{token:0TOKEN$x}")
}

fn claim_arguments(
    mut arguments: Cmd,
    request: &ClaimRequest,
    limit: usize,
    token: u64,
    lanes: &Lanes,
    line: &Line<'_>,
) -> Cmd {
    let ServerRef { id, name } = &request.server;
    let state = JobState::Processing { server_id: *id, server_name: name.clone() };
    arguments
        .arg(encode_time(request.now))
        .arg(u32::try_from(limit).unwrap_or(u32::MAX))
        .arg(token_text(token))
        .arg(encode_server(*id))
        .arg(serde_json::to_string(&state).expect("states are JSON"))
        .arg(lanes.state().0)
        .arg(lanes.state().1);
    arguments.arg(line.groups.len());
    for group in &line.groups {
        arguments.arg(group.len()).arg(group);
    }
    arguments
}

impl Call<'_> {
    /// Takes the first jobs in line, a chunk a script, and reads each chunk while the next one is taken.
    async fn take(&self, request: &ClaimRequest, token: u64, limit: usize) -> Result<Vec<Job>, Failed> {
        let (mut jobs, mut left) = (Vec::new(), limit);
        let mut taken = Vec::new();
        loop {
            let wanted = CHUNK.min(left);
            let take = async {
                if wanted > 0 { self.take_chunk(request, token, wanted).await } else { Ok(Chunk::default()) }
            };
            let (read, next) = tokio::join!(self.read_claimed(taken), take);
            jobs.extend(read?);
            let next = next?;
            if next.claimed.is_empty() {
                return Ok(jobs);
            }
            left = if next.may_be_followed { left - next.claimed.len() } else { 0 };
            taken = next.claimed;
        }
    }

    async fn take_chunk(&self, request: &ClaimRequest, token: u64, limit: usize) -> Result<Chunk, Failed> {
        let mut lanes = self.storage.inner.lanes.known();
        for _ in 0..TRIES {
            let line = self.line(request, &lanes, limit).await?;
            let arguments = claim_arguments(self.arguments(&CLAIM), request, limit, token, &lanes, &line);
            let answer: Vec<Option<String>> = self.run(&CLAIM, &arguments, Keeps::WriteIfAny).await?;
            if answer.first().is_some_and(Option::is_none) {
                lanes = self.load_lanes().await?;
                continue;
            }
            let claimed = claimed_of(answer.into_iter().flatten().collect());
            if claimed.is_empty() && line.has_jobs() {
                // Race: others have emptied the lanes that had the first jobs; the rest may have more.
                continue;
            }
            let may_be_followed = claimed.len() == limit || line.is_part;
            return Ok(Chunk { claimed, may_be_followed });
        }
        // Others add lanes or take jobs all the time; the next claim finds what there is.
        Ok(Chunk::default())
    }

    /// Takes over what earlier claims of this server took whose answers were lost.
    async fn adopt(
        &self,
        request: &ClaimRequest,
        token: u64,
        lost: &[LostClaim],
    ) -> Result<Vec<Claimed>, Failed> {
        let mut adopted = Vec::new();
        let mut after = "-".to_owned();
        while !lost.is_empty() && adopted.len() < request.limit {
            let mut arguments = self.arguments(&ADOPT);
            let limit = request.limit - adopted.len();
            arguments
                .arg(&after)
                .arg(u32::try_from(limit).unwrap_or(u32::MAX))
                .arg(token_text(token))
                .arg(encode_server(request.server.id))
                .arg(lost.len());
            for claim in lost {
                arguments.arg(token_text(claim.token));
            }
            let mut answer: Vec<String> = self.run(&ADOPT, &arguments, Keeps::Write).await?;
            let last = if answer.is_empty() { String::new() } else { answer.remove(0) };
            adopted.extend(claimed_of(answer));
            if last.is_empty() {
                break;
            }
            after = format!("({last}");
        }
        Ok(adopted)
    }

    /// Reads the jobs that were claimed, as they were then, and parks those that cannot be read.
    async fn read_claimed(&self, claimed: Vec<Claimed>) -> Result<Vec<Job>, Failed> {
        let ids: Vec<&str> = claimed.iter().map(|job| job.id.as_str()).collect();
        let rows: Vec<_> = self.load_rows(&ids).await?.into_iter().map(Row::read).collect();
        let with_metadata: Vec<usize> =
            (0..rows.len()).filter(|index| rows[*index].as_ref().is_ok_and(|row| row.has_metadata)).collect();
        let ids: Vec<&str> = with_metadata.iter().map(|index| ids[*index]).collect();
        let mut metadata = with_metadata.iter().zip(self.load_metadata(&ids).await?).peekable();
        let mut jobs = Vec::with_capacity(claimed.len());
        for (index, (claimed, row)) in claimed.iter().zip(rows).enumerate() {
            let metadata = metadata.next_if(|(of, _)| **of == index).map(|(_, metadata)| metadata);
            // Race: a job that was deleted since it was claimed has nothing left, and nobody misses it.
            let Ok(row) = row else { continue };
            let Some(id) = decode_id(&claimed.id) else {
                return Err(corrupt(OPERATION, "the line of a queue names what is no id").into());
            };
            let mut head = row.head.clone();
            let job = metadata
                .unwrap_or_else(|| Ok(JobMetadata::new()))
                .and_then(|metadata| row.into_job_at(id, claimed.version, claimed.entries, metadata));
            match job {
                Ok(job) => jobs.push(job),
                Err(what) => {
                    head.version = claimed.version;
                    head.entries = claimed.entries;
                    self.park(id, &head, &what).await?;
                }
            }
        }
        Ok(jobs)
    }
}

fn claimed_of(answer: Vec<String>) -> Vec<Claimed> {
    let mut words = answer.into_iter();
    std::iter::from_fn(|| {
        let (id, version, entries) = (words.next()?, words.next()?, words.next()?);
        let version = Version::new(version.parse().ok()?);
        Some(Claimed { id, version, entries: entries.parse().ok()? })
    })
    .collect()
}
