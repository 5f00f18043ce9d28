//! How busy the machine and the process are, read from where Linux tells it; zero on other systems.

use std::fs::read_to_string;

use jobrunr_core::storage::ServerLoad;

/// Measures load between one call and the next.
#[derive(Debug, Default)]
pub(crate) struct LoadMeter {
    last: CpuTimes,
}

/// Ticks of all cores since the machine started; only differences mean something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct CpuTimes {
    total: u64,
    idle: u64,
    process: u64,
}

impl LoadMeter {
    /// Memory now, and CPU load since the last call.
    pub(crate) fn measure(&mut self) -> ServerLoad {
        let memory = read("/proc/meminfo");
        let status = read("/proc/self/status");
        let times = CpuTimes::parse(&read("/proc/stat"), &read("/proc/self/stat"));
        let last = std::mem::replace(&mut self.last, times);
        let (cpu_load_permille, process_cpu_load_permille) = times.load_since(last);
        ServerLoad {
            total_memory_bytes: kibibytes(&memory, "MemTotal:"),
            free_memory_bytes: kibibytes(&memory, "MemAvailable:"),
            process_memory_bytes: kibibytes(&status, "VmRSS:"),
            cpu_load_permille,
            process_cpu_load_permille,
            ..ServerLoad::default()
        }
    }
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    let named = ["HOSTNAME", "COMPUTERNAME"].into_iter().find_map(|variable| std::env::var(variable).ok());
    let kernel = read("/proc/sys/kernel/hostname").trim().to_owned();
    let names = [Some(kernel), named].into_iter().flatten();
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "server".to_owned())
}

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default()
}

/// The value of a line like `MemTotal:  16384 kB`, in bytes.
fn kibibytes(text: &str, label: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(label));
    let number = value.and_then(|value| value.split_whitespace().next());
    number.and_then(|number| number.parse::<u64>().ok()).unwrap_or_default().saturating_mul(1_024)
}

impl CpuTimes {
    fn parse(machine: &str, process: &str) -> Self {
        let numbers = |text: &str| -> Vec<u64> {
            text.split_whitespace().map(|number| number.parse().unwrap_or_default()).collect()
        };
        // user nice system idle iowait irq softirq steal; what follows is contained in the first two.
        let cores = machine.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        let cores = numbers(cores);
        // The name of the program may hold anything but ends with the last parenthesis; utime and stime follow as 12th and 13th.
        let own = numbers(process.rsplit_once(')').map_or("", |(_, rest)| rest));
        let at = |numbers: &[u64], index: usize| numbers.get(index).copied().unwrap_or_default();
        Self {
            total: cores.iter().take(8).sum(),
            idle: at(&cores, 3) + at(&cores, 4),
            process: at(&own, 11) + at(&own, 12),
        }
    }

    fn load_since(self, last: Self) -> (u16, u16) {
        if last == Self::default() {
            return (0, 0);
        }
        let total = self.total.saturating_sub(last.total);
        let busy = total.saturating_sub(self.idle.saturating_sub(last.idle));
        let permille = |part: u64| {
            let permille = part.saturating_mul(1_000).checked_div(total).unwrap_or_default();
            u16::try_from(permille.min(1_000)).unwrap_or_default()
        };
        (permille(busy), permille(self.process.saturating_sub(last.process)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_the_share_of_all_cores_since_the_last_measurement() {
        let own = |ticks: u64| format!("7 (a ) name) S 1 2 3 4 5 6 7 8 9 10 {ticks} 5 0 0");
        let before = CpuTimes::parse("cpu  100 0 100 700 100 0 0 0 9 9\ncpu0 1", &own(10));
        let after = CpuTimes::parse("cpu  150 0 150 850 150 0 0 0 9 9\ncpu0 1", &own(40));

        assert_eq!(before, CpuTimes { total: 1_000, idle: 800, process: 15 });
        assert_eq!(after.load_since(before), (333, 100));
    }

    #[test]
    fn the_first_measurement_knows_no_load() {
        let times = CpuTimes { total: 10, idle: 1, process: 5 };

        assert_eq!(times.load_since(CpuTimes::default()), (0, 0));
    }

    #[test]
    fn memory_is_told_in_bytes() {
        assert_eq!(kibibytes("MemFree:  1 kB\nMemTotal:       16 kB\n", "MemTotal:"), 16_384);
        assert_eq!(kibibytes("", "MemTotal:"), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells_its_memory_and_its_name() {
        let load = LoadMeter::default().measure();

        assert!(load.total_memory_bytes > load.free_memory_bytes && load.process_memory_bytes > 0);
        assert!(!host_name().is_empty());
    }
}
