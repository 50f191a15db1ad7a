//! MySQL and MariaDB sources: what a stream holds, as lines, without a publisher around it; snapshots; `check`.

mod check;
mod damaged;
mod killed;
mod mysql9;
mod positions;
mod shapes;
pub(crate) mod snapshot;
mod transactions;
mod unread;
mod values;

use std::sync::Arc;
use std::time::Duration;

use rowbridge_publisher::capture::mysql::client::Connector;
use rowbridge_publisher::capture::mysql::{MysqlCapture, MysqlError, MysqlOptions, Opened, setup};
use rowbridge_publisher::capture::{Capture, CaptureStart, Captured, CapturedBlock, OldRows};
use rowbridge_publisher::journal::Resume;
use rowbridge_publisher::state::State;
use rowbridge_schema::config::DatabaseUrl;
use rowbridge_schema::wire::{Op, read_run};
use rowbridge_schema::{Position, TableDef, TablePatterns};
use rowbridge_tests::mariadb::{Product, Server, ServerOptions};
use tempfile::TempDir;

/// Nothing that a capture does takes longer, even on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A capture and what it has given so far.
struct Tap {
    capture: MysqlCapture,
    opened: Opened,
    connector: Connector,
    folder: Folder,
    resume: Option<Resume>,
    last: Option<Position>,
    blocks: usize,
    largest: usize,
}

/// `state_dir` of a capture, which outlives it.
#[derive(Clone)]
struct Folder {
    state: Arc<State>,
    old_rows: OldRows,
    _dir: Arc<TempDir>,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), &"shop".parse().unwrap()).unwrap();
        Self { state: Arc::new(state), old_rows: OldRows::default(), _dir: Arc::new(dir) }
    }
}

fn options(url: &str, folder: &Folder) -> MysqlOptions {
    let DatabaseUrl::Mysql(url) = DatabaseUrl::parse(url).unwrap() else { panic!("not a MySQL URL") };
    MysqlOptions {
        tables: TablePatterns::new(&["shop.*", "!shop.other"]).unwrap(),
        connector: Connector::new(&url).unwrap(),
        state: Arc::clone(&folder.state),
        old_rows: folder.old_rows.clone(),
    }
}

impl Tap {
    async fn open(server: &Server) -> Self {
        Self::begin(server, Folder::new(), None, None).await.unwrap()
    }

    async fn begin(
        server: &Server,
        folder: Folder,
        resume: Option<Resume>,
        last: Option<Position>,
    ) -> Result<Self, MysqlError> {
        Self::begin_at(&server.url("shop"), folder, resume, last).await
    }

    async fn begin_at(
        url: &str,
        folder: Folder,
        resume: Option<Resume>,
        last: Option<Position>,
    ) -> Result<Self, MysqlError> {
        let options = options(url, &folder);
        let connector = options.connector.clone();
        let start = CaptureStart { epoch: 1, last, resume: resume.clone() };
        let (capture, opened) = MysqlCapture::open(options, &start).await?;
        Ok(Self { capture, opened, connector, folder, resume, last, blocks: 0, largest: 0 })
    }

    /// Opens it again where it stands, as after a restart of ours.
    async fn again(self, server: &Server) -> Result<Self, MysqlError> {
        self.again_at(&server.url("shop")).await
    }

    async fn again_at(self, url: &str) -> Result<Self, MysqlError> {
        let Self { capture, folder, resume, last, opened, .. } = self;
        capture.close().await;
        let resume = resume.unwrap_or_else(|| Resume(Arc::from(opened.from.to_string())));
        Self::begin_at(url, folder, Some(resume), last).await
    }

    /// Everything that is in the log now.
    async fn drain(&mut self) -> Result<Vec<String>, MysqlError> {
        let mut session = self.connector.connect().await?;
        let end = setup::offset(&setup::log_end(&mut session.conn, &session.server).await?);
        let mut lines = Vec::new();
        loop {
            let captured = tokio::time::timeout(DEADLINE, self.capture.next()).await;
            match captured.expect("a capture at its end says so")? {
                Captured::Block(block) => self.block(&block, &mut lines),
                Captured::Advanced { at, resume } => {
                    self.resume = Some(resume);
                    if at >= end {
                        return Ok(lines);
                    }
                }
                Captured::TableAdded { def, resync } => {
                    let again = if resync { "again" } else { "added" };
                    lines.push(format!("{again} {}", def.name.name));
                }
            }
        }
    }

    fn block(&mut self, captured: &CapturedBlock, lines: &mut Vec<String>) {
        let block = &captured.block;
        self.blocks += 1;
        self.largest = self.largest.max(block.body.len());
        // What the journal has already is a replay.
        if self.last.is_some_and(|last| block.head.last <= last) {
            return;
        }
        assert!(self.last.is_none_or(|last| block.head.first > last), "positions rise");
        assert!(block.head.first <= block.head.last && block.head.at > 1_600_000_000_000_000);
        assert_eq!(block.ends, block.resume.is_some());
        self.last = Some(block.head.last);
        self.resume = block.resume.clone().or(self.resume.take());
        for run in &block.runs {
            let table: TableDef = serde_json::from_str(&block.tables[run.table as usize].json).unwrap();
            let read = read_run(&block.body[run.start as usize..run.end as usize]).unwrap();
            assert_eq!(read.changes() as u32, run.count);
            let cells = |columns: &[u16], cells: &[rowbridge_schema::Cell<'_>]| -> String {
                let pairs = columns.iter().zip(cells).map(|(column, cell)| {
                    let name = &table.columns[usize::from(*column)].name;
                    format!("{name}={}", cell.as_str().unwrap_or("NULL"))
                });
                pairs.collect::<Vec<_>>().join(" ")
            };
            if read.op == Op::Truncate {
                lines.push(format!("t {}", table.name.name));
                continue;
            }
            for row in 0..read.changes() {
                let (old, new) = read.row(row);
                let mut line = format!("{} {}", read.op.letter(), table.name.name);
                if !read.old.is_empty() {
                    line += &format!(" ({})", cells(&read.old, old));
                }
                if !read.new.is_empty() {
                    line += &format!(" {}", cells(&read.new, new));
                }
                lines.push(line);
            }
        }
        if block.ends {
            lines.push(".".into());
        }
    }

    /// Everything in the log now, which must not fail.
    async fn lines(&mut self) -> Vec<String> {
        self.drain().await.unwrap()
    }
}

async fn server(settings: &[(&str, &str)]) -> Server {
    let options =
        settings.iter().fold(ServerOptions::default(), |options, (name, value)| options.set(name, value));
    let server = Server::start(options).await;
    server.create_database("shop").await;
    server
}

/// The name of that end of semi-synchronous replication which commits, and of the other.
fn semi_sync(server: &Server) -> (&'static str, &'static str) {
    if server.product() == Product::MariaDb { ("master", "slave") } else { ("source", "replica") }
}

/// Commits are written to the log from now on, and nobody sees them before [`release_commits`].
async fn hold_commits(server: &Server) {
    let (role, others) = semi_sync(server);
    if role == "source" {
        server.execute("", "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'").await;
    }
    let waiting = format!(
        "SET GLOBAL rpl_semi_sync_{role}_timeout = 3600000, rpl_semi_sync_{role}_wait_no_{others} = ON,
             rpl_semi_sync_{role}_wait_point = AFTER_SYNC;
         SET GLOBAL rpl_semi_sync_{role}_enabled = ON"
    );
    server.execute("", &waiting).await;
}

async fn release_commits(server: &Server) {
    let (role, _) = semi_sync(server);
    server.execute("", &format!("SET GLOBAL rpl_semi_sync_{role}_enabled = OFF")).await;
}
