//! Redis servers of one test's own, which may be killed, alone or as a cluster.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jobrunr_core::storage::BoxError;
use redis::aio::MultiplexedConnection;
use uuid::Uuid;

const PASSWORD: &str = "correct-horse";

/// How long a server may take to start, or to copy another.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, or one that was killed. It ends, and its data goes, when it is dropped.
pub(crate) struct PrivateServer {
    folder: PathBuf,
    pub(crate) port: u16,
    /// Where the nodes of a cluster talk to each other.
    pub(crate) bus: u16,
    settings: Vec<String>,
    process: Option<Child>,
}

/// Ports that nobody listens on.
pub(crate) fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    let listeners: [_; N] = std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [0; N];
    // All are held until all are known, so that no two are the same.
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        let listener = listener.as_ref().map_err(|error| std::io::Error::from(error.kind()))?;
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn has_program() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("redis-server").is_file())
}

impl PrivateServer {
    /// Starts a fresh server with these settings; `None` if Redis is not on this machine.
    pub(crate) async fn start(settings: &[&str]) -> Result<Option<Self>, BoxError> {
        if !has_program() {
            super::skip("redis-server is not on this machine; `cargo xtask databases up` installs it");
            return Ok(None);
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."));
        let name = format!("test-{}", Uuid::now_v7().simple());
        let folder = workspace.join("target").join("databases").join(name);
        fs::create_dir_all(&folder)?;
        let [port, bus] = free_ports()?;
        let mut settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        if settings.iter().any(|setting| setting.starts_with("cluster-enabled")) {
            settings.push(format!("cluster-port {bus}"));
        }
        let mut server = Self { folder, port, bus, settings, process: None };
        server.start_again().await?;
        Ok(Some(server))
    }

    pub(crate) fn url(&self) -> String {
        self.url_with_password(PASSWORD)
    }

    pub(crate) fn url_with_password(&self, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{}", self.port)
    }

    /// A connection past any storage.
    pub(crate) async fn connection(&self) -> Result<MultiplexedConnection, redis::RedisError> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        redis::Client::open(self.url())?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Asks something; the answer is text.
    pub(crate) async fn ask(&self, words: &[&str]) -> Result<String, redis::RedisError> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer: redis::Value = command.query_async(&mut self.connection().await?).await?;
        Ok(redis::from_redis_value::<String>(answer.clone()).unwrap_or_else(|_| format!("{answer:?}")))
    }

    /// Starts the server on the data it has, and waits until it has read them.
    pub(crate) async fn start_again(&mut self) -> Result<(), BoxError> {
        let mut content = format!(
            "bind 127.0.0.1\nport {}\nrequirepass {PASSWORD}\nmasterauth {PASSWORD}\nsave \"\"\ndir \"{}\"\n",
            self.port,
            self.folder.display()
        );
        for setting in &self.settings {
            content += &format!("{setting}\n");
        }
        let file = self.folder.join("redis.conf");
        fs::write(&file, content)?;
        let mut command = Command::new("redis-server");
        command.arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn()?);
        let started = async {
            while !self.ask(&["PING"]).await.is_ok_and(|answer| answer == "PONG") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        Ok(tokio::time::timeout(PATIENCE, started).await?)
    }

    /// A server that copies this one, once it has begun to.
    pub(crate) async fn replica(&self) -> Result<Self, BoxError> {
        let replica = Self::start(&[&format!("replicaof 127.0.0.1 {}", self.port)]).await?;
        let replica = replica.ok_or("Redis was here a moment ago")?;
        self.wait_for_replica().await?;
        Ok(replica)
    }

    /// Waits until a replica copies this server.
    pub(crate) async fn wait_for_replica(&self) -> Result<(), BoxError> {
        let connected = async {
            // Until it has said how far it is, nothing is sent to it.
            let copies = |info: String| info.contains("state=online") && !info.contains("offset=0,");
            while !self.ask(&["INFO", "replication"]).await.is_ok_and(copies) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        Ok(tokio::time::timeout(PATIENCE, connected).await?)
    }

    /// Lets the process do nothing until it is let go on: it answers nobody, and its connections stay.
    pub(crate) fn freeze(&self) -> std::io::Result<()> {
        self.signal("-STOP")
    }

    pub(crate) fn let_go_on(&self) -> std::io::Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> std::io::Result<()> {
        let process = self.process.as_ref().ok_or(std::io::ErrorKind::NotFound)?;
        Command::new("kill").arg(signal).arg(process.id().to_string()).status().map(drop)
    }

    /// How often the server has carried out each command since it began, or since its statistics were reset.
    pub(crate) async fn command_counts(&self) -> Result<BTreeMap<String, u64>, BoxError> {
        let stats = self.ask(&["INFO", "commandstats"]).await?;
        let line = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        Ok(stats.lines().filter_map(line).collect())
    }

    /// Ends the process as a crash would: nothing is written any more.
    pub(crate) fn kill(&mut self) -> std::io::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // Whatever fails here has failed before.
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
