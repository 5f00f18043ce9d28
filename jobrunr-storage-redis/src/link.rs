//! The connections that all calls share, and the way to whichever server they must lead to.
//!
//! All keys of a storage live on one server, in a cluster too: on the master of their slot. So one connection is all
//! that is needed, and another for writes that wait; the driver's own cluster client, which sends again what may have been
//! carried out already, is not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
};

use crate::error::ends_connection;

/// How often a call may be sent elsewhere.
const MOST_REDIRECTS: usize = 5;

/// How many nodes of a cluster are remembered.
const MOST_NODES: usize = 64;

/// Host and port of a server.
type Address = (String, u16);

/// Which connection a command goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The one on which every answer comes at once.
    Plain,
    /// That of writes which wait for replicas or disks: while they do, the server reads nothing from it.
    Waiting,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    pub(crate) call: Duration,
    /// How long a write may wait for replicas or disks.
    pub(crate) wait: Duration,
}

/// Leads to the server that holds the keys.
pub(crate) struct Link {
    info: ConnectionInfo,
    /// What decides where the keys live.
    base: String,
    timeouts: Timeouts,
    route: Mutex<Route>,
    /// Held by the one who connects; the others wait.
    connecting: tokio::sync::Mutex<()>,
    generations: AtomicU64,
}

#[derive(Default)]
struct Route {
    plain: Option<Connected>,
    waiting: Option<Connected>,
    /// Where the keys were last said to be.
    owner: Option<Address>,
    /// Other servers to ask, those given first.
    nodes: Vec<Address>,
}

impl Route {
    const fn current(&mut self, way: Way) -> &mut Option<Connected> {
        match way {
            Way::Plain => &mut self.plain,
            Way::Waiting => &mut self.waiting,
        }
    }
}

/// A connection, and the number that tells it from all others there were.
#[derive(Clone)]
pub(crate) struct Connected {
    connection: MultiplexedConnection,
    pub(crate) generation: u64,
}

/// Why nothing came of a command.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: RedisError,
    /// Whether the command was sent at all.
    pub(crate) was_sent: bool,
}

impl Refused {
    const fn before_sending(error: RedisError) -> Self {
        Self { error, was_sent: false }
    }
}

fn address_of(info: &ConnectionInfo) -> Option<Address> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => Some((host.clone(), *port)),
        _ => None,
    }
}

fn parse_address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.parse().ok()?))
}

impl Link {
    /// A link that is not connected yet; `None` if one of the nodes is not `host:port`.
    pub(crate) fn new(
        info: ConnectionInfo,
        more_nodes: &[String],
        base: &str,
        timeouts: Timeouts,
    ) -> Option<Self> {
        let more = more_nodes.iter().map(|node| parse_address(node)).collect::<Option<Vec<_>>>()?;
        let nodes = address_of(&info).into_iter().chain(more).collect();
        Some(Self {
            info,
            base: base.to_owned(),
            timeouts,
            route: Mutex::new(Route { nodes, ..Route::default() }),
            connecting: tokio::sync::Mutex::default(),
            generations: AtomicU64::new(0),
        })
    }

    /// The number of the database in the URL.
    pub(crate) fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    fn route(&self) -> MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self, way: Way) -> Option<Connected> {
        self.route().current(way).clone()
    }

    /// The connection, made anew if there is none.
    pub(crate) async fn connected(&self, way: Way) -> RedisResult<Connected> {
        if let Some(current) = self.current(way) {
            return Ok(current);
        }
        let _connecting = self.connecting.lock().await;
        // Race: somebody else may have connected while this one waited.
        if let Some(current) = self.current(way) {
            return Ok(current);
        }
        let mut connection = self.connect().await?;
        if way == Way::Waiting {
            // What is sent while others wait is read after them.
            connection.set_response_timeout(self.timeouts.wait + self.timeouts.call);
        }
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let connected = Connected { connection, generation };
        *self.route().current(way) = Some(connected.clone());
        Ok(connected)
    }

    /// Lets go of a connection that is of no use any more, unless that has happened already.
    fn discard(&self, generation: u64) {
        let mut route = self.route();
        for way in [Way::Plain, Way::Waiting] {
            route.current(way).take_if(|current| current.generation == generation);
        }
    }

    /// Lets go of the connections for good.
    pub(crate) fn close(&self) {
        let mut route = self.route();
        (route.plain, route.waiting) = (None, None);
    }

    /// Where to look for the keys: where they were last, then wherever else there is a server.
    fn candidates(&self) -> Vec<Option<Address>> {
        let route = self.route();
        let mut candidates: Vec<_> = route.owner.iter().chain(&route.nodes).cloned().map(Some).collect();
        if candidates.is_empty() {
            // Not by network: the one address there is.
            candidates.push(None);
        }
        candidates.dedup();
        candidates
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let mut last_error = None;
        for candidate in self.candidates() {
            match self.connect_by(candidate).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.unwrap_or_else(|| RedisError::from((ErrorKind::Client, "there is no address"))))
    }

    /// Connects to a server, and on to the one that it says has the keys.
    async fn connect_by(&self, address: Option<Address>) -> RedisResult<MultiplexedConnection> {
        let mut connection = self.connect_to(address.clone()).await?;
        let Some(address) = address else { return Ok(connection) };
        let Some(owner) = self.find_owner(&mut connection, &address).await? else { return Ok(connection) };
        let is_elsewhere = owner != address;
        self.route().owner = Some(owner.clone());
        if is_elsewhere { self.connect_to(Some(owner)).await } else { Ok(connection) }
    }

    fn client(&self, address: Option<Address>) -> RedisResult<Client> {
        let info = match address {
            Some((host, port)) => self.info.clone().set_addr(ConnectionAddr::Tcp(host, port)),
            None => self.info.clone(),
        };
        Client::open(info)
    }

    async fn connect_to(&self, address: Option<Address>) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeouts.connect))
            .set_response_timeout(Some(self.timeouts.call));
        self.client(address)?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Which server of a cluster has the keys, as this one sees it; `None` if it is in no cluster, or may not tell.
    async fn find_owner(
        &self,
        connection: &mut MultiplexedConnection,
        asked: &Address,
    ) -> RedisResult<Option<Address>> {
        let mut questions = redis::pipe();
        questions.cmd("CLUSTER").arg("KEYSLOT").arg(&self.base).cmd("CLUSTER").arg("SLOTS");
        let (slot, slots): (i64, Vec<Vec<Value>>) = match questions.query_async(connection).await {
            Ok(answers) => answers,
            Err(error) if error.is_io_error() => return Err(error),
            // What is no cluster says so by an error, and so does one that keeps this to itself.
            Err(_) => return Ok(None),
        };
        let mut owner = None;
        let mut nodes = Vec::new();
        for range in slots {
            let mut range = range.into_iter();
            let bounds =
                range.by_ref().take(2).filter_map(|bound| redis::from_redis_value::<i64>(bound).ok());
            let bounds: Vec<i64> = bounds.collect();
            let addresses: Vec<Address> = range.filter_map(|node| node_address(node, asked)).collect();
            if let [first, last] = bounds[..]
                && (first..=last).contains(&slot)
            {
                owner = addresses.first().cloned();
            }
            nodes.extend(addresses);
        }
        let mut route = self.route();
        for node in nodes {
            if !route.nodes.contains(&node) && route.nodes.len() < MOST_NODES {
                route.nodes.push(node);
            }
        }
        Ok(owner)
    }

    /// Notes what an error says about the way; tells whether the same command can be sent again.
    fn learn(&self, error: &RedisError, generation: u64) -> bool {
        if ends_connection(error) {
            self.discard(generation);
        }
        if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
            return false;
        }
        self.route().owner = error.redirect_node().and_then(|(address, _)| parse_address(address));
        true
    }

    /// Sends a command, where to the server says if it has moved, and only once if it may have been carried out.
    pub(crate) async fn command(&self, way: Way, command: &Cmd) -> Result<(Value, u64), Refused> {
        let mut redirects = 0;
        loop {
            let mut connected = self.connected(way).await.map_err(Refused::before_sending)?;
            match command.query_async(&mut connected.connection).await {
                Ok(answer) => return Ok((answer, connected.generation)),
                Err(error) if self.learn(&error, connected.generation) && redirects < MOST_REDIRECTS => {
                    redirects += 1;
                }
                Err(error) => return Err(Refused { error, was_sent: true }),
            }
        }
    }

    /// Sends several commands that only read.
    pub(crate) async fn read_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Refused> {
        let mut redirects = 0;
        loop {
            let mut connected = self.connected(Way::Plain).await.map_err(Refused::before_sending)?;
            match commands.query_async(&mut connected.connection).await {
                Ok(answers) => return Ok(answers),
                Err(error) if self.learn(&error, connected.generation) && redirects < MOST_REDIRECTS => {
                    redirects += 1;
                }
                Err(error) => return Err(Refused { error, was_sent: true }),
            }
        }
    }

    /// Sends commands of which the last one waits, on the connection with this number only; `None` if there is another by
    /// now.
    pub(crate) async fn wait_on(&self, generation: u64, commands: &Pipeline) -> RedisResult<Option<Value>> {
        let current = self.current(Way::Waiting).filter(|current| current.generation == generation);
        let Some(mut current) = current else { return Ok(None) };
        let answers: RedisResult<Vec<Value>> = commands.query_async(&mut current.connection).await;
        if let Err(error) = &answers {
            self.learn(error, generation);
        }
        answers.map(|mut answers| answers.pop())
    }

    /// A connection of its own that hears a channel.
    pub(crate) async fn listen(&self, channel: &str) -> RedisResult<PubSub> {
        // To the same server as everything else, which need not be the one in the URL.
        self.connected(Way::Plain).await?;
        let address = self.route().owner.clone();
        let client = self.client(address)?;
        let listening = async {
            let mut listener = client.get_async_pubsub().await?;
            listener.subscribe(channel).await?;
            Ok(listener)
        };
        tokio::time::timeout(self.timeouts.connect, listening)
            .await
            .unwrap_or_else(|_| Err(RedisError::from((ErrorKind::Io, "the server does not answer"))))
    }
}

/// The address in one entry of `CLUSTER SLOTS`; a server that does not know its host is where it was asked.
fn node_address(node: Value, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = node else { return None };
    let mut parts = parts.into_iter();
    let host: Option<String> = redis::from_redis_value(parts.next()?).ok()?;
    let port: u16 = redis::from_redis_value(parts.next()?).ok()?;
    let host = host.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.0.clone());
    Some((host, port))
}

/// Reads a URL; `None` if it cannot be read, or asks for TLS.
pub(crate) fn parse_url(url: &str) -> Option<ConnectionInfo> {
    let url = match url.strip_prefix("valkey") {
        Some(rest) => format!("redis{rest}"),
        None => url.to_owned(),
    };
    let is_ours = url.starts_with("redis:") || url.starts_with("redis+unix:");
    url.into_connection_info().ok().filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_brackets_and_without() {
        assert_eq!(parse_address("host:1"), Some(("host".to_owned(), 1)));
        assert_eq!(parse_address("[::1]:6379"), Some(("::1".to_owned(), 6379)));
        assert_eq!(parse_address("host"), None);
    }

    #[test]
    fn urls_of_both_names_are_read_and_no_others() {
        assert!(parse_url("redis://:secret@h:1/2").is_some());
        assert!(parse_url("valkey://h").is_some());
        for url in ["mysql://h", "redis", "secret", "redis://h:port", "rediss://h", "valkeys://h"] {
            assert!(parse_url(url).is_none(), "{url}");
        }
    }
}
