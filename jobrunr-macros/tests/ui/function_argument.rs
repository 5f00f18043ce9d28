// What `#[job]` asks of every argument, alone: with the attribute, serde's complaints follow, which are not ours to pin.
struct Connection;

fn check(_: jobrunr::__private::IsArgument<Connection>) {}

fn main() {}
