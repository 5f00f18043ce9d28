//! A MariaDB server of one test's own, which can be killed and started again.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval};

/// A server, its data in a folder that goes with it.
pub(crate) struct MariaDb {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds a program on the search path, or where Debian keeps servers.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    folders.into_iter().map(|folder| folder.join(name)).find(|program| program.is_file())
}

fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|process| process.uid() == 0)
}

impl MariaDb {
    /// A new server; `None` if the programs are not on this machine, which is said.
    #[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
    pub(crate) async fn start() -> Option<Self> {
        let (Some(install), Some(_)) = (program("mariadb-install-db"), program("mariadbd")) else {
            let required =
                std::env::var(storage_conformance_tests::REQUIRE_ALL).is_ok_and(|value| value == "1");
            assert!(!required, "the programs of the Debian package mariadb-server are needed");
            eprintln!("SKIPPED: the programs of the Debian package mariadb-server are needed");
            return None;
        };
        let folder = std::env::temp_dir().join(format!("jobrunr-mariadb-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&folder).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let output = Command::new(install)
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", folder.join("data").display()))
            // Servers that are made at the same time must not take each other's files away.
            .arg(format!("--tmpdir={}", folder.display()))
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut server = Self { folder, port, process: None };
        server.start_again().await;
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/mysql", self.port)
    }

    /// Starts the server and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        let mut command = Command::new(program("mariadbd").unwrap());
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.folder.join("data").display()))
            .arg(format!("--tmpdir={}", self.folder.display()))
            .arg(format!("--socket={}", self.folder.join("socket").display()))
            .arg(format!("--pid-file={}", self.folder.join("pid").display()))
            .arg(format!("--port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=2"]);
        if is_root() {
            command.arg("--user=root");
        }
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        self.process = Some(process);
        let options: MySqlConnectOptions = self.url().parse().unwrap();
        let until = Instant::now() + PATIENCE;
        let mut again = interval(Duration::from_millis(50));
        loop {
            again.tick().await;
            match options.connect().await {
                Ok(connection) => return connection.close().await.unwrap(),
                Err(error) => assert!(Instant::now() < until, "the server does not answer: {error}"),
            }
        }
    }

    /// Kills the server without a warning.
    pub(crate) async fn kill(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.process.take();
        // What is left behind lies in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
