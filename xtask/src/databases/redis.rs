//! Redis: one server with an append-only file, and a cluster of three masters.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Database;
use super::instance::{Instance, free_ports};
use super::machine::find_program;

/// How long a server may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(2);

/// The packages of both; the second has the program that makes the cluster.
const PACKAGES: &[&str] = &["redis-server", "redis-tools"];

/// Nobody needs the server that the package starts: the private ones have ports of their own.
const SERVICES: &[&str] = &["redis-server"];

/// A file is never written anew in the middle of a measurement.
const NO_REWRITES: &str = "auto-aof-rewrite-min-size 2gb\n";

#[derive(Debug)]
pub(super) struct Redis;

#[derive(Debug)]
pub(super) struct RedisCluster;

fn program(name: &str) -> Result<PathBuf> {
    find_program(name, &["/usr/bin"]).with_context(|| format!("{name} is not on this machine"))
}

fn is_installed() -> bool {
    program("redis-server").is_ok() && program("redis-cli").is_ok()
}

/// Asks a server one thing on a connection of its own; `None` if there is no answer.
fn ask(port: u16, password: &str, question: &str) -> Option<String> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(connection, "AUTH {password}\r\n{question}\r\nQUIT\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    Some(answer)
}

impl Database for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn variable(&self) -> &'static str {
        "JOBRUNR_TEST_REDIS_URL"
    }

    fn packages(&self) -> &'static [&'static str] {
        PACKAGES
    }

    fn services(&self) -> &'static [&'static str] {
        SERVICES
    }

    fn is_installed(&self) -> bool {
        is_installed()
    }

    fn create(&self, instance: &Instance) -> Result<()> {
        instance.make_folder("data")?;
        // On the command line everybody could read the password.
        let settings = format!(
            "bind 127.0.0.1\nrequirepass {}\nappendonly yes\nappendfsync everysec\nsave \"\"\n{NO_REWRITES}",
            instance.password
        );
        instance.write_secret("redis.conf", &settings)?;
        Ok(())
    }

    fn server(&self, instance: &Instance) -> Result<Command> {
        let mut server = instance.command(&program("redis-server")?);
        server.arg(instance.data().with_file_name("redis.conf")).args(["--port", &instance.port.to_string()]);
        // The process is known again by the folder in its command line.
        server.arg("--dir").arg(instance.data()).args(["--set-proc-title", "no"]);
        Ok(server)
    }

    fn is_ready(&self, instance: &Instance) -> bool {
        ask(instance.port, &instance.password, "PING").is_some_and(|answer| answer.contains("+PONG"))
    }

    fn url(&self, port: u16, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{port}")
    }

    fn container_port(&self) -> u16 {
        6379
    }
}

/// Starts three servers, makes a cluster of them, and ends with them.
const CLUSTER: &str = r#"
trap 'kill $servers 2>/dev/null; wait' TERM INT
for pair in $PORTS; do
    port=${pair%:*}
    redis-server "$DATA/redis.conf" --port "$port" --cluster-port "${pair#*:}" --dir "$DATA/$port" &
    servers="$servers $!"
    nodes="$nodes 127.0.0.1:$port"
done
until redis-cli --cluster create $nodes --cluster-yes; do sleep 0.2; done
wait
"#;

/// How many masters there are.
const MASTERS: usize = 3;

impl Database for RedisCluster {
    fn name(&self) -> &'static str {
        "redis-cluster"
    }

    fn variable(&self) -> &'static str {
        "JOBRUNR_TEST_REDIS_CLUSTER_URL"
    }

    fn packages(&self) -> &'static [&'static str] {
        PACKAGES
    }

    fn services(&self) -> &'static [&'static str] {
        SERVICES
    }

    fn is_installed(&self) -> bool {
        is_installed()
    }

    fn create(&self, instance: &Instance) -> Result<()> {
        instance.make_folder("data")?;
        let settings = format!(
            "bind 127.0.0.1\nrequirepass {password}\nmasterauth {password}\nappendonly yes\nsave \"\"\n\
             cluster-enabled yes\ncluster-node-timeout 5000\n{NO_REWRITES}",
            password = instance.password,
        );
        instance.write_secret("data/redis.conf", &settings)?;
        Ok(())
    }

    fn server(&self, instance: &Instance) -> Result<Command> {
        let free = free_ports(2 * MASTERS)?;
        let mut ports = Vec::new();
        for (index, pair) in free.chunks(2).enumerate() {
            let port = if index == 0 { instance.port } else { pair[0] };
            instance.make_folder(&format!("data/{port}"))?;
            ports.push(format!("{port}:{}", pair[1]));
        }
        let mut server = instance.command(&program("sh")?);
        server
            .args(["-c", CLUSTER, &instance.data().to_string_lossy()])
            .env("DATA", instance.data())
            .env("PORTS", ports.join(" "))
            .env("REDISCLI_AUTH", &instance.password);
        Ok(server)
    }

    fn is_ready(&self, instance: &Instance) -> bool {
        ask(instance.port, &instance.password, "CLUSTER INFO").is_some_and(|answer| {
            answer.contains("cluster_state:ok") && answer.contains(&format!("cluster_size:{MASTERS}"))
        })
    }

    fn url(&self, port: u16, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{port}")
    }

    fn container_port(&self) -> u16 {
        47_001
    }
}
