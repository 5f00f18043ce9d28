//! A small TCP proxy that can cut connections: all there are, or one at the worst moment, after a command was passed on
//! and before its answer is.

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

struct Shared {
    /// The name of the command whose answer is swallowed, once.
    swallowed: Mutex<Option<&'static str>>,
    /// How many answers were swallowed.
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
            swallowed: Mutex::new(None),
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

    /// The answer to the next command of this name is lost together with its connection; it was carried out.
    pub(crate) fn cut_next_answer(&self, command: &'static str) {
        *self.shared.swallowed.lock().unwrap_or_else(PoisonError::into_inner) = Some(command);
    }

    /// How many answers were lost so far.
    pub(crate) fn lost_answers(&self) -> u64 {
        *self.shared.swallows.borrow()
    }
}

impl Shared {
    /// Whether the answer to this message is to be lost.
    fn is_to_be_lost(&self, message: &[u8]) -> bool {
        let mut swallowed = self.swallowed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = swallowed.is_some_and(|command| {
            let name = [command.as_bytes(), &[0]].concat();
            message.windows(name.len()).take(64).any(|part| part == name)
        });
        if is_it {
            *swallowed = None;
        }
        is_it
    }
}

async fn pass_on(mut client: TcpStream, address: &str, shared: &Shared) -> std::io::Result<()> {
    let mut server = TcpStream::connect(address).await?;
    let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut is_to_be_lost = false;
    loop {
        tokio::select! {
            length = client.read(&mut request) => match length? {
                0 => return Ok(()),
                length => {
                    is_to_be_lost |= shared.is_to_be_lost(&request[..length]);
                    server.write_all(&request[..length]).await?;
                }
            },
            length = server.read(&mut answer) => match length? {
                0 => return Ok(()),
                _ if is_to_be_lost => {
                    shared.swallows.send_modify(|count| *count += 1);
                    return Ok(());
                }
                length => client.write_all(&answer[..length]).await?,
            },
        }
    }
}
