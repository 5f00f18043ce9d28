//! Empty databases on the servers of `cargo xtask databases`, as worker processes connect to them.

mod redis;

use jobrunr_storage_mongo::mongodb::Client;
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

pub(crate) use redis::redis;

/// A database of one test's own.
pub(crate) trait Fresh {
    /// What any process connects to.
    fn url(&self) -> String;

    /// Removes it.
    async fn drop(self);
}

/// Says that a test cannot run, loudly, or fails where everything is required.
#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
fn skip(why: &str) {
    let is_required = std::env::var("JOBRUNR_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!is_required, "{why}");
    eprintln!("SKIPPED: {why}");
}

/// The URL in this variable; `None` where there is none and that is allowed.
fn server(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        skip(&format!("{variable} is not set; `cargo xtask databases up` starts a server"));
    }
    url
}

fn name() -> String {
    format!("kill_{}", Uuid::now_v7().simple())
}

/// A schema of PostgreSQL.
pub(crate) struct Schema {
    server: String,
    name: String,
}

pub(crate) async fn postgres() -> Option<Schema> {
    let schema = Schema { server: server("JOBRUNR_TEST_POSTGRES_URL")?, name: name() };
    schema.execute(format!("CREATE SCHEMA {}", schema.name)).await;
    Some(schema)
}

impl Schema {
    async fn execute(&self, sql: String) {
        let mut connection = PgConnection::connect(&self.server).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

impl Fresh for Schema {
    fn url(&self) -> String {
        let joint = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{joint}options=-c%20search_path={}", self.server, self.name)
    }

    async fn drop(self) {
        self.execute(format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

/// A database of MySQL or MariaDB.
pub(crate) struct Database {
    server: String,
    name: String,
}

pub(crate) async fn mysql() -> Option<Database> {
    let database = Database { server: server("JOBRUNR_TEST_MYSQL_URL")?, name: name() };
    database.execute(format!("CREATE DATABASE {}", database.name)).await;
    Some(database)
}

impl Database {
    async fn execute(&self, sql: String) {
        let mut connection = MySqlConnection::connect(&self.server).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

impl Fresh for Database {
    fn url(&self) -> String {
        let (server, parameters) = self.server.split_once('?').map_or((&*self.server, ""), |parts| parts);
        let (server, _) = server.rsplit_once('/').unwrap();
        let joint = if parameters.is_empty() { "" } else { "?" };
        format!("{server}/{}{joint}{parameters}", self.name)
    }

    async fn drop(self) {
        self.execute(format!("DROP DATABASE {}", self.name)).await;
    }
}

/// A database of MongoDB.
pub(crate) struct MongoDatabase {
    server: String,
    name: String,
}

pub(crate) async fn mongo() -> Option<MongoDatabase> {
    // It comes to be when something is written to it.
    Some(MongoDatabase { server: server("JOBRUNR_TEST_MONGO_URL")?, name: name() })
}

impl Fresh for MongoDatabase {
    fn url(&self) -> String {
        let (server, parameters) = self.server.split_once('?').map_or((&*self.server, ""), |parts| parts);
        let (server, _) =
            server.rsplit_once('/').filter(|(start, _)| !start.ends_with('/')).unwrap_or((server, ""));
        let joint = if parameters.is_empty() { "" } else { "?" };
        format!("{server}/{}{joint}{parameters}", self.name)
    }

    async fn drop(self) {
        let client = Client::with_uri_str(&self.server).await.unwrap();
        client.database(&self.name).drop().await.unwrap();
    }
}
