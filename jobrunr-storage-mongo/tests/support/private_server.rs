//! Servers of one test's own, which may be killed: one alone, or a replica set.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jobrunr_core::storage::BoxError;
use jobrunr_storage_mongo::mongodb::Client;
use jobrunr_storage_mongo::mongodb::bson::{Document, doc};
use uuid::Uuid;

const SET: &str = "tests";
pub(crate) const PASSWORD: &str = "correct-horse";

/// Who may use a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Anybody,
    WithPassword,
}

/// Running servers, or ones that were killed. They end, and their data goes, when they are dropped.
pub(crate) struct PrivateServers {
    folder: PathBuf,
    program: PathBuf,
    access: Access,
    sort: Sort,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    ReplicaSet,
    StandAlone,
}

struct Member {
    port: u16,
    process: Option<Child>,
}

/// The server's program: where `cargo xtask databases up` puts it, or on the search path.
fn program() -> Option<PathBuf> {
    let fetched = databases().join("mongodb-6.0.5").join("mongod");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("mongod"));
    std::iter::once(fetched).chain(on_path).find(|program| program.is_file())
}

fn databases() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."));
    workspace.join("target").join("databases")
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl PrivateServers {
    /// Starts a replica set of so many fresh servers; `None` if MongoDB is not on this machine.
    pub(crate) async fn start(count: usize, access: Access) -> Result<Option<Self>, BoxError> {
        Self::start_as(Sort::ReplicaSet, count, access).await
    }

    /// Starts a fresh server alone; `None` if MongoDB is not on this machine.
    pub(crate) async fn start_alone() -> Result<Option<Self>, BoxError> {
        Self::start_as(Sort::StandAlone, 1, Access::Anybody).await
    }

    async fn start_as(sort: Sort, count: usize, access: Access) -> Result<Option<Self>, BoxError> {
        let Some(program) = program() else {
            super::skip("mongod is not on this machine; `cargo xtask databases up mongo` brings it");
            return Ok(None);
        };
        let folder = databases().join(format!("test-{}", Uuid::now_v7().simple()));
        fs::create_dir_all(&folder)?;
        let key = folder.join("key");
        fs::write(&key, "a key that the members of the set know each other by")?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400))?;
        let mut servers = Self { folder, program, access, sort, members: Vec::new() };
        for index in 0..count {
            servers.members.push(Member { port: free_port()?, process: None });
            fs::create_dir_all(servers.data(index))?;
            servers.spawn(index)?;
        }
        servers.initiate().await?;
        Ok(Some(servers))
    }

    fn data(&self, index: usize) -> PathBuf {
        self.folder.join(format!("data-{index}"))
    }

    fn spawn(&mut self, index: usize) -> Result<(), BoxError> {
        let mut mongod = Command::new(&self.program);
        mongod.arg("--dbpath").arg(self.data(index)).arg("--port").arg(self.members[index].port.to_string());
        mongod.args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]);
        mongod.args(["--setParameter", "diagnosticDataCollectionEnabled=false", "--quiet"]);
        if self.sort == Sort::ReplicaSet {
            mongod.args(["--replSet", SET, "--oplogSize", "100"]);
        }
        if self.access == Access::WithPassword {
            mongod.arg("--auth").arg("--keyFile").arg(self.folder.join("key"));
        }
        mongod.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.members[index].process = Some(mongod.spawn()?);
        Ok(())
    }

    async fn initiate(&self) -> Result<(), BoxError> {
        let members = self.members.iter().zip(0..).map(|(member, index)| {
            // The others are elected when the first one is gone, soon.
            doc! { "_id": index, "host": format!("127.0.0.1:{}", member.port), "priority": if index == 0 { 2 } else { 1 } }
        });
        let set = doc! {
            "_id": SET,
            "members": members.collect::<Vec<_>>(),
            "settings": { "electionTimeoutMillis": 2_000 },
        };
        let initiated = async {
            loop {
                let first = self.direct(0).await?;
                let admin = first.database("admin");
                if let Ok(hello) = admin.run_command(doc! { "hello": 1 }).await {
                    if hello.get_bool("isWritablePrimary") == Ok(true) {
                        return self.add_user(&first).await;
                    }
                    if self.sort == Sort::ReplicaSet && !hello.contains_key("setName") {
                        let _ = admin.run_command(doc! { "replSetInitiate": set.clone() }).await;
                    }
                }
                first.shutdown().immediate(true).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), initiated).await?
    }

    async fn add_user(&self, primary: &Client) -> Result<(), BoxError> {
        if self.access == Access::WithPassword {
            // The first user may be made without one, from this machine.
            let user = doc! { "createUser": "jobs", "pwd": PASSWORD, "roles": ["root"] };
            primary.database("admin").run_command(user).await?;
        }
        Ok(())
    }

    async fn direct(&self, index: usize) -> Result<Client, BoxError> {
        let port = self.members[index].port;
        let quickly = "directConnection=true&serverSelectionTimeoutMS=1000";
        Ok(Client::with_uri_str(format!("mongodb://127.0.0.1:{port}/?{quickly}")).await?)
    }

    fn hosts(&self) -> String {
        let hosts: Vec<_> = self.members.iter().map(|member| format!("127.0.0.1:{}", member.port)).collect();
        hosts.join(",")
    }

    /// The URL; in a set the driver finds the primary.
    pub(crate) fn url(&self) -> String {
        let hosts = self.hosts();
        match self.sort {
            Sort::ReplicaSet => format!("mongodb://{hosts}/jobs?replicaSet={SET}"),
            Sort::StandAlone => format!("mongodb://{hosts}/jobs?directConnection=true"),
        }
    }

    pub(crate) fn url_with_password(&self, password: &str) -> String {
        format!("mongodb://jobs:{password}@{}/jobs?replicaSet={SET}&authSource=admin", self.hosts())
    }

    /// The member that is the primary now.
    pub(crate) async fn primary(&self) -> Result<usize, BoxError> {
        for index in 0..self.members.len() {
            let client = self.direct(index).await?;
            let hello: Result<Document, _> = client.database("admin").run_command(doc! { "hello": 1 }).await;
            if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary") == Ok(true)) {
                return Ok(index);
            }
        }
        Err("no member is the primary".into())
    }

    /// Keeps a server from writing, so that it takes over nothing from the primary; it lives on.
    pub(crate) async fn lock(&self, index: usize) -> Result<(), BoxError> {
        self.ask(index, doc! { "fsync": 1, "lock": true }).await
    }

    /// Lets a server write again.
    pub(crate) async fn unlock(&self, index: usize) -> Result<(), BoxError> {
        self.ask(index, doc! { "fsyncUnlock": 1 }).await
    }

    async fn ask(&self, index: usize, command: Document) -> Result<(), BoxError> {
        self.direct(index).await?.database("admin").run_command(command).await?;
        Ok(())
    }

    /// Kills a server as a crash of the machine would.
    pub(crate) fn kill(&mut self, index: usize) -> std::io::Result<()> {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Starts a server on the data it has.
    pub(crate) fn start_again(&mut self, index: usize) -> Result<(), BoxError> {
        self.spawn(index)
    }
}

impl Drop for PrivateServers {
    fn drop(&mut self) {
        // Whatever fails here has failed before.
        for index in 0..self.members.len() {
            let _ = self.kill(index);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
