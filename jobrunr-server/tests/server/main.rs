//! The server end to end, on the in-memory storage, with a clock that jumps over whatever nobody does anything in.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the right answer, also in what they share")]

mod cancellation;
mod cluster;
mod context;
mod elections;
mod external;
mod failures;
mod faulty;
mod filters;
mod filters_by_type;
mod hooks_beside_runs;
mod hooks_of_claims;
mod housekeeping;
mod life;
#[cfg(feature = "metrics")]
mod metrics;
mod outage;
mod overlap;
mod overlap_of_calls;
mod problems;
mod queues;
mod recurring;
mod recurring_troubles;
mod results;
mod start;
mod stop;
mod traces;
mod triggered_runs;
mod world;
