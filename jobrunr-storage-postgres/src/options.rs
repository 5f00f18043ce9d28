//! What can be chosen about a PostgreSQL storage.

use std::fmt;
use std::time::Duration;

use jobrunr_core::limits::DEFAULT_MAX_PAYLOAD_BYTES;
use jobrunr_core::storage::StorageError;
use jobrunr_storage_sql::TablePrefix;

use crate::PROVIDER;

/// Options of a [`PostgresStorage`](crate::PostgresStorage).
///
/// ```
/// use std::time::Duration;
/// use jobrunr_storage_postgres::PostgresOptions;
///
/// let options = PostgresOptions::default()
///     .schema("jobs")
///     .table_prefix("app_")
///     .max_connections(20)
///     .call_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone)]
pub struct PostgresOptions {
    pub(crate) schema: Option<String>,
    pub(crate) table_prefix: String,
    pub(crate) max_connections: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) max_payload_bytes: usize,
    pub(crate) statement_cache: bool,
    pub(crate) listens: bool,
    pub(crate) listen_url: Option<String>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            schema: None,
            table_prefix: String::new(),
            max_connections: 10,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
            statement_cache: true,
            listens: true,
            listen_url: None,
        }
    }
}

impl PostgresOptions {
    /// The schema of the tables, which is created if it is missing. Default: the first one of the connection's search path.
    ///
    /// At most 32 characters of `a-z`, `0-9` and `_`.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// What goes before the names of all tables: at most 32 characters of `a-z`, `0-9` and `_`. Default: nothing.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Most connections of a pool of its own; at least 1, default 10. The one that hears hints comes on top.
    #[must_use]
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// How long connecting, or waiting for a free connection of the pool, may take. Default 5 s.
    ///
    /// A connection that does not come back to the pool in this time, because it does not answer, is replaced.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one statement may take before the call is [`Unavailable`](StorageError::Unavailable). Default 30 s.
    #[must_use]
    pub const fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Longest payload accepted, in bytes. Default 1 MiB.
    #[must_use]
    pub const fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes;
        self
    }

    /// Whether statements stay prepared on their connection. Default: yes.
    ///
    /// Switch it off behind a pooler that gives each transaction another connection, such as PgBouncer in transaction
    /// mode: every call then is a transaction of its own and leaves nothing behind. There is no listener then either, since
    /// nobody would listen on the connection that the pooler takes next, unless [`listen_url`](Self::listen_url) names a way
    /// past the pooler.
    #[must_use]
    pub const fn statement_cache(mut self, keeps: bool) -> Self {
        self.statement_cache = keeps;
        self
    }

    /// Where to hear hints, if not where everything else goes: a URL that leads past a pooler.
    #[must_use]
    pub fn listen_url(mut self, url: impl Into<String>) -> Self {
        self.listens = true;
        self.listen_url = Some(url.into());
        self
    }

    /// Hears no hints: there is no connection that listens, and polling finds the work.
    #[must_use]
    pub fn without_listener(mut self) -> Self {
        self.listens = false;
        self.listen_url = None;
        self
    }

    /// Whether there is a connection that listens for hints.
    pub(crate) const fn has_listener(&self) -> bool {
        self.listens && (self.statement_cache || self.listen_url.is_some())
    }

    /// Schema and prefix, if they can be.
    pub(crate) fn prefix(&self) -> Result<TablePrefix, StorageError> {
        let unsupported = |what| StorageError::Unsupported { provider: PROVIDER, what };
        let prefix = TablePrefix::new(&self.table_prefix).map_err(|error| unsupported(error.to_string()))?;
        match &self.schema {
            None => Ok(prefix),
            Some(schema) => prefix.in_schema(schema).map_err(|_| {
                unsupported("the name of a schema is 1 to 32 characters of a-z, 0-9 and '_'".to_owned())
            }),
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("schema", &self.schema)
            .field("table_prefix", &self.table_prefix)
            .field("max_connections", &self.max_connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("call_timeout", &self.call_timeout)
            .field("max_payload_bytes", &self.max_payload_bytes)
            .field("statement_cache", &self.statement_cache)
            .field("listens", &self.listens)
            // There may be a password in it.
            .field("listen_url", &self.listen_url.as_ref().map(|_| "…"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_no_statements_listens_only_past_the_pooler() {
        let pooled = || PostgresOptions::default().statement_cache(false);

        assert!(PostgresOptions::default().has_listener());
        assert!(!pooled().has_listener());
        assert!(pooled().listen_url("postgres://h/d").has_listener());
        assert!(!pooled().listen_url("postgres://h/d").without_listener().has_listener());
    }

    #[test]
    fn hostile_names_are_refused() {
        for hostile in ["\"; drop table x; --", "A", "a b", "a.b"] {
            assert!(PostgresOptions::default().table_prefix(hostile).prefix().is_err(), "{hostile}");
            assert!(PostgresOptions::default().schema(hostile).prefix().is_err(), "{hostile}");
        }
        assert!(PostgresOptions::default().schema("").prefix().is_err());
    }
}
