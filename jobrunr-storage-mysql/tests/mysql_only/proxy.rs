//! A TCP proxy in front of the server that understands just enough of the protocol to meddle at a chosen moment.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jobrunr_storage_mysql::{MySqlOptions, MySqlStorage};
use sqlx::mysql::MySqlConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::Database;

/// What to wait for on the way from the client to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The commit of a transaction.
    Commit,
    /// A prepared statement.
    Statement,
}

/// When it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The server never hears of it.
    BeforeTheServer,
    /// The server has done it; the client never hears of that.
    BeforeTheAnswer,
}

/// What happens to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is closed, as both ends see.
    Cut,
    /// Nothing gets through any more, and neither end is told, not even that the other has closed.
    Swallow,
    /// The packet waits until it is let go.
    Hold,
}

#[derive(Debug, Default)]
struct Plan {
    /// What is to happen, one after the other.
    next: Mutex<VecDeque<(Trigger, Moment, Fault)>>,
    faults: AtomicUsize,
    statements: AtomicUsize,
    connections: AtomicUsize,
    /// The connections with smaller numbers let nothing through any more.
    swallowed: AtomicUsize,
    held: Notify,
    let_go: Notify,
}

impl Plan {
    /// Notes a packet of the client; tells what is to happen, if now.
    fn meet(&self, packet: &[u8]) -> Option<(Moment, Fault)> {
        const COM_QUERY: u8 = 0x03;
        const COM_STMT_EXECUTE: u8 = 0x17;
        let met = match packet {
            [COM_QUERY, text @ ..] if text.starts_with(b"COMMIT") => Trigger::Commit,
            [COM_STMT_EXECUTE, ..] => Trigger::Statement,
            _ => return None,
        };
        if met == Trigger::Statement {
            self.statements.fetch_add(1, Ordering::Relaxed);
        }
        let mut next = self.next.lock().unwrap();
        next.front().filter(|(trigger, ..)| *trigger == met)?;
        let (_, moment, fault) = next.pop_front()?;
        self.faults.fetch_add(1, Ordering::Relaxed);
        Some((moment, fault))
    }
}

/// The proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    port: u16,
    plan: Arc<Plan>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// A proxy in front of the server of this database.
    pub(crate) async fn before(database: &Database) -> Self {
        let server = database.connect();
        let address = format!("{}:{}", server.get_host(), server.get_port());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Plan::default());
        let mut task = JoinSet::new();
        task.spawn(serve(listener, address, Arc::clone(&plan)));
        Self { port, plan, _task: task }
    }

    /// How to connect to the database through the proxy.
    pub(crate) fn connect(&self, database: &Database) -> MySqlConnectOptions {
        database.connect().host("127.0.0.1").port(self.port)
    }

    /// A storage that gets to its database through the proxy only, set up already.
    pub(crate) async fn open(&self, database: &Database) -> MySqlStorage {
        MySqlStorage::open(MySqlOptions::connect_with(self.connect(database))).await.unwrap()
    }

    /// Plans what happens after whatever was planned before.
    fn plan(&self, trigger: Trigger, moment: Moment, fault: Fault) {
        self.plan.next.lock().unwrap().push_back((trigger, moment, fault));
    }

    /// Cuts the next connection that comes to this point.
    pub(crate) fn cut_at(&self, trigger: Trigger, moment: Moment) {
        self.plan(trigger, moment, Fault::Cut);
    }

    /// Lets nothing through any more on the next connection that comes to this point.
    pub(crate) fn swallow_at(&self, trigger: Trigger, moment: Moment) {
        self.plan(trigger, moment, Fault::Swallow);
    }

    /// Lets nothing through any more on all connections there are.
    pub(crate) fn swallow_connections(&self) {
        self.plan.swallowed.store(self.plan.connections.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Lets nothing through any more, and on no connection to come either.
    pub(crate) fn swallow_everything(&self) {
        self.plan.swallowed.store(usize::MAX, Ordering::SeqCst);
    }

    /// Holds what comes next to this point until it is let go.
    pub(crate) fn hold_at(&self, trigger: Trigger) {
        self.plan(trigger, Moment::BeforeTheServer, Fault::Hold);
    }

    /// Waits until something is held.
    pub(crate) async fn held(&self) {
        self.plan.held.notified().await;
    }

    /// Lets go what is held.
    pub(crate) fn let_go(&self) {
        self.plan.let_go.notify_one();
    }

    /// How many times what was planned has happened.
    pub(crate) fn faults(&self) -> usize {
        self.plan.faults.load(Ordering::Relaxed)
    }

    /// How many prepared statements were run.
    pub(crate) fn statements(&self) -> usize {
        self.plan.statements.load(Ordering::Relaxed)
    }

    /// How many connections there ever were.
    pub(crate) fn connections(&self) -> usize {
        self.plan.connections.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, address: String, plan: Arc<Plan>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&address).await else { continue };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let number = plan.connections.fetch_add(1, Ordering::SeqCst);
        let link = Link { number, plan: Arc::clone(&plan), mute: Mutex::default() };
        connections.spawn(async move { link.relay(client, server).await });
        // Those that have ended are let go of.
        while connections.try_join_next().is_some() {}
    }
}

/// One connection through the proxy.
struct Link {
    number: usize,
    plan: Arc<Plan>,
    /// What becomes of the next answer.
    mute: Mutex<Option<Fault>>,
}

impl Link {
    /// Relays until either end closes or the plan says to cut; both ends are closed then.
    async fn relay(&self, client: TcpStream, server: TcpStream) {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            () = self.relay_packets(from_client, to_server) => {}
            () = self.relay_answers(from_server, to_client) => {}
        }
    }

    async fn relay_packets(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        loop {
            let packet = read_packet(&mut from).await;
            self.stop_if_swallowed().await;
            let Some(packet) = packet else { return };
            match self.plan.meet(&packet[4..]) {
                None => {}
                Some((_, Fault::Hold)) => {
                    self.plan.held.notify_one();
                    self.plan.let_go.notified().await;
                }
                Some((Moment::BeforeTheServer, Fault::Cut)) => return,
                Some((moment, fault)) => {
                    *self.mute.lock().unwrap() = Some(fault);
                    if moment == Moment::BeforeTheAnswer {
                        let _ = to.write_all(&packet).await;
                    }
                    // The end comes with the answer, or never.
                    std::future::pending::<()>().await;
                }
            }
            if to.write_all(&packet).await.is_err() {
                return;
            }
        }
    }

    async fn relay_answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut answer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut answer).await.unwrap_or(0);
            self.stop_if_swallowed().await;
            // Once the answer begins, the server has done what it was told.
            let is_mute = self.mute.lock().unwrap().is_some();
            if count == 0 || is_mute || to.write_all(&answer[..count]).await.is_err() {
                return;
            }
        }
    }

    /// Goes on for ever where nothing gets through any more.
    async fn stop_if_swallowed(&self) {
        let is_swallowed = *self.mute.lock().unwrap() == Some(Fault::Swallow);
        if is_swallowed || self.number < self.plan.swallowed.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads one packet with its header; `None` at the end.
async fn read_packet(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet).await.ok()?;
    let length = usize::from(packet[0]) | usize::from(packet[1]) << 8 | usize::from(packet[2]) << 16;
    packet.resize(length + 4, 0);
    from.read_exact(&mut packet[4..]).await.ok()?;
    Some(packet)
}
