//! `register_all()`: every `#[job]` function of the program, without naming them. This file is a program of its own.
#![cfg(all(feature = "macros", feature = "register-all"))]

use std::sync::Mutex;

use jobrunr::prelude::*;
use jobrunr::server::ServerError;

static RUNS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(run: impl Into<String>) {
    RUNS.lock().expect("no test panics with it").push(run.into());
}

struct Greeting(&'static str);

#[job]
async fn greet(whom: String, greeting: Inject<Greeting>) -> JobResult {
    note(format!("{} {whom}", greeting.0));
    Ok(())
}

mod hidden {
    use jobrunr::prelude::*;

    #[job]
    #[recurring(id = "beat", interval = "1s")]
    fn beat() {
        super::note("beat");
    }

    #[job]
    #[deprecated = "there is a better one"]
    fn old() {}

    #[cfg(any())]
    #[job]
    fn not_here(missing: NoSuchType) {}
}

async fn server(storage: &Arc<dyn StorageProvider>) -> jobrunr::server::BackgroundJobServerBuilder {
    BackgroundJobServer::builder(Arc::clone(storage)).poll_interval(Duration::from_millis(200))
}

#[tokio::test]
async fn every_job_function_of_the_program_is_run_and_the_recurring_ones_by_themselves() {
    #[job]
    fn local(word: String) {
        note(word);
    }
    let storage = jobrunr::connect("memory:").await.expect("memory is always there");
    let builder = server(&storage).await.job(greet).provide(Greeting("Hello"));
    let server = builder.register_all().start().await.expect("all they need was given");

    server.scheduler().enqueue(greet::job("Ada")).await.expect("memory takes it");
    server.scheduler().enqueue(local::job("local")).await.expect("memory takes it");

    let all_ran = async {
        let expected = ["Hello Ada", "local", "beat"];
        while !expected
            .iter()
            .all(|run| RUNS.lock().expect("no test panics with it").iter().any(|ran| ran == run))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_ran).await.expect("all of them run");
    let types = &storage.list_servers().await.expect("memory answers")[0].announcement.signatures;
    assert_eq!(
        types.iter().map(|signature| signature.as_str()).collect::<Vec<_>>(),
        ["beat", "greet", "local", "old"]
    );
    server.stop().await;
}

#[tokio::test]
async fn what_a_collected_function_needs_must_be_given() {
    let storage = jobrunr::connect("memory:").await.expect("memory is always there");

    let error = server(&storage).await.register_all().start().await.expect_err("there is no greeting");

    let ServerError::MissingDependency { job_type, type_name } = error else { panic!("{error}") };
    assert_eq!(job_type, "greet");
    assert!(type_name.ends_with("Greeting"));
}
