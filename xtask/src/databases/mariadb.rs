//! MariaDB, which stands for MySQL as well: both are served by one storage.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Database;
use super::instance::Instance;
use super::machine::find_program;

/// Where Debian keeps the server, whoever's search path it is on.
const FOLDERS: &[&str] = &["/usr/sbin", "/usr/bin"];

#[derive(Debug)]
pub(super) struct MariaDb;

impl MariaDb {
    fn program(name: &str) -> Result<PathBuf> {
        find_program(name, FOLDERS).with_context(|| format!("{name} is not on this machine"))
    }
}

impl Database for MariaDb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn variable(&self) -> &'static str {
        "JOBRUNR_TEST_MYSQL_URL"
    }

    fn packages(&self) -> &'static [&'static str] {
        &["mariadb-server"]
    }

    fn is_installed(&self) -> bool {
        ["mariadbd", "mariadb-install-db", "mariadb-admin"]
            .iter()
            .all(|program| find_program(program, FOLDERS).is_some())
    }

    fn create(&self, instance: &Instance) -> Result<()> {
        let password = &instance.password;
        let first_words = format!(
            "ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n\
             ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{password}';\n\
             CREATE DATABASE IF NOT EXISTS jobrunr;\n"
        );
        instance.write_secret("init.sql", &first_words)?;
        let mut install = instance.command(&Self::program("mariadb-install-db")?);
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--datadir={}", instance.data().display()));
        let output = install.output().context("mariadb-install-db could not be started")?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("mariadb-install-db failed: {}", words.lines().last().unwrap_or_default());
        }
        Ok(())
    }

    fn server(&self, instance: &Instance) -> Result<Command> {
        let data = instance.data();
        let mut server = instance.command(&Self::program("mariadbd")?);
        server
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--init-file={}", data.with_file_name("init.sql").display()))
            .arg(format!("--pid-file={}", data.with_file_name("pid").display()))
            // The length of the path of a socket is limited; nobody uses it, and port and path are both free.
            .arg(format!("--socket=/tmp/jobrunr-mariadb-{}.sock", instance.port))
            .arg(format!("--port={}", instance.port))
            // A commit is given to the system, not to the disk: what tests write need not survive the machine.
            .args(["--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=256M"])
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=400"]);
        Ok(server)
    }

    fn is_ready(&self, instance: &Instance) -> bool {
        let Ok(program) = Self::program("mariadb-admin") else { return false };
        let mut command = Command::new(program);
        command.args(["--no-defaults", "--host=127.0.0.1", "--protocol=tcp", "--user=root"]);
        command.arg(format!("--port={}", instance.port)).env("MYSQL_PWD", &instance.password).arg("ping");
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn url(&self, port: u16, password: &str) -> String {
        format!("mysql://root:{password}@127.0.0.1:{port}/jobrunr")
    }

    fn container_port(&self) -> u16 {
        3306
    }
}
