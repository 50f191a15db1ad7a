//! The table of all nine crossings: every type of three kinds of databases into each of them. What a source prints goes
//! through a lane into a real target; what is there afterwards is exact, converted (the same value in the words of another
//! type), or refused with table, column and key. `docs/types.md` says the same.

mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rowbridge_schema::cell::Class;
use rowbridge_schema::config::DatabaseUrl;
use rowbridge_schema::sql::literal;
use rowbridge_schema::sqlite_type::{natural_class, push_hex, push_real};
use rowbridge_schema::wire::parse_delivery;
use rowbridge_schema::{Cell, Column, Dialect, Position, TableDef, TableName, TypeDefinition};
use rowbridge_subscriber::apply::mysql::MysqlTarget;
use rowbridge_subscriber::apply::postgres::PostgresTarget;
use rowbridge_subscriber::apply::sqlite::SqliteTarget;
use rowbridge_subscriber::apply::{Applied, ApplyTarget, TargetLane};
use rowbridge_subscriber::plan::Mapping;
use rowbridge_tests::mariadb::{Server, ServerOptions};
use rowbridge_tests::postgres::{Cluster, ClusterOptions};
use rowbridge_tests::sqlite::SqliteFile;
use rusqlite::types::ValueRef;

use crate::mysql::snapshot;
use crate::mysql_target::{delivery, insert};

const KINDS: [Dialect; 3] = [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite];

/// As `docs/types.md` calls it.
fn title(kind: Dialect) -> &'static str {
    match kind {
        Dialect::Postgres => "PostgreSQL",
        Dialect::Mysql => "MariaDB",
        Dialect::Sqlite => "SQLite",
    }
}

/// Both ends of every crossing.
struct Servers {
    postgres: Cluster,
    source: Server,
    target: Server,
    file: SqliteFile,
    copies: BTreeMap<&'static str, SqliteFile>,
}

impl Servers {
    async fn start() -> Self {
        let postgres = Cluster::start(ClusterOptions::default()).await;
        postgres.create_database("shop").await;
        postgres.create_database("copies").await;
        postgres.execute("shop", samples::TYPES).await;
        let source = Server::start(ServerOptions::default()).await;
        source.create_database("shop").await;
        let target = Server::start(ServerOptions::default()).await;
        target.create_database("shop").await;
        let copies = KINDS.map(|kind| (title(kind), SqliteFile::create("copies"))).into();
        Self { postgres, source, target, file: SqliteFile::create("shop"), copies }
    }

    async fn of_postgres(&self, database: &str, sql: &str) -> Vec<String> {
        let client = self.postgres.connect(database).await;
        let settings = "SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = UTC; \
            SET bytea_output = hex; SET extra_float_digits = 3; SET search_path = ''";
        client.batch_execute(settings).await.unwrap();
        let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let row = |message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }

    /// Makes the table of a type at the source, and gives its values as the source has them.
    async fn fill(&self, def: &TableDef, values: &[&str]) -> Vec<Cell<'static>> {
        let (name, column) = (&def.name.name, &def.columns[1]);
        let declared = &column.type_name;
        let rows = |literal: &dyn Fn(&str) -> String| -> String {
            values
                .iter()
                .enumerate()
                .map(|(id, value)| format!("INSERT INTO {name} VALUES ({id}, {});", literal(value)))
                .collect()
        };
        let texts = match def.dialect {
            Dialect::Postgres => {
                let create = format!("CREATE TABLE {name} (id int PRIMARY KEY, c {declared});");
                let sql = create + &rows(&|value| format!("{}::{declared}", literal(value)));
                self.postgres.execute("shop", &sql).await;
                self.of_postgres("shop", &format!("SELECT c FROM public.{name} ORDER BY id")).await
            }
            Dialect::Mysql => {
                let collation = column.collation.as_ref().map(|name| {
                    let charset = name.split('_').next().unwrap_or_default();
                    format!(" CHARACTER SET {charset} COLLATE {name}")
                });
                let sql = format!(
                    "SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'; \
                     CREATE TABLE {name} (id INT PRIMARY KEY, c {declared}{} NULL); {}",
                    collation.unwrap_or_default(),
                    rows(&|value| samples::mysql_literal(declared, value))
                );
                self.source.execute("shop", &sql).await;
                snapshot::values(&self.source.url("shop"), name).await
            }
            Dialect::Sqlite => {
                let connection = self.file.open();
                let sql = format!("CREATE TABLE {name} (id INTEGER PRIMARY KEY, c {declared});");
                connection.execute_batch(&sql).unwrap();
                for (id, value) in values.iter().enumerate() {
                    let (class, text) = samples::classed(declared, value);
                    let sql =
                        format!("INSERT INTO {name} VALUES ({id}, {})", samples::sqlite_literal(class, text));
                    connection.execute(&sql, []).unwrap();
                }
                return stored(&self.file, name)
                    .into_iter()
                    .map(|(class, text)| match class == natural_class(declared) {
                        true => Cell::Text(text.into()),
                        false => Cell::Classed(class, text.into()),
                    })
                    .collect();
            }
        };
        assert_eq!(texts.len(), values.len(), "{declared}");
        texts.into_iter().map(|text| Cell::Text(text.into())).collect()
    }

    /// The type that was made, and the values that are there, by the number of their row.
    async fn found(
        &self,
        def: &TableDef,
        target: Dialect,
        refused: &BTreeSet<usize>,
        count: usize,
    ) -> (String, Vec<(usize, String)>) {
        let name = &def.name.name;
        let (made, texts) = match target {
            Dialect::Postgres => {
                let table = if def.dialect == Dialect::Mysql {
                    format!("shop.{name}")
                } else {
                    format!("public.{name}")
                };
                let sql = format!(
                    "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = 'c'"
                );
                let made = self.of_postgres("copies", &sql).await.remove(0);
                (made, self.of_postgres("copies", &format!("SELECT c FROM {table} ORDER BY id")).await)
            }
            Dialect::Mysql => {
                let sql = format!(
                    "SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'shop' AND TABLE_NAME = '{name}' \
                     AND COLUMN_NAME = 'c'"
                );
                let made = self.target.query_text("shop", &sql).await.unwrap();
                (made, snapshot::values(&self.target.url("shop"), name).await)
            }
            Dialect::Sqlite => {
                let file = &self.copies[title(def.dialect)];
                let sql = format!("SELECT type FROM pragma_table_info('{name}') WHERE name = 'c'");
                let texts = stored(file, name).into_iter().map(|(class, text)| match def.dialect {
                    Dialect::Sqlite => format!("{}:{text}", class.tag()),
                    _ => text,
                });
                (file.query_text(&sql).unwrap(), texts.collect())
            }
        };
        let there: Vec<usize> = (0..count).filter(|id| !refused.contains(id)).collect();
        assert_eq!(there.len(), texts.len(), "{name}");
        (made, there.into_iter().zip(texts).collect())
    }
}

/// Classes and canonical texts of a SQLite table's values.
fn stored(file: &SqliteFile, name: &str) -> Vec<(Class, String)> {
    let connection = file.open();
    let mut statement = connection.prepare(&format!("SELECT c FROM {name} ORDER BY id")).unwrap();
    let rows = statement.query_map([], |row| {
        let mut out = String::new();
        let class = match row.get_ref(0)? {
            ValueRef::Null => panic!("{name} has a NULL"),
            ValueRef::Integer(value) => {
                out = value.to_string();
                Class::Integer
            }
            ValueRef::Real(value) => {
                push_real(&mut out, value);
                Class::Real
            }
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => {
                    out = text.to_owned();
                    Class::Text
                }
                Err(_) => {
                    push_hex(&mut out, bytes);
                    Class::RawText
                }
            },
            ValueRef::Blob(bytes) => {
                push_hex(&mut out, bytes);
                Class::Blob
            }
        };
        Ok((class, out))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn def(kind: Dialect, number: usize, declared: &str) -> TableDef {
    let (type_name, collation) = match declared.split_once('@') {
        Some((type_name, collation)) => (type_name, Some(collation.to_owned())),
        None => (declared, None),
    };
    let (name, id) = match kind {
        Dialect::Postgres => (TableName::new("public", format!("p{number}")), "integer"),
        Dialect::Mysql => (TableName::new("shop", format!("m{number}")), "int(11)"),
        Dialect::Sqlite => (TableName::bare(format!("s{number}")), "INTEGER"),
    };
    let mut column = Column::new("c", type_name);
    column.collation = collation;
    let mut types = Vec::new();
    if kind == Dialect::Postgres {
        let name = |name: &str| TableName::new("public", name);
        let labels = samples::LABELS.iter().map(|label| (*label).to_owned()).collect();
        types = vec![
            TypeDefinition::Enum { name: name("mood"), labels },
            TypeDefinition::Domain { name: name("price"), base: "numeric(10,2)".into() },
            TypeDefinition::Composite {
                name: name("address"),
                fields: vec![("street".into(), "text".into())],
            },
            TypeDefinition::Range { name: name("floatrange"), subtype: "double precision".into() },
        ];
        types.retain(|definition| match definition {
            TypeDefinition::Enum { name, .. }
            | TypeDefinition::Domain { name, .. }
            | TypeDefinition::Composite { name, .. }
            | TypeDefinition::Range { name, .. } => name.to_string() == type_name,
        });
    }
    TableDef {
        dialect: kind,
        name,
        columns: vec![Column::new("id", id), column],
        key: vec![0],
        types,
        options: vec![],
    }
}

/// Sends each value by itself, and gives the reason of each that is refused.
async fn send(
    lane: &mut impl TargetLane,
    def: &TableDef,
    cells: &[Cell<'static>],
) -> BTreeMap<usize, String> {
    let mut refused = BTreeMap::new();
    for (id, value) in cells.iter().enumerate() {
        let prev = lane.progress().await.unwrap().map(|progress| progress.position);
        let offset = prev.map_or(1, |position| position.offset.at + 1);
        let mut change = insert(def, &[&id.to_string(), ""]);
        change.new[1].1 = value.clone();
        let bytes = delivery(prev).block(offset, vec![change]).bytes();
        match lane.apply(&parse_delivery(&bytes).unwrap()).await.unwrap() {
            Applied::Committed { position, changes: 1 } => assert_eq!(position, Position::new(1, offset, 1)),
            Applied::Rejected { failing, .. } => {
                let [change] = &failing[..] else { panic!("{failing:?}") };
                let place = (change.table.as_str(), change.column.as_deref(), change.key.join(","));
                assert_eq!(
                    place,
                    (def.name.to_string().as_str(), Some("c"), format!("id={id}")),
                    "{}",
                    change.reason
                );
                refused.insert(id, change.reason.clone());
            }
            other => panic!("{def:?} {value:?}: {other:?}"),
        }
    }
    refused
}

/// One crossing.
struct Crossing {
    made: String,
    /// Values, as the docs show them, each with a verdict.
    values: Vec<(String, &'static str)>,
    /// Those that are refused, with the reason.
    refused: BTreeMap<String, String>,
}

async fn cross(
    servers: &Servers,
    source: Dialect,
    sent: &[Vec<Cell<'static>>],
    target: Dialect,
) -> Vec<(&'static str, Crossing)> {
    let mapping = |dialect| Arc::new(Mapping::new(&[], dialect).unwrap());
    let (stream, endpoint) = (title(source).to_lowercase().parse().unwrap(), "copy".parse().unwrap());
    match target {
        Dialect::Postgres => {
            let Ok(DatabaseUrl::Postgres(url)) = DatabaseUrl::parse(&servers.postgres.url("copies")) else {
                panic!()
            };
            let target = PostgresTarget::new(url, None, mapping(Dialect::Postgres), true);
            all(servers, source, sent, Dialect::Postgres, target.open(&stream, &endpoint).await.unwrap())
                .await
        }
        Dialect::Mysql => {
            let Ok(DatabaseUrl::Mysql(url)) = DatabaseUrl::parse(&servers.target.url("shop")) else {
                panic!()
            };
            let mapping = Mapping::new(&[], Dialect::Mysql).unwrap().into_one_database();
            let target = MysqlTarget::new(url, vec![], Arc::new(mapping), true);
            all(servers, source, sent, Dialect::Mysql, target.open(&stream, &endpoint).await.unwrap()).await
        }
        Dialect::Sqlite => {
            let target =
                SqliteTarget::new(servers.copies[title(source)].path(), mapping(Dialect::Sqlite), true);
            all(servers, source, sent, Dialect::Sqlite, target.open(&stream, &endpoint).await.unwrap()).await
        }
    }
}

async fn all(
    servers: &Servers,
    source: Dialect,
    sent: &[Vec<Cell<'static>>],
    target: Dialect,
    mut lane: impl TargetLane,
) -> Vec<(&'static str, Crossing)> {
    let mut crossings = Vec::new();
    for ((number, (declared, _)), cells) in samples::of(source).iter().enumerate().zip(sent) {
        let def = def(source, number, declared);
        let refused = send(&mut lane, &def, cells).await;
        let (made, found) =
            servers.found(&def, target, &refused.keys().copied().collect(), cells.len()).await;
        let mut crossing = Crossing { made, values: Vec::new(), refused: BTreeMap::new() };
        for (id, reason) in refused {
            let shown = samples::shown(cells[id].as_str().unwrap_or_default());
            crossing.values.push((shown.clone(), "refused"));
            crossing.refused.insert(shown, reason);
        }
        for (id, found) in found {
            let sent = cells[id].as_str().unwrap_or_default();
            let sent = match (&cells[id], source, target) {
                (Cell::Classed(class, _), Dialect::Sqlite, Dialect::Sqlite) => {
                    format!("{}:{sent}", class.tag())
                }
                (_, Dialect::Sqlite, Dialect::Sqlite) => format!("{}:{sent}", natural_class(declared).tag()),
                _ => sent.to_owned(),
            };
            let verdict = if found == sent {
                "exact"
            } else if source != target && samples::same(declared, &sent, &found) {
                "converted"
            } else {
                "WRONG"
            };
            let shown = match verdict {
                "WRONG" => format!("{sent:?} became {found:?}"),
                _ => samples::shown(&sent),
            };
            crossing.values.push((shown, verdict));
        }
        crossings.push((*declared, crossing));
    }
    crossings
}

/// A line of a table in `docs/types.md`: the type that is made by kind of target, and values that are not held with the
/// reason.
#[derive(Default)]
struct Documented {
    made: BTreeMap<&'static str, String>,
    refused: BTreeMap<&'static str, BTreeMap<String, String>>,
}

/// What follows `### From ...`, by type.
fn documented(source: Dialect) -> BTreeMap<String, Documented> {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/types.md")).unwrap();
    let heading = match source {
        Dialect::Mysql => "### From MySQL and MariaDB\n",
        Dialect::Postgres => "### From PostgreSQL\n",
        Dialect::Sqlite => "### From SQLite\n",
    };
    let (_, rest) = docs.split_once(heading).unwrap();
    let lines: Vec<&str> = rest
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .collect();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    let target = |name: &str| KINDS.into_iter().map(title).find(|title| name.contains(*title));
    let heads: Vec<_> = cells(lines[0])[1..3].iter().map(|head| target(head).unwrap()).collect();
    let mut types = BTreeMap::new();
    for line in &lines[2..] {
        let cells = cells(line);
        let mut of_type = Documented::default();
        for (head, made) in heads.iter().zip(&cells[1..]) {
            of_type.made.insert(*head, made.trim_matches('`').to_owned());
        }
        for refusal in cells[3].split("; ").filter(|text| !text.is_empty()) {
            let (name, rest) = refusal.split_once(": ").unwrap();
            let (value, reason) = rest.rsplit_once(" (").unwrap();
            let value = value.split_once('`').unwrap().1.trim_end_matches('`').to_owned();
            let reason = reason.trim_end_matches(')').to_owned();
            of_type.refused.entry(target(name).unwrap()).or_default().insert(value, reason);
        }
        types.insert(cells[0].trim_matches('`').replace("(none)", ""), of_type);
    }
    types
}

/// What the docs say and the servers do not.
fn compare(source: Dialect, target: Dialect, crossings: &[(&'static str, Crossing)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut documented = documented(source);
    for (declared, crossing) in crossings {
        let place = format!("{} {declared:?} to {}", title(source), title(target));
        let mut values = crossing.values.iter();
        wrong.extend(
            values
                .by_ref()
                .filter(|(_, verdict)| *verdict == "WRONG")
                .map(|(text, _)| format!("{place}: {text:.200}")),
        );
        if source == target {
            wrong.extend(
                crossing.refused.iter().map(|(value, reason)| format!("{place}: {value} refused: {reason}")),
            );
            continue;
        }
        let Some(docs) = documented.remove(declared.split('@').next().unwrap()) else {
            wrong.push(format!("{place} is not in the docs"));
            continue;
        };
        let (made, meant) = (samples::without_width(&crossing.made), &docs.made[title(target)]);
        if samples::without_width(meant) != made {
            wrong.push(format!("{place} makes {made}, docs say {meant}"));
        }
        let meant = docs.refused.get(title(target)).cloned().unwrap_or_default();
        for (value, reason) in &crossing.refused {
            if !meant.get(value).is_some_and(|told| reason.starts_with(told.as_str())) {
                wrong
                    .push(format!("{place}: {value} is refused ({reason}), docs say {:?}", meant.get(value)));
            }
        }
        // MariaDB has no negative zero to send.
        let sent = meant.keys().filter(|value| source != Dialect::Mysql || *value != "-0");
        wrong.extend(
            sent.filter(|value| !crossing.refused.contains_key(*value))
                .map(|value| format!("{place}: {value} is held")),
        );
    }
    if source != target {
        let beyond = documented.keys().filter(|name| !samples::BEYOND.contains(&name.as_str()));
        wrong
            .extend(beyond.map(|name| format!("{name:?} of {} is in the docs and not tried", title(source))));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_three_kinds_into_each_of_them() {
    let servers = Servers::start().await;
    let mut wrong = Vec::new();
    println!("{:<11} {:<28} {:<11} {:<30} values", "source", "type", "target", "made type");
    for source in KINDS {
        let mut sent = Vec::new();
        for (number, (declared, values)) in samples::of(source).iter().enumerate() {
            sent.push(servers.fill(&def(source, number, declared), values).await);
        }
        for target in KINDS {
            let crossings = cross(&servers, source, &sent, target).await;
            for (declared, Crossing { made, values, .. }) in &crossings {
                let mut by_verdict: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
                values.iter().for_each(|(value, verdict)| by_verdict.entry(verdict).or_default().push(value));
                let verdicts: Vec<String> = by_verdict
                    .iter()
                    .map(|(verdict, values)| format!("{verdict}: {}", values.join(", ")))
                    .collect();
                println!(
                    "{:<11} {declared:<28.28} {:<11} {made:<30} {}",
                    title(source),
                    title(target),
                    verdicts.join("; ")
                );
            }
            wrong.extend(compare(source, target, &crossings));
        }
    }
    println!("not tried, since these servers lack them: {}", samples::BEYOND.join(", "));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
