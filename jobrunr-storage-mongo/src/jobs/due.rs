//! Releasing jobs whose time has come.

use chrono::{DateTime, Utc};
use jobrunr_core::storage::{DueReport, StorageError};
use jobrunr_core::{HistoryEntry, JobId, JobState, StateName};
use mongodb::bson::{Bson, Document, Uuid, doc};
use mongodb::options::Hint;

use super::CHUNK;
use super::park::is_whole;
use crate::MongoStorage;
use crate::call::{Broken, Commands};
use crate::changes::Hints;
use crate::documents::{encode_entry, from_micros, id_of, micros, split_lane, state_number, uuid};
use crate::error::Failed;
use crate::indexes::DUE;
use crate::marks::{Mark, Token};

pub(super) const OPERATION: &str = "release due jobs";

/// A job that is due.
struct Due {
    id: JobId,
    lane: String,
    updated: i64,
}

impl MongoStorage {
    pub(super) async fn release_due(
        &self,
        now: DateTime<Utc>,
        limit: usize,
    ) -> Result<DueReport, StorageError> {
        let mut report = DueReport::default();
        while report.released.len() < limit {
            let due = self.find_due(now, (limit - report.released.len()).min(CHUNK)).await?;
            let was_last = due.len() < CHUNK.min(limit - report.released.len());
            let released = self.release(&due, now).await?;
            // Race: whoever was faster has released them.
            let progress = released.len();
            let mut hints = Hints::default();
            for Due { id, lane, .. } in released {
                report.released.push(id);
                if let Some(queue) = split_lane(&lane).and_then(|(queue, _)| queue.parse().ok()) {
                    hints.note_ready(&queue);
                }
            }
            // What is released is told, whatever becomes of the rest.
            self.hint(hints);
            if was_last || progress == 0 {
                break;
            }
        }
        report.next_due_at = self.next_due_at().await?;
        Ok(report)
    }

    async fn find_due(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<Due>, Failed> {
        let jobs = self.jobs::<Document>();
        let found = async {
            let mut cursor = jobs
                .find(doc! { "state": state_number(StateName::Scheduled), "scheduled": { "$lte": micros(now) } })
                .projection(doc! { "lane": 1, "updated": 1 })
                .sort(doc! { "scheduled": 1, "_id": 1 })
                .limit(i64::try_from(limit).unwrap_or(i64::MAX))
                .hint(Hint::Name(DUE.to_owned()))
                .await?;
            let mut due = Vec::new();
            while cursor.advance().await? {
                let document = cursor.deserialize_current()?;
                due.extend(id_of(&document).map(|id| Due {
                    id,
                    lane: document.get_str("lane").unwrap_or_default().to_owned(),
                    updated: document.get_i64("updated").unwrap_or(i64::MIN),
                }));
            }
            Ok(due)
        };
        self.limited(OPERATION, found).await
    }

    /// Releases those of the jobs that are still due.
    async fn release(&self, due: &[Due], now: DateTime<Utc>) -> Result<Vec<Due>, Failed> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        // One entry each.
        let mark = Token::random().mark(1);
        // A history never goes backwards: whoever was updated later than now, by another clock, is released then.
        let mut by_time: Vec<(i64, Vec<Uuid>)> = vec![(micros(now), Vec::new())];
        for job in due {
            if job.updated <= micros(now) {
                by_time[0].1.push(uuid(job.id));
            } else {
                by_time.push((job.updated, vec![uuid(job.id)]));
            }
        }
        let statements = by_time.iter().filter(|(_, ids)| !ids.is_empty());
        let statements = statements.map(|(at, ids)| release_statement(*at, ids, now, mark));
        let statements: Vec<Bson> = statements.map(Bson::from).collect();
        let collection = &self.inner.collections.jobs;
        let mut commands = Commands { storage: self, session: None };
        let update = doc! { "update": collection, "updates": statements, "ordered": false };
        let released = async {
            let answer = commands.write(update).await?;
            let changed = answer.get_i32("n").ok().and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
            if changed == due.len() {
                return Ok(None);
            }
            let ids: Vec<Uuid> = due.iter().map(|job| uuid(job.id)).collect();
            let bear = doc! { "_id": { "$in": ids }, "marks": mark.number() };
            commands.find_by_id(collection, bear, doc! { "_id": 1 }, due.len()).await.map(Some)
        };
        let released = async { released.await.map_err(|broken: Broken| broken.failed(OPERATION)) };
        let released = self.limited_work(OPERATION, released).await?;
        if released.is_some() {
            let ids = due.iter().map(|job| uuid(job.id)).collect();
            self.park_broken(ids, StateName::Scheduled).await?;
        }
        let released: Option<Vec<JobId>> =
            released.map(|documents| documents.iter().filter_map(id_of).collect());
        let was_released = |id: &JobId| released.as_ref().is_none_or(|released| released.contains(id));
        let kept = due.iter().filter(|job| was_released(&job.id));
        Ok(kept.map(|job| Due { id: job.id, lane: job.lane.clone(), updated: job.updated }).collect())
    }

    async fn next_due_at(&self) -> Result<Option<DateTime<Utc>>, StorageError> {
        let jobs = self.jobs::<Document>();
        let first = jobs
            .find_one(doc! { "state": state_number(StateName::Scheduled) })
            .projection(doc! { "_id": 0, "scheduled": 1 })
            .sort(doc! { "scheduled": 1, "_id": 1 })
            .hint(Hint::Name(DUE.to_owned()));
        let first = self.limited(OPERATION, first.into_future()).await?;
        let at = first.and_then(|first| first.get_i64("scheduled").ok());
        at.map(from_micros).transpose().map_err(|why| why.into_error(OPERATION, "the next scheduled job"))
    }
}

/// ENQUEUED at this time, if they are as they were found.
fn release_statement(at: i64, ids: &[Uuid], now: DateTime<Utc>, mark: Mark) -> Document {
    let entry = HistoryEntry { at: from_micros(at).unwrap_or(now), state: JobState::enqueued() };
    let mut due = is_whole();
    due.extend(doc! {
        "_id": { "$in": ids },
        "state": state_number(StateName::Scheduled),
        "scheduled": { "$lte": micros(now) },
        "updated": { "$lte": at },
    });
    doc! {
        "q": due,
        "u": {
            "$set": {
                "state": state_number(StateName::Enqueued),
                "updated": at,
                "queued": at,
            },
            "$inc": { "version": 1_i64 },
            "$push": { "history": encode_entry(&entry), "marks": mark.pushed() },
        },
        "multi": true,
        "hint": "_id_",
    }
}
