//! The two dictionaries, lanes and servers: what a number stands for never changes, so it is remembered.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

use jobrunr_core::{JobSignature, QueueName, ServerId, ServerRef};
use jobrunr_storage_sql::Lane;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresStorage;
use crate::connection::{Call, Failed, Statement};
use crate::error::classify;

/// How many servers are remembered at most: each life of a server is another one.
const REMEMBERED_SERVERS: usize = 4_096;

/// What is known of the dictionaries.
#[derive(Default)]
pub(crate) struct Names {
    lanes: RwLock<Both<Lane>>,
    servers: RwLock<Both<ServerKey>>,
}

type ServerKey = (Uuid, String);

/// A dictionary, both ways.
struct Both<T> {
    numbers: HashMap<T, i32>,
    by_number: HashMap<i32, T>,
}

impl<T> Default for Both<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), by_number: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Both<T> {
    fn add(&mut self, number: i32, value: T) {
        self.numbers.insert(value.clone(), number);
        self.by_number.insert(number, value);
    }
}

fn read<T, R>(both: &RwLock<Both<T>>, look: impl FnOnce(&Both<T>) -> R) -> R {
    look(&both.read().unwrap_or_else(PoisonError::into_inner))
}

fn write<T, R>(both: &RwLock<Both<T>>, change: impl FnOnce(&mut Both<T>) -> R) -> R {
    change(&mut both.write().unwrap_or_else(PoisonError::into_inner))
}

/// Numbers for one call; they hold also where they must not be remembered, because they may never be committed.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    lanes: HashMap<Lane, i32>,
    servers: HashMap<ServerKey, i32>,
}

impl Numbers {
    pub(crate) fn lane(&self, lane: &Lane) -> Option<i32> {
        self.lanes.get(lane).copied()
    }

    pub(crate) fn server(&self, server: Option<&ServerRef>) -> Option<i32> {
        server.and_then(|server| self.servers.get(&(server.id.into(), server.name.clone())).copied())
    }
}

impl PostgresStorage {
    /// The number of a lane, if it is remembered.
    pub(crate) fn known_lane(&self, queue: &QueueName, signature: &JobSignature) -> Option<i32> {
        let lane = Lane { queue: queue.clone(), signature: signature.clone() };
        read(&self.inner.names.lanes, |known| known.numbers.get(&lane).copied())
    }

    /// The statement that gives numbers to these lanes, new ones where they have none; `None` if all are known.
    fn lanes_to_number(&self, numbers: &mut Numbers, lanes: &[Lane]) -> Option<Statement> {
        let mut missing: Vec<&Lane> = read(&self.inner.names.lanes, |known| {
            let is_missing = |lane: &&Lane| match known.numbers.get(*lane) {
                Some(number) => {
                    numbers.lanes.insert((*lane).clone(), *number);
                    false
                }
                None => true,
            };
            lanes.iter().filter(is_missing).collect()
        });
        if missing.is_empty() {
            return None;
        }
        // In one order everywhere, so that two that add the same lanes cannot wait for each other.
        missing.sort_by_key(|lane| (lane.queue.as_str(), lane.signature.as_str()));
        missing.dedup();
        let queues: Vec<String> = missing.iter().map(|lane| lane.queue.as_str().to_owned()).collect();
        let signatures: Vec<String> = missing.iter().map(|lane| lane.signature.as_str().to_owned()).collect();
        Some(self.statement(&self.inner.statements.number_lanes).bind(queues).bind(signatures))
    }

    fn servers_to_number(&self, numbers: &mut Numbers, servers: &[&ServerRef]) -> Option<Statement> {
        let mut missing: Vec<ServerKey> = Vec::new();
        read(&self.inner.names.servers, |known| {
            for server in servers {
                let key = (Uuid::from(server.id), server.name.clone());
                match known.numbers.get(&key) {
                    Some(number) => {
                        numbers.servers.insert(key, *number);
                    }
                    None => missing.push(key),
                }
            }
        });
        if missing.is_empty() {
            return None;
        }
        missing.sort();
        missing.dedup();
        let (ids, names): (Vec<Uuid>, Vec<String>) = missing.into_iter().unzip();
        Some(self.statement(&self.inner.statements.number_servers).bind(ids).bind(names))
    }

    /// Gives numbers to lanes and servers and remembers them.
    pub(crate) async fn number_names(
        &self,
        operation: &'static str,
        lanes: &[Lane],
        servers: &[&ServerRef],
    ) -> Result<Numbers, Failed> {
        let mut numbers = Numbers::default();
        let lanes = self.lanes_to_number(&mut numbers, lanes);
        let servers = self.servers_to_number(&mut numbers, servers);
        if lanes.is_none() && servers.is_none() {
            return Ok(numbers);
        }
        // A call of its own: what is remembered must be committed, whatever comes of the rest.
        let mut call = self.call(operation).await?;
        let mut added = Numbers::default();
        number(&mut call, operation, &mut added, lanes, servers).await?;
        call.finish().await?;
        for (lane, number) in added.lanes {
            write(&self.inner.names.lanes, |known| known.add(number, lane.clone()));
            numbers.lanes.insert(lane, number);
        }
        for (key, number) in added.servers {
            self.remember_server(number, key.clone());
            numbers.servers.insert(key, number);
        }
        Ok(numbers)
    }

    /// Gives numbers to lanes and servers in a transaction that may never be committed.
    pub(crate) async fn number_names_in(
        &self,
        transaction: &mut impl Runs,
        operation: &'static str,
        lanes: &[Lane],
        servers: &[&ServerRef],
    ) -> Result<Numbers, Failed> {
        let mut numbers = Numbers::default();
        let lanes = self.lanes_to_number(&mut numbers, lanes);
        let servers = self.servers_to_number(&mut numbers, servers);
        number(transaction, operation, &mut numbers, lanes, servers).await?;
        Ok(numbers)
    }

    fn remember_server(&self, number: i32, key: ServerKey) {
        write(&self.inner.names.servers, |known| {
            if known.numbers.len() >= REMEMBERED_SERVERS {
                *known = Both::default();
            }
            known.add(number, key);
        });
    }

    /// The lanes and servers that rows name by these numbers.
    pub(crate) async fn look_up(
        &self,
        call: &mut Call<'_>,
        lanes: &[i32],
        servers: &[i32],
    ) -> Result<Found, Failed> {
        let mut found = Found::default();
        let missing = missing_in(&self.inner.names.lanes, lanes, &mut found.lanes);
        if !missing.is_empty() {
            let statement = self.statement(&self.inner.statements.find_lanes).bind(missing);
            for row in call.rows(statement).await? {
                let (number, lane) = lane_of(&row).map_err(|error| classify(&error, call.operation()))?;
                let Some(lane) = lane else { continue };
                write(&self.inner.names.lanes, |known| known.add(number, lane.clone()));
                found.lanes.insert(number, lane);
            }
        }
        let missing = missing_in(&self.inner.names.servers, servers, &mut found.servers);
        if !missing.is_empty() {
            let statement = self.statement(&self.inner.statements.find_server_names).bind(missing);
            for row in call.rows(statement).await? {
                let (number, key) = server_of(&row).map_err(|error| classify(&error, call.operation()))?;
                self.remember_server(number, key.clone());
                found.servers.insert(number, key);
            }
        }
        Ok(found)
    }
}

/// What numbers stand for.
#[derive(Debug, Default)]
pub(crate) struct Found {
    lanes: HashMap<i32, Lane>,
    servers: HashMap<i32, ServerKey>,
}

impl Found {
    pub(crate) fn lane(&self, number: i32) -> Option<&Lane> {
        self.lanes.get(&number)
    }

    pub(crate) fn server(&self, number: i32) -> Option<ServerRef> {
        let (id, name) = self.servers.get(&number)?;
        Some(ServerRef { id: ServerId::from(*id), name: name.clone() })
    }
}

fn missing_in<T: Clone>(both: &RwLock<Both<T>>, numbers: &[i32], found: &mut HashMap<i32, T>) -> Vec<i32> {
    read(both, |known| {
        let mut missing = Vec::new();
        for number in numbers {
            if found.contains_key(number) {
                continue;
            }
            match known.by_number.get(number) {
                Some(value) => {
                    found.insert(*number, value.clone());
                }
                None => missing.push(*number),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    })
}

async fn number(
    runs: &mut impl Runs,
    operation: &'static str,
    numbers: &mut Numbers,
    lanes: Option<Statement>,
    servers: Option<Statement>,
) -> Result<(), Failed> {
    let failed = |error| Failed::from(classify(&error, operation));
    if let Some(statement) = lanes {
        for row in runs.run(statement).await? {
            if let (number, Some(lane)) = lane_of(&row).map_err(failed)? {
                numbers.lanes.insert(lane, number);
            }
        }
    }
    if let Some(statement) = servers {
        for row in runs.run(statement).await? {
            let (number, key) = server_of(&row).map_err(failed)?;
            numbers.servers.insert(key, number);
        }
    }
    Ok(())
}

/// The number and lane of a row; only valid names are ever written, whoever wrote others by hand has jobs that nobody
/// can read.
fn lane_of(row: &PgRow) -> Result<(i32, Option<Lane>), sqlx::Error> {
    let (number, queue, signature): (i32, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let lane = match (queue.parse(), signature.parse()) {
        (Ok(queue), Ok(signature)) => Some(Lane { queue, signature }),
        _ => None,
    };
    Ok((number, lane))
}

fn server_of(row: &PgRow) -> Result<(i32, ServerKey), sqlx::Error> {
    Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))
}

/// Something that runs statements: a call of the storage's own, or a connection of the caller's.
pub(crate) trait Runs: Send {
    /// Runs a statement.
    fn run(&mut self, statement: Statement) -> impl Future<Output = Result<Vec<PgRow>, Failed>> + Send;
}

impl Runs for Call<'_> {
    async fn run(&mut self, statement: Statement) -> Result<Vec<PgRow>, Failed> {
        self.rows(statement).await
    }
}
