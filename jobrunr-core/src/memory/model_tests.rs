//! Random calls must have the same results here as where every question is answered by looking at every job, and must
//! leave the indexes as if they had been built anew.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use uuid::Uuid;

use super::MemoryStorage;
use super::indexes::Indexes;
use super::naive::Naive;
use crate::ids::{JobId, ServerId};
use crate::job::{Job, JobDefinition, JobMetadata, ServerRef};
use crate::json_text::JsonText;
use crate::names::{JobSignature, Label, Labels, QueueName, RecurringJobId};
use crate::state::{Failure, FailureKind, JobState, StateName};
use crate::storage::{
    ClaimRequest, JobCursor, JobOrder, JobQuery, JobSearch, JobSelection, JobStore, OrderField,
    QueueSelection, SignatureSelection, TimeWindow,
};

#[derive(Debug, Clone)]
enum Call {
    Insert(Vec<Job>),
    /// Moves the copies at these places of what the caller has at hand and saves them in one batch.
    Save(Vec<(prop::sample::Index, JobState, DateTime<Utc>)>),
    Claim(ClaimRequest),
    EnqueueDue(DateTime<Utc>, usize),
    Delete(JobSelection),
    SaveMetadata(JobId, String),
    Search(Box<JobQuery>),
    ListSignatures(Vec<StateName>),
}

fn instants() -> impl Strategy<Value = DateTime<Utc>> {
    (0..20_i64).prop_map(|second| DateTime::from_timestamp(second, 0).unwrap())
}

fn job_ids() -> impl Strategy<Value = JobId> {
    (0..40_u128).prop_map(|number| JobId::from(Uuid::from_u128(number)))
}

fn server_ids() -> impl Strategy<Value = ServerId> {
    (0..3_u128).prop_map(|number| ServerId::from(Uuid::from_u128(number)))
}

fn queues() -> impl Strategy<Value = QueueName> {
    select(vec!["a", "b", "c"]).prop_map(|name| name.parse().unwrap())
}

fn signatures() -> impl Strategy<Value = JobSignature> {
    select(vec!["one", "two", "three"]).prop_map(|name| name.parse().unwrap())
}

fn recurring_ids() -> impl Strategy<Value = RecurringJobId> {
    select(vec!["nightly", "hourly"]).prop_map(|name| name.parse().unwrap())
}

fn labels() -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(vec!["x", "xy", "z"], 0..=3)
}

fn states() -> impl Strategy<Value = Vec<StateName>> {
    subsequence(StateName::ALL.to_vec(), 0..=4)
}

fn selections() -> impl Strategy<Value = SignatureSelection> {
    let several = || prop::collection::vec(signatures(), 0..3);
    prop_oneof![
        Just(SignatureSelection::All),
        several().prop_map(SignatureSelection::Only),
        several().prop_map(SignatureSelection::Except),
    ]
}

fn windows() -> impl Strategy<Value = TimeWindow> {
    let bound = || prop::option::weighted(0.2, instants());
    (bound(), bound()).prop_map(|(from, before)| TimeWindow { from, before })
}

prop_compose! {
    fn definitions()(
        signature in signatures(),
        name in select(vec!["Send 100%", "send_mail", "clean up"]),
        labels in labels(),
        queue in queues(),
        priority in -1..=1,
        recurring_job_id in prop::option::of(recurring_ids()),
    ) -> JobDefinition {
        let mut definition = JobDefinition::new(signature, JsonText::of(&()).unwrap()).named(name);
        definition.labels = Labels::new(labels.into_iter().map(|label| Label::new(label).unwrap())).unwrap();
        definition.queue = queue;
        definition.priority = priority;
        definition.settings.recurring_job_id = recurring_job_id;
        definition
    }
}

fn first_states() -> impl Strategy<Value = JobState> {
    prop_oneof![
        2 => Just(JobState::enqueued()),
        1 => instants().prop_map(JobState::scheduled),
        1 => prop::option::of(job_ids()).prop_map(|job| JobState::Awaiting { job, reason: None }),
    ]
}

fn any_states() -> impl Strategy<Value = JobState> {
    let failures = select(vec!["Disk full", "disk gone", "50% lost"]);
    prop_oneof![
        first_states(),
        Just(JobState::Processed {}),
        Just(JobState::Succeeded {
            latency: std::time::Duration::ZERO,
            processing_duration: std::time::Duration::ZERO,
            result: None
        }),
        failures.prop_map(|message| JobState::failed(Failure::new(FailureKind::Error, message))),
        Just(JobState::Deleted { reason: None }),
    ]
}

prop_compose! {
    fn jobs()(id in job_ids(), definition in definitions(), state in first_states(), now in instants()) -> Job {
        Job::new(id, definition, state, now).unwrap()
    }
}

prop_compose! {
    fn claims()(
        server_id in server_ids(),
        queues in prop::option::of(prop::collection::vec(queues(), 0..4)),
        signatures in selections(),
        limit in 0..6_usize,
        now in instants(),
    ) -> ClaimRequest {
        let queues = queues.map_or(QueueSelection::All, QueueSelection::InOrder);
        let server = ServerRef { id: server_id, name: "server".into() };
        ClaimRequest { server, queues, signatures, limit, now }
    }
}

prop_compose! {
    fn orders()(
        field in select(vec![OrderField::CreatedAt, OrderField::UpdatedAt, OrderField::ScheduledAt]),
        descending in any::<bool>(),
    ) -> JobOrder {
        JobOrder { field, descending }
    }
}

prop_compose! {
    fn conditions()(
        states in states(),
        labels in prop_oneof![2 => Just(vec![]), 1 => labels()],
        queue in prop::option::weighted(0.2, queues()),
        signatures in prop_oneof![2 => Just(SignatureSelection::All), 1 => selections()],
        name_contains in prop::option::weighted(0.2, select(vec!["SEND", "%", "_", "", "up"])),
        recurring_job_id in prop::option::weighted(0.2, recurring_ids()),
        server_id in prop::option::weighted(0.1, server_ids()),
        server_not_in in prop::option::weighted(0.1, prop::collection::vec(server_ids(), 0..3)),
        awaited_job_id in prop::option::weighted(0.1, job_ids()),
        error_contains in prop::option::weighted(0.1, select(vec!["DISK", "%", ""])),
        (created, updated, scheduled) in (windows(), windows(), windows()),
    ) -> JobQuery {
        JobQuery {
            states, queue, signatures, recurring_job_id, server_id, server_not_in, awaited_job_id,
            labels: labels.into_iter().map(str::to_owned).collect(),
            name_contains: name_contains.map(str::to_owned),
            error_contains: error_contains.map(str::to_owned),
            created, updated, scheduled,
            ..JobQuery::default()
        }
    }
}

prop_compose! {
    /// The conditions that indexes answer alone.
    fn plain_conditions()(
        state in select(StateName::ALL.to_vec()),
        signatures in selections(),
        window in prop_oneof![Just(TimeWindow::default()), windows()],
        field in select(vec![OrderField::CreatedAt, OrderField::UpdatedAt, OrderField::ScheduledAt]),
    ) -> JobQuery {
        let query = JobQuery::in_state(state).signatures(signatures);
        match field {
            OrderField::CreatedAt => query.created(window),
            OrderField::UpdatedAt => query.updated(window),
            OrderField::ScheduledAt => query.scheduled(window),
        }
    }
}

prop_compose! {
    fn searches()(
        conditions in prop_oneof![conditions(), plain_conditions()],
        order in orders(),
        after in prop::option::weighted(0.3, (instants(), job_ids())),
        offset in prop_oneof![2 => Just(0), 1 => 0..5_usize],
        limit in prop::option::of(0..8_usize),
    ) -> JobQuery {
        let after = after.map(|(instant, id)| JobCursor { instant, id });
        JobQuery { order, after, offset, limit, ..conditions }
    }
}

fn aged() -> impl Strategy<Value = JobSelection> {
    (select(StateName::ALL.to_vec()), instants(), selections(), 0..4_usize).prop_map(
        |(state, updated_before, signatures, limit)| JobSelection::Aged {
            state,
            updated_before,
            signatures,
            limit,
        },
    )
}

fn calls() -> impl Strategy<Value = Call> {
    let moves = (any::<prop::sample::Index>(), any_states(), instants());
    prop_oneof![
        4 => prop::collection::vec(jobs(), 0..8).prop_map(Call::Insert),
        8 => prop::collection::vec(moves, 0..6).prop_map(Call::Save),
        4 => claims().prop_map(Call::Claim),
        2 => (instants(), 0..6_usize).prop_map(|(now, limit)| Call::EnqueueDue(now, limit)),
        1 => prop::collection::vec(job_ids(), 0..3).prop_map(|ids| Call::Delete(JobSelection::Ids(ids))),
        1 => aged().prop_map(Call::Delete),
        1 => (job_ids(), select(vec!["m", "n"])).prop_map(|(id, name)| Call::SaveMetadata(id, name.into())),
        12 => searches().prop_map(|query| Call::Search(Box::new(query))),
        1 => states().prop_map(Call::ListSignatures),
    ]
}

/// What a call gives, at once: none ever waits.
fn now<T>(call: impl Future<Output = Result<T, crate::storage::StorageError>>) -> T {
    call.now_or_never().expect("a call never waits").unwrap()
}

/// A storage, its model, and the copies of jobs that their user has at hand, some of them stale.
#[derive(Default)]
struct Pair {
    storage: MemoryStorage,
    naive: Naive,
    copies: Vec<Job>,
}

impl Pair {
    fn call(&mut self, call: Call) -> Result<(), TestCaseError> {
        let Self { storage, naive, copies } = self;
        match call {
            Call::Insert(jobs) => {
                prop_assert_eq!(now(storage.insert_jobs(&jobs)), naive.insert(&jobs));
                copies.extend(jobs.into_iter().map(|mut job| {
                    job.mark_inserted();
                    job
                }));
            }
            Call::Save(moves) => {
                let mut batch = Vec::new();
                for (index, state, at) in moves.into_iter().filter(|_| !copies.is_empty()) {
                    let copy = index.get(copies.as_slice());
                    let mut moved = naive.jobs.get(&copy.id()).unwrap_or(copy).clone();
                    if copy.version() != moved.version() && at.timestamp() % 2 == 0 {
                        moved = copy.clone();
                    }
                    // Where the table does not allow the move, the job is saved without a new entry.
                    let _ = moved.transition(state, at);
                    batch.push(moved);
                }
                prop_assert_eq!(now(storage.save_jobs(&batch)), naive.save(&batch));
            }
            Call::Claim(request) => {
                let claimed = now(storage.claim_jobs(&request));
                prop_assert_eq!(&claimed, &naive.claim(&request));
                copies.extend(claimed);
            }
            Call::EnqueueDue(at, limit) => {
                prop_assert_eq!(now(storage.enqueue_due_jobs(at, limit)), naive.enqueue_due(at, limit));
            }
            Call::Delete(selection) => {
                prop_assert_eq!(now(storage.delete_jobs(&selection)), naive.delete(&selection));
            }
            Call::SaveMetadata(id, name) => {
                let entries: JobMetadata = [(name, serde_json::Value::Bool(true))].into();
                let was_there = naive.jobs.contains_key(&id);
                if let Some(job) = naive.jobs.get_mut(&id) {
                    let mut metadata = job.metadata().clone();
                    metadata.extend(entries.clone());
                    *job = job.clone().with_metadata(metadata);
                }
                prop_assert_eq!(now(storage.save_job_metadata(id, &entries)), was_there);
            }
            Call::Search(query) => {
                prop_assert_eq!(now(storage.list_jobs(&query)), naive.list(&query));
                prop_assert_eq!(now(storage.count_jobs(&query)), naive.count(&query));
            }
            Call::ListSignatures(states) => {
                prop_assert_eq!(now(storage.list_signatures(&states)), naive.signatures(&states));
            }
        }
        prop_assert_eq!(now(storage.job_counts()), naive.counts());
        Ok(())
    }

    fn content_is_the_same(&self) -> Result<(), TestCaseError> {
        for (id, job) in &self.naive.jobs {
            let found = now(self.storage.find_job(*id));
            prop_assert_eq!(found.as_ref(), Some(job));
        }
        let jobs = &self.storage.content().jobs;
        prop_assert_eq!(jobs.rows.len(), self.naive.jobs.len());
        let mut rebuilt = Indexes::default();
        rebuilt.counts.succeeded_all_time = jobs.indexes.counts.succeeded_all_time;
        for (id, row) in &jobs.rows {
            rebuilt.insert(*id, row);
        }
        prop_assert_eq!(&rebuilt, &jobs.indexes);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_calls_give_what_looking_at_every_job_gives(calls in prop::collection::vec(calls(), 1..120)) {
        let mut pair = Pair::default();
        for call in calls {
            pair.call(call)?;
        }
        pair.content_is_the_same()?;
    }
}
