//! What can be done to a storage, as data that chance can make up.

use jobrunr_core::StateName;
use jobrunr_core::storage::{BoxError, OrderField};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// How many ids there are: few, so that operations meet each other.
pub(super) const IDS: u64 = 40;

/// One call, or a load and a save.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Insert(Vec<NewJob>),
    Find(u64),
    Save(Vec<Change>),
    /// Saves a copy that was loaded by an earlier operation, whatever has become of the job since.
    StaleSave {
        copy: usize,
        change: Change,
    },
    SaveMetadata {
        id: u64,
        name: u8,
        value: i32,
    },
    Claim {
        limit: usize,
        queues: Vec<u8>,
        types: Types,
    },
    ReleaseDue {
        limit: usize,
    },
    DeleteIds(Vec<u64>),
    DeleteAged {
        state: StateName,
        older_by_seconds: i64,
        limit: usize,
    },
    List(Query),
    Count(Query),
    Counts,
    ListSignatures(Vec<StateName>),
    SaveRecurring {
        id: u8,
        is_stale: bool,
        next_run_second: Option<i64>,
        paused: bool,
    },
    ListRecurring {
        due_second: Option<i64>,
        after: Option<u8>,
        limit: Option<usize>,
    },
    DeleteRecurring(u8),
    SaveValue {
        name: u8,
        owner: u8,
        value: u8,
    },
    CompareAndSet {
        name: u8,
        owner: u8,
        expected: Option<u8>,
        new: u8,
    },
    ListValues(u8),
    DeleteValues {
        name: u8,
        owner: Option<u8>,
    },
    /// Lets time go on, or back, as the clocks of servers differ.
    Wait {
        seconds: i64,
    },
}

#[derive(Debug, Clone)]
pub(super) struct NewJob {
    pub(super) id: u64,
    pub(super) queue: u8,
    pub(super) kind: u8,
    pub(super) priority: i32,
    pub(super) label: u8,
    /// Seconds until it is due; `None` = it is ENQUEUED.
    pub(super) due_in: Option<i64>,
}

#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) id: u64,
    /// Which of the legal next states, one after the other.
    pub(super) moves: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Types {
    All,
    Only(Vec<u8>),
    Except(Vec<u8>),
}

#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) states: Vec<StateName>,
    pub(super) queue: Option<u8>,
    pub(super) types: Types,
    pub(super) label: Option<u8>,
    pub(super) name: Option<String>,
    pub(super) error: Option<String>,
    pub(super) field: OrderField,
    pub(super) descending: bool,
    /// After the job with this id, if it is there.
    pub(super) after: Option<u64>,
    pub(super) offset: usize,
    pub(super) limit: usize,
}

/// A sequence that follows from its seed.
pub(super) fn random_operations(seed: u64, count: usize) -> Result<Vec<Operation>, BoxError> {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = prop::collection::vec(operation(), count)
        .new_tree(&mut runner)
        .map_err(|reason| reason.to_string())?;
    Ok(tree.current())
}

fn id() -> impl Strategy<Value = u64> {
    0..IDS
}

fn state() -> impl Strategy<Value = StateName> {
    prop::sample::select(&StateName::ALL[..])
}

fn types() -> impl Strategy<Value = Types> {
    let some = || prop::collection::vec(0..4_u8, 0..3);
    prop_oneof![3 => Just(Types::All), 2 => some().prop_map(Types::Only), 1 => some().prop_map(Types::Except)]
}

fn new_job() -> impl Strategy<Value = NewJob> {
    (id(), 0..3_u8, 0..4_u8, -1..=1_i32, 0..4_u8, prop::option::of(-5..30_i64)).prop_map(
        |(id, queue, kind, priority, label, due_in)| NewJob { id, queue, kind, priority, label, due_in },
    )
}

fn change() -> impl Strategy<Value = Change> {
    (id(), prop::collection::vec(0..8_usize, 0..3)).prop_map(|(id, moves)| Change { id, moves })
}

fn query() -> impl Strategy<Value = Query> {
    let kind = (
        prop::collection::vec(state(), 0..3),
        prop::option::weighted(0.3, 0..3_u8),
        types(),
        prop::option::weighted(0.3, 0..4_u8),
        prop::option::weighted(0.2, "[jJ0-9_% ]{0,2}"),
        prop::option::weighted(0.2, "[bB0-9_% ]{0,2}"),
    );
    let fields = [OrderField::CreatedAt, OrderField::UpdatedAt, OrderField::ScheduledAt];
    let window = (
        prop::sample::select(fields.to_vec()),
        any::<bool>(),
        prop::option::weighted(0.3, id()),
        0..5_usize,
        prop_oneof![0..10_usize, Just(1_000)],
    );
    (kind, window).prop_map(
        |((states, queue, types, label, name, error), (field, descending, after, offset, limit))| Query {
            states,
            queue,
            types,
            label,
            name,
            error,
            field,
            descending,
            after,
            offset,
            limit,
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let limit = || 0..6_usize;
    let second = || prop::option::of(0..200_i64);
    prop_oneof![
        8 => prop::collection::vec(new_job(), 1..5).prop_map(Operation::Insert),
        3 => id().prop_map(Operation::Find),
        10 => prop::collection::vec(change(), 1..6).prop_map(Operation::Save),
        3 => (0..20_usize, change()).prop_map(|(copy, change)| Operation::StaleSave { copy, change }),
        2 => (id(), 0..3_u8, any::<i32>())
            .prop_map(|(id, name, value)| Operation::SaveMetadata { id, name, value }),
        8 => (limit(), prop::collection::vec(0..3_u8, 0..3), types())
            .prop_map(|(limit, queues, types)| Operation::Claim { limit, queues, types }),
        4 => limit().prop_map(|limit| Operation::ReleaseDue { limit }),
        1 => prop::collection::vec(id(), 0..4).prop_map(Operation::DeleteIds),
        1 => (state(), 0..30_i64, limit()).prop_map(|(state, older_by_seconds, limit)| {
            Operation::DeleteAged { state, older_by_seconds, limit }
        }),
        5 => query().prop_map(Operation::List),
        3 => query().prop_map(Operation::Count),
        2 => Just(Operation::Counts),
        1 => prop::collection::vec(state(), 0..4).prop_map(Operation::ListSignatures),
        2 => (0..5_u8, any::<bool>(), second(), any::<bool>()).prop_map(
            |(id, is_stale, next_run_second, paused)| Operation::SaveRecurring { id, is_stale, next_run_second, paused }
        ),
        1 => (second(), prop::option::of(0..5_u8), prop::option::of(0..4_usize)).prop_map(
            |(due_second, after, limit)| Operation::ListRecurring { due_second, after, limit }
        ),
        1 => (0..5_u8).prop_map(Operation::DeleteRecurring),
        1 => (0..3_u8, 0..3_u8, 0..3_u8).prop_map(|(name, owner, value)| Operation::SaveValue { name, owner, value }),
        2 => (0..3_u8, 0..3_u8, prop::option::of(0..3_u8), 0..3_u8).prop_map(|(name, owner, expected, new)| {
            Operation::CompareAndSet { name, owner, expected, new }
        }),
        1 => (0..3_u8).prop_map(Operation::ListValues),
        1 => (0..3_u8, prop::option::of(0..3_u8)).prop_map(|(name, owner)| Operation::DeleteValues { name, owner }),
        6 => (-3..15_i64).prop_map(|seconds| Operation::Wait { seconds }),
    ]
}
