//! From a connection string to a storage that is ready for use.

use std::sync::Arc;

use jobrunr_core::MemoryStorage;
use jobrunr_core::storage::{SetUp, StorageError, StorageProvider};

/// Why there is no storage. No variant holds any part of the connection string.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connection string begins with nothing that is known.
    #[error(
        "the connection string names no database that JobRunr knows: write `sqlite:jobs.db`, `sqlite::memory:`, `postgres://…`, `mysql://…`, `mongodb://…`, `redis://…` or `memory:`"
    )]
    UnknownScheme,
    /// The database is known, but this build cannot talk to it.
    #[error("this build has no support for {database}: {remedy}")]
    NoSupport {
        /// The database that the connection string names.
        database: &'static str,
        /// What would change that.
        remedy: String,
    },
    /// The storage could not be opened, or its tables could not be set up.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The databases that a connection string can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Database {
    Memory,
    Sqlite,
    Postgres,
    MySql,
    Mongo,
    Redis,
}

impl Database {
    fn of(url: &str) -> Option<Self> {
        let (scheme, _) = url.split_once(':')?;
        Some(match scheme.to_ascii_lowercase().as_str() {
            "memory" => Self::Memory,
            "sqlite" => Self::Sqlite,
            "postgres" | "postgresql" => Self::Postgres,
            "mysql" | "mariadb" => Self::MySql,
            "mongodb" | "mongodb+srv" => Self::Mongo,
            "redis" | "valkey" => Self::Redis,
            // Refused by the storage, which says what to do instead.
            _with_tls @ ("rediss" | "valkeys") => Self::Redis,
            _ => return None,
        })
    }
}

/// Opens the storage that the connection string names, and creates or migrates its tables.
///
/// | connection string | storage |
/// |---|---|
/// | `sqlite:jobs.db` | an SQLite file; with the feature `sqlite`, which is on by default |
/// | `sqlite::memory:` | an SQLite database in memory; likewise |
/// | `postgres://user:password@host:5432/database` | a PostgreSQL database; with the feature `postgres` |
/// | `mysql://user:password@host:3306/database`, or `mariadb:` | a MySQL or MariaDB database; with the feature `mysql` |
/// | `mongodb://user:password@host:27017/database` | a MongoDB database; with the feature `mongo` |
/// | `redis://user:password@host:6379/0`, or `valkey:` | a Redis or Valkey server, or a node of a cluster; with the feature `redis` |
/// | `memory:` | the in-memory storage, without any database |
///
/// To open a storage with options of your own, use its type and [`StorageProvider::set_up`] instead.
///
/// # Errors
/// [`ConnectError`], which never shows the connection string: there may be a password in it.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), jobrunr::ConnectError> {
/// let storage = jobrunr::connect("memory:").await?;
///
/// assert_eq!(storage.name(), "memory");
/// # Ok(())
/// # }
/// ```
pub async fn connect(url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    let storage: Arc<dyn StorageProvider> = match Database::of(url).ok_or(ConnectError::UnknownScheme)? {
        Database::Memory => Arc::new(MemoryStorage::new()),
        Database::Sqlite => open_sqlite(url).await?,
        Database::Postgres => open_postgres(url).await?,
        Database::MySql => open_mysql(url).await?,
        Database::Mongo => open_mongo(url).await?,
        Database::Redis => open_redis(url).await?,
    };
    storage.set_up(SetUp::Migrate).await?;
    Ok(storage)
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    Ok(Arc::new(jobrunr_storage_sqlite::SqliteStorage::connect(url).await?))
}

#[cfg(not(feature = "sqlite"))]
async fn open_sqlite(_url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    let remedy = "switch on the feature `sqlite` of the crate jobrunr".to_owned();
    Err(ConnectError::NoSupport { database: "SQLite", remedy })
}

#[cfg(feature = "postgres")]
async fn open_postgres(url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    // The scheme may be written in capitals, which the driver does not know.
    let rest = url.split_once(':').map_or("", |(_, rest)| rest);
    let url = format!("postgres:{rest}");
    Ok(Arc::new(jobrunr_storage_postgres::PostgresStorage::connect(&url).await?))
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres(_url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    let remedy = "switch on the feature `postgres` of the crate jobrunr".to_owned();
    Err(ConnectError::NoSupport { database: "PostgreSQL", remedy })
}

#[cfg(feature = "mysql")]
async fn open_mysql(url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    // The scheme may be written in capitals, which the storage does not know.
    let rest = url.split_once(':').map_or("", |(_, rest)| rest);
    let url = format!("mysql:{rest}");
    Ok(Arc::new(jobrunr_storage_mysql::MySqlStorage::connect(&url).await?))
}

#[cfg(not(feature = "mysql"))]
async fn open_mysql(_url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    let remedy = "switch on the feature `mysql` of the crate jobrunr".to_owned();
    Err(ConnectError::NoSupport { database: "MySQL and MariaDB", remedy })
}

#[cfg(feature = "redis")]
async fn open_redis(url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    // The scheme may be written in capitals, which the storage does not know.
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    let url = format!("{}:{rest}", scheme.to_ascii_lowercase());
    Ok(Arc::new(jobrunr_storage_redis::RedisStorage::connect(&url).await?))
}

#[cfg(not(feature = "redis"))]
async fn open_redis(_url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    let remedy = "switch on the feature `redis` of the crate jobrunr".to_owned();
    Err(ConnectError::NoSupport { database: "Redis and Valkey", remedy })
}

#[cfg(feature = "mongo")]
async fn open_mongo(url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    // The scheme may be written in capitals, which the driver does not know.
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    let url = format!("{}:{rest}", scheme.to_ascii_lowercase());
    Ok(Arc::new(jobrunr_storage_mongo::MongoStorage::connect(&url).await?))
}

#[cfg(not(feature = "mongo"))]
async fn open_mongo(_url: &str) -> Result<Arc<dyn StorageProvider>, ConnectError> {
    let remedy = "switch on the feature `mongo` of the crate jobrunr".to_owned();
    Err(ConnectError::NoSupport { database: "MongoDB", remedy })
}
