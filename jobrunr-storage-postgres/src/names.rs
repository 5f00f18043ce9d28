//! The two dictionaries, lanes and servers: what a number stands for never changes, so it is remembered.

mod numbering;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

use jobrunr_core::{JobSignature, QueueName, ServerId, ServerRef};
use jobrunr_storage_sql::Lane;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresStorage;
use crate::connection::{Call, Failed, Statement};
use crate::error::classify;
use numbering::Entry;
pub(crate) use numbering::Numbers;

/// How many servers are remembered at most: each life of a server is another one.
const REMEMBERED_SERVERS: usize = 4_096;

/// What is known of the dictionaries, and sure to be committed.
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

impl Names {
    fn remember<E: Entry>(&self, number: i32, entry: E) {
        write(E::known(self), |known| {
            if known.numbers.len() >= E::MOST_REMEMBERED {
                *known = Both::default();
            }
            known.add(number, entry);
        });
    }
}

impl PostgresStorage {
    /// The number of a lane, if it is remembered.
    pub(crate) fn known_lane(&self, queue: &QueueName, signature: &JobSignature) -> Option<i32> {
        let lane = Lane { queue: queue.clone(), signature: signature.clone() };
        read(&self.inner.names.lanes, |known| known.numbers.get(&lane).copied())
    }

    /// The lanes and servers that rows name by these numbers.
    pub(crate) async fn look_up(
        &self,
        call: &mut Call<'_>,
        lanes: &[i32],
        servers: &[i32],
    ) -> Result<Found, Failed> {
        Ok(Found { lanes: self.find(call, lanes).await?, servers: self.find(call, servers).await? })
    }

    async fn find<E: Entry>(&self, call: &mut Call<'_>, numbers: &[i32]) -> Result<HashMap<i32, E>, Failed> {
        let mut found = HashMap::new();
        let missing = missing_in(E::known(&self.inner.names), numbers, &mut found);
        if !missing.is_empty() {
            let statement = self.statement(E::find_by_number(&self.inner.statements)).bind(missing);
            for row in call.rows(statement).await? {
                let (number, entry) = E::read(&row).map_err(|error| classify(&error, call.operation()))?;
                let Some(entry) = entry else { continue };
                self.inner.names.remember(number, entry.clone());
                found.insert(number, entry);
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
