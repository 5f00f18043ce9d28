//! One database of a test's own on each kind of storage, opened as often as there are processes.

use std::path::PathBuf;
use std::sync::Arc;

use jobrunr::MemoryStorage;
use jobrunr::mongo::{MongoOptions, MongoStorage};
use jobrunr::mysql::{MySqlOptions, MySqlStorage};
use jobrunr::postgres::{PostgresOptions, PostgresStorage};
use jobrunr::redis::{RedisOptions, RedisStorage};
use jobrunr::sqlite::SqliteStorage;
use jobrunr::storage::{SetUp, StorageProvider};
use sqlx::{AssertSqlSafe, Connection, Executor};

/// A kind of storage; the names are those of the modules of its tests.
#[expect(non_camel_case_types, reason = "they are written where modules are named")]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    memory,
    sqlite,
    postgres,
    mysql,
    mongo,
    redis,
}

/// A database of one test's own.
pub(crate) enum Database {
    Memory(MemoryStorage),
    Sqlite(PathBuf),
    /// The server, and the name of a schema.
    Postgres(String, String),
    /// The server, and the name of a database.
    MySql(String, String),
    Mongo(String, String),
    /// The server, and the prefix of the keys.
    Redis(String, String),
}

/// Where a server is, if that was said.
#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
fn server(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        let is_required = std::env::var("JOBRUNR_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!is_required, "{variable} is not set");
        eprintln!("SKIPPED: {variable} is not set; `cargo xtask databases up` starts a server");
    }
    url
}

async fn on_postgres(url: &str, sql: String) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
    connection.close().await.unwrap();
}

async fn on_mysql(url: &str, sql: String) {
    let mut connection = sqlx::MySqlConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
    connection.close().await.unwrap();
}

impl Kind {
    /// A database without anything in it; `None` if there is no server to have it on.
    pub(crate) async fn create(self) -> Option<Database> {
        let name = format!("e{}", &uuid::Uuid::now_v7().simple().to_string()[..20]);
        Some(match self {
            Self::memory => Database::Memory(MemoryStorage::new()),
            Self::sqlite => {
                let folder = std::env::temp_dir().join(format!("jobrunr-{name}"));
                std::fs::create_dir_all(&folder).unwrap();
                Database::Sqlite(folder)
            }
            Self::postgres => {
                let url = server("JOBRUNR_TEST_POSTGRES_URL")?;
                on_postgres(&url, format!("CREATE SCHEMA {name}")).await;
                Database::Postgres(url, name)
            }
            Self::mysql => {
                let url = server("JOBRUNR_TEST_MYSQL_URL")?;
                on_mysql(&url, format!("CREATE DATABASE {name}")).await;
                Database::MySql(url, name)
            }
            Self::mongo => Database::Mongo(server("JOBRUNR_TEST_MONGO_URL")?, name),
            Self::redis => Database::Redis(server("JOBRUNR_TEST_REDIS_URL")?, name),
        })
    }
}

impl Database {
    /// A storage on it with connections of its own, as another process would open it.
    pub(crate) async fn open(&self) -> Arc<dyn StorageProvider> {
        let storage: Arc<dyn StorageProvider> = match self {
            Self::Memory(memory) => Arc::new(memory.open_again()),
            Self::Sqlite(folder) => {
                let url = format!("sqlite:{}", folder.join("jobs.db").display());
                Arc::new(SqliteStorage::connect(&url).await.unwrap())
            }
            Self::Postgres(url, name) => {
                let options = PostgresOptions::default().schema(name).max_connections(4);
                Arc::new(PostgresStorage::connect_with(url, options).await.unwrap())
            }
            Self::MySql(url, name) => {
                let (server, _) = url.rsplit_once('/').unwrap();
                let options = MySqlOptions::parse(&format!("{server}/{name}")).unwrap().max_connections(4);
                Arc::new(MySqlStorage::open(options).await.unwrap())
            }
            Self::Mongo(url, name) => {
                let options = MongoOptions::default().database(name);
                Arc::new(MongoStorage::connect_with(url, options).await.unwrap())
            }
            Self::Redis(url, prefix) => {
                let options = RedisOptions::default().key_prefix(prefix);
                Arc::new(RedisStorage::connect_with(url, options).await.unwrap())
            }
        };
        storage.set_up(SetUp::Migrate).await.unwrap();
        storage
    }

    /// Removes it with all that is in it. What the drivers of other crates would be needed for goes with its server.
    pub(crate) async fn remove(self) {
        match self {
            Self::Memory(_) | Self::Mongo(..) | Self::Redis(..) => {}
            Self::Sqlite(folder) => std::fs::remove_dir_all(folder).unwrap(),
            Self::Postgres(url, name) => on_postgres(&url, format!("DROP SCHEMA {name} CASCADE")).await,
            Self::MySql(url, name) => on_mysql(&url, format!("DROP DATABASE {name}")).await,
        }
    }
}
