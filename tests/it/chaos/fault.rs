//! What goes wrong.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use rand::RngExt as _;
use rowbridge_tests::process::Daemon;
use rowbridge_tests::proxy::{Direction, Mode, Proxy};
use rowbridge_tests::scenario::{DATABASE, Kind, Pair};
use rowbridge_tests::size::size;
use rowbridge_tests::webhook::{Receiver, Reply};

use super::Chaos;

/// One kind of fault. All are over when [`Self::happen`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    PublisherKilled,
    SubscriberKilled,
    PublisherStopped,
    SubscriberStopped,
    PublisherFrozen,
    SubscriberFrozen,
    LineCut,
    /// In the middle of a request's body.
    RequestCut,
    /// The answer to a request is lost.
    AnswerCut,
    LineRefused,
    /// Half-open: nothing moves and nobody says so.
    LineStalled,
    LineSlow,
    /// Something else answers at the subscriber's address, signed by nobody.
    StrangerAnswers,
    SourceLineCut,
    SourceLineStalled,
    TargetLineCut,
    TargetLineStalled,
    ReplicationTerminated,
    /// Somebody else holds rows of the target.
    TargetLocked,
    /// Somebody else holds rows that a delivery waits for, and wants those that it holds.
    TargetDeadlocked,
    SourceRestarted,
    TargetRestarted,
    SourceCrashed,
    TargetCrashed,
    /// No file and no socket can be opened.
    PublisherOutOfFiles,
    SubscriberOutOfFiles,
    /// Journal and state cannot be written.
    DiskFull,
    /// The clock of both ends is set by hours, forward or back, and later set right.
    ClockJumped,
}

impl Fault {
    pub(super) const ALL: [Self; 28] = [
        Self::PublisherKilled,
        Self::SubscriberKilled,
        Self::PublisherStopped,
        Self::SubscriberStopped,
        Self::PublisherFrozen,
        Self::SubscriberFrozen,
        Self::LineCut,
        Self::RequestCut,
        Self::AnswerCut,
        Self::LineRefused,
        Self::LineStalled,
        Self::LineSlow,
        Self::StrangerAnswers,
        Self::SourceLineCut,
        Self::SourceLineStalled,
        Self::TargetLineCut,
        Self::TargetLineStalled,
        Self::ReplicationTerminated,
        Self::TargetLocked,
        Self::TargetDeadlocked,
        Self::SourceRestarted,
        Self::TargetRestarted,
        Self::SourceCrashed,
        Self::TargetCrashed,
        Self::PublisherOutOfFiles,
        Self::SubscriberOutOfFiles,
        Self::DiskFull,
        Self::ClockJumped,
    ];

    /// A file has no line, no server and one lock.
    pub(super) fn exists(self, chaos: &Chaos<'_>) -> bool {
        let pair = chaos.pair;
        match self {
            Self::SourceLineCut
            | Self::SourceLineStalled
            | Self::ReplicationTerminated
            | Self::SourceRestarted
            | Self::SourceCrashed => pair.source_kind() != Kind::Sqlite,
            Self::TargetLineCut
            | Self::TargetLineStalled
            | Self::TargetDeadlocked
            | Self::TargetRestarted
            | Self::TargetCrashed => pair.target_kind() != Kind::Sqlite,
            Self::DiskFull => chaos.disk.is_some(),
            Self::ClockJumped => chaos.clock.is_some(),
            _ => true,
        }
    }

    pub(super) async fn happen(self, chaos: &mut Chaos<'_>) {
        let pair = chaos.pair;
        match self {
            Self::PublisherKilled => {
                pair.publisher().kill9();
                chaos.rest(0..300).await;
                pair.publisher().start();
            }
            Self::SubscriberKilled => {
                chaos.count_repeated().await;
                pair.subscriber().kill9();
                chaos.rest(0..300).await;
                pair.subscriber().start();
            }
            Self::PublisherStopped => pair.publisher().restart().await,
            Self::SubscriberStopped => {
                chaos.count_repeated().await;
                pair.subscriber().restart().await;
            }
            Self::PublisherFrozen => freeze(chaos, pair.publisher()).await,
            Self::SubscriberFrozen => freeze(chaos, pair.subscriber()).await,
            Self::LineCut => pair.http_proxy().cut(),
            Self::RequestCut => {
                let bytes = chaos.random.random_range(0..20_000);
                pair.http_proxy().cut_after(Direction::Up, bytes);
            }
            Self::AnswerCut => pair.http_proxy().cut_after(Direction::Down, 0),
            Self::LineRefused => switch(chaos, pair.http_proxy(), Mode::Refuse).await,
            Self::LineStalled => switch(chaos, pair.http_proxy(), Mode::Stall).await,
            Self::LineSlow => slow(chaos, pair.http_proxy()).await,
            Self::StrangerAnswers => chaos.stranger_answers().await,
            Self::SourceLineCut => pair.source_proxy().cut(),
            Self::SourceLineStalled => switch(chaos, pair.source_proxy(), Mode::Stall).await,
            Self::TargetLineCut => pair.target_proxy().cut(),
            Self::TargetLineStalled => switch(chaos, pair.target_proxy(), Mode::Stall).await,
            Self::ReplicationTerminated => terminate_replication(pair).await,
            Self::TargetLocked => lock_target(chaos).await,
            Self::TargetDeadlocked => deadlock_target(chaos).await,
            Self::SourceRestarted => pair.restart_source().await,
            Self::TargetRestarted => pair.restart_target().await,
            Self::SourceCrashed => pair.crash_source().await,
            Self::TargetCrashed => pair.crash_target().await,
            Self::PublisherOutOfFiles => out_of_files(chaos, pair.publisher()).await,
            Self::SubscriberOutOfFiles => out_of_files(chaos, pair.subscriber()).await,
            Self::DiskFull => chaos.disk_full().await,
            Self::ClockJumped => chaos.clock_jumps().await,
        }
    }
}

async fn freeze(chaos: &mut Chaos<'_>, daemon: &Daemon) {
    daemon.freeze();
    chaos.rest(100..1_000).await;
    daemon.thaw();
}

async fn switch(chaos: &mut Chaos<'_>, proxy: &Proxy, mode: Mode) {
    proxy.set_mode(mode).await;
    chaos.rest(50..1_000).await;
    proxy.set_mode(Mode::Pass).await;
}

async fn slow(chaos: &mut Chaos<'_>, proxy: &Proxy) {
    let both = [Direction::Up, Direction::Down];
    for direction in both {
        proxy.set_delay(direction, Duration::from_millis(chaos.random.random_range(1..100)));
        proxy.set_throttle(direction, Some(chaos.random.random_range(10_000..200_000)));
    }
    chaos.rest(200..1_000).await;
    for direction in both {
        proxy.set_delay(direction, Duration::ZERO);
        proxy.set_throttle(direction, None);
    }
}

/// Ends the sessions that read the log.
async fn terminate_replication(pair: &Pair) {
    match pair.source_kind() {
        Kind::Postgres => {
            pair.source_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await;
        }
        Kind::Mariadb => {
            let mut conn = pair.source_server().connect(DATABASE).await;
            let sql = "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
            let ids: Vec<u64> = conn.query(sql).await.unwrap();
            for id in ids {
                // It may have ended since.
                let _ = conn.query_drop(format!("KILL {id}")).await;
            }
        }
        Kind::Sqlite => {}
    }
}

/// Holds some rows, and then more.
async fn lock_target(chaos: &mut Chaos<'_>) {
    let pair = chaos.pair;
    let steps = ["SELECT * FROM items ORDER BY id DESC FOR UPDATE", "SELECT * FROM orders FOR UPDATE"];
    match pair.target_kind() {
        Kind::Postgres => {
            let client = pair.target().await;
            client.batch_execute("BEGIN; SET lock_timeout = '2s'").await.unwrap();
            for step in steps {
                // Tables may not be there yet; the other one may win.
                if client.batch_execute(step).await.is_err() {
                    break;
                }
                chaos.rest(50..500).await;
            }
            let _ = client.batch_execute("ROLLBACK").await;
        }
        Kind::Mariadb => {
            let mut conn = pair.target_server().connect(DATABASE).await;
            conn.query_drop("SET innodb_lock_wait_timeout = 2; BEGIN").await.unwrap();
            for step in steps {
                if conn.query_drop(step).await.is_err() {
                    break;
                }
                chaos.rest(50..500).await;
            }
            let _ = conn.query_drop("ROLLBACK").await;
        }
        Kind::Sqlite => {
            let file = pair.target_file().open();
            if file.execute_batch("BEGIN IMMEDIATE").is_ok() {
                chaos.rest(50..1_000).await;
                file.execute_batch("ROLLBACK").unwrap();
            }
        }
    }
}

/// Holds rows until a delivery waits for them. That one holds its progress, which it has written before: asking for that
/// is a deadlock, and one of the two loses.
async fn deadlock_target(chaos: &mut Chaos<'_>) {
    let pair = chaos.pair;
    let (hold, want) = ("SELECT * FROM orders FOR UPDATE", "SELECT * FROM rowbridge_progress FOR UPDATE");
    let until = Instant::now() + Duration::from_secs(3);
    let mut met = false;
    match pair.target_kind() {
        Kind::Postgres => {
            let (client, watch) = (pair.target().await, pair.target().await);
            client.batch_execute("BEGIN; SET lock_timeout = '5s'").await.unwrap();
            // The table may not be there yet.
            if client.batch_execute(hold).await.is_ok() {
                let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
                let waiting = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
                while !met && Instant::now() < until {
                    chaos.rest(10..30).await;
                    met = watch.query_one(waiting, &[&pid]).await.unwrap().get::<_, i64>(0) > 0;
                }
                if met {
                    let _ = client.batch_execute(want).await;
                }
            }
            let _ = client.batch_execute("ROLLBACK").await;
        }
        Kind::Mariadb => {
            let mut conn = pair.target_server().connect(DATABASE).await;
            let mut watch = pair.target_server().connect(DATABASE).await;
            conn.query_drop("SET innodb_lock_wait_timeout = 5; BEGIN").await.unwrap();
            if conn.query_drop(hold).await.is_ok() {
                let waiting =
                    "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'";
                while !met && Instant::now() < until {
                    // InnoDB looks at its transactions anew ten times a second at most.
                    chaos.rest(110..150).await;
                    met = watch.query_first::<u64, _>(waiting).await.unwrap().is_some_and(|count| count > 0);
                }
                if met {
                    let _ = conn.query_drop(want).await;
                }
            }
            let _ = conn.query_drop("ROLLBACK").await;
        }
        Kind::Sqlite => {}
    }
    chaos.deadlocks += u32::from(met);
}

/// Lowers the limit to what is open already, so that nothing more can be opened.
async fn out_of_files(chaos: &mut Chaos<'_>, daemon: &Daemon) {
    let pid = daemon.pid().to_string();
    let limit = |soft: u32| {
        // The hard limit stays, so that the soft one can come back.
        let status =
            Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={soft}:")]).status().unwrap();
        assert!(status.success(), "prlimit: {status}");
    };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open = files.filter_map(|file| file.ok()?.file_name().to_str()?.parse::<u32>().ok());
    limit(open.max().map_or(3, |last| last + 1));
    chaos.rest(100..1_000).await;
    if daemon.is_running() {
        limit(1024);
    } else {
        // It was about to start: whoever watches over it starts it again.
        daemon.start();
    }
}

/// Answers for the subscriber, without its key.
pub(super) struct Stranger(Receiver);

impl Stranger {
    pub(super) fn start() -> Self {
        Self(Receiver::accepting())
    }
}

impl Chaos<'_> {
    async fn stranger_answers(&mut self) {
        let proxy = self.pair.http_proxy();
        // The last three stop the lane, which asks again a minute later: too long for a short run.
        let statuses = [200, 409, 500, 502, 410, 413, 422];
        let status = statuses[self.random.random_range(0..size(4, 7))];
        self.stranger.0.answer_with(move |_| Reply::status(status).body("{\"position\": \"1/ffff/0\"}"));
        let upstream = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        proxy.set_upstream(upstream(self.stranger.0.port()));
        proxy.cut();
        self.rest(100..800).await;
        proxy.set_upstream(upstream(self.pair.subscriber_config.port));
        proxy.cut();
    }

    async fn clock_jumps(&mut self) {
        for jump in [true, false] {
            // So that most requests are made and checked by one time: a stale one stops the lane for a minute.
            self.pair.publisher().freeze();
            self.rest(100..300).await;
            let hours = [-30, -5, 5, 30][self.random.random_range(0..4)];
            if let Some(clock) = &self.clock {
                clock.set_hours(if jump { hours } else { 0 });
            }
            self.pair.publisher().thaw();
            self.rest(100..1_000).await;
        }
    }

    async fn disk_full(&mut self) {
        let Some(disk) = &self.disk else { return };
        disk.fill();
        self.rest(200..1_500).await;
        if let Some(disk) = &self.disk {
            disk.free();
        }
    }
}

/// A small file system, which takes the rights of root.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts one there, or says why not.
    pub(crate) fn mount(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256m,mode=0700", "tmpfs"])
            .arg(folder)
            .output()
            .ok()?;
        if !output.status.success() {
            println!("no full disks: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Some(Self(folder.to_owned()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    pub(crate) fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        let block = vec![0_u8; 1 << 16];
        // To the last byte: smaller pieces where the larger do not fit any more.
        for size in [1 << 16, 1 << 12, 1 << 8, 1] {
            while file.write_all(&block[..size]).is_ok() {}
        }
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the publisher may still have files open there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
