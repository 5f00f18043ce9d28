//! Fresh databases on the servers of the tests, and ways to spoil them.

#![allow(dead_code, reason = "not every test file needs everything")]

pub(crate) mod private_server;
pub(crate) mod proxy;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::storage::{BoxError, InsertReport, StorageError, StorageProvider};
use jobrunr_core::{Job, JobId};
use jobrunr_storage_mongo::mongodb::bson::{Bson, Document, doc};
use jobrunr_storage_mongo::mongodb::event::EventHandler;
use jobrunr_storage_mongo::mongodb::event::command::CommandEvent;
use jobrunr_storage_mongo::mongodb::options::ClientOptions;
use jobrunr_storage_mongo::mongodb::{Client, Database, bson};
use jobrunr_storage_mongo::{MongoOptions, MongoStorage};
use proxy::Proxy;
use storage_conformance_tests::{
    Ability, CallerTransactions, ConnectionFaults, NoDatabase, RowFaults, SchemaFaults, StorageHarness,
    TestDatabase, TransactionEnd,
};
use uuid::Uuid;

/// Which of the servers of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mongo {
    ReplicaSet,
    StandAlone,
}

impl Mongo {
    /// The variable that names the server.
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::ReplicaSet => "JOBRUNR_TEST_MONGO_URL",
            Self::StandAlone => "JOBRUNR_TEST_MONGO_STANDALONE_URL",
        }
    }

    fn url(self) -> Result<String, String> {
        let variable = self.variable();
        let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
        url.ok_or_else(|| format!("{variable} is not set; `cargo xtask databases up` starts a server"))
    }

    /// A fresh database; `None` where there is no server and that is allowed.
    pub(crate) async fn fresh(self) -> Option<Fresh> {
        match self.url() {
            Ok(url) => Some(Fresh::on(url, self).await.expect("a server that is named is there")),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }
}

/// Says that a test cannot run, loudly, or fails where everything is required.
#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
pub(crate) fn skip(why: &str) {
    let is_required = std::env::var(storage_conformance_tests::REQUIRE_ALL).is_ok_and(|value| value == "1");
    assert!(!is_required, "{why}");
    eprintln!("SKIPPED: {why}");
}

#[async_trait]
impl StorageHarness for Mongo {
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        let url = self.url().map_err(NoDatabase::because)?;
        Ok(Box::new(Fresh::on(url, *self).await.map_err(NoDatabase::because)?))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        const STAND_ALONE: [Ability; 5] = [
            Ability::Prefixes,
            Ability::Durability,
            Ability::Schema,
            Ability::UnreadableRows,
            Ability::Connections,
        ];
        match self {
            Self::ReplicaSet => Cow::Borrowed(&Ability::ALL),
            Self::StandAlone => Cow::Borrowed(&STAND_ALONE),
        }
    }

    fn time_limit(&self) -> Duration {
        // Many tests share the server.
        Duration::from_secs(300)
    }
}

/// A database of one test's own, behind a proxy of its own.
pub(crate) struct Fresh {
    server: Mongo,
    pub(crate) name: String,
    url: String,
    pub(crate) proxy: Proxy,
    /// The way past the proxy.
    direct: ClientOptions,
    client: Client,
}

impl Fresh {
    pub(crate) async fn on(url: String, server: Mongo) -> Result<Self, BoxError> {
        let options = ClientOptions::parse(&url).await?;
        let address = options.hosts.first().ok_or("the URL names no host")?.to_string();
        let proxy = Proxy::to(address.clone()).await?;
        let through_proxy = url.replace(&address, &format!("127.0.0.1:{}", proxy.port()));
        let name = format!("t{}", Uuid::now_v7().simple());
        let client = Client::with_options(options.clone())?;
        Ok(Self { server, name, url: through_proxy, proxy, direct: options, client })
    }

    pub(crate) fn options(&self, prefix: Option<&str>) -> MongoOptions {
        MongoOptions::default()
            .database(&self.name)
            .collection_prefix(prefix.unwrap_or_default())
            .max_connections(5)
    }

    pub(crate) async fn open_mongo(&self, prefix: Option<&str>) -> Result<MongoStorage, StorageError> {
        MongoStorage::connect_with(&self.url, self.options(prefix)).await
    }

    /// The database, past the storage and the proxy.
    pub(crate) fn database(&self) -> Database {
        self.client.database(&self.name)
    }

    /// A client past the proxy whose commands are recorded.
    pub(crate) fn client_that(&self, records: EventHandler<CommandEvent>) -> Client {
        let mut options = self.direct.clone();
        options.command_event_handler = Some(records);
        Client::with_options(options).expect("the options are those of a client that there is")
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }
}

#[async_trait]
impl TestDatabase for Fresh {
    async fn open(&self, prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError> {
        Ok(Arc::new(self.open_mongo(prefix).await?))
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

    fn caller_transactions(&self) -> Option<&dyn CallerTransactions> {
        (self.server == Mongo::ReplicaSet).then_some(self)
    }

    async fn destroy(&self) {
        // What is left behind goes with the server.
        let _ = self.database().drop().await;
    }
}

/// The id of a job as its document has it.
pub(crate) fn stored_id(id: JobId) -> Bson {
    bson::Uuid::from_bytes(*id.as_bytes()).into()
}

#[async_trait]
impl RowFaults for Fresh {
    async fn corrupt_job(&self, prefix: Option<&str>, id: JobId) -> Result<(), BoxError> {
        let name = format!("{}jobrunr_jobs", prefix.unwrap_or_default());
        let jobs = self.database().collection::<Document>(&name);
        let spoil = doc! { "$set": { "settings": "{\"retries\": " } };
        let changed = jobs.update_one(doc! { "_id": stored_id(id) }, spoil).await?.matched_count;
        if changed == 1 { Ok(()) } else { Err(format!("there is no job {id}").into()) }
    }
}

#[async_trait]
impl SchemaFaults for Fresh {
    async fn make_schema_newer(&self, prefix: Option<&str>) -> Result<(), BoxError> {
        let name = format!("{}jobrunr_schema", prefix.unwrap_or_default());
        let schema = self.database().collection::<Document>(&name);
        schema.update_one(doc! { "_id": "schema" }, doc! { "$set": { "version": 999 } }).await?;
        Ok(())
    }
}

#[async_trait]
impl ConnectionFaults for Fresh {
    async fn cut_connections(&self) -> Result<(), BoxError> {
        self.proxy.cut_all();
        Ok(())
    }
}

#[async_trait]
impl CallerTransactions for Fresh {
    async fn insert_in_transaction(
        &self,
        prefix: Option<&str>,
        jobs: &[Job],
        end: TransactionEnd,
    ) -> Result<(), BoxError> {
        self.insert_and_report(prefix, jobs, end).await.map(drop)
    }

    async fn insert_and_report(
        &self,
        prefix: Option<&str>,
        jobs: &[Job],
        end: TransactionEnd,
    ) -> Result<Option<InsertReport>, BoxError> {
        let storage = MongoStorage::with_client(self.client.clone(), self.options(prefix)).await?;
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        let report = storage.insert_in(&mut session, jobs).await?;
        match end {
            TransactionEnd::Commit => session.commit_transaction().await?,
            TransactionEnd::Rollback => session.abort_transaction().await?,
        }
        storage.close().await;
        Ok(Some(report))
    }
}
