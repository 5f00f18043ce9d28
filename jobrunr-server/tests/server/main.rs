//! The server end to end, on the in-memory storage, with a clock that jumps over whatever nobody does anything in.

mod cancellation;
mod cluster;
mod failures;
mod faulty;
mod filters;
mod housekeeping;
mod life;
mod outage;
mod start;
mod stop;
mod world;
