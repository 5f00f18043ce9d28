//! Claiming jobs, finding those of a claim whose answer was lost, and parking what cannot be read.

use std::cmp::Reverse;

use jobrunr_core::storage::{ClaimRequest, QueueSelection, SignatureSelection, StorageError};
use jobrunr_core::{Failure, FailureKind, HistoryEntry, Job, JobId, JobState, ServerId};
use jobrunr_storage_sql::{HotColumns, Unreadable, encode_entries, from_micros, micros};
use sqlx::Row;
use uuid::Uuid;

use super::columns::short;
use super::insert::ids_of;
use super::uncertain::{LostClaim, Uncertain};
use super::{signed, texts_of};
use crate::connection::{Call, Failed};
use crate::error::classify;
use crate::rows::ReadJob;
use crate::{PROVIDER, PostgresStorage};

const OPERATION: &str = "claim jobs";

/// A claim on its way. Unless its answer was dealt with whole, it counts as lost, also when its future is dropped.
struct Underway<'s> {
    uncertain: &'s Uncertain,
    server: ServerId,
    token: i32,
    at: i64,
    is_settled: bool,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.uncertain.note_claim(LostClaim::new(self.server, self.token, self.at));
        }
    }
}

impl PostgresStorage {
    pub(super) async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Job>, StorageError> {
        let _open = self.begin(OPERATION)?;
        let wants_nothing = matches!(&request.signatures, SignatureSelection::Only(types) if types.is_empty())
            || matches!(&request.queues, QueueSelection::InOrder(queues) if queues.is_empty());
        if request.limit == 0 || wants_nothing {
            return Ok(Vec::new());
        }
        let server = &request.server;
        let numbers = self.number_names(OPERATION, &[], &[server]).await?;
        let number = numbers.server(Some(server)).unwrap_or_default();
        let lost = self.inner.uncertain.claims_of(server.id);
        let token = fastrand::i32(..);
        let mut underway = Underway {
            uncertain: &self.inner.uncertain,
            server: server.id,
            token,
            at: lost.iter().map(|claim| claim.at).chain([micros(request.now)]).min().unwrap_or(0),
            is_settled: false,
        };
        let mut call = match self.call(OPERATION).await {
            Ok(call) => call,
            Err(error) => {
                // Nothing was sent.
                underway.is_settled = true;
                return Err(error);
            }
        };
        let claimed = self.claim_on(&mut call, request, number, token, &lost).await;
        let read = match claimed {
            Ok(read) => read,
            Err(failed) => {
                underway.is_settled = !failed.is_uncertain;
                return Err(failed.error);
            }
        };
        call.finish().await?;
        let mut jobs = Vec::with_capacity(read.len());
        for read in read {
            match read.job {
                Ok(job) => jobs.push(job),
                Err(ref unreadable) => {
                    self.report_unreadable(Some(read.id), unreadable);
                    self.park(&read, unreadable).await?;
                }
            }
        }
        // Only now: where one cannot be parked, the others are found again by the next claim.
        underway.is_settled = true;
        sort_by_place_in_line(&mut jobs, &request.queues);
        Ok(jobs)
    }

    async fn claim_on(
        &self,
        call: &mut Call<'_>,
        request: &ClaimRequest,
        server: i32,
        token: i32,
        lost: &[LostClaim],
    ) -> Result<Vec<ReadJob>, Failed> {
        let mut read = Vec::new();
        for claim in lost {
            let left = request.limit - read.len();
            read.extend(self.recover(call, claim, server, token, left).await.map_err(unanswered)?);
            if read.len() >= request.limit {
                return Ok(read);
            }
        }
        let (wanted, unwanted) = texts_of(&request.signatures);
        let queues = match &request.queues {
            QueueSelection::All => None,
            QueueSelection::InOrder(queues) => {
                Some(queues.iter().map(|queue| queue.as_str().to_owned()).collect::<Vec<_>>())
            }
        };
        let claim = self
            .statement(&self.inner.statements.claim)
            .bind(wanted)
            .bind(unwanted)
            .bind(queues)
            .bind(signed(request.limit - read.len()))
            .bind(micros(request.now))
            .bind(server)
            .bind(token);
        let had_some = !read.is_empty();
        let rows =
            call.rows(claim).await.map_err(|failed| if had_some { unanswered(failed) } else { failed })?;
        read.extend(self.read_jobs(call, &rows).await.map_err(unanswered)?);
        Ok(read)
    }

    /// Takes over jobs that a lost claim took.
    async fn recover(
        &self,
        call: &mut Call<'_>,
        lost: &LostClaim,
        server: i32,
        token: i32,
        limit: usize,
    ) -> Result<Vec<ReadJob>, Failed> {
        let recover = self
            .statement(&self.inner.statements.recover)
            .bind(lost.at)
            .bind(server)
            .bind(lost.token)
            .bind(signed(limit))
            .bind(token);
        let ids = ids_of(&call.rows(recover).await?)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        tracing::warn!("{} jobs of a claim whose answer was lost were found", ids.len());
        let ids: Vec<Uuid> = ids.into_iter().map(Uuid::from).collect();
        let rows = call.rows(self.statement(&self.inner.statements.find_jobs).bind(ids)).await?;
        self.read_jobs(call, &rows).await
    }

    /// Parks a claimed job that cannot be read: FAILED of kind `Corrupt`, all that is stored kept.
    async fn park(&self, read: &ReadJob, why: &Unreadable) -> Result<(), StorageError> {
        let unreadable =
            |why: Unreadable| why.into_error(PROVIDER, OPERATION, format_args!("job {}", read.id));
        let first_entry = read.columns.archived_entries;
        let tail = HotColumns { archived_entries: 0, ..read.columns.clone() };
        let mut entries = tail.history(Vec::new(), read.server.as_ref(), None).unwrap_or_default();
        let message = format!("what is stored of this job cannot be read: {why}");
        let failure = Failure::new(FailureKind::Corrupt, &message).do_not_retry();
        let at = from_micros(read.columns.updated_at).map_err(unreadable)?;
        entries.push(HistoryEntry { at, state: JobState::failed(failure) });
        let shard = self.inner.shards.take();
        let park = self
            .statement(&self.inner.statements.park)
            .bind(Uuid::from(read.id))
            .bind(i64::try_from(read.version.number()).unwrap_or(i64::MAX))
            .bind(read.columns.updated_at)
            .bind(short(first_entry.saturating_add(entries.len())))
            .bind(short(first_entry))
            .bind(encode_entries(&entries))
            .bind(message)
            .bind(shard.number());
        let mut call = self.call(OPERATION).await?;
        let parked = call.row(park).await?;
        call.finish().await?;
        let parked = parked.map(|row| row.try_get::<bool, _>(0)).transpose();
        parked.map_err(|error| classify(&error, OPERATION)).map(drop)
    }
}

/// The failure of a call of which something was done already.
fn unanswered(failed: Failed) -> Failed {
    Failed { is_uncertain: true, ..failed }
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
