//! What rows name by a number: lanes, and the servers that histories name. Neither ever changes or goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jobrunr_core::storage::StorageError;
use jobrunr_core::{ServerId, ServerRef};
use jobrunr_storage_sql::Lane;

use crate::columns::Columns;
use crate::error::Outcome;
use crate::session::Session;
use crate::shared::Shared;
use crate::statements::{Statement, Statements};
use crate::values::Values;

/// The numbers that were seen so far.
#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    lanes: RwLock<Arc<Lanes>>,
    /// The name that a server was seen under last, and its number.
    servers: Mutex<HashMap<ServerId, (String, i32)>>,
}

/// The lanes that were read so far.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_number: HashMap<i32, Lane>,
    numbers: HashMap<Lane, i32>,
    /// How many rows there were, those that could not be read among them.
    pub(crate) rows: i64,
}

/// How many servers' names are remembered at most.
const REMEMBERED_SERVERS: usize = 1_024;

impl Lanes {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, &Lane)> + Clone {
        self.by_number.iter().map(|(number, lane)| (*number, lane))
    }

    pub(crate) fn get(&self, number: i32) -> Option<&Lane> {
        self.by_number.get(&number)
    }
}

impl Dictionary {
    /// The lanes that were read so far.
    pub(crate) fn lanes(&self) -> Arc<Lanes> {
        Arc::clone(&self.lanes.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn lane_number(&self, lane: &Lane) -> Option<i32> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).numbers.get(lane).copied()
    }

    fn server_number(&self, server: &ServerRef) -> Option<i32> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.get(&server.id).filter(|(name, _)| *name == server.name).map(|(_, number)| *number)
    }

    fn remember_server(&self, server: &ServerRef, number: i32) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.len() >= REMEMBERED_SERVERS {
            servers.clear();
        }
        servers.insert(server.id, (server.name.clone(), number));
    }
}

impl Shared {
    /// The number of a lane, which is added if it is new.
    pub(crate) async fn lane_number(self: &Arc<Self>, lane: &Lane) -> Result<i32, StorageError> {
        if let Some(number) = self.dictionary.lane_number(lane) {
            return Ok(number);
        }
        let lane = lane.clone();
        self.call("look up a queue and a type", move |session| {
            let lane = lane.clone();
            Box::pin(async move {
                let number = session.lane_number(&lane).await?;
                session.read_lanes().await?;
                Ok(number)
            })
        })
        .await
    }

    /// The number of a server's name, which is added if it is new.
    pub(crate) async fn server_number(self: &Arc<Self>, server: &ServerRef) -> Result<i32, StorageError> {
        if let Some(number) = self.dictionary.server_number(server) {
            return Ok(number);
        }
        let wanted = server.clone();
        let number = self
            .call("look up a server", move |session| {
                let wanted = wanted.clone();
                Box::pin(async move { session.find_server_number(&wanted).await })
            })
            .await?;
        self.dictionary.remember_server(server, number);
        Ok(number)
    }
}

impl Session<'_> {
    /// Reads all lanes there are.
    ///
    /// Not only those with greater numbers: of two that are added at once, the greater may be seen first.
    pub(crate) async fn read_lanes(&mut self) -> Outcome<Arc<Lanes>> {
        let mut lanes = Lanes::default();
        for row in self.rows(&self.shared.statements.list_lanes, Values::new()).await? {
            lanes.rows += 1;
            // Only valid names are ever written; whoever wrote others by hand has jobs that nobody claims.
            let (Ok(queue), Ok(signature)) = (row.text(1)?.parse(), row.text(2)?.parse()) else { continue };
            let (number, lane) = (row.small(0)?, Lane { queue, signature });
            lanes.numbers.insert(lane.clone(), number);
            lanes.by_number.insert(number, lane);
        }
        let lanes = Arc::new(lanes);
        let mut known = self.shared.dictionary.lanes.write().unwrap_or_else(PoisonError::into_inner);
        // Race: another task may have read later and been here sooner.
        if lanes.rows >= known.rows {
            *known = Arc::clone(&lanes);
        }
        Ok(lanes)
    }

    /// The lanes, all of these numbers among them as far as they exist.
    pub(crate) async fn lanes_with(&mut self, numbers: impl IntoIterator<Item = i32>) -> Outcome<Arc<Lanes>> {
        let lanes = self.shared.dictionary.lanes();
        if numbers.into_iter().all(|number| lanes.by_number.contains_key(&number)) {
            return Ok(lanes);
        }
        self.read_lanes().await
    }

    /// The number of a lane, which is added if it is new: at once, or with the transaction under way.
    pub(crate) async fn lane_number(&mut self, lane: &Lane) -> Outcome<i32> {
        if let Some(number) = self.shared.dictionary.lane_number(lane) {
            return Ok(number);
        }
        let names =
            || Values::new().bytes(lane.queue.as_str().as_bytes()).bytes(lane.signature.as_str().as_bytes());
        let Statements { find_lane, insert_lane, find_latest_lane, .. } = self.statements();
        self.number_of([find_lane, insert_lane, find_latest_lane], names).await
    }

    /// The number of a server's name, which is added if it is new: at once, or with the transaction under way.
    pub(crate) async fn find_server_number(&mut self, server: &ServerRef) -> Outcome<i32> {
        if let Some(number) = self.shared.dictionary.server_number(server) {
            return Ok(number);
        }
        let names = || Values::new().bytes(server.id.as_bytes()).bytes(server.name.as_bytes());
        let Statements { find_server_name, insert_server_name, find_latest_server_name, .. } =
            self.statements();
        self.number_of([find_server_name, insert_server_name, find_latest_server_name], names).await
    }

    async fn number_of(
        &mut self,
        [find, insert, find_latest]: [&Statement; 3],
        names: impl Fn() -> Values,
    ) -> Outcome<i32> {
        if let Some(row) = self.row(find, names()).await? {
            return row.small(0);
        }
        // Race: another process may add the same name between these statements.
        match self.execute(insert, names()).await {
            Err(failure) if !failure.is_duplicate() => return Err(failure),
            _ => {}
        }
        let row = self.row(find_latest, names()).await?;
        row.ok_or(sqlx::Error::RowNotFound)?.small(0)
    }
}
