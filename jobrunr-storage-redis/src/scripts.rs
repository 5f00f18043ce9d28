//! The scripts: each is one atomic step. They are named by their hash, and sent whole where a server does not know them.

use std::sync::LazyLock;

use redis::{Cmd, cmd};

use crate::head::places_for_scripts;

/// One script with all that it needs.
#[derive(Debug)]
pub(crate) struct Script {
    code: String,
    hash: String,
}

const PRELUDE: &str = include_str!("scripts/prelude.lua");

impl Script {
    fn new(body: &str) -> Self {
        let code = format!("{}{PRELUDE}{body}", places_for_scripts());
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }

    /// Begins a call of the script for the keys with this base; arguments follow.
    pub(crate) fn call(&self, base: &str) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.hash).arg(1).arg(base);
        call
    }

    /// The same call with the text of the script, which the server then knows.
    pub(crate) fn with_text(&self, call: &Cmd) -> Cmd {
        let mut with_text = cmd("EVAL");
        with_text.arg(&self.code);
        for argument in call.args_iter().skip(2) {
            if let redis::Arg::Simple(argument) = argument {
                with_text.arg(argument);
            }
        }
        with_text
    }
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident: $file:literal;)+) => {
        $(
            $(#[$doc])*
            pub(crate) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file))));
        )+
    };
}

scripts! {
    INSERT: "insert.lua";
    SAVE: "save.lua";
    CLAIM: "claim.lua";
    ADOPT: "adopt.lua";
    DUE: "due.lua";
    DELETE: "delete.lua";
    PURGE: "purge.lua";
    JOB_DATA: "job_data.lua";
    TASK_SAVE: "task_save.lua";
    TASK_DELETE: "task_delete.lua";
    CLOCK: "clock.lua";
    SILENT: "silent.lua";
    VALUE_SAVE: "value_save.lua";
    VALUES_DELETE: "values_delete.lua";
    SCHEMA: "schema.lua";
}
