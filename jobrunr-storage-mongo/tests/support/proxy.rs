//! A small TCP proxy that can cut connections: all there are, or one at the worst moment, before a command is passed on, or
//! after it was and before its answer is.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

/// What is swallowed of a command, together with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// It is never carried out.
    Command,
    /// It is carried out.
    Answer,
}

/// What is to be swallowed, once.
struct Swallow {
    /// The name of the command, or of its collection.
    name: &'static str,
    /// How many of them are passed on before.
    passed: usize,
    loss: Loss,
}

struct Shared {
    swallow: Mutex<Option<Swallow>>,
    /// How many commands or answers were swallowed.
    swallows: watch::Sender<u64>,
    /// How often everything was cut.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// Passes everything on to this address.
    pub(crate) async fn to(address: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            swallow: Mutex::new(None),
            swallows: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
        });
        let mut task = JoinSet::new();
        let by_task = Arc::clone(&shared);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (shared, address) = (Arc::clone(&by_task), address.clone());
                connections.spawn(async move {
                    let mut cut = shared.cuts.subscribe();
                    tokio::select! {
                        // Whoever is at either end sees how it ended.
                        _ = pass_on(client, &address, &shared) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self { port, shared, _task: task })
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection there is.
    pub(crate) fn cut_all(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    /// The answer to the next command of this name, or on this collection, is lost together with its connection; it was
    /// carried out.
    pub(crate) fn cut_next_answer(&self, name: &'static str) {
        self.cut_answer_after(0, name);
    }

    /// As [`cut_next_answer`](Self::cut_next_answer), after so many that are answered.
    pub(crate) fn cut_answer_after(&self, passed: usize, name: &'static str) {
        self.swallow(Swallow { name, passed, loss: Loss::Answer });
    }

    /// The next command of this name, or on this collection, is lost together with its connection, and never carried out.
    pub(crate) fn lose_next_command(&self, name: &'static str) {
        self.swallow(Swallow { name, passed: 0, loss: Loss::Command });
    }

    fn swallow(&self, swallow: Swallow) {
        *self.shared.swallow.lock().unwrap_or_else(PoisonError::into_inner) = Some(swallow);
    }

    /// How many commands or answers were lost so far.
    pub(crate) fn losses(&self) -> u64 {
        *self.shared.swallows.borrow()
    }
}

impl Shared {
    /// What is to be lost of this message.
    fn loss_of(&self, message: &[u8]) -> Option<Loss> {
        let mut swallow = self.swallow.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |swallow: &&mut Swallow| {
            let name = [swallow.name.as_bytes(), &[0]].concat();
            message.windows(name.len()).take(64).any(|part| part == name)
        };
        let meant = swallow.as_mut().filter(is_meant)?;
        if let Some(passed) = meant.passed.checked_sub(1) {
            meant.passed = passed;
            return None;
        }
        swallow.take().map(|swallow| swallow.loss)
    }
}

async fn pass_on(mut client: TcpStream, address: &str, shared: &Shared) -> std::io::Result<()> {
    let mut server = TcpStream::connect(address).await?;
    let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut is_lost = false;
    let lost = || {
        shared.swallows.send_modify(|count| *count += 1);
        Ok(())
    };
    loop {
        tokio::select! {
            length = client.read(&mut request) => match length? {
                0 => return Ok(()),
                length => {
                    match shared.loss_of(&request[..length]) {
                        Some(Loss::Command) => return lost(),
                        loss => is_lost |= loss.is_some(),
                    }
                    server.write_all(&request[..length]).await?;
                }
            },
            length = server.read(&mut answer) => match length? {
                0 => return Ok(()),
                _ if is_lost => return lost(),
                length => client.write_all(&answer[..length]).await?,
            },
        }
    }
}
