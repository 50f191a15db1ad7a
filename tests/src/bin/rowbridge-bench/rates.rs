//! How fast the ends are by themselves, in the present process: rows per second that a capture decodes from a server's log,
//! and that a lane writes into a server.

use std::sync::Arc;
use std::time::Instant;

use rowbridge_publisher::capture::mysql::client::Connector;
use rowbridge_publisher::capture::mysql::{MysqlCapture, MysqlOptions};
use rowbridge_publisher::capture::{Capture as _, CaptureStart, Captured, OldRows};
use rowbridge_publisher::state::State;
use rowbridge_schema::config::{DatabaseUrl, ServerUrl};
use rowbridge_schema::wire::{
    BlockHead, DeliveryHead, Op, RunKind, RunWriter, Step, encode_delivery, parse_delivery,
};
use rowbridge_schema::{
    Column, Dialect, EndpointName, Position, SourceId, TableDef, TableName, TablePatterns,
};
use rowbridge_subscriber::apply::mysql::MysqlTarget;
use rowbridge_subscriber::apply::{Applied, ApplyTarget as _, TargetLane as _};
use rowbridge_subscriber::plan::Mapping;
use rowbridge_tests::mariadb::{Server, ServerOptions, Version};

const DATABASE: &str = "shop";
const COLUMNS: [(&str, &str); 6] = [
    ("id", "bigint(20)"),
    ("a", "int(11)"),
    ("b", "varchar(50)"),
    ("c", "decimal(10,2)"),
    ("d", "datetime(6)"),
    ("e", "double"),
];
const TEXT: &str = "some text of thirty characters";

fn create(unique: &str) -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    format!("CREATE TABLE t ({}, PRIMARY KEY (id){unique})", columns.join(", "))
}

fn url(server: &Server) -> ServerUrl {
    match DatabaseUrl::parse(&server.url(DATABASE)).unwrap() {
        DatabaseUrl::Mysql(url) => url,
        other => panic!("{}", other.kind()),
    }
}

/// The servers that are there, durable.
async fn servers() -> Vec<(Version, Server)> {
    let mut servers = Vec::new();
    for version in [Version::Installed, Version::MariaDb11, Version::MySql9] {
        let Some(options) = ServerOptions::of(version) else { continue };
        let options = ServerOptions { fsync: true, ..options }.set("innodb_buffer_pool_size", "512M");
        let server = Server::start(options).await;
        server.create_database(DATABASE).await;
        servers.push((version, server));
    }
    servers
}

/// Both rates of each server.
pub(super) async fn rates(rows: usize) {
    for (version, server) in servers().await {
        decode(version, &server, rows).await;
        for unique in ["", ", UNIQUE (a)"] {
            for per_delivery in [1, 100, 1000, 5000] {
                let rows = if per_delivery == 1 { rows.min(2000) } else { rows };
                apply(version, &server, unique, rows, per_delivery).await;
            }
        }
    }
}

/// The log's rows are there before they are read, in transactions of a thousand.
async fn decode(version: Version, server: &Server, rows: usize) {
    server.execute(DATABASE, &create("")).await;
    let folder = tempfile::tempdir().unwrap();
    let options = MysqlOptions {
        tables: TablePatterns::new(&["shop.*"]).unwrap(),
        connector: Connector::new(&url(server)).unwrap(),
        state: Arc::new(State::open(folder.path(), &"shop".parse().unwrap()).unwrap()),
        old_rows: OldRows::default(),
    };
    let start = CaptureStart { epoch: 1, last: None, resume: None };
    let (mut capture, _) = MysqlCapture::open(options, &start).await.unwrap();
    let numbers: Vec<String> = (0..1000).map(|n| format!("({n})")).collect();
    server
        .execute(DATABASE, &format!("CREATE TABLE n (n INT); INSERT INTO n VALUES {}", numbers.join(",")))
        .await;
    for first in (0..rows).step_by(1000) {
        let sql = format!(
            "INSERT INTO t SELECT {first} + n, n, '{TEXT}', n * 1.25, '2024-01-31 23:59:59.123456', n / 7 FROM n"
        );
        server.execute(DATABASE, &sql).await;
    }
    let wanted = rows.div_ceil(1000) * 1000;
    for operation in ["inserts", "updates"] {
        if operation == "updates" {
            for first in (0..rows).step_by(1000) {
                let sql = format!("UPDATE t SET c = c + 1 WHERE id >= {first} AND id < {first} + 1000");
                server.execute(DATABASE, &sql).await;
            }
        }
        let (mut found, mut started) = (0, None);
        while found < wanted {
            if let Captured::Block(block) = capture.next().await.unwrap() {
                let runs = block.block.runs.iter();
                let of_t = runs.filter(|run| block.block.tables[run.table as usize].json.contains("\"t\""));
                found += of_t.map(|run| run.count as usize).sum::<usize>();
                started.get_or_insert_with(Instant::now);
            }
        }
        let rate = wanted as f64 / started.unwrap().elapsed().as_secs_f64();
        println!("{version:?} decode {operation}: {rate:.0} rows/s");
    }
    capture.close().await;
    server.execute(DATABASE, "DROP TABLE t, n").await;
}

async fn apply(version: Version, server: &Server, unique: &str, rows: usize, per_delivery: usize) {
    server.execute(DATABASE, &create(unique)).await;
    let column = |(name, type_name): &(&str, &str)| Column {
        name: (*name).into(),
        type_name: (*type_name).into(),
        not_null: *name == "id",
        generated: None,
        collation: (*name == "b").then(|| "utf8mb4_general_ci".into()),
    };
    let def = TableDef {
        dialect: Dialect::Mysql,
        name: TableName::new(DATABASE, "t"),
        columns: COLUMNS.iter().map(column).collect(),
        key: vec![0],
        types: vec![],
        options: vec![],
    };
    let mapping = Mapping::new(&[], Dialect::Mysql).unwrap().into_one_database();
    let target = MysqlTarget::new(url(server), vec![], Arc::new(mapping), false);
    // A lane of its own, without the progress of another measurement.
    let endpoint: EndpointName = format!("e{per_delivery}-{}", unique.len()).parse().unwrap();
    let mut lane = target.open(&"shop".parse().unwrap(), &endpoint).await.unwrap();
    let mut prev = None;
    for (operation, op) in [("inserts", Op::Insert), ("updates", Op::Update)] {
        let mut deliveries = Vec::with_capacity(rows / per_delivery);
        for first in (0..rows).step_by(per_delivery) {
            let mut writer = RunWriter::new();
            let new: Vec<u16> = (0..COLUMNS.len() as u16).collect();
            let kind =
                RunKind { table: def.id(), table_index: 0, op, old: &[], new: &new, maybe_missing: false };
            for n in 0..per_delivery {
                // Keys scattered over the table.
                let id = ((first + n) * 7919 % rows).to_string();
                let cells = [&id, &id, TEXT, "1234.56", "2024-01-31 23:59:59.123456", "0.123456789"];
                writer.row(kind, n as u64 + 1, |row| cells.iter().for_each(|cell| row.text(cell)));
            }
            let (body, _) = writer.finish();
            let offset = 1 + first as u64 + if op == Op::Insert { 0 } else { rows as u64 };
            let (from, to) = (Position::new(1, offset, 1), Position::new(1, offset, per_delivery as u64));
            let head = DeliveryHead {
                rowbridge: 1,
                stream: "shop".parse().unwrap(),
                endpoint: endpoint.clone(),
                source: SourceId("a".into()),
                prev,
                to: Some(to),
                open: false,
                split: false,
            };
            let block = BlockHead { first: from, last: to, at: 0, step: Step::Ordinal, chunk: None };
            let json = def.to_json();
            deliveries.push(encode_delivery(
                &head,
                [(def.id(), json.as_str())].into_iter(),
                [(&block, &[body.as_slice()][..])].into_iter(),
                0,
            ));
            prev = Some(to);
        }
        let started = Instant::now();
        for bytes in &deliveries {
            let applied = lane.apply(&parse_delivery(bytes).unwrap()).await.unwrap();
            assert!(matches!(applied, Applied::Committed { .. }), "{applied:?}");
        }
        let rate = rows as f64 / started.elapsed().as_secs_f64();
        println!("{version:?} apply {operation} by {per_delivery}{unique}: {rate:.0} rows/s");
    }
    drop(lane);
    server.execute(DATABASE, "DROP TABLE t").await;
}
