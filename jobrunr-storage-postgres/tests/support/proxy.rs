//! A TCP proxy before the server that understands just enough of the protocol to do harm at a chosen moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What to wait for on the way from the client to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// What runs a prepared statement.
    Statement,
    /// The beginning of a transaction.
    Begin,
    /// The commit of a transaction.
    Commit,
    /// The beginning of listening.
    Listen,
    /// The question whether the connection works, which a pool asks when it comes back.
    Ping,
}

/// What becomes of the connection then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// It is cut; the server never hears of it.
    CutBeforeTheServer,
    /// It is cut; the server has done it, the client never hears of that.
    CutBeforeTheAnswer,
    /// It swallows everything from here on, both ways, and stays open.
    Stall,
}

#[derive(Debug, Default)]
struct Plan {
    next: Mutex<Option<Next>>,
    harmed: AtomicUsize,
}

#[derive(Debug)]
struct Next {
    trigger: Trigger,
    harm: Harm,
    /// How many go unharmed before.
    passes: usize,
}

impl Plan {
    fn next(&self) -> MutexGuard<'_, Option<Next>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, met: Option<Trigger>) -> Option<Harm> {
        let mut next = self.next();
        let waiting = next.as_mut().filter(|next| Some(next.trigger) == met)?;
        if waiting.passes > 0 {
            waiting.passes -= 1;
            return None;
        }
        self.harmed.fetch_add(1, Ordering::SeqCst);
        next.take().map(|next| next.harm)
    }
}

/// The proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    port: u16,
    plan: Arc<Plan>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Passes everything on to this port of the loopback interface.
    pub(crate) async fn to(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let plan = Arc::new(Plan::default());
        let mut task = JoinSet::new();
        task.spawn(serve(listener, port, Arc::clone(&plan)));
        Ok(Self { port: own_port, plan, _task: task })
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Does harm to the next connection that comes to this point.
    pub(crate) fn harm_at(&self, trigger: Trigger, harm: Harm) {
        self.harm_after(0, trigger, harm);
    }

    /// Does harm to the connection that comes to this point after so many others.
    pub(crate) fn harm_after(&self, passes: usize, trigger: Trigger, harm: Harm) {
        *self.plan.next() = Some(Next { trigger, harm, passes });
    }

    /// How many connections were harmed so far.
    pub(crate) fn harmed(&self) -> usize {
        self.plan.harmed.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, port: u16, plan: Arc<Plan>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
        if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
            continue;
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
    let (harm, harmed) = watch::channel(None);
    tokio::select! {
        () = relay_messages(from_client, to_server, &plan, &harm) => {}
        () = relay_answers(from_server, to_client, &harmed) => {}
    }
}

async fn relay_messages(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    plan: &Plan,
    told: &watch::Sender<Option<Harm>>,
) {
    let mut messages = Messages::default();
    while let Some(message) = messages.next(&mut from).await {
        let harm = plan.meet(messages.trigger(&message));
        if harm == Some(Harm::CutBeforeTheServer) {
            return;
        }
        told.send_replace(harm);
        if harm == Some(Harm::Stall) {
            // What it sends is taken and goes nowhere.
            while messages.next(&mut from).await.is_some() {}
            return;
        }
        if to.write_all(&message).await.is_err() {
            return;
        }
        if harm.is_some() {
            // The rest of it is what has the server answer, and the end comes with the answer.
            while let Some(message) = messages.next(&mut from).await {
                let _ = to.write_all(&message).await;
            }
            return std::future::pending().await;
        }
    }
}

async fn relay_answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    harmed: &watch::Receiver<Option<Harm>>,
) {
    let mut answer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut answer).await.unwrap_or(0);
        let harm = *harmed.borrow();
        match harm {
            // Once the answer begins, the server has done what it was told.
            Some(Harm::CutBeforeTheAnswer) => return,
            Some(Harm::Stall) => return std::future::pending().await,
            _ if count == 0 || to.write_all(&answer[..count]).await.is_err() => return,
            _ => {}
        }
    }
}

/// The messages of a client. Those before the session begins have no type.
#[derive(Default)]
struct Messages {
    has_begun: bool,
    /// The types of the last two.
    types: [u8; 2],
}

impl Messages {
    async fn next(&mut self, from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
        const START: [u8; 4] = [0, 3, 0, 0];
        let kind = if self.has_begun { Some(from.read_u8().await.ok()?) } else { None };
        let length = from.read_u32().await.ok()?;
        let mut content = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
        from.read_exact(&mut content).await.ok()?;
        match kind {
            Some(kind) => self.types = [self.types[1], kind],
            None => self.has_begun = content.starts_with(&START),
        }
        Some(kind.into_iter().chain(length.to_be_bytes()).chain(content).collect())
    }

    /// What the last message is, if it is something to wait for.
    fn trigger(&self, message: &[u8]) -> Option<Trigger> {
        let text = message.get(5..).unwrap_or_default();
        match self.types {
            [_, b'B'] => Some(Trigger::Statement),
            [_, b'Q'] if text.starts_with(b"BEGIN") => Some(Trigger::Begin),
            [_, b'Q'] if text.starts_with(b"COMMIT") => Some(Trigger::Commit),
            [_, b'Q'] if text.starts_with(b"LISTEN") => Some(Trigger::Listen),
            // What belongs to a statement follows other messages of it.
            [b'S' | b'Q', b'S'] => Some(Trigger::Ping),
            _ => None,
        }
    }
}
