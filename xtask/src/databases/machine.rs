//! What is asked of the machine: accounts, processes, programs, packages, containers.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Whom a server's process belongs to: servers of databases refuse to run as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    user: u32,
    group: u32,
}

/// The account for servers: `nobody` if this program runs as root, else nobody else.
///
/// # Errors
/// If the system has no such account.
pub(super) fn account_for_servers() -> Result<Option<Account>> {
    if !is_root() {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    let account = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_nobody = fields.next() == Some("nobody");
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        is_nobody.then_some(Account { user, group })
    });
    account.map(Some).context("there is no account `nobody` to run a server as, and root may not")
}

fn is_root() -> bool {
    // What belongs to this process belongs to whom it runs as; elsewhere than on Linux nobody runs tests as root.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

impl Account {
    pub(super) fn apply(self, command: &mut Command) {
        command.uid(self.user).gid(self.group);
    }

    pub(super) fn own(self, path: &Path) -> Result<()> {
        chown(path, Some(self.user), Some(self.group))
            .with_context(|| format!("{} cannot be given away", path.display()))
    }

    /// Checks that the account gets to this folder at all: every folder above must let it through.
    pub(super) fn check_access(self, folder: &Path) -> Result<()> {
        let mut command = Command::new("test");
        self.apply(&mut command);
        let gets_there = command.arg("-x").arg(folder).current_dir("/").status()?.success();
        if !gets_there {
            bail!("the account `nobody` cannot get to {}: a folder above is closed to it", folder.display());
        }
        Ok(())
    }
}

/// Writes a file that only its owner can read.
pub(super) fn write_secret(path: &Path, content: &str) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())?;
    Ok(())
}

/// Makes a process that is about to start survive this one's terminal.
pub(super) fn detach(command: &mut Command) {
    command.process_group(0);
}

/// The command line of a process; `None` if there is none.
pub(super) fn command_line(id: u32) -> Option<String> {
    // Not every machine has `ps`. What has ended and was not waited for yet has an empty line.
    let line = match fs::read(format!("/proc/{id}/cmdline")) {
        Ok(words) => words,
        Err(_) if Path::new("/proc/self").exists() => return None,
        Err(_) => {
            Command::new("ps").args(["-o", "args=", "-ww", "-p", &id.to_string()]).output().ok()?.stdout
        }
    };
    let line = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
    (!line.is_empty()).then_some(line)
}

/// Sends a signal to one process.
pub(super) fn signal(id: u32, signal: &str) -> Result<()> {
    // The shell has `kill` built in; as a program it is not everywhere.
    let status = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", signal, &id.to_string()]).status()?;
    if !status.success() {
        bail!("process {id} cannot be signalled");
    }
    Ok(())
}

/// Finds a program in these folders or on the search path; the folders may have one `*`, the latest version wins.
pub(super) fn find_program(name: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    let versioned = folders.iter().flat_map(|folder| expand(folder));
    versioned.chain(on_path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The folders that a pattern like `/usr/lib/postgresql/*/bin` names, highest version first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once("/*") else { return vec![PathBuf::from(pattern)] };
    let entries = fs::read_dir(before).into_iter().flatten().flatten();
    let mut versions: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(version.parse::<u32>().unwrap_or(0)));
    versions.iter().map(|version| PathBuf::from(format!("{before}/{version}{after}"))).collect()
}

/// Installs packages by apt, where there is apt and this program may use it.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let apt = find_program("apt-get", &["/usr/bin"]).context("there is no apt-get here")?;
    let run = |arguments: &[&str]| -> Result<()> {
        let mut command = if is_root() {
            Command::new(&apt)
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive"]).arg(&apt);
            sudo
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments).stdin(Stdio::null());
        let output = command.output().context("apt-get could not be started as root")?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("`apt-get {}` failed: {}", arguments.join(" "), words.lines().last().unwrap_or_default());
        }
        Ok(())
    };
    println!("    installing {}", packages.join(", "));
    let install = [["install", "--yes", "--no-install-recommends"].as_slice(), packages].concat();
    run(&install).or_else(|_| run(&["update"]).and_then(|()| run(&install)))
}

/// Stops services of the system that a package has just started, where there is systemd.
pub(super) fn disable(services: &[&str]) {
    if services.is_empty() || !Path::new("/run/systemd/system").exists() {
        return;
    }
    let mut command = if is_root() { Command::new("systemctl") } else { Command::new("sudo") };
    if !is_root() {
        command.args(["-n", "systemctl"]);
    }
    // If it goes on running it is in nobody's way: private servers have ports of their own.
    let _ = command.args(["disable", "--now"]).args(services).stdin(Stdio::null()).output();
}

fn compose(root: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    command.current_dir(root).args(["compose", "--file", "compose.yaml"]).args(arguments);
    let output = command.stdin(Stdio::null()).output().context("docker could not be started")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`docker compose {}` failed: {}",
            arguments.join(" "),
            words.lines().last().unwrap_or_default()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Starts a service of `compose.yaml`, waits until it is healthy, and tells its port on the loopback interface.
pub(super) fn compose_up(root: &Path, service: &str, inner_port: u16) -> Result<u16> {
    compose(root, &["up", "--detach", "--wait", service])?;
    compose_port(root, service, inner_port).context("the container publishes no port")
}

/// The port of a running service.
pub(super) fn compose_port(root: &Path, service: &str, inner_port: u16) -> Option<u16> {
    let address = compose(root, &["port", service, &inner_port.to_string()]).ok()?;
    address.trim().rsplit_once(':')?.1.parse().ok().filter(|port| *port != 0)
}

/// Removes the container of a service, if there is one.
pub(super) fn compose_down(root: &Path, service: &str) {
    // Without docker there is no container either.
    let _ = compose(root, &["rm", "--stop", "--force", "--volumes", service]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_versions_the_highest_comes_first() {
        let folder = std::env::temp_dir().join(format!("jobrunr-versions-{}", std::process::id()));
        for version in ["9", "15", "13"] {
            fs::create_dir_all(folder.join(version).join("bin")).unwrap();
        }

        let found = expand(&format!("{}/*/bin", folder.display()));

        fs::remove_dir_all(&folder).unwrap();
        let versions: Vec<_> =
            found.iter().map(|path| path.strip_prefix(&folder).unwrap().display().to_string()).collect();
        assert_eq!(versions, ["15/bin", "13/bin", "9/bin"]);
    }

    #[test]
    fn this_process_is_seen_and_one_that_cannot_be_is_not() {
        assert!(command_line(std::process::id()).is_some());
        assert!(command_line(u32::MAX).is_none());
    }
}
