//! A PostgreSQL server of one test's own, which may be killed.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jobrunr_core::storage::BoxError;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// The account of servers where the tests run as root, as which PostgreSQL refuses to run: `nobody`.
const NOBODY: u32 = 65_534;

const PASSWORD: &str = "correct-horse";

/// A running server, or one that was killed. It ends, and its data goes, when it is dropped.
pub(crate) struct PrivateServer {
    folder: PathBuf,
    programs: PathBuf,
    port: u16,
    process: Option<Child>,
}

/// The folder of PostgreSQL's programs, the latest version first.
pub(crate) fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> =
        versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    let versioned =
        versions.iter().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = versioned.chain(std::env::split_paths(&path)).collect();
    folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A command that runs as an account that servers may run as.
pub(crate) fn as_server(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A new folder below the workspace's `target/databases`, which belongs to the account of servers.
pub(crate) fn new_folder() -> std::io::Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."));
    let folder = workspace.join("target").join("databases").join(format!("test-{}", Uuid::now_v7().simple()));
    fs::create_dir_all(&folder)?;
    if is_root() {
        chown(&folder, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(folder)
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl PrivateServer {
    /// Starts a fresh server; `None` if PostgreSQL's programs are not on this machine.
    pub(crate) async fn start() -> Result<Option<Self>, BoxError> {
        let Some(programs) = programs() else {
            super::skip(
                "initdb and postgres are not on this machine; `cargo xtask databases up` installs them",
            );
            return Ok(None);
        };
        let folder = new_folder()?;
        let mut server = Self { port: free_port()?, folder, programs, process: None };
        let password = server.folder.join("password");
        fs::write(&password, PASSWORD)?;
        let mut initdb = as_server(&server.programs.join("initdb"));
        initdb.args([
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--auth=scram-sha-256",
            "--no-sync",
        ]);
        initdb.arg(format!("--pwfile={}", password.display())).arg("--pgdata").arg(server.data());
        if !initdb.status()?.success() {
            return Err("initdb failed".into());
        }
        server.start_again().await?;
        Ok(Some(server))
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn url(&self) -> String {
        self.url_with_password(PASSWORD)
    }

    pub(crate) fn url_with_password(&self, password: &str) -> String {
        format!("postgres://postgres:{password}@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server on the data it has, and waits until it answers.
    pub(crate) async fn start_again(&mut self) -> Result<(), BoxError> {
        let started = async {
            loop {
                let has_ended = match &mut self.process {
                    None => true,
                    // What was killed leaves processes that take a moment to notice; until then a new server gives up.
                    Some(process) => process.try_wait()?.is_some(),
                };
                if has_ended {
                    let mut postgres = as_server(&self.programs.join("postgres"));
                    postgres.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
                    postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
                    self.process = Some(postgres.spawn()?);
                }
                if let Ok(connection) = PgConnection::connect(&self.url()).await {
                    connection.close().await?;
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), started).await?
    }

    /// Kills the server as a crash of the machine would.
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
