//! Claiming jobs: scripts give them to a server; those that are large, or have been on their way for long, are read afterwards.
//!
//! Read inside of the script they would hold up everybody; and what they carry never changes.

use jobrunr_core::storage::{ClaimRequest, StorageError};
use jobrunr_core::{Job, JobMetadata, JobState, ServerRef};
use redis::Cmd;

use super::CHUNK;
use super::line::Line;
use super::rows::Row;
use super::uncertain::{LostClaim, PendingClaim};
use crate::RedisStorage;
use crate::calls::{Call, Keeps};
use crate::encoding::{decode_id, encode_server, encode_time};
use crate::error::{Failed, corrupt};
use crate::head::{Head, TOKEN};
use crate::lanes::Lanes;
use crate::scripts::{ADOPT, CLAIM};

const OPERATION: &str = "claim jobs";

/// How often a claim is tried while others keep adding lanes, or are faster.
const TRIES: usize = 20;

/// A job that was claimed, as far as the script tells.
struct Claimed {
    head: Head,
    /// What was read at once.
    row: Option<Row>,
}

/// How many answers a claim gives for each job.
const ANSWERS_A_JOB: usize = 3;

impl Claimed {
    fn without_row(head: &[u8]) -> Option<Self> {
        Some(Self { head: Head::parse(std::str::from_utf8(head).ok()?)?, row: None })
    }

    /// One job of a claim that wrote this state.
    fn read(answers: &mut [Option<Vec<u8>>], state: &str) -> Option<Self> {
        let mut claimed = Self::without_row(answers.first()?.as_deref()?)?;
        let [_, defined, metadata] = answers else { return None };
        if defined.is_some() {
            let entry = format!("{}{state}", encode_time(claimed.head.updated_at)).into_bytes();
            claimed.row = Some(Row {
                head: claimed.head.clone(),
                has_metadata: metadata.is_some(),
                defined: defined.take(),
                payload: None,
                later_entries: vec![Some(entry)],
            });
        }
        Some(claimed)
    }
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
    state: &str,
    limit: usize,
    token: u64,
    lanes: &Lanes,
    line: &Line<'_>,
) -> Cmd {
    arguments
        .arg(encode_time(request.now))
        .arg(u32::try_from(limit).unwrap_or(u32::MAX))
        .arg(token_text(token))
        .arg(encode_server(request.server.id))
        .arg(state)
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
        let ServerRef { id, name } = &request.server;
        let state = JobState::Processing { server_id: *id, server_name: name.clone() };
        let state = serde_json::to_string(&state).expect("states are JSON");
        let mut lanes = self.storage.inner.lanes.known();
        for _ in 0..TRIES {
            let line = self.line(request, &lanes, limit).await?;
            let arguments = self.arguments(&CLAIM);
            let arguments = claim_arguments(arguments, request, &state, limit, token, &lanes, &line);
            let mut answer: Vec<Option<Vec<u8>>> = self.run(&CLAIM, &arguments, Keeps::WriteIfAny).await?;
            if answer.first().is_some_and(Option::is_none) {
                lanes = self.load_lanes().await?;
                continue;
            }
            let jobs = answer.chunks_mut(ANSWERS_A_JOB);
            let claimed: Vec<Claimed> = jobs.filter_map(|job| Claimed::read(job, &state)).collect();
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
            let answer: Vec<String> = self.run(&ADOPT, &arguments, Keeps::Write).await?;
            let mut answer = answer.into_iter();
            let last = answer.next().unwrap_or_default();
            adopted.extend(answer.filter_map(|head| Claimed::without_row(head.as_bytes())));
            if last.is_empty() {
                break;
            }
            after = format!("({last}");
        }
        Ok(adopted)
    }

    /// Reads the jobs that were claimed, as they were then, and parks those that cannot be read.
    async fn read_claimed(&self, claimed: Vec<Claimed>) -> Result<Vec<Job>, Failed> {
        let unread: Vec<&str> =
            claimed.iter().filter(|job| job.row.is_none()).map(|job| job.head.id.as_str()).collect();
        let mut read = self.load_rows(&unread).await?.into_iter().map(Row::read);
        let mut rows = Vec::with_capacity(claimed.len());
        for Claimed { head, row } in claimed {
            // Race: a job that was deleted since it was claimed has nothing left, and nobody misses it.
            if let Some(row) = row.or_else(|| read.next()?.ok()) {
                rows.push((head, row));
            }
        }
        let with_metadata = rows.iter().filter(|(_, row)| row.has_metadata).map(|(head, _)| head.id.as_str());
        let with_metadata: Vec<&str> = with_metadata.collect();
        let mut metadata = self.load_metadata(&with_metadata).await?.into_iter();
        let mut jobs = Vec::with_capacity(rows.len());
        for (head, row) in rows {
            let metadata = if row.has_metadata { metadata.next() } else { None };
            let Some(id) = decode_id(&head.id) else {
                return Err(corrupt(OPERATION, "the line of a queue names what is no id").into());
            };
            let job = metadata
                .unwrap_or_else(|| Ok(JobMetadata::new()))
                .and_then(|metadata| row.into_job_at(id, head.version, head.entries, metadata));
            match job {
                Ok(job) => jobs.push(job),
                Err(what) => self.park(id, &head, &what).await?,
            }
        }
        Ok(jobs)
    }
}
