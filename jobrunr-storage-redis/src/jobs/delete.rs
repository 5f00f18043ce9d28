//! Removing jobs, a chunk a script.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use jobrunr_core::storage::{SignatureSelection, StorageError};
use jobrunr_core::{JobId, StateName};

use super::CHUNK;
use crate::RedisStorage;
use crate::calls::Keeps;
use crate::encoding::{encode_id, encode_time};
use crate::lanes::SignatureSet;
use crate::scripts::{DELETE, PURGE};

const OPERATION: &str = "delete jobs";

impl RedisStorage {
    pub(super) async fn delete_by_id(&self, ids: &[JobId]) -> Result<u64, StorageError> {
        let call = self.begin(OPERATION)?;
        let mut seen = HashSet::with_capacity(ids.len());
        let ids: Vec<JobId> = ids.iter().copied().filter(|id| seen.insert(*id)).collect();
        let mut gone = 0;
        for chunk in ids.chunks(CHUNK) {
            let mut arguments = call.arguments(&DELETE);
            chunk.iter().for_each(|id| {
                arguments.arg(encode_id(*id));
            });
            gone += call.run::<u64>(&DELETE, &arguments, Keeps::Write).await?;
        }
        Ok(gone)
    }

    pub(super) async fn purge(
        &self,
        state: StateName,
        updated_before: DateTime<Utc>,
        signatures: &SignatureSelection,
        limit: usize,
    ) -> Result<u64, StorageError> {
        let call = self.begin(OPERATION)?;
        let wanted = SignatureSet::from(signatures);
        let mode = match wanted {
            SignatureSet::All => "all",
            SignatureSet::Only(_) => "only",
            SignatureSet::Except(_) => "except",
        };
        // `except` passes over what it lists. Race: a lane that comes up after this has no job that is old enough.
        let lanes = call.load_lanes().await?;
        let listed: Vec<&str> = lanes
            .iter()
            .filter(|(_, (_, signature))| match mode {
                "only" => wanted.contains(signature),
                "except" => !wanted.contains(signature),
                _ => false,
            })
            .map(|(number, _)| number)
            .collect();
        let (mut gone, mut left, mut after) = (0, limit, "-".to_owned());
        while left > 0 {
            let mut arguments = call.arguments(&PURGE);
            arguments.arg(state.index()).arg(encode_time(updated_before)).arg(&after).arg(left.min(CHUNK));
            arguments.arg(mode).arg(listed.len()).arg(&listed);
            let (removed, last): (usize, String) = call.run(&PURGE, &arguments, Keeps::Write).await?;
            gone += u64::try_from(removed).unwrap_or(u64::MAX);
            left = left.saturating_sub(removed);
            if last.is_empty() {
                break;
            }
            after = format!("({last}");
        }
        Ok(gone)
    }
}
