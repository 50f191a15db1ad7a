//! Deliveries against private MySQL and MariaDB servers, without HTTP around them: what a lane promises, and what it
//! writes.

mod crossing;
mod guarantees;
mod model;
mod rows;
mod shapes;
mod values;

use std::sync::Arc;

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use rowbridge_schema::config::{DatabaseUrl, MapConfig, ServerUrl};
use rowbridge_schema::wire::{
    BlockHead, Chunk, DeliveryHead, FailingChange, Op, RunKind, RunWriter, Step, encode_delivery,
    parse_delivery,
};
use rowbridge_schema::{Cell, Column, Dialect, Position, SourceId, TableDef, TableName};
use rowbridge_subscriber::apply::mysql::{MysqlError, MysqlLane, MysqlTarget};
use rowbridge_subscriber::apply::{Applied, ApplyTarget as _, TargetLane as _};
use rowbridge_subscriber::plan::Mapping;
use rowbridge_tests::mariadb::{Server, ServerOptions, Version};

/// `"id int(11)!"`: name and type; `!` means NOT NULL, `@name` is the collation of a text.
fn table(name: &str, columns: &[&str], key: &[u16]) -> TableDef {
    let column = |text: &&str| {
        let (name, rest) = text.split_once(' ').unwrap();
        let (type_name, collation) = match rest.split_once('@') {
            Some((type_name, collation)) => (type_name, Some(collation.trim_end_matches('!').to_owned())),
            None => (rest.trim_end_matches('!'), None),
        };
        let textual = ["char", "varchar", "text", "tinytext", "mediumtext", "longtext", "enum", "set"];
        let base = type_name.split('(').next().unwrap();
        let collation =
            collation.or_else(|| textual.contains(&base).then(|| "utf8mb4_general_ci".to_owned()));
        Column {
            name: name.into(),
            type_name: type_name.into(),
            not_null: text.ends_with('!'),
            generated: None,
            collation,
        }
    };
    TableDef {
        dialect: Dialect::Mysql,
        name: TableName::new("app", name),
        columns: columns.iter().map(column).collect(),
        key: key.to_vec(),
        types: vec![],
        options: vec![],
    }
}

/// Cells as tests write them: `"~"` is NULL.
fn cell(text: &str) -> Cell<'_> {
    if text == "~" { Cell::Null } else { Cell::text(text) }
}

pub(crate) type Numbered = Vec<(u16, Cell<'static>)>;

fn numbered(cells: &[&str]) -> Numbered {
    cells.iter().enumerate().map(|(i, text)| (i as u16, cell(text).into_owned())).collect()
}

fn some(cells: &[(u16, &str)]) -> Numbered {
    cells.iter().map(|(c, text)| (*c, cell(text).into_owned())).collect()
}

#[derive(Debug, Clone)]
pub(crate) struct Change {
    def: TableDef,
    op: Op,
    old: Numbered,
    pub(crate) new: Numbered,
    maybe_missing: bool,
}

impl Change {
    fn new(def: &TableDef, op: Op, old: Numbered, new: Numbered) -> Self {
        Self { def: def.clone(), op, old, new, maybe_missing: false }
    }
}

pub(crate) fn insert(def: &TableDef, cells: &[&str]) -> Change {
    Change::new(def, Op::Insert, vec![], numbered(cells))
}

fn read(def: &TableDef, cells: &[&str]) -> Change {
    Change::new(def, Op::Read, vec![], numbered(cells))
}

/// A full row under an unchanged key.
fn update(def: &TableDef, cells: &[&str]) -> Change {
    Change::new(def, Op::Update, vec![], numbered(cells))
}

/// As a log with full images tells it.
fn change(def: &TableDef, old: &[&str], new: &[&str]) -> Change {
    Change::new(def, Op::Update, numbered(old), numbered(new))
}

fn partial(def: &TableDef, old: &[(u16, &str)], new: &[(u16, &str)]) -> Change {
    Change::new(def, Op::Update, some(old), some(new))
}

fn delete(def: &TableDef, old: &[(u16, &str)]) -> Change {
    Change::new(def, Op::Delete, some(old), vec![])
}

fn truncate(def: &TableDef) -> Change {
    Change::new(def, Op::Truncate, vec![], vec![])
}

/// A delivery under construction.
#[derive(Clone)]
pub(crate) struct Builder {
    head: DeliveryHead,
    blocks: Vec<(BlockHead, Vec<Change>)>,
    /// Defined although no row may refer to them.
    defs: Vec<TableDef>,
}

pub(crate) fn delivery(prev: Option<Position>) -> Builder {
    Builder {
        head: DeliveryHead {
            rowbridge: 1,
            stream: "shop".parse().unwrap(),
            endpoint: "copy".parse().unwrap(),
            source: SourceId("a".into()),
            prev,
            to: None,
            open: false,
            split: false,
        },
        blocks: vec![],
        defs: vec![],
    }
}

impl Builder {
    /// A transaction whose changes have the ordinals from 1 on.
    pub(crate) fn block(self, offset: u64, changes: Vec<Change>) -> Self {
        self.part(Position::new(1, offset, 1), changes)
    }

    fn part(mut self, first: Position, changes: Vec<Change>) -> Self {
        let last = first.with_ordinal(first.ordinal + changes.len().max(1) as u64 - 1);
        self.head.to = Some(last);
        let head = BlockHead { first, last, at: 1_700_000_000_123_456, step: Step::Ordinal, chunk: None };
        self.blocks.push((head, changes));
        self
    }

    fn chunk(mut self, offset: u64, chunk: Chunk, def: &TableDef, changes: Vec<Change>) -> Self {
        self.defs.push(def.clone());
        self = self.block(offset, changes);
        self.blocks.last_mut().unwrap().0.chunk = Some(chunk);
        self
    }

    fn open(mut self) -> Self {
        self.head.open = true;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut defs = self.defs.clone();
        let mut bodies = Vec::new();
        for (head, changes) in &self.blocks {
            let mut writer = RunWriter::new();
            for (n, change) in changes.iter().enumerate() {
                if !defs.contains(&change.def) {
                    defs.push(change.def.clone());
                }
                let n = head.first.ordinal + n as u64;
                let id = change.def.id();
                if change.op == Op::Truncate {
                    writer.truncate(id, 0, n);
                    continue;
                }
                let columns = |cells: &Numbered| cells.iter().map(|(c, _)| *c).collect::<Vec<_>>();
                let (old, new) = (columns(&change.old), columns(&change.new));
                let maybe_missing = change.maybe_missing;
                let kind =
                    RunKind { table: id, table_index: 0, op: change.op, old: &old, new: &new, maybe_missing };
                writer.row(kind, n, |row| {
                    change.old.iter().chain(&change.new).for_each(|(_, cell)| row.cell(cell));
                });
            }
            bodies.push((head, writer.finish().0));
        }
        let json: Vec<_> = defs.iter().map(|def| (def.id(), def.to_json())).collect();
        let pieces: Vec<[&[u8]; 1]> = bodies.iter().map(|(_, body)| [body.as_slice()]).collect();
        let blocks = bodies
            .iter()
            .zip(&pieces)
            .map(|((head, body), pieces)| (*head, if body.is_empty() { &pieces[..0] } else { &pieces[..] }));
        encode_delivery(&self.head, json.iter().map(|(id, json)| (*id, json.as_str())), blocks, 0)
    }
}

/// A server with a database `app`, and a lane to it.
struct Bed {
    server: Server,
    target: MysqlTarget,
    lane: MysqlLane,
    conn: Conn,
}

fn server_url(text: &str) -> ServerUrl {
    match DatabaseUrl::parse(text).unwrap() {
        DatabaseUrl::Mysql(url) => url,
        other => panic!("{}", other.kind()),
    }
}

fn target(url: &str, maps: &[MapConfig], create: bool) -> MysqlTarget {
    let mapping = Mapping::new(maps, Dialect::Mysql).unwrap().into_one_database();
    MysqlTarget::new(server_url(url), vec![], Arc::new(mapping), create)
}

async fn lane(target: &MysqlTarget) -> MysqlLane {
    target.open(&"shop".parse().unwrap(), &"copy".parse().unwrap()).await.unwrap()
}

impl Bed {
    async fn new(setup: &str) -> Self {
        Self::with(ServerOptions::default(), setup, &[], true).await
    }

    async fn with(options: ServerOptions, setup: &str, maps: &[MapConfig], create: bool) -> Self {
        let server = Server::start(options).await;
        server.create_database("app").await;
        if !setup.is_empty() {
            server.execute("app", setup).await;
        }
        let target = target(&server.url("app"), maps, create);
        let lane = lane(&target).await;
        let mut conn = server.connect("app").await;
        conn.query_drop("SET time_zone = '+00:00', NAMES utf8mb4").await.unwrap();
        Self { server, target, lane, conn }
    }

    /// The installed MariaDB, and those that are set up besides.
    async fn each(setup: &str, run: impl AsyncFn(Self)) {
        for version in [Version::Installed, Version::MariaDb11, Version::MySql9] {
            let Some(options) = ServerOptions::of(version) else { continue };
            println!("{version:?}");
            run(Self::with(options, setup, &[], true).await).await;
        }
    }

    async fn try_apply(&mut self, delivery: &Builder) -> Result<Applied, MysqlError> {
        let bytes = delivery.bytes();
        let parsed = parse_delivery(&bytes).unwrap();
        self.lane.apply(&parsed).await
    }

    async fn apply(&mut self, delivery: &Builder) -> Applied {
        self.try_apply(delivery).await.unwrap()
    }

    async fn position(&mut self) -> Option<Position> {
        self.lane.progress().await.unwrap().map(|progress| progress.position)
    }

    /// Applies one transaction on top of what is there; all its changes must be new.
    async fn commit(&mut self, offset: u64, changes: Vec<Change>) {
        let count = changes.len() as u64;
        let prev = self.position().await;
        let applied = self.apply(&delivery(prev).block(offset, changes)).await;
        let position = Position::new(1, offset, count.max(1));
        assert_eq!(applied, Applied::Committed { position, changes: count });
    }

    /// Applies one transaction that must be refused.
    async fn refused(&mut self, offset: u64, changes: Vec<Change>) -> FailingChange {
        let prev = self.position().await;
        let before = self.server.script("app", "CHECKSUM TABLE t").await;
        let applied = self.apply(&delivery(prev).block(offset, changes)).await;
        let Applied::Rejected { position, mut failing } = applied else { panic!("{applied:?}") };
        assert_eq!(position, prev);
        assert_eq!(self.position().await, prev);
        let after = self.server.script("app", "CHECKSUM TABLE t").await;
        assert_eq!(after, before, "a refused delivery leaves nothing behind");
        assert_eq!(failing.len(), 1);
        failing.remove(0)
    }

    async fn run(&mut self, sql: &str) {
        self.conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Rows as texts joined by `|`, NULL as `~`.
    async fn rows(&mut self, sql: &str) -> Vec<String> {
        let rows: Vec<mysql_async::Row> =
            self.conn.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let text = |value: mysql_async::Value| match value {
            mysql_async::Value::NULL => "~".to_owned(),
            mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => panic!("{other:?}"),
        };
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect::<Vec<_>>().join("|")).collect()
    }
}
