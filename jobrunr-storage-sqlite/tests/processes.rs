//! Several processes on one file, one of them killed while it writes.
//!
//! The child processes are this program again, told by an environment variable to play one role.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

#[path = "support/folder.rs"]
mod folder;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use folder::Folder;
use jobrunr_core::storage::{JobQuery, JobSearch, JobStore, SetUp, StorageProvider};
use jobrunr_core::{Job, JobDefinition, JobId, JobState, JsonText, StateName};
use jobrunr_storage_sqlite::{SqliteOptions, SqliteStorage};
use rusqlite::Connection;

const ROLE: &str = "JOBRUNR_SQLITE_TEST_ROLE";
const FILE: &str = "JOBRUNR_SQLITE_TEST_FILE";

fn a_job() -> Job {
    let definition = JobDefinition::new("mail".parse().unwrap(), JsonText::of("to whom").unwrap());
    let now = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    Job::new(JobId::new(), definition, JobState::enqueued(), now).unwrap()
}

fn a_process(role: &str, file: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_child_process_plays_its_role", "--nocapture"])
        .env(ROLE, role)
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Does nothing unless it is started by another test.
#[tokio::test]
async fn a_child_process_plays_its_role() {
    let (Ok(role), Ok(file)) = (std::env::var(ROLE), std::env::var(FILE)) else { return };
    let storage = SqliteStorage::open(SqliteOptions::file(file)).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    let mut batches = if role == "insert once" { 1 } else { usize::MAX };
    while batches > 0 {
        batches -= 1;
        let jobs: Vec<Job> = (0..5).map(|_| a_job()).collect();
        storage.insert_jobs(&jobs).await.unwrap();
        let mut output = std::io::stdout().lock();
        for job in jobs {
            writeln!(output, "stored {}", job.id()).unwrap();
        }
        output.flush().unwrap();
    }
    storage.close().await;
}

fn stored_id(line: &str) -> Option<JobId> {
    line.strip_prefix("stored ")?.parse().ok()
}

#[tokio::test]
async fn eight_processes_set_up_an_empty_file_at_once() {
    let folder = Folder::new().unwrap();
    let processes: Vec<Child> = (0..8).map(|_| a_process("insert once", &folder.database())).collect();

    for process in processes {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    let storage = SqliteStorage::open(SqliteOptions::file(folder.database())).await.unwrap();
    storage.set_up(SetUp::Validate).await.unwrap();
    assert_eq!(storage.job_counts().await.unwrap().in_state(StateName::Enqueued), 40);
}

#[tokio::test]
async fn a_process_killed_while_it_writes_loses_nothing_it_confirmed() {
    let folder = Folder::new().unwrap();
    let mut process = a_process("insert for ever", &folder.database());
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut confirmed = Vec::new();
    for line in lines {
        confirmed.extend(stored_id(&line.unwrap()));
        if confirmed.len() == 150 {
            process.kill().unwrap();
        }
    }
    process.wait().unwrap();

    let storage = SqliteStorage::open(SqliteOptions::file(folder.database())).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();

    assert!(confirmed.len() >= 150);
    let stored = storage.list_jobs(&JobQuery::all().limit(usize::MAX)).await.unwrap();
    let ids: std::collections::HashSet<JobId> = stored.iter().map(Job::id).collect();
    assert!(confirmed.iter().all(|id| ids.contains(id)), "what was confirmed is there");
    assert_eq!(stored.len() % 5, 0, "no batch is there in part");
    assert_eq!(storage.job_counts().await.unwrap().total(), stored.len() as u64);
    let file = Connection::open(folder.database()).unwrap();
    let sound: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}
