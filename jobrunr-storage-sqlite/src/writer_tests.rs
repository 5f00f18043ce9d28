use futures_util::FutureExt;
use futures_util::future::join_all;
use jobrunr_core::storage::{SetUp, StorageError, StorageProvider};
use rusqlite::Connection;

use crate::error::Failure;
use crate::{Durability, PROVIDER, SqliteOptions, SqliteStorage, WriteStatistics};

struct TestFile(std::path::PathBuf);

impl TestFile {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("jobrunr-writer-{}.db", uuid::Uuid::now_v7())))
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        for ending in ["", "-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(ending);
            // Those that are not there need not be removed.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn a_storage(file: &TestFile) -> SqliteStorage {
    let storage = SqliteStorage::open(SqliteOptions::file(&file.0)).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage
}

fn locked(file: &TestFile) -> Connection {
    let connection = Connection::open(&file.0).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

/// Writes one row; ends as told.
async fn write(
    storage: &SqliteStorage,
    name: &'static str,
    end: fn() -> Result<(), Failure>,
) -> Result<(), StorageError> {
    storage
        .write("test", move |session| {
            let mut insert = session.view.prepare(&session.view.statements.insert_new_metadata)?;
            assert_eq!(
                insert.execute(rusqlite::params![name, "", "", 0])?,
                1,
                "what failed before was undone"
            );
            end()
        })
        .await
}

async fn names(storage: &SqliteStorage) -> Vec<String> {
    storage
        .read("test", |view| {
            let mut statement = view.prepare("SELECT name FROM jobrunr_metadata ORDER BY name")?;
            let names = statement.query_map([], |row| row.get(0))?;
            Ok(names.collect::<Result<_, _>>()?)
        })
        .await
        .unwrap()
}

fn since(storage: &SqliteStorage, before: WriteStatistics) -> WriteStatistics {
    let now = storage.write_statistics();
    WriteStatistics {
        commits: now.commits - before.commits,
        calls: now.calls - before.calls,
        statements: now.statements - before.statements,
    }
}

#[tokio::test]
async fn what_waits_is_committed_as_one_group() {
    let file = TestFile::new();
    let storage = a_storage(&file).await;
    let before = storage.write_statistics();
    let lock = locked(&file);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut calls = join_all(names.map(|name| write(&storage, name, || Ok(())))).boxed_local();
    assert!((&mut calls).now_or_never().is_none(), "all wait for the lock");

    drop(lock);
    for end in calls.await {
        end.unwrap();
    }

    let written = since(&storage, before);
    assert_eq!(written.calls, 8);
    assert!(written.commits <= 2, "{written:?}");
}

#[tokio::test]
async fn a_call_that_fails_or_panics_fails_alone() {
    let file = TestFile::new();
    let storage = a_storage(&file).await;
    let lock = locked(&file);
    let panics = || panic!("as the test wants it");
    let fails = || Err(StorageError::Unsupported { provider: PROVIDER, what: "this".to_owned() }.into());
    let mut calls = join_all([
        write(&storage, "a", || Ok(())).boxed_local(),
        write(&storage, "b", panics).boxed_local(),
        write(&storage, "c", || Ok(())).boxed_local(),
        write(&storage, "d", fails).boxed_local(),
        write(&storage, "e", || Ok(())).boxed_local(),
    ])
    .boxed_local();
    assert!((&mut calls).now_or_never().is_none(), "all wait for the lock");

    drop(lock);
    let ends = calls.await;

    assert!(ends[0].is_ok() && ends[2].is_ok() && ends[4].is_ok(), "{ends:?}");
    assert!(matches!(ends[1], Err(StorageError::Backend { .. })), "{ends:?}");
    assert!(matches!(ends[3], Err(StorageError::Unsupported { .. })), "{ends:?}");
    assert_eq!(names(&storage).await, ["a", "c", "e"]);
    write(&storage, "f", || Ok(())).await.unwrap();
}

#[tokio::test]
async fn a_read_that_panics_fails_alone() {
    let file = TestFile::new();
    let storage = a_storage(&file).await;

    let end = storage.read::<(), _>("test", |_| panic!("as the test wants it")).await;

    assert!(matches!(end, Err(StorageError::Backend { .. })), "{end:?}");
    for _ in 0..4 {
        assert!(names(&storage).await.is_empty());
    }
}

#[tokio::test]
async fn a_call_whose_future_is_dropped_is_done_whole_all_the_same() {
    let file = TestFile::new();
    let storage = a_storage(&file).await;
    let lock = locked(&file);

    assert!(write(&storage, "dropped", || Ok(())).now_or_never().is_none());
    drop(lock);
    write(&storage, "next", || Ok(())).await.unwrap();

    assert_eq!(names(&storage).await, ["dropped", "next"]);
}

#[tokio::test]
async fn the_durability_asked_for_is_the_one_in_force() {
    for (durability, synchronous) in [(Durability::Full, 2), (Durability::Normal, 1)] {
        let file = TestFile::new();
        let storage = SqliteStorage::open(SqliteOptions::file(&file.0).durability(durability)).await.unwrap();
        storage.set_up(SetUp::Migrate).await.unwrap();

        let found = storage
            .write("test", |session| {
                let pragma = |sql| session.view.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
                Ok(pragma("PRAGMA synchronous")?)
            })
            .await;

        assert_eq!(found.unwrap(), synchronous);
        storage.close().await;
    }
}

#[tokio::test]
async fn only_what_must_outlast_a_power_failure_waits_for_the_disk() {
    let file = TestFile::new();
    let storage = a_storage(&file).await;
    let level = |session: &mut crate::session::Session<'_>| {
        Ok(session.view.connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?)
    };
    let (normal, full) = (1, 2);

    let lock = locked(&file);
    let mut together = Box::pin(futures_util::future::join3(
        storage.write_lightly("test", level),
        storage.write("test", level),
        storage.write_lightly("test", level),
    ));
    assert!((&mut together).now_or_never().is_none(), "all wait for the lock");
    drop(lock);

    let (first, lasting, after) = together.await;
    assert_eq!(first.unwrap(), normal);
    assert_eq!(lasting.unwrap(), full, "it does not join a group that does not wait for the disk");
    assert_eq!(after.unwrap(), full, "it may join a group that does");
}
