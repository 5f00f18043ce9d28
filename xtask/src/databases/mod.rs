//! `cargo xtask databases`: the servers that tests run against, one file each beside this one.
//!
//! Where one comes from, in this order: the URL in its variable; a private server that runs already; programs found on the
//! machine, started as a private server; the same after installing them by apt; `docker compose`; nothing, and a
//! message that says what to do. To add a database: write its file and name it in [`ALL`].

mod instance;
mod machine;
mod mariadb;
mod mongo;
mod postgres;
mod redis;

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail};

use instance::Instance;

/// Every database there is for tests.
const ALL: &[&dyn Database] = &[
    &postgres::Postgres,
    &mariadb::MariaDb,
    &mongo::Mongo::ReplicaSet,
    &mongo::Mongo::StandAlone,
    &redis::Redis,
    &redis::RedisCluster,
];

/// What one database needs to be known of it.
pub(crate) trait Database: Sync {
    /// The name of its folder below `target/databases`, and of its service in `compose.yaml`.
    fn name(&self) -> &'static str;

    /// The variable that tests read its URL from.
    fn variable(&self) -> &'static str;

    /// The packages of Debian it comes in.
    fn packages(&self) -> &'static [&'static str];

    /// What tests use beside it. Where that cannot be had, the database is used all the same.
    fn companions(&self) -> &'static [Companion] {
        &[]
    }

    /// The services of the system that come with its packages and that nobody here needs.
    fn services(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether all of its programs are on this machine.
    fn is_installed(&self) -> bool;

    /// Brings its programs to this machine.
    fn install(&self) -> Result<()> {
        machine::install(self.packages())
    }

    /// Makes the data of a private server in the instance's folder.
    fn create(&self, instance: &Instance) -> Result<()>;

    /// The command that runs the private server in the foreground, on the instance's port.
    fn server(&self, instance: &Instance) -> Result<std::process::Command>;

    /// Whether the server answers on this port of the loopback interface.
    fn is_ready(&self, instance: &Instance) -> bool;

    /// The signal that makes the server stop in good order.
    fn stop_signal(&self) -> &'static str {
        "TERM"
    }

    /// The URL for a server on this port of the loopback interface.
    fn url(&self, port: u16, password: &str) -> String;

    /// The port that the service listens on inside of its container.
    fn container_port(&self) -> u16;
}

/// A program that is no part of a database, and that some of its tests need.
pub(crate) struct Companion {
    program: &'static str,
    folders: &'static [&'static str],
    /// The package of Debian it comes in.
    package: &'static str,
}

impl Companion {
    /// Brings the program to this machine, unless it is there.
    fn provide(&self) {
        if machine::find_program(self.program, self.folders).is_some() {
            return;
        }
        if let Err(error) = machine::install(&[self.package]) {
            println!("    {:<16} NOT AVAILABLE, so what needs it is not tested: {error:#}", self.program);
        }
    }
}

/// Where a running database was found.
enum Found {
    /// In its variable.
    Given(String),
    /// A private server of this workspace.
    Private(String),
    /// In a container.
    Container(String),
}

impl Found {
    fn url(&self) -> &str {
        match self {
            Self::Given(url) | Self::Private(url) | Self::Container(url) => url,
        }
    }

    fn origin(&self) -> &'static str {
        match self {
            Self::Given(_) => "given by its variable",
            Self::Private(_) => "private server",
            Self::Container(_) => "container",
        }
    }
}

/// The password that `compose.yaml` sets.
const CONTAINER_PASSWORD: &str = "jobrunr";

pub(crate) const USAGE: &str =
    "  cargo xtask databases up [NAME…]    make the databases that tests need, or those named, available
  cargo xtask databases down          stop what `up` started; data goes with it
  cargo xtask databases status        tell which are available, and from where
  cargo xtask databases env           print their URLs as shell exports: eval \"$(cargo xtask databases env)\"
";

/// Does what the command line says; tells whether it went well.
///
/// # Errors
/// If the command line cannot be understood.
pub(crate) fn run(root: &Path, arguments: &[OsString]) -> Result<bool> {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        ["up", names @ ..] => up(root, &named(names)?),
        ["down", names @ ..] => down(root, &named(names)?),
        ["status"] => {
            for database in ALL {
                match running(root, *database) {
                    Some(found) => println!("{:<16} {}", database.name(), found.origin()),
                    None => println!("{:<16} not running", database.name()),
                }
            }
            Ok(true)
        }
        ["env"] => {
            for (variable, url) in environment(root) {
                println!("export {variable}='{}'", url.replace('\'', r"'\''"));
            }
            Ok(true)
        }
        _ => bail!("say up, down, status or env:\n{USAGE}"),
    }
}

/// The variables and URLs of the databases that are available now.
pub(crate) fn environment(root: &Path) -> Vec<(&'static str, String)> {
    let of =
        |database: &&dyn Database| Some((database.variable(), running(root, *database)?.url().to_owned()));
    ALL.iter().filter_map(of).collect()
}

/// Makes every database available that can be, does something, and stops those that it had to start.
///
/// # Errors
/// What the work says, or what keeps a database from being stopped.
pub(crate) fn with_all<T>(root: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let missing: Vec<_> = ALL.iter().copied().filter(|database| running(root, *database).is_none()).collect();
    up(root, ALL)?;
    let result = work();
    down(root, &missing)?;
    result
}

fn named(names: &[&str]) -> Result<Vec<&'static dyn Database>> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |name: &&str| match ALL.iter().find(|database| database.name() == *name) {
        Some(database) => Ok(*database),
        None => bail!("there is no database {name:?} for tests"),
    };
    names.iter().map(find).collect()
}

fn up(root: &Path, databases: &[&'static dyn Database]) -> Result<bool> {
    let _lock = instance::lock(root)?;
    let mut all_up = true;
    for database in databases {
        match provide(root, *database) {
            Ok(found) => println!("    {:<16} {}", database.name(), found.origin()),
            Err(error) => {
                all_up = false;
                println!("    {:<16} NOT AVAILABLE: {error:#}", database.name());
            }
        }
    }
    Ok(all_up)
}

fn down(root: &Path, databases: &[&'static dyn Database]) -> Result<bool> {
    let _lock = instance::lock(root)?;
    for database in databases {
        let instance = Instance::of(root, *database)?;
        if instance.stop(*database)? {
            println!("    {:<16} stopped", database.name());
        }
        machine::compose_down(root, database.name());
    }
    Ok(true)
}

/// Finds a database that is available already.
fn running(root: &Path, database: &dyn Database) -> Option<Found> {
    if let Some(url) = std::env::var(database.variable()).ok().filter(|url| !url.is_empty()) {
        return Some(Found::Given(url));
    }
    let instance = Instance::of(root, database).ok()?;
    if instance.is_running() && database.is_ready(&instance) {
        return Some(Found::Private(instance.url(database)));
    }
    let port = machine::compose_port(root, database.name(), database.container_port())?;
    Some(Found::Container(database.url(port, CONTAINER_PASSWORD)))
}

/// Makes a database available, by the first way that leads there.
fn provide(root: &Path, database: &dyn Database) -> Result<Found> {
    if let Some(found) = running(root, database) {
        return Ok(found);
    }
    let mut obstacles = Vec::new();
    if !database.is_installed() {
        match database.install() {
            Ok(()) => machine::disable(database.services()),
            Err(error) => obstacles.push(format!("installing: {error:#}")),
        }
    }
    database.companions().iter().for_each(Companion::provide);
    if database.is_installed() {
        match Instance::of(root, database).and_then(|instance| instance.start(database)) {
            Ok(instance) => return Ok(Found::Private(instance.url(database))),
            Err(error) => obstacles.push(format!("its programs are here, but: {error:#}")),
        }
    }
    match machine::compose_up(root, database.name(), database.container_port()) {
        Ok(port) => return Ok(Found::Container(database.url(port, CONTAINER_PASSWORD))),
        Err(error) => obstacles.push(format!("docker: {error:#}")),
    }
    bail!(
        "install {} (or docker with its compose plugin) and try again, or set {} to the URL of a server that tests may \
         fill with schemas of their own; what was tried: {}",
        database.packages().join(" and "),
        database.variable(),
        obstacles.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_has_a_name_and_a_variable_of_its_own() {
        for (index, one) in ALL.iter().enumerate() {
            for other in &ALL[..index] {
                assert_ne!(one.name(), other.name());
                assert_ne!(one.variable(), other.variable());
            }
        }
    }

    #[test]
    fn a_database_that_is_not_known_is_named() {
        let error = named(&["nosuch"]).err().unwrap();

        assert!(error.to_string().contains("nosuch"));
        assert!(named(&["postgres"]).is_ok());
    }

    #[test]
    fn every_database_has_a_service_in_the_compose_file() {
        let compose = include_str!("../../../compose.yaml");
        for database in ALL {
            assert!(compose.contains(&format!("\n  {}:\n", database.name())), "{}", database.name());
            let port = database.container_port();
            // The nodes of a cluster tell clients their ports, so those are the same inside and outside.
            let published = [format!("127.0.0.1::{port}"), format!("127.0.0.1:{port}-")];
            assert!(published.iter().any(|published| compose.contains(published)), "{}", database.name());
        }
    }
}
