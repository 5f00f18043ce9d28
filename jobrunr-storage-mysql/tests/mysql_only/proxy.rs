//! A TCP proxy in front of the server that understands just enough of the protocol to cut a connection at a chosen moment.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jobrunr_storage_mysql::{MySqlOptions, MySqlStorage};
use sqlx::mysql::MySqlConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
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

/// When the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The server never hears of it.
    BeforeTheServer,
    /// The server has done it; the client never hears of that.
    BeforeTheAnswer,
}

#[derive(Debug, Default)]
struct Plan {
    cut: Mutex<Option<(Trigger, Moment)>>,
    cuts: AtomicUsize,
    statements: AtomicUsize,
}

impl Plan {
    /// Notes a packet of the client; tells when to cut, if now.
    fn meet(&self, packet: &[u8]) -> Option<Moment> {
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
        let mut cut = self.cut.lock().unwrap();
        let (_, moment) = cut.take_if(|(trigger, _)| *trigger == met)?;
        self.cuts.fetch_add(1, Ordering::Relaxed);
        Some(moment)
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

    fn connect(&self, database: &Database) -> MySqlConnectOptions {
        database.connect().host("127.0.0.1").port(self.port)
    }

    /// A storage that gets to its database through the proxy only, set up already.
    pub(crate) async fn open(&self, database: &Database) -> MySqlStorage {
        MySqlStorage::open(MySqlOptions::connect_with(self.connect(database))).await.unwrap()
    }

    /// Cuts the next connection that comes to this point.
    pub(crate) fn cut_at(&self, trigger: Trigger, moment: Moment) {
        *self.plan.cut.lock().unwrap() = Some((trigger, moment));
    }

    /// How many connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.plan.cuts.load(Ordering::Relaxed)
    }

    /// How many prepared statements were run.
    pub(crate) fn statements(&self) -> usize {
        self.plan.statements.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, address: String, plan: Arc<Plan>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&address).await else { continue };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        connections.spawn(relay(client, server, Arc::clone(&plan)));
        // Those that have ended are let go of.
        while connections.try_join_next().is_some() {}
    }
}

/// Relays until either end closes or the plan says to cut; both ends are closed then.
async fn relay(client: TcpStream, server: TcpStream, plan: Arc<Plan>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_mute = AtomicBool::new(false);
    tokio::select! {
        () = relay_packets(from_client, to_server, &plan, &is_mute) => {}
        () = relay_answers(from_server, to_client, &is_mute) => {}
    }
}

async fn relay_packets(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, plan: &Plan, is_mute: &AtomicBool) {
    while let Some(packet) = read_packet(&mut from).await {
        let cut = plan.meet(&packet[4..]);
        if cut == Some(Moment::BeforeTheServer) {
            return;
        }
        is_mute.store(cut == Some(Moment::BeforeTheAnswer), Ordering::SeqCst);
        if to.write_all(&packet).await.is_err() {
            return;
        }
        if cut.is_some() {
            // The end comes with the answer.
            std::future::pending::<()>().await;
        }
    }
}

async fn relay_answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_mute: &AtomicBool) {
    let mut answer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut answer).await.unwrap_or(0);
        // Once the answer begins, the server has done what it was told.
        if count == 0 || is_mute.load(Ordering::SeqCst) || to.write_all(&answer[..count]).await.is_err() {
            return;
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
