//! A small TCP proxy that can cut a connection at the worst moment: after a request was passed on, before its answer is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(crate) struct Proxy {
    port: u16,
    /// Whether the answer to the next script is swallowed and its connection cut.
    cuts: Arc<AtomicBool>,
    cut: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Passes everything on to this port of the loopback interface.
    pub(crate) async fn to(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let (cuts, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let shared = (Arc::clone(&cuts), Arc::clone(&cut));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (cuts, cut) = shared.clone();
                connections.spawn(async move {
                    // Whoever is at either end sees how it ended.
                    let _ = pass_on(client, port, &cuts, &cut).await;
                });
            }
        });
        Ok(Self { port: own_port, cuts, cut, _task: task })
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The answer to the next script is lost together with its connection; the script was run.
    pub(crate) fn cut_next_answer(&self) {
        self.cuts.store(true, Ordering::SeqCst);
    }

    /// How many connections were cut so far.
    pub(crate) fn cuts_so_far(&self) -> u64 {
        self.cut.load(Ordering::SeqCst)
    }
}

async fn pass_on(
    mut client: TcpStream,
    port: u16,
    cuts: &AtomicBool,
    cut: &AtomicU64,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut request, mut answer) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut is_to_be_cut = false;
    loop {
        tokio::select! {
            length = client.read(&mut request) => match length? {
                0 => return Ok(()),
                length => {
                    let is_script = request[..length].windows(7).any(|word| word == b"EVALSHA");
                    if is_script && cuts.swap(false, Ordering::SeqCst) {
                        is_to_be_cut = true;
                    }
                    server.write_all(&request[..length]).await?;
                }
            },
            length = server.read(&mut answer) => match length? {
                0 => return Ok(()),
                _ if is_to_be_cut => {
                    cut.fetch_add(1, Ordering::SeqCst);
                    return Ok(());
                }
                length => client.write_all(&answer[..length]).await?,
            },
        }
    }
}
