//! What can be chosen about a MySQL or MariaDB storage.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jobrunr_core::limits::DEFAULT_MAX_PAYLOAD_BYTES;
use jobrunr_core::storage::StorageError;
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool};

use crate::PROVIDER;

/// Where connections come from.
#[derive(Clone)]
pub(crate) enum Source {
    /// A pool of the storage's own.
    Connect(Box<MySqlConnectOptions>),
    /// A pool of the user's.
    Pool(MySqlPool),
}

/// Options of a [`MySqlStorage`](crate::MySqlStorage).
///
/// ```
/// use std::time::Duration;
/// use jobrunr_storage_mysql::MySqlOptions;
///
/// # fn main() -> Result<(), jobrunr_core::storage::StorageError> {
/// let options = MySqlOptions::parse("mysql://app@localhost/shop")?
///     .table_prefix("app_")
///     .max_connections(8)
///     .connect_timeout(Duration::from_secs(2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MySqlOptions {
    pub(crate) source: Source,
    pub(crate) table_prefix: String,
    pub(crate) max_connections: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) max_payload_bytes: usize,
}

impl MySqlOptions {
    fn from_source(source: Source) -> Self {
        Self {
            source,
            table_prefix: String::new(),
            max_connections: 10,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
        }
    }

    /// A pool of the storage's own, whose connections are made like this.
    #[must_use]
    pub fn connect_with(options: MySqlConnectOptions) -> Self {
        let options = options.disable_statement_logging().statement_cache_capacity(256);
        Self::from_source(Source::Connect(Box::new(options)))
    }

    /// A pool of the caller's. Its connections are used as they are: no variable of their sessions is changed, and
    /// closing the storage does not close it.
    #[must_use]
    pub fn with_pool(pool: MySqlPool) -> Self {
        Self::from_source(Source::Pool(pool))
    }

    /// Understands `mysql://USER:PASSWORD@HOST:PORT/DATABASE` and the same with `mariadb:`; after it may come the
    /// parameters of the driver, `?ssl-mode=REQUIRED` among them.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if it is anything else. The message does not show it.
    pub fn parse(url: &str) -> Result<Self, StorageError> {
        let unsupported = |what: &str| StorageError::Unsupported {
            provider: PROVIDER,
            what: format!("{what}; use `mysql://USER:PASSWORD@HOST:PORT/DATABASE`"),
        };
        let rest = url.strip_prefix("mysql://").or_else(|| url.strip_prefix("mariadb://"));
        let rest = rest.ok_or_else(|| unsupported("its URLs begin with `mysql://` or `mariadb://`"))?;
        let options = MySqlConnectOptions::from_str(&format!("mysql://{rest}"))
            .map_err(|_| unsupported("the URL cannot be understood"))?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(unsupported("the URL names no database"));
        }
        Ok(Self::connect_with(options))
    }

    /// What goes before the names of all tables: at most 32 of `a-z`, `0-9` and `_`. Default: nothing.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Most connections in the storage's own pool: at least 2, default 10.
    #[must_use]
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(2);
        self
    }

    /// How long a call waits for a connection before it is [`Unavailable`](StorageError::Unavailable). Default 5 s; of
    /// no effect on a pool of the caller's, which has its own.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one statement may take before its connection counts as lost, whatever became of it. Default 30 s, which
    /// should be longer than the [`lock_timeout`](Self::lock_timeout).
    ///
    /// What was not done then is tried once more on a new connection before the call is
    /// [`Unavailable`](StorageError::Unavailable). Changes of the schema may take as long as they do.
    #[must_use]
    pub const fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// How long a statement waits for a lock of another transaction before it is tried again; whole seconds, at least
    /// one. Default 5 s; of no effect on a pool of the caller's.
    #[must_use]
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Longest payload accepted, in bytes. Default 1 MiB. The server's `max_allowed_packet` must be larger.
    #[must_use]
    pub const fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes;
        self
    }
}

impl fmt::Debug for MySqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither host nor user nor password: what is printed ends in logs.
        let Self {
            source: _,
            table_prefix,
            max_connections,
            connect_timeout,
            call_timeout,
            lock_timeout,
            max_payload_bytes,
        } = self;
        f.debug_struct("MySqlOptions")
            .field("table_prefix", table_prefix)
            .field("max_connections", max_connections)
            .field("connect_timeout", connect_timeout)
            .field("call_timeout", call_timeout)
            .field("lock_timeout", lock_timeout)
            .field("max_payload_bytes", max_payload_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_either_name_are_understood() {
        for url in ["mysql://u:p@h:33/d", "mariadb://u:p@h:33/d", "mysql://u@h/d?ssl-mode=DISABLED"] {
            let Source::Connect(options) = MySqlOptions::parse(url).unwrap().source else { panic!("{url}") };
            assert_eq!((options.get_host(), options.get_database()), ("h", Some("d")), "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_without_being_shown() {
        for url in ["postgres://u:secret@h/d", "mysql://u:secret@h", "mysql://u:secret@h:x/d", "secret"] {
            let error = MySqlOptions::parse(url).unwrap_err();
            assert!(matches!(error, StorageError::Unsupported { .. }), "{url}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let options = MySqlOptions::parse("mysql://user:secret@host/database").unwrap();

        assert!(!format!("{options:?}").contains("secret"));
    }
}
