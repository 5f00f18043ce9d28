//! How MongoDB carries out what is asked of it now and then, and what is a part of transactions: it looks at about as much
//! as it finds.

use std::sync::{Arc, Mutex};

use jobrunr_core::storage::{
    ClaimRequest, CompareAndSet, JobQuery, JobSearch, JobSelection, JobStore, Metadata, MetadataStore,
    SignatureSelection, StorageExt, StorageProvider,
};
use jobrunr_core::{Job, JobDefinition, JobId, JobSettings, JobState, Label, Labels, StateName};
use jobrunr_storage_mongo::MongoStorage;
use jobrunr_storage_mongo::mongodb::Database;
use jobrunr_storage_mongo::mongodb::bson::{Bson, Document, doc};
use jobrunr_storage_mongo::mongodb::event::EventHandler;
use jobrunr_storage_mongo::mongodb::event::command::CommandEvent;
use storage_conformance_tests::TestDatabase;

use crate::plans::{examined, fill, profiling};
use crate::support::{Fresh, Mongo, stored_id};
use crate::{a_definition, a_server, a_storage_on, an_enqueued_job, at};

/// How many jobs there are of each sort that few are of.
const FEW: usize = 5;

/// Few jobs with a label, of a recurring job, and that wait for another one, beside many others; returns that one.
async fn fill_with_tags(storage: &MongoStorage) -> JobId {
    fill(storage).await;
    let awaited = JobId::new();
    let labels = Labels::new([Label::new("rare").unwrap()]).unwrap();
    let nightly =
        JobSettings { recurring_job_id: Some("nightly".parse().unwrap()), ..JobSettings::default() };
    let waiting_for = |job| JobState::Awaiting { reason: None, job: Some(job) };
    let waiting = waiting_for(awaited);
    let a_job = |of, state| Job::new(JobId::new(), of, state, at(0)).unwrap();
    let mut jobs: Vec<Job> = (0..500).map(|_| a_job(a_definition(), waiting_for(JobId::new()))).collect();
    for _ in 0..FEW {
        let sorts = [
            (JobDefinition { labels: labels.clone(), ..a_definition() }, JobState::enqueued()),
            (JobDefinition { settings: nightly.clone(), ..a_definition() }, JobState::enqueued()),
            (a_definition(), waiting.clone()),
        ];
        jobs.extend(sorts.map(|(of, state)| a_job(of, state)));
    }
    storage.insert_jobs(&jobs).await.unwrap();
    awaited
}

#[tokio::test]
async fn jobs_found_by_a_label_a_recurring_job_or_an_awaited_job_are_all_that_is_looked_at() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let awaited = fill_with_tags(&storage).await;
    let queries = [
        JobQuery::all().label("rare"),
        JobQuery::in_state(StateName::Enqueued).label("rare").newest_first(),
        JobQuery::all().recurring_job_id("nightly".parse().unwrap()),
        JobQuery::in_states([StateName::Enqueued, StateName::Processing])
            .recurring_job_id("nightly".parse().unwrap()),
        JobQuery::all().awaited_job_id(awaited),
        JobQuery::in_state(StateName::Awaiting).awaited_job_id(awaited),
    ];

    let commands = profiling(&fresh.database(), async || {
        for query in &queries {
            assert_eq!(storage.list_jobs(&query.clone().limit(100)).await.unwrap().len(), 5, "{query:?}");
            assert_eq!(storage.count_jobs(query).await.unwrap(), 5, "{query:?}");
        }
    })
    .await;

    assert_eq!(commands.len(), 2 * queries.len());
    for command in &commands {
        assert!(command.get_str("planSummary").unwrap().contains("SCAN { tags: 1"), "{command}");
        assert!(examined(command, "docsExamined") <= FEW, "{command}");
        assert!(examined(command, "keysExamined") <= FEW + 1, "{command}");
    }
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn metadata_is_found_without_looking_at_any_other() {
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    for number in 0..200 {
        let value = Metadata {
            name: format!("name {}", number % 50),
            owner: format!("owner {number}"),
            value: "1".to_owned(),
            created_at: at(0),
            updated_at: at(0),
        };
        storage.save_metadata(&value).await.unwrap();
    }
    let change = CompareAndSet {
        name: "name 7".to_owned(),
        owner: "owner 7".to_owned(),
        expected: Some("1".to_owned()),
        new: "2".to_owned(),
        now: at(1),
    };

    let commands = profiling(&fresh.database(), async || {
        let found = storage.find_metadata("name 7", "owner 7").await.unwrap().unwrap();
        storage.save_metadata(&found).await.unwrap();
        assert!(storage.compare_and_set_metadata(&change).await.unwrap());
        assert_eq!(storage.list_metadata("name 7").await.unwrap().len(), 4);
        assert_eq!(storage.delete_metadata("name 7", Some("owner 7")).await.unwrap(), 1);
        assert_eq!(storage.delete_metadata("name 7", None).await.unwrap(), 3);
    })
    .await;

    assert_eq!(commands.len(), 6);
    for command in &commands {
        assert!(command.get_str("planSummary").unwrap().contains("IXSCAN { name: 1, owner: 1"), "{command}");
        assert!(examined(command, "keysExamined") <= 5, "{command}");
        assert!(examined(command, "docsExamined") <= 4, "{command}");
    }
    storage.close().await;
    fresh.destroy().await;
}

#[tokio::test]
async fn a_claim_from_many_lanes_costs_what_they_are_and_not_what_is_in_them() {
    const LANES: usize = 200;
    let Some((fresh, storage)) = a_storage_on(Mongo::StandAlone).await else { return };
    let of_type = |number: usize| {
        let definition =
            JobDefinition { signature: format!("type {number}").parse().unwrap(), ..a_definition() };
        Job::new(JobId::new(), definition, JobState::enqueued(), at(0)).unwrap()
    };
    let jobs: Vec<Job> = (0..LANES * 20).map(|number| of_type(number % LANES)).collect();
    storage.insert_jobs(&jobs).await.unwrap();
    let only = (0..LANES).filter(|number| number % 2 == 0);
    let only =
        SignatureSelection::Only(only.map(|number| format!("type {number}").parse().unwrap()).collect());
    let of_all = ClaimRequest::new(a_server(), 10, at(5));
    let of_some = ClaimRequest { signatures: only, ..of_all.clone() };

    let commands = profiling(&fresh.database(), async || {
        for request in [&of_all, &of_some] {
            assert_eq!(storage.claim_jobs(request).await.unwrap().len(), 10);
        }
    })
    .await;

    assert!(commands.len() >= 8, "{commands:?}");
    for command in &commands {
        assert!(!command.get_str("planSummary").unwrap().contains("COLLSCAN"), "{command}");
        assert!(examined(command, "docsExamined") <= 10, "{command}");
        // A few for each lane: its end, and its beginning again.
        assert!(examined(command, "keysExamined") <= 3 * LANES, "{command}");
    }
    storage.close().await;
    fresh.destroy().await;
}

/// The commands of transactions, as they are sent.
#[derive(Clone, Default)]
struct InTransactions(Arc<Mutex<Vec<(String, Document)>>>);

impl InTransactions {
    fn record(&self) -> EventHandler<CommandEvent> {
        let record = self.clone();
        EventHandler::callback(move |event| {
            if let CommandEvent::Started(started) = event
                && started.command.get_bool("autocommit") == Ok(false)
            {
                record.0.lock().unwrap().push((started.command_name, started.command));
            }
        })
    }

    /// The statements of all commands that have a plan, each as a command of its own.
    fn statements(&self) -> Vec<Document> {
        let mut statements = Vec::new();
        for (name, command) in self.0.lock().unwrap().iter() {
            let parts = match name.as_str() {
                "update" => "updates",
                "delete" => "deletes",
                "find" => {
                    let kept = ["find", "filter", "projection", "limit", "batchSize", "singleBatch", "hint"];
                    let kept =
                        kept.iter().filter_map(|name| Some(((*name).to_owned(), command.get(name)?.clone())));
                    statements.push(kept.collect());
                    continue;
                }
                _ => continue,
            };
            let collection = command.get_str(name).unwrap();
            let each = command.get_array(parts).unwrap().iter();
            statements.extend(each.map(|part| {
                let mut statement = doc! { name: collection };
                statement.insert(parts, vec![part.clone()]);
                statement
            }));
        }
        statements
    }
}

/// Every sort of work that is done in transactions.
async fn work_in_transactions(fresh: &Fresh, storage: &MongoStorage) {
    let mut claimed = storage.claim_jobs(&ClaimRequest::new(a_server(), 20, at(5))).await.unwrap();
    let mut stale = claimed[0].clone();
    claimed.iter_mut().for_each(|job| job.succeed(None, at(6)).unwrap());
    assert_eq!(storage.save_all(&mut claimed).await.unwrap(), []);
    stale.succeed(None, at(7)).unwrap();
    assert_eq!(storage.save_jobs(&[stale]).await.unwrap().conflicts.len(), 1, "who lost is looked at");

    let mut ended = an_enqueued_job();
    ended.delete(None, at(1)).unwrap();
    storage.insert_job(&mut ended).await.unwrap();
    let documents = fresh.database().collection::<Document>("jobrunr_jobs");
    let waiting = storage.list_jobs(&JobQuery::in_state(StateName::Enqueued).limit(2)).await.unwrap();
    for (job, spoil) in [(&waiting[0], doc! { "payload": 7 }), (&waiting[1], doc! { "version": "one" })] {
        let of_job = doc! { "_id": stored_id(job.id()) };
        documents.update_one(of_job, doc! { "$set": spoil }).await.unwrap();
    }
    storage.claim_jobs(&ClaimRequest::new(a_server(), 1_000, at(8))).await.unwrap();
    let aged = JobSelection::Aged {
        state: StateName::Succeeded,
        updated_before: at(6),
        signatures: SignatureSelection::All,
        limit: 100,
    };
    assert_eq!(storage.delete_jobs(&aged).await.unwrap(), 100);
    let ids = claimed.iter().map(Job::id).collect();
    assert_eq!(storage.delete_jobs(&JobSelection::Ids(ids)).await.unwrap(), 20);
}

/// What MongoDB says of a statement that it would carry out.
async fn explained(database: &Database, statement: Document) -> Document {
    let explain = doc! { "explain": statement, "verbosity": "executionStats" };
    database.run_command(explain).await.unwrap()
}

#[tokio::test]
async fn every_statement_of_a_transaction_goes_by_ids() {
    let Some(fresh) = Mongo::ReplicaSet.fresh().await else { return };
    let seen = InTransactions::default();
    let client = fresh.client_that(seen.record());
    let storage = MongoStorage::with_client(client, fresh.options(None)).await.unwrap();
    storage.set_up(jobrunr_core::storage::SetUp::Migrate).await.unwrap();
    fill(&storage).await;

    work_in_transactions(&fresh, &storage).await;

    let statements = seen.statements();
    let of_sort = |sort: &str| statements.iter().filter(|statement| statement.contains_key(sort)).count();
    assert!(of_sort("update") > 25 && of_sort("find") >= 4 && of_sort("delete") == 2, "{statements:?}");
    for statement in statements {
        let most = ids_in(&statement);
        let explained = explained(&fresh.database(), statement.clone()).await;
        let plan = explained.get_document("queryPlanner").unwrap().to_string();
        assert!(plan.contains("IDHACK") || plan.contains("\"indexName\": \"_id_\""), "{statement}: {plan}");
        let stats = explained.get_document("executionStats").unwrap();
        assert!(examined(stats, "totalDocsExamined") <= most, "{statement}: {stats}");
    }
    storage.close().await;
    fresh.destroy().await;
}

/// How many ids a statement names.
fn ids_in(statement: &Document) -> usize {
    let part =
        |parts| Some(statement.get_array(parts).ok()?.first()?.as_document()?.get_document("q").unwrap());
    let filter = part("updates").or_else(|| part("deletes"));
    let filter = filter.unwrap_or_else(|| statement.get_document("filter").unwrap());
    match filter.get("_id") {
        Some(Bson::Document(several)) => several.get_array("$in").unwrap().len(),
        one => usize::from(one.is_some()),
    }
}
