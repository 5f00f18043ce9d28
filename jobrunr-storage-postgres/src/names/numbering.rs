//! Giving numbers to lanes and servers: those that are known, those that are found, and new ones.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, RwLock};

use jobrunr_core::ServerRef;
use jobrunr_storage_sql::Lane;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{Both, Names, REMEMBERED_SERVERS, Runs, ServerKey, read};
use crate::PostgresStorage;
use crate::connection::{Failed, Statement};
use crate::error::classify;
use crate::statements::Statements;

/// What one of the dictionaries holds. Its statements give the number, the two parts of the name, and whether the row is sure
/// to be committed.
pub(super) trait Entry: Clone + Eq + Hash + Send + Sync {
    /// How many are remembered at most.
    const MOST_REMEMBERED: usize = usize::MAX;

    fn known(names: &Names) -> &RwLock<Both<Self>>;
    fn find_by_number(statements: &Statements) -> &Arc<str>;
    fn find(statements: &Statements) -> &Arc<str>;
    fn add(statements: &Statements) -> &Arc<str>;
    /// The same order everywhere, so that two that add the same entries cannot wait for each other.
    fn sort(entries: &mut [Self]);
    /// Binds entries to the statements that find and add them.
    fn bind(statement: Statement, entries: &[Self]) -> Statement;
    /// The number and entry of a row; only valid names are ever written, whoever wrote others by hand has jobs that nobody
    /// can read.
    fn read(row: &PgRow) -> Result<(i32, Option<Self>), sqlx::Error>;
}

impl Entry for Lane {
    fn known(names: &Names) -> &RwLock<Both<Self>> {
        &names.lanes
    }

    fn find_by_number(statements: &Statements) -> &Arc<str> {
        &statements.find_lanes
    }

    fn find(statements: &Statements) -> &Arc<str> {
        &statements.find_numbers_of_lanes
    }

    fn add(statements: &Statements) -> &Arc<str> {
        &statements.add_lanes
    }

    fn sort(entries: &mut [Self]) {
        entries.sort_by(|one, other| {
            (one.queue.as_str(), one.signature.as_str())
                .cmp(&(other.queue.as_str(), other.signature.as_str()))
        });
    }

    fn bind(statement: Statement, entries: &[Self]) -> Statement {
        let queues: Vec<String> = entries.iter().map(|lane| lane.queue.as_str().to_owned()).collect();
        let signatures: Vec<String> = entries.iter().map(|lane| lane.signature.as_str().to_owned()).collect();
        statement.bind(queues).bind(signatures)
    }

    fn read(row: &PgRow) -> Result<(i32, Option<Self>), sqlx::Error> {
        let (queue, signature): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
        let lane = match (queue.parse(), signature.parse()) {
            (Ok(queue), Ok(signature)) => Some(Self { queue, signature }),
            _ => None,
        };
        Ok((row.try_get(0)?, lane))
    }
}

impl Entry for ServerKey {
    const MOST_REMEMBERED: usize = REMEMBERED_SERVERS;

    fn known(names: &Names) -> &RwLock<Both<Self>> {
        &names.servers
    }

    fn find_by_number(statements: &Statements) -> &Arc<str> {
        &statements.find_server_names
    }

    fn find(statements: &Statements) -> &Arc<str> {
        &statements.find_numbers_of_servers
    }

    fn add(statements: &Statements) -> &Arc<str> {
        &statements.add_servers
    }

    fn sort(entries: &mut [Self]) {
        entries.sort();
    }

    fn bind(statement: Statement, entries: &[Self]) -> Statement {
        let (ids, names): (Vec<Uuid>, Vec<String>) = entries.iter().cloned().unzip();
        statement.bind(ids).bind(names)
    }

    fn read(row: &PgRow) -> Result<(i32, Option<Self>), sqlx::Error> {
        Ok((row.try_get(0)?, Some((row.try_get(1)?, row.try_get(2)?))))
    }
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
        server.and_then(|server| self.servers.get(&key_of(server)).copied())
    }
}

fn key_of(server: &ServerRef) -> ServerKey {
    (server.id.into(), server.name.clone())
}

/// What has no number yet.
struct Missing {
    lanes: Vec<Lane>,
    servers: Vec<ServerKey>,
}

impl PostgresStorage {
    /// Gives numbers to lanes and servers and remembers them.
    pub(crate) async fn number_names(
        &self,
        operation: &'static str,
        lanes: &[Lane],
        servers: &[&ServerRef],
    ) -> Result<Numbers, Failed> {
        let (mut numbers, missing) = self.known_numbers(lanes, servers);
        if missing.lanes.is_empty() && missing.servers.is_empty() {
            return Ok(numbers);
        }
        // A call of its own: what is remembered must be committed, whatever comes of the rest.
        let mut call = self.call(operation).await?;
        let mut added = Numbers::default();
        self.number(&mut call, operation, missing, &mut added).await?;
        call.finish().await?;
        for (lane, number) in added.lanes {
            self.inner.names.remember(number, lane.clone());
            numbers.lanes.insert(lane, number);
        }
        for (server, number) in added.servers {
            self.inner.names.remember(number, server.clone());
            numbers.servers.insert(server, number);
        }
        Ok(numbers)
    }

    /// Gives numbers to lanes and servers in a transaction that may never be committed; what was there before it is
    /// remembered.
    pub(crate) async fn number_names_in(
        &self,
        transaction: &mut impl Runs,
        operation: &'static str,
        lanes: &[Lane],
        servers: &[&ServerRef],
    ) -> Result<Numbers, Failed> {
        let (mut numbers, missing) = self.known_numbers(lanes, servers);
        self.number(transaction, operation, missing, &mut numbers).await?;
        Ok(numbers)
    }

    fn known_numbers(&self, lanes: &[Lane], servers: &[&ServerRef]) -> (Numbers, Missing) {
        let names = &self.inner.names;
        let mut numbers = Numbers::default();
        let missing = Missing {
            lanes: known(names, lanes.iter().cloned(), &mut numbers.lanes),
            servers: known(names, servers.iter().map(|server| key_of(server)), &mut numbers.servers),
        };
        (numbers, missing)
    }

    async fn number(
        &self,
        runs: &mut impl Runs,
        operation: &'static str,
        missing: Missing,
        numbers: &mut Numbers,
    ) -> Result<(), Failed> {
        self.number_entries(runs, operation, missing.lanes, &mut numbers.lanes).await?;
        self.number_entries(runs, operation, missing.servers, &mut numbers.servers).await
    }

    async fn number_entries<E: Entry>(
        &self,
        runs: &mut impl Runs,
        operation: &'static str,
        mut missing: Vec<E>,
        numbers: &mut HashMap<E, i32>,
    ) -> Result<(), Failed> {
        let failed = |error| Failed::from(classify(&error, operation));
        let statements = &self.inner.statements;
        // What is there is only looked at: a lock on it would last as long as the transaction of a caller.
        // Race: what another adds between the look and the addition is found by the second look.
        for statement in [E::find(statements), E::add(statements), E::find(statements)] {
            if missing.is_empty() {
                break;
            }
            for row in runs.run(E::bind(self.statement(statement), &missing)).await? {
                let (number, entry) = E::read(&row).map_err(failed)?;
                let Some(entry) = entry else { continue };
                if row.try_get(3).map_err(failed)? {
                    self.inner.names.remember(number, entry.clone());
                }
                numbers.insert(entry, number);
            }
            missing.retain(|entry| !numbers.contains_key(entry));
        }
        Ok(())
    }
}

/// Notes the numbers of those entries that are remembered; gives the others, each once, in the order in which to add them.
fn known<E: Entry>(names: &Names, entries: impl Iterator<Item = E>, numbers: &mut HashMap<E, i32>) -> Vec<E> {
    let mut missing: Vec<E> = read(E::known(names), |known| {
        let is_missing = |entry: &E| match known.numbers.get(entry) {
            Some(number) => {
                numbers.insert(entry.clone(), *number);
                false
            }
            None => true,
        };
        entries.filter(is_missing).collect()
    });
    E::sort(&mut missing);
    missing.dedup();
    missing
}
