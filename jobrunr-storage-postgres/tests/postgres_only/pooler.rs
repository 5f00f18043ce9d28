//! Behind PgBouncer in transaction mode, where each transaction may meet another connection.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use jobrunr_core::StateName;
use jobrunr_core::storage::{Change, ClaimRequest, JobQuery, JobSearch, JobStore, SetUp, StorageProvider};
use jobrunr_storage_postgres::PostgresStorage;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use crate::support::private_server::{as_server, free_port, new_folder};
use crate::support::{Place, Schema, skip, url};
use crate::{a_server, an_enqueued_job, at};

/// A PgBouncer of one test's own.
struct Pooler {
    folder: PathBuf,
    process: Child,
    port: u16,
}

impl Pooler {
    /// Starts one before this server; it ends when it is dropped.
    async fn before(url: &str) -> Option<Self> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"].map(Path::new);
        let Some(program) = program.into_iter().find(|program| program.is_file()) else {
            skip("PgBouncer is not on this machine; `cargo xtask databases up` installs it");
            return None;
        };
        let server: PgConnectOptions = url.parse().unwrap();
        let password = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).unwrap().0;
        let password = password.split_once(':').unwrap().1;
        let (folder, port) = (new_folder().unwrap(), free_port().unwrap());
        let configuration = format!(
            "[databases]\npostgres = host={} port={} user={} password={password} dbname={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 100\n",
            server.get_host(),
            server.get_port(),
            server.get_username(),
            server.get_database().unwrap_or("postgres"),
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&file, configuration).unwrap();
        let process = as_server(program).arg(&file).spawn().unwrap();
        let pooler = Self { folder, process, port };
        let answers = async {
            // It refuses a setting that sqlx asks for by default.
            let connect: PgConnectOptions = pooler.url().parse().unwrap();
            let connect = connect.extra_float_digits(None);
            while PgConnection::connect_with(&connect).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), answers).await.expect("PgBouncer answers");
        Some(pooler)
    }

    fn url(&self) -> String {
        format!("postgres://anybody:x@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Whatever fails here has failed before.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_clients_share_four_connections_in_transaction_mode() {
    let Some(url) = url() else { return };
    let Some(pooler) = Pooler::before(&url).await else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let open = async || {
        let options = schema.options(None).statement_cache(false);
        PostgresStorage::connect_with(&pooler.url(), options).await.unwrap()
    };
    let storage = open().await;
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.set_up(SetUp::Validate).await.unwrap();
    assert!(storage.changes().is_none(), "who listens through a pooler may hear nothing");

    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let storage = open().await;
        clients.spawn(async move {
            let server = a_server();
            let mut done = 0;
            for _ in 0..10 {
                let jobs: Vec<_> = (0..5).map(|_| an_enqueued_job()).collect();
                storage.insert_jobs(&jobs).await.unwrap();
                let mut jobs =
                    storage.claim_jobs(&ClaimRequest::new(server.clone(), 5, at(1))).await.unwrap();
                for job in &mut jobs {
                    job.succeed(None, at(2)).unwrap();
                }
                assert_eq!(storage.save_jobs(&jobs).await.unwrap().conflicts, []);
                done += jobs.len();
                storage.list_jobs(&JobQuery::all()).await.unwrap();
            }
            storage.close().await;
            done
        });
    }
    let done: usize = clients.join_all().await.into_iter().sum();

    let counts = storage.job_counts().await.unwrap();
    assert_eq!(counts.in_state(StateName::Succeeded), u64::try_from(done).unwrap());
    assert_eq!(counts.total(), 400);
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn hints_are_heard_past_the_pooler() {
    use futures_util::StreamExt;

    let Some(url) = url() else { return };
    let Some(pooler) = Pooler::before(&url).await else { return };
    let schema = Schema::create(url, Place::NamedSchema).await.unwrap();
    let options = schema.options(None).statement_cache(false).listen_url(schema.url());
    let storage = PostgresStorage::connect_with(&pooler.url(), options).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let other = schema.open_postgres(None).await.unwrap();
    let mut changes = storage.changes().unwrap().subscribe();
    assert_eq!(changes.next().await, Some(Change::Resync), "it listens");

    other.insert_jobs(&[an_enqueued_job()]).await.unwrap();

    let heard = tokio::time::timeout(Duration::from_secs(15), changes.next()).await.expect("a hint comes");
    assert_eq!(heard, Some(Change::JobsReady { queue: "default".parse().unwrap() }));
    storage.close().await;
    other.close().await;
    schema.drop_schema().await;
}
