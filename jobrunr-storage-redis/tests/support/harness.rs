//! The harness: each test has keys of its own by a prefix of its own, and a user of its own, by whom its connections are
//! known.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::JobId;
use jobrunr_core::storage::{BoxError, StorageError, StorageProvider};
use jobrunr_storage_redis::{RedisOptions, RedisStorage};
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, RedisError};
use storage_conformance_tests::{
    Ability, ConnectionFaults, NoDatabase, RowFaults, SchemaFaults, StorageHarness, TestDatabase,
};
use uuid::Uuid;

/// The variable with the URL of one server.
pub(crate) const SINGLE: &str = "JOBRUNR_TEST_REDIS_URL";
/// The variable with the URL of a node of a cluster.
pub(crate) const CLUSTER: &str = "JOBRUNR_TEST_REDIS_CLUSTER_URL";

/// A harness for the server whose URL is in this variable.
pub(crate) struct Redis(pub(crate) &'static str);

const ABILITIES: &[Ability] = &[
    Ability::ChangeFeed,
    Ability::Prefixes,
    Ability::Durability,
    Ability::Schema,
    Ability::UnreadableRows,
    Ability::Connections,
];

#[async_trait]
impl StorageHarness for Redis {
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        let Self(variable) = self;
        let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
        let url = url.ok_or_else(|| {
            NoDatabase::because(format!("{variable} is not set; `cargo xtask databases up` starts a server"))
        })?;
        let space = KeySpace::create(&url).await.map_err(|error| NoDatabase::because(error.category()))?;
        Ok(Box::new(space))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        Cow::Borrowed(ABILITIES)
    }

    fn time_limit(&self) -> Duration {
        // Many tests share the server, which does one thing at a time.
        Duration::from_secs(300)
    }
}

/// Keys of one test's own.
pub(crate) struct KeySpace {
    /// The servers, with the right to do everything.
    servers: Vec<Client>,
    /// The first server, as the user of this test.
    url: String,
    mark: String,
}

/// All servers of a cluster, or the one there is.
async fn servers(url: &str) -> Result<Vec<Client>, RedisError> {
    let client = Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let slots = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await;
    let Ok(slots): Result<Vec<(i64, i64, Vec<redis::Value>)>, _> = slots else { return Ok(vec![client]) };
    let mut masters = BTreeSet::new();
    for (_, _, master) in slots {
        let mut master = master.into_iter();
        let mut next = || master.next().expect("a node has host and port");
        masters.insert((redis::from_redis_value::<String>(next())?, redis::from_redis_value::<u16>(next())?));
    }
    let address =
        |(host, port)| client.get_connection_info().clone().set_addr(ConnectionAddr::Tcp(host, port));
    masters.into_iter().map(|master| Client::open(address(master))).collect()
}

impl KeySpace {
    pub(crate) async fn create(url: &str) -> Result<Self, RedisError> {
        let name = Uuid::now_v7().simple().to_string();
        let space = Self {
            servers: servers(url).await?,
            url: url.replacen("//:", &format!("//{name}:"), 1),
            mark: format!("t{name}."),
        };
        let password =
            Client::open(url)?.get_connection_info().redis_settings().password().unwrap_or("").to_owned();
        for server in &space.servers {
            let mut connection = server.get_multiplexed_async_connection().await?;
            let mut user = redis::cmd("ACL");
            user.arg("SETUSER")
                .arg(&name)
                .arg("on")
                .arg(format!(">{password}"))
                .arg("~*")
                .arg("&*")
                .arg("+@all");
            user.exec_async(&mut connection).await?;
        }
        Ok(space)
    }

    fn user(&self) -> &str {
        self.mark.trim_start_matches('t').trim_end_matches('.')
    }

    async fn on_each_server(&self, command: &redis::Cmd) -> Result<(), RedisError> {
        for server in &self.servers {
            let mut connection = server.get_multiplexed_async_connection().await?;
            command.exec_async(&mut connection).await?;
        }
        Ok(())
    }

    fn prefix(&self, prefix: Option<&str>) -> String {
        // After the mark, so that a hostile one meets the storage as it is.
        format!("{}{}", self.mark, prefix.unwrap_or_default())
    }

    pub(crate) fn options(&self, prefix: Option<&str>) -> RedisOptions {
        RedisOptions::default().key_prefix(self.prefix(prefix))
    }

    pub(crate) fn base(&self, prefix: Option<&str>) -> String {
        format!("{{{}jobrunr}}:", self.prefix(prefix))
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn open_redis(&self, prefix: Option<&str>) -> Result<RedisStorage, StorageError> {
        RedisStorage::connect_with(&self.url, self.options(prefix)).await
    }

    /// A connection to the server that has the keys.
    pub(crate) async fn connection(&self, prefix: Option<&str>) -> Result<MultiplexedConnection, RedisError> {
        let key = format!("{}schema", self.base(prefix));
        let mut last_error = None;
        for server in &self.servers {
            let mut connection = server.get_multiplexed_async_connection().await?;
            match redis::cmd("EXISTS").arg(&key).exec_async(&mut connection).await {
                Ok(()) => return Ok(connection),
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.expect("there is a server"))
    }
}

#[async_trait]
impl TestDatabase for KeySpace {
    async fn open(&self, prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError> {
        Ok(Arc::new(self.open_redis(prefix).await?))
    }

    fn row_faults(&self) -> Option<&dyn RowFaults> {
        Some(self)
    }

    fn schema_faults(&self) -> Option<&dyn SchemaFaults> {
        Some(self)
    }

    fn connection_faults(&self) -> Option<&dyn ConnectionFaults> {
        Some(self)
    }

    async fn destroy(&self) {
        // What is left behind goes with the server.
        for prefix in [None, Some("app_")] {
            let Ok(mut connection) = self.connection(prefix).await else { continue };
            let mut cursor = "0".to_owned();
            loop {
                let found: Result<(String, Vec<String>), _> = redis::cmd("SCAN")
                    .arg(&cursor)
                    .arg("MATCH")
                    .arg(format!("{}*", self.base(prefix)))
                    .arg("COUNT")
                    .arg(5_000)
                    .query_async(&mut connection)
                    .await;
                let Ok((next, keys)) = found else { break };
                if !keys.is_empty() {
                    let _: Result<(), _> = redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await;
                }
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
        }
        let mut remove = redis::cmd("ACL");
        remove.arg("DELUSER").arg(self.user());
        let _ = self.on_each_server(&remove).await;
    }
}

#[async_trait]
impl RowFaults for KeySpace {
    async fn corrupt_job(&self, prefix: Option<&str>, id: JobId) -> Result<(), BoxError> {
        let mut connection = self.connection(prefix).await?;
        let key = format!("{}job:{}", self.base(prefix), id.as_uuid().simple());
        let new: i64 =
            redis::cmd("HSET").arg(key).arg("d").arg("{\"signature\": ").query_async(&mut connection).await?;
        if new == 0 { Ok(()) } else { Err(format!("there is no job {id}").into()) }
    }
}

#[async_trait]
impl SchemaFaults for KeySpace {
    async fn make_schema_newer(&self, prefix: Option<&str>) -> Result<(), BoxError> {
        let mut connection = self.connection(prefix).await?;
        let key = format!("{}schema", self.base(prefix));
        redis::cmd("SET").arg(key).arg(999).exec_async(&mut connection).await?;
        Ok(())
    }
}

#[async_trait]
impl ConnectionFaults for KeySpace {
    async fn cut_connections(&self) -> Result<(), BoxError> {
        // Other tests share the server.
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("USER").arg(self.user());
        Ok(self.on_each_server(&kill).await?)
    }
}
