//! PostgreSQL, with PgBouncer beside it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::instance::Instance;
use super::machine::find_program;
use super::{Companion, Database};

/// Where Debian keeps the programs of each version.
const FOLDERS: &[&str] = &["/usr/lib/postgresql/*/bin"];

#[derive(Debug)]
pub(super) struct Postgres;

impl Postgres {
    fn program(name: &str) -> Result<PathBuf> {
        find_program(name, FOLDERS).with_context(|| format!("{name} is not on this machine"))
    }
}

/// Whether everything is there that a server is made and run by.
fn is_whole(is_there: impl Fn(&str) -> bool) -> bool {
    ["initdb", "postgres"].into_iter().all(is_there)
}

impl Database for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn variable(&self) -> &'static str {
        "JOBRUNR_TEST_POSTGRES_URL"
    }

    fn packages(&self) -> &'static [&'static str] {
        &["postgresql"]
    }

    fn companions(&self) -> &'static [Companion] {
        &[Companion { program: "pgbouncer", folders: &["/usr/sbin"], package: "pgbouncer" }]
    }

    fn is_installed(&self) -> bool {
        is_whole(|program| find_program(program, FOLDERS).is_some())
    }

    fn create(&self, instance: &Instance) -> Result<()> {
        let password = instance.write_secret("initial-password", &instance.password)?;
        // The password is sent as it is, over loopback only: hashing it would cost every connection of a test 10 ms.
        let mut initdb = instance.command(&Self::program("initdb")?);
        initdb
            .args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=password", "--no-sync"])
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(instance.data());
        let output = initdb.output().context("initdb could not be started")?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("initdb failed: {}", words.lines().last().unwrap_or_default());
        }
        Ok(())
    }

    fn server(&self, instance: &Instance) -> Result<Command> {
        let program = Self::program("postgres")?;
        let mut server = instance.command(&program);
        // What benchmarks count statements by, where the server has it.
        if program.parent().is_some_and(|bin| bin.join("../lib/pg_stat_statements.so").exists()) {
            server.arg("-c").arg("shared_preload_libraries=pg_stat_statements");
        }
        server.arg("-D").arg(instance.data()).arg("-p").arg(instance.port.to_string());
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=400",
            "shared_buffers=256MB",
            "max_wal_size=4GB",
            "log_min_messages=fatal",
        ] {
            server.arg("-c").arg(setting);
        }
        Ok(server)
    }

    fn is_ready(&self, instance: &Instance) -> bool {
        let program = find_program("pg_isready", FOLDERS).unwrap_or_else(|| Path::new("pg_isready").into());
        let mut command = Command::new(program);
        command.args(["-q", "-h", "127.0.0.1", "-p", &instance.port.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn stop_signal(&self) -> &'static str {
        // Fast shutdown: does not wait for clients to go.
        "INT"
    }

    fn url(&self, port: u16, password: &str) -> String {
        format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres")
    }

    fn container_port(&self) -> u16 {
        5432
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_with_postgresql_and_no_pgbouncer_has_postgresql() {
        assert!(is_whole(|program| program != "pgbouncer"));
        assert!(!is_whole(|program| program != "postgres"));
        assert!(!Postgres.packages().contains(&"pgbouncer"));
        assert_eq!(Postgres.companions()[0].package, "pgbouncer");
    }
}
