//! Releasing jobs whose time has come.

use chrono::{DateTime, Utc};
use jobrunr_core::JobState;
use jobrunr_core::storage::{DueReport, StorageError};

use crate::RedisStorage;
use crate::calls::Keeps;
use crate::changes::Hints;
use crate::encoding::{decode_id, decode_time, encode_time};
use crate::scripts::DUE;

impl RedisStorage {
    pub(super) async fn enqueue_due(
        &self,
        now: DateTime<Utc>,
        limit: usize,
    ) -> Result<DueReport, StorageError> {
        let call = self.begin("enqueue due jobs")?;
        let mut arguments = call.arguments(&DUE);
        arguments
            .arg(encode_time(now))
            .arg(u32::try_from(limit).unwrap_or(u32::MAX))
            .arg(serde_json::to_string(&JobState::enqueued()).expect("states are JSON"));
        let answer: Vec<String> = call.run(&DUE, &arguments, Keeps::Nothing).await?;
        let mut words = answer.iter();
        let next_due_at = words.next().and_then(|at| decode_time(at));
        let count = words.next().and_then(|count| count.parse().ok()).unwrap_or(0);
        let lanes: Vec<&str> = words.by_ref().take(count).map(String::as_str).collect();
        let released = words.filter_map(|id| decode_id(id)).collect();

        let mut hints = Hints::default();
        let known = call.lanes_with(lanes.iter().copied()).await?;
        for (queue, _) in lanes.iter().filter_map(|lane| known.find(lane)) {
            hints.note_ready(queue);
        }
        self.hint(hints);
        Ok(DueReport { released, next_due_at })
    }
}
