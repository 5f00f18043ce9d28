//! A small TCP proxy that can cut a connection at the worst moment: after a request was passed on, before its answer is. It
//! also counts which scripts are called, which the server itself does not tell.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::PrivateServer;

pub(crate) struct Proxy {
    port: u16,
    seen: Arc<Seen>,
    _task: JoinSet<()>,
}

/// What all its connections share.
#[derive(Default)]
struct Seen {
    /// Whether the answer to the next script is swallowed and its connection cut.
    cuts: AtomicBool,
    cut: AtomicU64,
    /// How often each script was called, by its hash.
    scripts: Mutex<BTreeMap<String, u64>>,
}

/// What comes before the hash in the call of a script.
const CALL: &[u8] = b"EVALSHA\r\n$40\r\n";
const HASH: usize = 40;

impl Proxy {
    /// Passes everything on to this port of the loopback interface.
    pub(crate) async fn to(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let seen = Arc::<Seen>::default();
        let shared = Arc::clone(&seen);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let seen = Arc::clone(&shared);
                connections.spawn(async move {
                    // Whoever is at either end sees how it ended.
                    let _ = pass_on(client, port, &seen).await;
                });
            }
        });
        Ok(Self { port: own_port, seen, _task: task })
    }

    /// The URL of the server behind the proxy, by the proxy.
    pub(crate) fn url_of(&self, server: &PrivateServer) -> String {
        server.url().replace(&format!(":{}", server.port), &format!(":{}", self.port))
    }

    /// The answer to the next script is lost together with its connection; the script was run.
    pub(crate) fn cut_next_answer(&self) {
        self.seen.cuts.store(true, Ordering::SeqCst);
    }

    /// How many connections were cut so far.
    pub(crate) fn cuts_so_far(&self) -> u64 {
        self.seen.cut.load(Ordering::SeqCst)
    }

    /// How often each script was called by its hash.
    pub(crate) fn script_calls(&self) -> BTreeMap<String, u64> {
        self.seen.scripts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Seen {
    /// Counts the scripts that are called in a part of a request; tells whether there are any.
    fn count_scripts(&self, request: &[u8]) -> bool {
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = request.windows(CALL.len() + HASH).filter(|window| window.starts_with(CALL));
        let mut any = false;
        for call in calls {
            let hash = String::from_utf8_lossy(&call[CALL.len()..]).into_owned();
            *scripts.entry(hash).or_default() += 1;
            any = true;
        }
        any
    }
}

async fn pass_on(mut client: TcpStream, port: u16, seen: &Seen) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut request, mut answer) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut is_to_be_cut = false;
    loop {
        tokio::select! {
            length = client.read(&mut request) => match length? {
                0 => return Ok(()),
                length => {
                    if seen.count_scripts(&request[..length]) && seen.cuts.swap(false, Ordering::SeqCst) {
                        is_to_be_cut = true;
                    }
                    server.write_all(&request[..length]).await?;
                }
            },
            length = server.read(&mut answer) => match length? {
                0 => return Ok(()),
                _ if is_to_be_cut => {
                    seen.cut.fetch_add(1, Ordering::SeqCst);
                    return Ok(());
                }
                length => client.write_all(&answer[..length]).await?,
            },
        }
    }
}
