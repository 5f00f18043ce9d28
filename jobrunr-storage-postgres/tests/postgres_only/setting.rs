//! A storage behind a proxy that does harm.

use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::storage::{ChangeStream, ClaimRequest, JobStore, SetUp, StorageError, StorageProvider};
use jobrunr_storage_postgres::{PostgresOptions, PostgresStorage};
use tokio::sync::Mutex;

use crate::support::proxy::{Harm, Proxy, Trigger};
use crate::support::{Place, Schema, url};
use crate::{a_server, an_enqueued_job, at};

/// Whether statements stay prepared: then most calls are one statement, else each is a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statements {
    Kept,
    NotKept,
}

/// Before the server gets what it is told, and after it has done it.
pub(crate) const CUTS: [Harm; 2] = [Harm::CutBeforeTheServer, Harm::CutBeforeTheAnswer];

/// Both ways, cut at both moments.
pub(crate) const WAYS: [(Statements, Harm); 4] = [
    (Statements::Kept, CUTS[0]),
    (Statements::Kept, CUTS[1]),
    (Statements::NotKept, CUTS[0]),
    (Statements::NotKept, CUTS[1]),
];

/// A storage behind a proxy, with the schema it works in.
pub(crate) struct Setting {
    pub(crate) schema: Schema,
    pub(crate) proxy: Proxy,
    pub(crate) storage: PostgresStorage,
    /// Another storage on the same schema, past the proxy.
    pub(crate) direct: PostgresStorage,
    /// What the other storage hears.
    changes: Mutex<ChangeStream>,
    statements: Statements,
}

impl Setting {
    pub(crate) async fn new(statements: Statements) -> Option<Self> {
        // The one connection it uses is the one that is harmed.
        Self::with(statements, |options| options.max_connections(1).without_listener()).await
    }

    pub(crate) async fn with(
        statements: Statements,
        set: impl FnOnce(PostgresOptions) -> PostgresOptions,
    ) -> Option<Self> {
        let url = url()?;
        let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
        let (proxy, behind) = schema.behind_proxy().await;
        let options = set(schema.options(None)).statement_cache(statements == Statements::Kept);
        let storage = PostgresStorage::connect_with(&behind, options).await.unwrap();
        storage.set_up(SetUp::Migrate).await.unwrap();
        let direct = schema.open_postgres(None).await.unwrap();
        let mut changes = direct.changes().unwrap().subscribe();
        changes.next().await.unwrap();
        // Everything is prepared and numbered, and the hint of this insert has gone out: the next statement is the call
        // itself.
        storage.insert_jobs(&[an_enqueued_job()]).await.unwrap();
        let mut warm = storage.claim_jobs(&ClaimRequest::new(a_server(), 1, at(0))).await.unwrap();
        warm[0].succeed(None, at(0)).unwrap();
        storage.save_jobs(&warm).await.unwrap();
        changes.next().await.unwrap();
        Some(Self { schema, proxy, storage, direct, changes: Mutex::new(changes), statements })
    }

    /// What makes a call take effect that is one statement where it may be.
    pub(crate) fn cut_next_call(&self, moment: Harm) {
        let trigger = match self.statements {
            Statements::Kept => Trigger::Statement,
            Statements::NotKept => Trigger::Commit,
        };
        self.proxy.harm_at(trigger, moment);
    }

    pub(crate) fn cut_next_commit(&self, moment: Harm) {
        self.proxy.harm_at(Trigger::Commit, moment);
    }

    /// Waits until the hint of the last call has gone out, which goes the same way as the next one.
    pub(crate) async fn wait_for_hint(&self) {
        self.changes.lock().await.next().await.unwrap();
    }

    pub(crate) async fn dispose(self) {
        self.storage.close().await;
        self.direct.close().await;
        self.schema.drop_schema().await;
    }
}

pub(crate) fn assert_unavailable<T: std::fmt::Debug>(result: &Result<T, StorageError>) {
    assert!(matches!(result, Err(StorageError::Unavailable { .. })), "{result:?}");
}

/// Waits for something that must not take long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    const PATIENCE: Duration = Duration::from_secs(60);
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"))
}
