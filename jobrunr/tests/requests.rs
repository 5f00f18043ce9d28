//! `#[derive(JobRequest)]`: what the attribute says is what the jobs are like.
#![cfg(feature = "macros")]

use jobrunr::prelude::*;
use jobrunr::{JobDraft, JobOptions};

/// The draft of a job for this request, made at the beginning of time.
fn draft(request: impl JobRequest) -> JobDraft {
    JobBuilder::new(request).draft(DateTime::UNIX_EPOCH).expect("the request keeps every rule")
}

#[derive(Debug, Serialize, Deserialize, JobRequest)]
#[job(
    type = "mail",
    name = "Send to {email}",
    retries = 3,
    labels = ["mail", "tenant:{tenant}"],
    queue = "high-prio",
    priority = -5,
    timeout = "1m30s",
    aliases = ["send-mail", "email"],
)]
struct SendWelcomeEmail {
    email: String,
    tenant: u32,
}

fn welcome() -> SendWelcomeEmail {
    SendWelcomeEmail { email: "ada@example.org".into(), tenant: 7 }
}

#[test]
fn every_key_of_the_attribute_is_an_option_of_the_job() {
    let options = JobOptions::default()
        .name("Send to ada@example.org")
        .retries(3)
        .labels(["mail", "tenant:7"])
        .queue("high-prio")
        .priority(-5)
        .timeout(Duration::from_secs(90));

    assert_eq!(welcome().options(), options);
}

#[test]
fn the_job_type_and_its_former_names_are_constants() {
    assert_eq!(SendWelcomeEmail::JOB_TYPE, "mail");
    assert_eq!(SendWelcomeEmail::ALIASES, ["send-mail", "email"]);
}

#[test]
fn the_request_is_stored_as_its_own_json() {
    let payload = draft(welcome()).definition.payload;

    assert_eq!(payload.as_str(), r#"{"email":"ada@example.org","tenant":7}"#);
}

#[test]
fn the_builder_wins_over_the_attribute() {
    let draft = JobBuilder::new(welcome()).queue("low-prio").retries(0).draft(DateTime::UNIX_EPOCH).unwrap();

    assert_eq!(draft.definition.queue, "low-prio");
    assert_eq!(draft.definition.settings.retries, Some(0));
    assert_eq!(draft.definition.priority, -5);
}

#[derive(Serialize, Deserialize, JobRequest)]
struct SyncHTTPCache;

#[test]
fn without_an_attribute_the_type_is_the_name_in_kebab_case_and_nothing_else_is_set() {
    assert_eq!(SyncHTTPCache::JOB_TYPE, "sync-http-cache");
    assert_eq!(SyncHTTPCache::ALIASES, [""; 0]);
    assert_eq!(SyncHTTPCache.options(), JobOptions::default());
}

mod deep {
    pub(crate) mod inside {
        use jobrunr::prelude::*;

        #[derive(Serialize, Deserialize, JobRequest)]
        pub(crate) struct Cleanup {}
    }
}

#[test]
fn the_job_type_does_not_say_where_the_struct_is() {
    assert_eq!(deep::inside::Cleanup::JOB_TYPE, "cleanup");
}

#[derive(Serialize, Deserialize)]
struct Owner {
    name: String,
}

#[derive(Serialize, Deserialize, JobRequest)]
#[job(
    name = "{{{type}}} {amount:>6.2} {owner.name} {tags:?} {{type}}",
    labels = ["100% {type}", "{{braces}}"]
)]
struct Pay {
    r#type: String,
    amount: f64,
    owner: Owner,
    tags: Vec<u8>,
}

#[test]
fn templates_know_braces_formats_keywords_and_fields_of_fields() {
    let owner = Owner { name: "Ada".into() };
    let options = Pay { r#type: "{fee}".into(), amount: 2.5, owner, tags: vec![1, 2] }.options();

    assert_eq!(options.name.unwrap(), "{{fee}}   2.50 Ada [1, 2] {type}");
    assert_eq!(options.labels.unwrap(), ["100% {fee}", "{braces}"]);
}

#[derive(Serialize, Deserialize, JobRequest)]
#[job(name = "Ping {0} {1.name}")]
struct Ping(u16, Owner);

#[test]
fn fields_without_names_go_by_their_numbers() {
    assert_eq!(Ping(443, Owner { name: "Ada".into() }).options().name.unwrap(), "Ping 443 Ada");
}

#[derive(Serialize, Deserialize, JobRequest)]
#[job(queue = "reports")]
enum Report {
    Daily,
    Monthly { month: u8 },
}

#[test]
fn an_enum_can_be_a_request() {
    let daily = draft(Report::Daily).definition;
    let monthly = draft(Report::Monthly { month: 2 }).definition;

    assert_eq!(daily.queue, "reports");
    assert_eq!(daily.signature, monthly.signature);
    assert_eq!(monthly.payload.as_str(), r#"{"Monthly":{"month":2}}"#);
}

macro_rules! request_named {
    ($name:ident, $template:literal) => {
        #[derive(Serialize, Deserialize, JobRequest)]
        #[job(name = $template)]
        struct $name {
            whom: String,
        }
    };
}

request_named!(Greet, "Greet {whom}");

#[test]
fn a_macro_of_the_users_can_write_requests() {
    assert_eq!(Greet { whom: "Ada".into() }.options().name.unwrap(), "Greet Ada");
}

#[test]
fn a_label_that_gets_too_long_with_its_fields_is_refused_when_the_job_is_made() {
    #[derive(Serialize, Deserialize, JobRequest)]
    #[job(labels = ["tenant:{tenant}"])]
    struct Bill {
        tenant: String,
    }

    let refused = JobBuilder::new(Bill { tenant: "x".repeat(60) }).draft(DateTime::UNIX_EPOCH);

    assert!(matches!(refused, Err(jobrunr::InvalidJob::Name(_))));
}
