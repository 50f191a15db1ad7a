//! The binary under test as a child process, and how any child is started so that it cannot leak.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::clock;
use crate::files::successful;
use crate::wait::DEADLINE;

/// A child looks finished at most this late.
const EXIT_POLL: Duration = Duration::from_millis(10);

/// Kernel clock ticks per second as user space sees them (`USER_HZ`), fixed at 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The user that a child runs as.
#[derive(Clone, Debug)]
pub struct RunAs {
    /// User name, also taken as the name of the group.
    pub user: String,
}

/// A command that runs `program` under `setpriv --pdeathsig KILL`: the kernel kills the child when we die, even when we
/// are killed ourselves. `setpriv` replaces itself with the program, so the child's id is the program's own.
#[must_use]
pub fn guarded(program: &Path, run_as: Option<&RunAs>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(RunAs { user }) = run_as {
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups");
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Starts a command made by [`guarded`].
///
/// The kernel sends the death signal when the *thread* that started the child ends, and threads of tests and of tokio's
/// blocking pool do end early. So one thread that lives as long as the process starts all children.
///
/// # Panics
/// When the command cannot be started.
pub fn spawn_guarded(command: Command) -> Child {
    type Job = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let text = format!("{command:?}");
    let (answer, child) = mpsc::channel();
    SPAWNER
        .get_or_init(|| {
            let (jobs, inbox) = mpsc::channel::<Job>();
            std::thread::Builder::new()
                .name("spawner".into())
                .spawn(move || {
                    for (mut command, answer) in inbox {
                        let _ = answer.send(command.spawn());
                    }
                })
                .unwrap();
            Mutex::new(jobs)
        })
        .lock()
        .unwrap()
        .send((command, answer))
        .unwrap();
    match child.recv().unwrap() {
        Ok(child) => child,
        Err(error) => panic!("cannot start {text}: {error} (setpriv is part of util-linux)"),
    }
}

/// Sends a signal by name (`TERM`, `STOP`) with the shell's own `kill`, which needs neither unsafe code nor procps.
/// A process that is already gone is not an error.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// Waits until the child ends, at most `deadline`.
pub(crate) async fn wait_child(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if started.elapsed() >= deadline {
            return None;
        }
        tokio::time::sleep(EXIT_POLL).await;
    }
}

/// Runs a client program to its end with `input`; gives its output, which must be a success.
pub(crate) async fn client_output(
    name: &str,
    mut command: tokio::process::Command,
    input: Option<&str>,
) -> String {
    command.kill_on_drop(true).stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut stdin), Some(text)) = (stdin, input) {
            // A client may stop reading at the first error; its own message says more than a broken pipe.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, text.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    successful(name, output.unwrap())
}

/// Lines that a process has written, over all its starts.
#[derive(Clone, Debug)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    count: Arc<watch::Sender<usize>>,
    /// Streams that have not come to their end.
    open: Arc<AtomicUsize>,
}

impl Default for Log {
    fn default() -> Self {
        Self { lines: Arc::default(), count: Arc::new(watch::Sender::new(0)), open: Arc::default() }
    }
}

impl Log {
    /// Reads lines until the end of the stream, on a thread of its own.
    fn follow(&self, stream: impl Read + Send + 'static) {
        let log = self.clone();
        log.open.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                log.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
                bytes.clear();
            }
            log.open.fetch_sub(1, Ordering::SeqCst);
        });
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }

    fn push(&self, line: String) {
        let mut lines = self.lines.lock().unwrap();
        lines.push(line);
        self.count.send_replace(lines.len());
    }

    /// How many lines there are: a mark to search from later.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// All lines from a mark on.
    #[must_use]
    pub fn since(&self, mark: usize) -> Vec<String> {
        self.lines.lock().unwrap().get(mark..).unwrap_or_default().to_vec()
    }

    /// The last `count` lines as one text.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines.lock().unwrap();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    fn find(&self, mark: usize, wanted: &dyn Fn(&str) -> bool) -> Option<String> {
        self.lines.lock().unwrap().get(mark..)?.iter().find(|line| wanted(line)).cloned()
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// For messages: `publisher`, `subscriber`.
    pub name: String,
    /// The program; [`binary`] unless a test of the harness itself says otherwise.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
}

impl DaemonOptions {
    /// `rowbridge run --config FILE` with JSON logs.
    #[must_use]
    pub fn run(name: &str, config: &Path) -> Self {
        Self {
            name: name.into(),
            program: binary(),
            args: vec!["run".into(), "--config".into(), config.into()],
            env: vec![("ROWBRIDGE_LOG_FORMAT".into(), "json".into())],
        }
    }
}

/// The binary under test: `ROWBRIDGE_BIN`, else `rowbridge` beside the folder of the test binary. It is not built here:
/// `tests/run` does that once, and many test processes building at once would only wait for each other.
///
/// # Panics
/// When there is none, with the command that makes one.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ROWBRIDGE_BIN") {
        return path.into();
    }
    let here = std::env::current_exe().unwrap();
    let path = here.parent().and_then(Path::parent).unwrap().join("rowbridge");
    assert!(
        path.is_file(),
        "no binary at {}: start the tests with tests/run, or run `cargo build -p rowbridge` first",
        path.display()
    );
    path
}

/// A long-running process whose stderr is captured line by line. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    options: DaemonOptions,
    /// Added to the environment of the next starts.
    env: Mutex<Vec<(String, String)>>,
    child: Mutex<Option<Child>>,
    /// First log line of the present start.
    started_at: Mutex<usize>,
    log: Log,
    output: Log,
}

impl Daemon {
    /// Makes a daemon without starting it.
    #[must_use]
    pub fn new(options: DaemonOptions) -> Self {
        Self {
            options,
            env: Mutex::default(),
            child: Mutex::new(None),
            started_at: Mutex::new(0),
            log: Log::default(),
            output: Log::default(),
        }
    }

    /// Makes a daemon and starts it.
    #[must_use]
    pub fn spawn(options: DaemonOptions) -> Self {
        let daemon = Self::new(options);
        daemon.start();
        daemon
    }

    /// Starts the process; it must not be running.
    ///
    /// # Panics
    /// When it runs already or cannot be started.
    pub fn start(&self) {
        let mut slot = self.child.lock().unwrap();
        if let Some(child) = slot.as_mut() {
            assert!(child.try_wait().unwrap().is_some(), "{} is already running", self.options.name);
            clock::forget(child.id());
        }
        let mut command = guarded(&self.options.program, None);
        command.args(&self.options.args).envs(self.options.env.iter().cloned());
        command.envs(self.env.lock().unwrap().iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        *self.started_at.lock().unwrap() = self.log.mark();
        let mut child = spawn_guarded(command);
        self.log.follow(child.stderr.take().unwrap());
        self.output.follow(child.stdout.take().unwrap());
        *slot = Some(child);
    }

    /// Adds a variable to the environment of the next starts, or takes it away again.
    pub fn set_env(&self, name: &str, value: Option<&str>) {
        let mut env = self.env.lock().unwrap();
        env.retain(|(known, _)| known != name);
        env.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Everything written to stderr.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Everything written to stdout.
    #[must_use]
    pub fn output(&self) -> &Log {
        &self.output
    }

    /// The first line since the present start that `wanted` accepts, waiting for it at most [`DEADLINE`].
    ///
    /// # Panics
    /// At the deadline, or when the process ends first; with the last 50 lines.
    pub async fn wait_for_line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mark = *self.started_at.lock().unwrap();
        self.wait_for_line_since(mark, DEADLINE, wanted).await
    }

    /// As [`Self::wait_for_line`], from a mark that the test took before it acted.
    ///
    /// # Panics
    /// At the deadline, or when the process ends first; with the last 50 lines.
    pub async fn wait_for_line_since(
        &self,
        mark: usize,
        deadline: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let ends = tokio::time::Instant::now() + deadline;
        let mut count = self.log.count.subscribe();
        loop {
            count.borrow_and_update();
            if let Some(line) = self.log.find(mark, &wanted) {
                return line;
            }
            // A process that has ended may still have lines in the pipe, so it gets a moment after its end.
            let ended = self.exit_status();
            let pause = if ended.is_some() { Duration::from_millis(300) } else { Duration::from_millis(500) };
            let now = tokio::time::Instant::now();
            if tokio::time::timeout_at(ends.min(now + pause), count.changed()).await.is_ok() {
                continue;
            }
            if let Some(status) = ended {
                panic!(
                    "{} ended ({status}) without the awaited line; {}",
                    self.options.name,
                    self.last_lines()
                );
            }
            if tokio::time::Instant::now() >= ends {
                panic!(
                    "{} did not write the awaited line in {deadline:?}; {}",
                    self.options.name,
                    self.last_lines()
                );
            }
        }
    }

    /// The last 50 lines of stderr, headed, for panics.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let mut text = format!("last lines of {}:\n", self.options.name);
        let _ = write!(text, "{}", self.log.tail(50));
        text
    }

    /// The process id.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let slot = self.child.lock().unwrap();
        let Some(child) = slot.as_ref() else { panic!("{} was never started", self.options.name) };
        child.id()
    }

    /// How the process ended, if it did.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().as_mut()?.try_wait().unwrap()
    }

    /// Whether it was started and has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Kills the process as a power cut would (SIGKILL) and waits until it is gone.
    pub fn kill9(&self) {
        if let Some(child) = self.child.lock().unwrap().as_mut() {
            let _ = child.kill();
            let _ = child.wait();
            clock::forget(child.id());
        }
    }

    /// Asks the process to stop (SIGTERM) and waits until it ends.
    ///
    /// # Panics
    /// When it has not ended after [`DEADLINE`].
    pub async fn terminate(&self) -> ExitStatus {
        signal(self.pid(), "TERM");
        self.wait_exit(DEADLINE).await
    }

    /// Waits until the process ends by itself.
    ///
    /// # Panics
    /// When it has not ended after `deadline`.
    pub async fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            // What it said last may still be on its way to the log.
            let has_ended = |_: &ExitStatus| !self.log.is_open() && !self.output.is_open();
            if let Some(status) = self.exit_status().filter(has_ended) {
                return status;
            }
            if started.elapsed() >= deadline {
                panic!("{} has not ended after {deadline:?}; {}", self.options.name, self.last_lines());
            }
            tokio::time::sleep(EXIT_POLL).await;
        }
    }

    /// Stops the process and starts it again.
    pub async fn restart(&self) {
        self.terminate().await;
        self.start();
    }

    /// Freezes the process (SIGSTOP): its sockets stay open and nothing answers.
    pub fn freeze(&self) {
        signal(self.pid(), "STOP");
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    /// The highest resident memory so far, in bytes.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn peak_rss_bytes(&self) -> u64 {
        peak_rss_bytes(self.pid())
            .unwrap_or_else(|| panic!("{} is gone: no memory figures", self.options.name))
    }

    /// CPU time used so far, user and system, in seconds.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.pid()).unwrap_or_else(|| panic!("{} is gone: no CPU figures", self.options.name))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("{}", self.last_lines());
        }
    }
}

/// `VmHWM` of a process, in bytes.
#[must_use]
pub fn peak_rss_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// User and system CPU time of a process, in seconds.
#[must_use]
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    // utime and stime of proc(5).
    sum_of_ticks(pid, 2)
}

/// As [`cpu_seconds`], of a process and all its descendants, those that have ended included. A server of PostgreSQL has a
/// process per session.
#[must_use]
pub fn tree_cpu_seconds(pid: u32) -> Option<f64> {
    // utime, stime, and the same of children that have ended, cutime and cstime.
    tree_of(pid).into_iter().filter_map(|pid| sum_of_ticks(pid, 4)).reduce(|sum, more| sum + more)
}

/// A process and all its descendants, as far as they live.
#[must_use]
pub fn tree_of(pid: u32) -> Vec<u32> {
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(pid) = tree.get(next).copied() {
        tree.extend(children_of(pid));
        next += 1;
    }
    tree
}

/// Processes whose parent is `pid`.
pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| stat_fields(*child).and_then(|fields| fields.get(1)?.parse().ok()) == Some(pid))
        .collect()
}

/// The sum of the first `count` of utime, stime, cutime and cstime, in seconds.
fn sum_of_ticks(pid: u32, count: usize) -> Option<f64> {
    let fields = stat_fields(pid)?;
    let mut ticks = 0.0;
    for field in fields.get(11..11 + count)? {
        ticks += field.parse::<f64>().ok()?;
    }
    Some(ticks / TICKS_PER_SECOND)
}

/// The fields of `/proc/PID/stat` from the third of proc(5) on, the state: the program's name before it is in parentheses
/// and may hold spaces.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}
