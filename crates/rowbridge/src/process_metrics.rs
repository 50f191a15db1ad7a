//! What the kernel says of this process, under the names that every Prometheus client uses.
//!
//! Source: proc(5). `/proc/self/stat` has the CPU time in fields 14 and 15 and the start in field 22, in clock ticks of
//! which user space sees 100 a second on every Linux; `/proc/self/status` has the memory.

use prometheus::{Counter, Gauge, IntGauge, IntGaugeVec, Opts, Registry};

const TICKS_PER_SECOND: f64 = 100.0;

/// Read anew at each scrape.
#[derive(Debug, Clone)]
pub(crate) struct ProcessMetrics {
    cpu: Counter,
    resident: IntGauge,
    virtual_memory: IntGauge,
    open_fds: IntGauge,
    threads: IntGauge,
}

impl ProcessMetrics {
    /// Registers everything, and which release this is.
    ///
    /// # Errors
    /// A name is taken.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let cpu = Counter::new("process_cpu_seconds_total", "User and system CPU time.")?;
        registry.register(Box::new(cpu.clone()))?;
        let started = Gauge::new("process_start_time_seconds", "When the process began, since 1970.")?;
        registry.register(Box::new(started.clone()))?;
        started.set(start_time().unwrap_or_default());
        let build = Opts::new("rowbridge_build_info", "1, with the version as label.");
        let build = IntGaugeVec::new(build, &["version"])?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            cpu,
            resident: gauge("process_resident_memory_bytes", "Resident memory.")?,
            virtual_memory: gauge("process_virtual_memory_bytes", "Virtual memory.")?,
            open_fds: gauge("process_open_fds", "Open file descriptors.")?,
            threads: gauge("process_threads", "Threads.")?,
        })
    }

    /// Reads `/proc`; what cannot be read keeps its value.
    pub(crate) fn update(&self) {
        if let Some(stat) = stat() {
            let ticks = |field: usize| stat.get(field).and_then(|text| text.parse::<f64>().ok());
            if let (Some(user), Some(system)) = (ticks(11), ticks(12)) {
                // The counter only goes up, and so does what the kernel says.
                self.cpu.inc_by(((user + system) / TICKS_PER_SECOND - self.cpu.get()).max(0.0));
            }
        }
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            let field = |name: &str| number(&status, name);
            for (gauge, value) in [
                (&self.resident, field("VmRSS:").map(|kibibytes| kibibytes * 1024)),
                (&self.virtual_memory, field("VmSize:").map(|kibibytes| kibibytes * 1024)),
                (&self.threads, field("Threads:")),
            ] {
                if let Some(value) = value {
                    gauge.set(value);
                }
            }
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // Less the one that reads the folder.
            self.open_fds.set((entries.count() as i64 - 1).max(0));
        }
    }
}

/// Fields behind the program's name, which stands in parentheses and may hold anything. The first is field 3.
fn stat() -> Option<Vec<String>> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn start_time() -> Option<f64> {
    let ticks: f64 = stat()?.get(19)?.parse().ok()?;
    let booted = number(&std::fs::read_to_string("/proc/stat").ok()?, "btime")?;
    Some(booted as f64 + ticks / TICKS_PER_SECOND)
}

fn number(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_a_start() {
        let registry = Registry::new();
        let metrics = ProcessMetrics::new(&registry).unwrap();
        metrics.update();
        assert!(metrics.resident.get() > 1 << 20, "{}", metrics.resident.get());
        assert!(metrics.open_fds.get() >= 3 && metrics.threads.get() >= 1);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - start_time().unwrap();
        assert!((-2.0..600.0).contains(&age), "started {age} s ago");
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("rowbridge_build_info{version=\"0."), "{text}");
        assert!(text.contains("# TYPE process_cpu_seconds_total counter"), "{text}");
    }
}
