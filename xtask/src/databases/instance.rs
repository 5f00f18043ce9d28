//! A private server: its folder, its port, its password, its process.

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Database;
use super::machine::{self, Account};

/// How long a server may take to answer, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A private server of this workspace, running or not.
#[derive(Debug)]
pub(crate) struct Instance {
    /// The folder of everything it has.
    folder: PathBuf,
    /// The port it listens on, on the loopback interface.
    pub(crate) port: u16,
    /// The password of its one user.
    pub(crate) password: String,
    /// Whom its process belongs to, where that is not whoever runs this program.
    account: Option<Account>,
}

/// Keeps two of these programs from starting the same server; held until it is dropped.
///
/// # Errors
/// If the folder cannot be written.
pub(super) fn lock(root: &Path) -> Result<File> {
    let folder = folder_of_all(root);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = File::create(folder.join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn folder_of_all(root: &Path) -> PathBuf {
    root.join("target").join("databases")
}

impl Instance {
    /// The private server of a database, as far as it exists.
    ///
    /// # Errors
    /// If what is known of it cannot be read.
    pub(super) fn of(root: &Path, database: &dyn Database) -> Result<Self> {
        let folder = folder_of_all(root).join(database.name());
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default().trim().to_owned();
        let port = read("port").parse().unwrap_or(0);
        let password = read("password");
        Ok(Self { folder, port, password, account: machine::account_for_servers()? })
    }

    /// The folder of its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A command that runs as the account that the server runs as.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).stdin(Stdio::null());
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        command
    }

    /// Writes a file into its folder that its account alone can read.
    ///
    /// # Errors
    /// If that fails.
    pub(crate) fn write_secret(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        machine::write_secret(&path, content)?;
        if let Some(account) = &self.account {
            account.own(&path)?;
        }
        Ok(path)
    }

    /// The URL of the server.
    pub(super) fn url(&self, database: &dyn Database) -> String {
        database.url(self.port, &self.password)
    }

    /// Whether its process is there.
    pub(super) fn is_running(&self) -> bool {
        self.port != 0 && self.process().is_some()
    }

    /// The id of its process; `None` if that has ended or is another program's by now.
    fn process(&self) -> Option<u32> {
        let id: u32 = fs::read_to_string(self.folder.join("process")).ok()?.trim().parse().ok()?;
        let data = self.data();
        machine::command_line(id)?.contains(&*data.to_string_lossy()).then_some(id)
    }

    /// Starts the server with fresh data and waits until it answers.
    ///
    /// # Errors
    /// If it does not come up, with the end of what it said.
    pub(super) fn start(mut self, database: &dyn Database) -> Result<Self> {
        self.stop(database)?;
        self.make_folder("")?;
        self.password = random_password()?;
        self.write_secret("password", &self.password)?;
        database.create(&self)?;
        self.port = free_port()?;
        let log = File::create(self.folder.join("log"))?;
        let mut command = database.server(&self)?;
        machine::detach(&mut command);
        let mut server = command
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} could not be started", database.name()))?;
        fs::write(self.folder.join("process"), server.id().to_string())?;
        fs::write(self.folder.join("port"), self.port.to_string())?;
        let until = Instant::now() + PATIENCE;
        while !database.is_ready(&self) {
            if let Some(status) = server.try_wait()? {
                bail!("the server ended with {status}: {}", self.last_words());
            }
            if Instant::now() > until {
                self.stop(database)?;
                bail!("the server does not answer: {}", self.last_words());
            }
            pause();
        }
        Ok(self)
    }

    /// Stops the server and removes its data; tells whether it ran.
    ///
    /// # Errors
    /// If it does not stop.
    pub(super) fn stop(&self, database: &dyn Database) -> Result<bool> {
        let process = self.process();
        if let Some(id) = process {
            machine::signal(id, database.stop_signal())?;
            let until = Instant::now() + PATIENCE;
            while self.process().is_some() {
                if Instant::now() > until {
                    bail!("process {id} does not stop");
                }
                pause();
            }
        }
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        Ok(process.is_some())
    }

    /// Makes a folder in its folder that belongs to its account; the empty name is that folder itself.
    ///
    /// # Errors
    /// If that fails, or if its account cannot get there.
    pub(super) fn make_folder(&self, name: &str) -> Result<()> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        if let Some(account) = &self.account {
            account.own(&folder)?;
            account.check_access(&folder)?;
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }
}

fn pause() {
    #[expect(clippy::disallowed_methods, reason = "another process is waited for, which sends no signal")]
    std::thread::sleep(Duration::from_millis(50));
}

fn free_port() -> Result<u16> {
    Ok(free_ports(1)?[0])
}

/// Ports that nobody listens on. Race: somebody may take one before the server does; then the server says so and ends.
///
/// # Errors
/// If there are none.
pub(super) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

fn random_password() -> Result<String> {
    let mut bytes = [0_u8; 12];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
