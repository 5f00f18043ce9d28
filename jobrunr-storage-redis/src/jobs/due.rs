//! Releasing jobs whose time has come, a chunk a script.

use chrono::{DateTime, Utc};
use jobrunr_core::storage::{DueReport, StorageError};
use jobrunr_core::{JobId, JobState};

use super::CHUNK;
use crate::RedisStorage;
use crate::calls::{Call, Keeps};
use crate::changes::Hints;
use crate::encoding::{decode_id, decode_time, encode_time};
use crate::error::Failed;
use crate::scripts::DUE;

impl RedisStorage {
    pub(super) async fn enqueue_due(
        &self,
        now: DateTime<Utc>,
        limit: usize,
    ) -> Result<DueReport, StorageError> {
        let call = self.begin("enqueue due jobs")?;
        let (mut report, mut hints) = (DueReport::default(), Hints::default());
        let result = loop {
            let wanted = CHUNK.min(limit - report.released.len());
            let before = report.released.len();
            if let Err(failed) = call.release_chunk(now, wanted, &mut report, &mut hints).await {
                break Err(failed.into());
            }
            if report.released.len() - before < wanted || report.released.len() == limit {
                break Ok(report);
            }
        };
        // Also of those that were released before something failed.
        self.hint(hints);
        result
    }
}

impl Call<'_> {
    /// Releases the next ones that are due, in one step.
    async fn release_chunk(
        &self,
        now: DateTime<Utc>,
        limit: usize,
        report: &mut DueReport,
        hints: &mut Hints,
    ) -> Result<(), Failed> {
        let mut arguments = self.arguments(&DUE);
        arguments
            .arg(encode_time(now))
            .arg(limit)
            .arg(serde_json::to_string(&JobState::enqueued()).expect("states are JSON"));
        let answer: Vec<String> = self.run(&DUE, &arguments, Keeps::Nothing).await?;
        let mut words = answer.iter();
        report.next_due_at = words.next().and_then(|at| decode_time(at));
        let count = words.next().and_then(|count| count.parse().ok()).unwrap_or(0);
        let lanes: Vec<&str> = words.by_ref().take(count).map(String::as_str).collect();
        report.released.extend(words.filter_map(|id| decode_id::<JobId>(id)));
        let known = self.lanes_with(lanes.iter().copied()).await?;
        for (queue, _) in lanes.iter().filter_map(|lane| known.find(lane)) {
            hints.note_ready(queue);
        }
        Ok(())
    }
}
