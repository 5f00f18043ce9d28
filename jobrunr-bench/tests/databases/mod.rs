//! Empty databases on the servers of `cargo xtask databases`, as worker processes connect to them.

use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

/// A database of one test's own.
pub(crate) trait Fresh {
    /// What any process connects to.
    fn url(&self) -> String;

    /// Removes it.
    async fn drop(self);
}

/// The URL in this variable; `None` where there is none and that is allowed.
#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
fn server(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        let missing = format!("{variable} is not set; `cargo xtask databases up` starts a server");
        let is_required = std::env::var("JOBRUNR_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!is_required, "{missing}");
        eprintln!("SKIPPED: {missing}");
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
