//! A Redis of one test's own, which gives every write to the disk before it answers.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use uuid::Uuid;

use super::{Fresh, skip};

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; it ends, and its data goes, when it is dropped.
pub(crate) struct Server {
    process: Child,
    folder: PathBuf,
    url: String,
}

pub(crate) async fn redis() -> Option<Server> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join("redis-server").is_file()) {
        skip("redis-server is not on this machine; `cargo xtask databases up` installs it");
        return None;
    }
    let name = Uuid::now_v7().simple().to_string();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{name}"));
    fs::create_dir_all(&folder).unwrap();
    let port = free_port();
    let settings = format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {name}\nappendonly yes\nappendfsync always\nsave \"\"\ndir \"{}\"\n",
        folder.display()
    );
    let file = folder.join("redis.conf");
    fs::write(&file, settings).unwrap();
    let mut command = Command::new("redis-server");
    command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server {
        process: command.spawn().unwrap(),
        folder,
        url: format!("redis://:{name}@127.0.0.1:{port}"),
    };
    let answers = async {
        while !server.answers().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answers).await.expect("the server starts");
    Some(server)
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

impl Server {
    async fn answers(&self) -> bool {
        let Ok(client) = redis::Client::open(&*self.url) else { return false };
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return false };
        redis::cmd("PING").exec_async(&mut connection).await.is_ok()
    }
}

impl Fresh for Server {
    fn url(&self) -> String {
        self.url.clone()
    }

    async fn drop(self) {
        std::mem::drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whatever fails here has failed before.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
