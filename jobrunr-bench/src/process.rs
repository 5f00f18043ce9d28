//! Processes: what this one costs, and running another one.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::worker::WorkerReport;

/// Linux counts CPU time in hundredths of a second, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// The CPU time this process has used so far, from `/proc/self/stat`.
pub(crate) fn cpu_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("CPU time is read from /proc")?;
    let after_name = stat.rsplit_once(')').context("/proc/self/stat has a process name")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
    let user = ticks(11).context("/proc/self/stat has utime")?;
    let system = ticks(12).context("/proc/self/stat has stime")?;
    Ok(Duration::from_secs_f64((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND))
}

/// The most memory this process ever held, from `/proc/self/status`.
pub(crate) fn peak_memory_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is read from /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM is there")?;
    let kib: u32 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(f64::from(kib) / 1_024.0)
}

/// Prints a line for the process that started this one.
pub(crate) async fn say(line: &str) -> anyhow::Result<()> {
    let mut output = tokio::io::stdout();
    output.write_all(format!("{line}\n").as_bytes()).await?;
    output.flush().await?;
    Ok(())
}

/// A worker process; killed if it is dropped.
pub(crate) struct Worker {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts one and waits until its server runs.
    pub(crate) async fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("worker")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("the output is piped")?;
        let mut worker = Self { child, lines: BufReader::new(output).lines() };
        let line = worker.line().await?;
        anyhow::ensure!(line == "ready", "the worker said {line:?} instead of ready");
        Ok(worker)
    }

    /// The next line it prints.
    pub(crate) async fn line(&mut self) -> anyhow::Result<String> {
        self.lines.next_line().await?.context("the worker ended too early")
    }

    /// Waits for its end, asking for it if it waits for that.
    pub(crate) async fn finish(mut self) -> anyhow::Result<WorkerReport> {
        drop(self.child.stdin.take());
        loop {
            let line = self.line().await?;
            if line.starts_with('{') {
                let status = self.child.wait().await?;
                anyhow::ensure!(status.success(), "the worker ended with {status}");
                return Ok(serde_json::from_str(&line)?);
            }
        }
    }
}
