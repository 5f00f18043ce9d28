//! Everything that the storage writes waits for a majority, as the driver's own record of what it sends shows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use jobrunr_core::recurring::RecurringJob;
use jobrunr_core::storage::{
    ClaimRequest, CompareAndSet, Heartbeat, JobSelection, JobStore, Metadata, MetadataStore,
    RecurringJobStore, ServerLoad, ServerStore, SetUp, StorageExt, StorageProvider,
};
use jobrunr_core::{Job, JobMetadata, JobState, Version};
use jobrunr_storage_mongo::MongoStorage;
use jobrunr_storage_mongo::mongodb::bson::{Document, doc};
use jobrunr_storage_mongo::mongodb::event::EventHandler;
use jobrunr_storage_mongo::mongodb::event::command::CommandEvent;
use serde_json::json;
use storage_conformance_tests::TestDatabase;

use crate::support::{Fresh, Mongo, stored_id};
use crate::{a_recurring_job, a_server, an_announcement, an_enqueued_job, at};

/// The commands that write.
const WRITES: [&str; 8] = [
    "abortTransaction",
    "commitTransaction",
    "create",
    "createIndexes",
    "delete",
    "findAndModify",
    "insert",
    "update",
];

/// What must be seen, so that nothing is proved of commands that were never sent.
const EXPECTED: [&str; 18] = [
    "create jobrunr_jobs",
    "createIndexes jobrunr_jobs",
    "delete jobrunr_jobs",
    "delete jobrunr_metadata",
    "delete jobrunr_recurring_jobs",
    "delete jobrunr_servers",
    "findAndModify jobrunr_recurring_jobs",
    "findAndModify jobrunr_servers",
    "insert jobrunr_counts",
    "insert jobrunr_hints",
    "insert jobrunr_jobs",
    "insert jobrunr_metadata",
    "update jobrunr_counts",
    "update jobrunr_jobs",
    "update jobrunr_metadata",
    "update jobrunr_schema",
    "update jobrunr_servers",
    "commitTransaction",
];

/// Sends every command that writes at least once.
async fn write_everything(fresh: &Fresh, storage: &MongoStorage) {
    storage.set_up(SetUp::Migrate).await.unwrap();
    write_jobs(fresh, storage).await;
    write_the_rest(fresh, storage).await;
}

async fn write_jobs(fresh: &Fresh, storage: &MongoStorage) {
    let many: Vec<Job> = (0..40).map(|_| an_enqueued_job()).collect();
    storage.insert_jobs(&many).await.unwrap();
    let mut ended = an_enqueued_job();
    ended.delete(None, at(1)).unwrap();
    storage.insert_job(&mut ended).await.unwrap();
    let scheduled =
        Job::new(jobrunr_core::JobId::new(), crate::a_definition(), JobState::scheduled(at(1)), at(0));
    storage.insert_job(&mut scheduled.unwrap()).await.unwrap();
    assert_eq!(storage.enqueue_due_jobs(at(2), 10).await.unwrap().released.len(), 1);
    // One that is unreadable and one that is broken are parked.
    let documents = fresh.database().collection::<Document>("jobrunr_jobs");
    for (job, spoil) in [(&many[0], doc! { "payload": 7 }), (&many[1], doc! { "version": "one" })] {
        let of_job = doc! { "_id": stored_id(job.id()) };
        documents.update_one(of_job, doc! { "$set": spoil }).await.unwrap();
    }
    let mut claimed = storage.claim_jobs(&ClaimRequest::new(a_server(), 100, at(3))).await.unwrap();
    assert_eq!(claimed.len(), 39);
    claimed.iter_mut().for_each(|job| job.succeed(None, at(4)).unwrap());
    assert_eq!(storage.save_all(&mut claimed).await.unwrap(), []);
    let metadata = JobMetadata::from([("note".to_owned(), json!(1))]);
    assert!(storage.save_job_metadata(claimed[0].id(), &metadata).await.unwrap());
    let ids = claimed.iter().map(Job::id).collect();
    assert_eq!(storage.delete_jobs(&JobSelection::Ids(ids)).await.unwrap(), 39);
}

async fn write_the_rest(fresh: &Fresh, storage: &MongoStorage) {
    let nightly = a_recurring_job("nightly");
    storage.save_recurring_job(&nightly).await.unwrap();
    let again = RecurringJob { version: Version::new(1), ..nightly.clone() };
    storage.save_recurring_job(&again).await.unwrap();
    assert!(storage.delete_recurring_job(&nightly.id, None).await.unwrap());

    let value = Metadata {
        name: "name".to_owned(),
        owner: "owner".to_owned(),
        value: "1".to_owned(),
        created_at: at(0),
        updated_at: at(0),
    };
    storage.save_metadata(&value).await.unwrap();
    for (owner, expected) in [("owner", Some("1")), ("other", None)] {
        let change = CompareAndSet {
            name: "name".to_owned(),
            owner: owner.to_owned(),
            expected: expected.map(str::to_owned),
            new: "2".to_owned(),
            now: at(1),
        };
        assert!(storage.compare_and_set_metadata(&change).await.unwrap());
    }
    assert_eq!(storage.delete_metadata("name", None).await.unwrap(), 2);

    let servers = [an_announcement(), an_announcement()];
    for server in &servers {
        storage.announce_server(server).await.unwrap();
    }
    let heartbeat = Heartbeat { server_id: servers[0].id, load: ServerLoad::default() };
    storage.heartbeat(&heartbeat).await.unwrap();
    // Heartbeats of a clock that was ahead are pulled back.
    let documents = fresh.database().collection::<Document>("jobrunr_servers");
    documents.update_many(doc! {}, doc! { "$inc": { "last_heartbeat": 3_600_000_000_i64 } }).await.unwrap();
    let listed = storage.list_servers().await.unwrap();
    assert!(storage.remove_server(servers[0].id).await.unwrap());
    let silent_before = listed[1].last_heartbeat_at + chrono::TimeDelta::days(1);
    assert_eq!(storage.remove_silent_servers(silent_before).await.unwrap(), [servers[1].id]);
}

/// A command that writes, with the collection it writes to.
fn name_of(command_name: &str, command: &Document) -> String {
    command
        .get_str(command_name)
        .map_or_else(|_| command_name.to_owned(), |collection| format!("{command_name} {collection}"))
}

async fn assert_that_every_write_waits(server: Mongo) {
    let Some(fresh) = server.fresh().await else { return };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let client = fresh.client_that(EventHandler::callback(move |event| {
        if let CommandEvent::Started(started) = event {
            record.lock().unwrap().push((started.command_name, started.command));
        }
    }));
    let storage = MongoStorage::with_client(client, fresh.options(None)).await.unwrap();

    write_everything(&fresh, &storage).await;

    storage.close().await;
    let seen: Vec<(String, Document)> = std::mem::take(&mut *seen.lock().unwrap());
    let mut names = BTreeSet::new();
    for (command_name, command) in seen.iter().filter(|(name, _)| WRITES.contains(&name.as_str())) {
        let name = name_of(command_name, command);
        let concern = command.get_document("writeConcern").and_then(|concern| concern.get_str("w")).ok();
        let is_in_transaction =
            command.get_bool("autocommit") == Ok(false) && command.get_str(command_name).is_ok();
        // Hints may be lost; what is in a transaction waits when that is committed.
        if name != "insert jobrunr_hints" && !is_in_transaction {
            assert_eq!(concern, Some("majority"), "{command}");
        }
        names.insert(name);
    }
    let has_transactions = server == Mongo::ReplicaSet;
    for expected in EXPECTED {
        let is_of_replica_sets = ["commitTransaction", "insert jobrunr_hints"].contains(&expected);
        assert!(
            names.contains(expected) || is_of_replica_sets && !has_transactions,
            "{expected} of {names:?}"
        );
    }
    fresh.destroy().await;
}

#[tokio::test]
async fn every_write_to_a_replica_set_waits_for_a_majority() {
    assert_that_every_write_waits(Mongo::ReplicaSet).await;
}

#[tokio::test]
async fn every_write_to_a_server_alone_asks_for_the_same() {
    assert_that_every_write_waits(Mongo::StandAlone).await;
}
