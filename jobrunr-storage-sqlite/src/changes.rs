//! Hints about changes: of this storage at once, of other processes by looking whether the file has changed.
//!
//! `PRAGMA data_version` tells a connection whether another one has committed since it asked last. The writer's own
//! connection asks, so its own commits do not count; it asks only while somebody listens.

use std::time::{Duration, Instant};

use jobrunr_core::storage::{Change, ChangeFeed, ChangeHub, ChangeStream};
use jobrunr_core::{JobId, QueueName, StateName};
use jobrunr_storage_sql::from_micros;
use uuid::Uuid;

use crate::SqliteStorage;
use crate::error::Outcome;
use crate::session::View;

/// The hub that the writer feeds.
pub(crate) type SharedHub = ChangeHub;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(12);

/// How many of the latest rare changes are kept for other processes to read.
pub(crate) const KEPT_CHANGES: i64 = 1_000;

impl ChangeFeed for SqliteStorage {
    fn subscribe(&self) -> ChangeStream {
        let stream = self.hub().subscribe();
        self.watch();
        stream
    }
}

/// What the writer remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    looked_at: Option<Instant>,
    version: Option<i64>,
    latest_change: i64,
}

impl Watch {
    pub(crate) fn until_next_look(&self) -> Duration {
        let since = self.looked_at.map(|looked_at| looked_at.elapsed());
        since.map_or(Duration::ZERO, |since| LOOK_INTERVAL.saturating_sub(since))
    }

    pub(crate) fn is_time_to_look(&self) -> bool {
        self.until_next_look().is_zero()
    }

    /// Looks whether others have changed the file since the last look, and if so tells what there is to do now.
    ///
    /// The very first look, when the storage is set up, only notes how things are.
    pub(crate) fn look(&mut self, view: View<'_>, hub: &ChangeHub, origin: i64) -> Outcome<()> {
        let now = Instant::now();
        let is_first = self.looked_at.replace(now).is_none();
        let version: i64 = view.prepare("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.version == Some(version) {
            return Ok(());
        }
        if is_first {
            self.latest_change =
                view.prepare(&view.statements.latest_change)?.query_row([], |row| row.get(0))?;
        } else {
            self.tell_ready_queues(view, hub)?;
            let next_due: Option<i64> =
                view.prepare(&view.statements.next_due)?.query_row([], |row| row.get(0))?;
            if let Some(next_due) = next_due {
                hub.send(Change::JobScheduled { scheduled_at: from_micros(next_due)? });
            }
            self.tell_changes(view, hub, origin)?;
        }
        self.version = Some(version);
        Ok(())
    }

    fn tell_ready_queues(&self, view: View<'_>, hub: &ChangeHub) -> Outcome<()> {
        let mut statement = view.prepare(&view.statements.waiting_queues)?;
        let queues = statement.query_map([], |row| row.get::<_, String>(0))?;
        for queue in queues {
            if let Ok(queue) = queue?.parse::<QueueName>() {
                hub.send(Change::JobsReady { queue });
            }
        }
        Ok(())
    }

    fn tell_changes(&mut self, view: View<'_>, hub: &ChangeHub, origin: i64) -> Outcome<()> {
        let mut statement = view.prepare(&view.statements.changes_since)?;
        let mut rows = statement.query([self.latest_change])?;
        let mut told_of_recurring_jobs = false;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            if seq > self.latest_change + KEPT_CHANGES {
                // More changes than are kept: some were forgotten unseen.
                hub.send(Change::Resync);
            }
            self.latest_change = seq;
            if row.get::<_, i64>(1)? == origin {
                continue;
            }
            let (id, state): (Option<Uuid>, Option<u8>) = (row.get(2)?, row.get(3)?);
            match (id, state.and_then(StateName::from_index)) {
                (Some(id), Some(state)) => hub.send(Change::JobChanged { id: JobId::from(id), state }),
                _ if told_of_recurring_jobs => {}
                _ => {
                    told_of_recurring_jobs = true;
                    hub.send(Change::RecurringJobsChanged);
                }
            }
        }
        Ok(())
    }
}
