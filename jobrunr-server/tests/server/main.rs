//! The server end to end, on the in-memory storage, with a clock that jumps over whatever nobody does anything in.

mod life;
mod world;
