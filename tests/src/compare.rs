//! The oracle: two databases hold the same rows, value for value.
//!
//! Rows become text by the server itself under fixed settings, are sorted by bytes and merged here. So equal means equal
//! as multisets, keyless tables included, and a type that the two servers print alike is compared without our parsing it.
//! That holds between databases of one kind only: each kind prints in its own way. [`crossing`] compares two kinds.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use tokio_postgres::Client;

pub use crossing::{Place, crossing_tables_equal, wait_until_crossing_equal};
pub use mariadb::{mariadb_tables_equal, wait_for_mariadb_count, wait_until_mariadb_equal};

use crate::postgres::connect;
use crate::wait::{self, POLL};

mod crossing;
mod mariadb;

/// How many rows of each side a difference shows.
const SHOWN: usize = 10;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that changes are captured from.
    Source,
    /// The one that they are applied to.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// Why two tables are not equal.
#[derive(Debug)]
pub enum Difference {
    /// There is no such table.
    MissingTable {
        /// Where.
        side: Side,
        /// Its name.
        table: String,
    },
    /// The tables have different columns.
    Columns {
        /// Name at the source.
        table: String,
        /// Columns only there.
        only_source: Vec<String>,
        /// Columns only at the target.
        only_target: Vec<String>,
    },
    /// Rows differ.
    Rows(Box<RowDifference>),
    /// A side could not be read.
    Unreadable {
        /// Which one.
        side: Side,
        /// What it said.
        reason: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingTable { side, table } => write!(f, "{side} has no table {table}"),
            Self::Columns { table, only_source, only_target } => {
                write!(
                    f,
                    "{table}: columns only at the source {only_source:?}, only at the target {only_target:?}"
                )
            }
            Self::Rows(rows) => rows.fmt(f),
            Self::Unreadable { side, reason } => write!(f, "{side} cannot be read: {reason}"),
        }
    }
}

/// Which rows differ.
#[derive(Debug, Default)]
pub struct RowDifference {
    /// Name at the source.
    pub table: String,
    /// Columns in the order that the rows are shown in.
    pub columns: Vec<String>,
    /// All rows of the source.
    pub source_count: u64,
    /// All rows of the target.
    pub target_count: u64,
    /// How many rows the target has not.
    pub missing: u64,
    /// How many rows only the target has.
    pub surplus: u64,
    /// The first ten rows that the target has not.
    pub first_missing: Vec<String>,
    /// The first ten rows that only the target has.
    pub first_surplus: Vec<String>,
}

impl fmt::Display for RowDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, source_count, target_count, .. } = self;
        let columns = self.columns.join(", ");
        write!(f, "{table} ({columns}): source has {source_count} rows, target {target_count}")?;
        for (what, count, rows) in [
            ("missing at the target", self.missing, &self.first_missing),
            ("only at the target", self.surplus, &self.first_surplus),
        ] {
            if count > 0 {
                write!(f, "\n  {count} {what}, first {}:", rows.len())?;
            }
            for row in rows {
                write!(f, "\n    {row}")?;
            }
        }
        Ok(())
    }
}

/// Compares PostgreSQL tables, given as pairs of raw `schema.table` names (no SQL quoting; the schema ends at the first
/// dot). Each side is read in one snapshot. The two clients must be different sessions outside of any transaction.
///
/// Cancel safety: a dropped call may leave a transaction open on either session.
///
/// # Errors
/// The first difference.
pub async fn postgres_tables_equal(
    source: &Client,
    target: &Client,
    tables: &[(&str, &str)],
) -> Result<(), Difference> {
    // Local to a transaction, so that the sessions stay as the test set them up. An empty search path makes the server
    // print the names of types and tables in full.
    const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
        SET LOCAL search_path = ''; SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD';
        SET LOCAL intervalstyle = 'postgres'; SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 3;
        SET LOCAL xmloption = 'content'; SET LOCAL lc_monetary = 'C'; SET LOCAL row_security = off;
        SET LOCAL statement_timeout = 0";
    for (side, client) in [(Side::Source, source), (Side::Target, target)] {
        client.batch_execute(BEGIN).await.map_err(unreadable(side))?;
    }
    let mut result = Ok(());
    for (from, to) in tables {
        result = postgres_table_equal(source, target, from, to).await;
        if result.is_err() {
            break;
        }
    }
    for client in [source, target] {
        // A session that broke meanwhile has already said so above.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    result
}

async fn postgres_table_equal(
    source: &Client,
    target: &Client,
    from: &str,
    to: &str,
) -> Result<(), Difference> {
    let source_columns = postgres_columns(source, Side::Source, from).await?;
    let target_columns = postgres_columns(target, Side::Target, to).await?;
    same_columns(from, &source_columns, &target_columns)?;
    let source_rows = postgres_rows(source, from, &source_columns).await.map_err(unreadable(Side::Source))?;
    let target_rows = postgres_rows(target, to, &source_columns).await.map_err(unreadable(Side::Target))?;
    let text = |row: tokio_postgres::Row| row.get::<_, String>(0);
    let mut source_rows = pin!(source_rows.map_ok(text).map_err(unreadable(Side::Source)));
    let mut target_rows = pin!(target_rows.map_ok(text).map_err(unreadable(Side::Target)));
    let mut merge = RowDifference::default();
    let mut left = source_rows.next().await.transpose()?;
    let mut right = target_rows.next().await.transpose()?;
    loop {
        match merge.step(left.as_deref(), right.as_deref()) {
            Step::Both => {
                left = source_rows.next().await.transpose()?;
                right = target_rows.next().await.transpose()?;
            }
            Step::Source => left = source_rows.next().await.transpose()?,
            Step::Target => right = target_rows.next().await.transpose()?,
            Step::End => return merge.verdict(from, source_columns),
        }
    }
}

/// All rows as text, sorted by bytes. Composite output quotes what needs it and tells NULL from '', so equal text means
/// equal values.
async fn postgres_rows(
    client: &Client,
    table: &str,
    columns: &[String],
) -> Result<tokio_postgres::RowStream, tokio_postgres::Error> {
    let values: Vec<String> = columns.iter().map(|name| format!("{}::text", quote(name))).collect();
    // A table's own rows: those of inheriting tables are theirs. A partitioned table has only its partitions'.
    let partitioned = client
        .query_one(
            "SELECT relkind = 'p' FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1)",
            &[&quoted_table(table)],
        )
        .await?;
    let only = if partitioned.get(0) { "" } else { "ONLY " };
    let sql = format!(
        "SELECT r FROM (SELECT ROW({})::text COLLATE \"C\" AS r FROM {only}{}) AS rows ORDER BY r",
        values.join(", "),
        quoted_table(table)
    );
    client.query_raw(&sql, std::iter::empty::<&str>()).await
}

/// Column names, sorted: two tables may hold the same columns in another order.
async fn postgres_columns(client: &Client, side: Side, table: &str) -> Result<Vec<String>, Difference> {
    let rows = client
        .query(
            "SELECT a.attname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
             WHERE c.oid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped",
            &[&quoted_table(table)],
        )
        .await
        .map_err(unreadable(side))?;
    // A table without columns is a curiosity that no test compares.
    if rows.is_empty() {
        return Err(Difference::MissingTable { side, table: table.to_owned() });
    }
    let mut columns: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    columns.sort_unstable();
    Ok(columns)
}

fn same_columns(table: &str, source: &[String], target: &[String]) -> Result<(), Difference> {
    let source: BTreeSet<&String> = source.iter().collect();
    let target: BTreeSet<&String> = target.iter().collect();
    if source == target {
        return Ok(());
    }
    Err(Difference::Columns {
        table: table.to_owned(),
        only_source: source.difference(&target).map(ToString::to_string).collect(),
        only_target: target.difference(&source).map(ToString::to_string).collect(),
    })
}

fn unreadable<E: fmt::Debug>(side: Side) -> impl Fn(E) -> Difference {
    move |error| Difference::Unreadable { side, reason: format!("{error:?}") }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted_table(name: &str) -> String {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    format!("{}.{}", quote(schema), quote(table))
}

/// Which rows have been used up by a step of the merge.
enum Step {
    Both,
    Source,
    Target,
    End,
}

impl RowDifference {
    fn step(&mut self, source: Option<&str>, target: Option<&str>) -> Step {
        let order = match (source, target) {
            (None, None) => return Step::End,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(source), Some(target)) => source.cmp(target),
        };
        self.source_count += u64::from(order.is_le());
        self.target_count += u64::from(order.is_ge());
        match order {
            Ordering::Equal => Step::Both,
            Ordering::Less => {
                self.missing += 1;
                show(&mut self.first_missing, source);
                Step::Source
            }
            Ordering::Greater => {
                self.surplus += 1;
                show(&mut self.first_surplus, target);
                Step::Target
            }
        }
    }

    fn verdict(self, table: &str, columns: Vec<String>) -> Result<(), Difference> {
        if self.missing == 0 && self.surplus == 0 {
            return Ok(());
        }
        Err(Difference::Rows(Box::new(Self { table: table.to_owned(), columns, ..self })))
    }
}

/// Compares rows that both sides hold in memory, sorted.
fn sorted_rows_equal(
    table: &str,
    columns: Vec<String>,
    source: &[String],
    target: &[String],
) -> Result<(), Difference> {
    let (mut left, mut right) = (source.iter().peekable(), target.iter().peekable());
    let mut merge = RowDifference::default();
    loop {
        match merge.step(left.peek().map(|row| row.as_str()), right.peek().map(|row| row.as_str())) {
            Step::Both => drop((left.next(), right.next())),
            Step::Source => drop(left.next()),
            Step::Target => drop(right.next()),
            Step::End => return merge.verdict(table, columns),
        }
    }
}

fn show(shown: &mut Vec<String>, row: Option<&str>) {
    const WIDTH: usize = 300;
    if let (Some(row), true) = (row, shown.len() < SHOWN) {
        let mut text: String = row.chars().take(WIDTH).collect();
        if text.len() < row.len() {
            text += "...";
        }
        shown.push(text);
    }
}

/// Compares SQLite tables by the storage class and the exact value of every column (floats by their bits, text by its
/// bytes). Files are opened for reading only.
///
/// # Errors
/// The first difference.
pub fn sqlite_tables_equal(source: &Path, target: &Path, tables: &[(&str, &str)]) -> Result<(), Difference> {
    let source = sqlite_open(source, Side::Source)?;
    let target = sqlite_open(target, Side::Target)?;
    for (from, to) in tables {
        let source_columns = sqlite_columns(&source, Side::Source, from)?;
        let target_columns = sqlite_columns(&target, Side::Target, to)?;
        same_columns(from, &source_columns, &target_columns)?;
        let source_rows = sqlite_rows(&source, from, &source_columns).map_err(unreadable(Side::Source))?;
        let target_rows = sqlite_rows(&target, to, &source_columns).map_err(unreadable(Side::Target))?;
        sorted_rows_equal(from, source_columns, &source_rows, &target_rows)?;
    }
    Ok(())
}

/// The tables of an SQLite file, without SQLite's own and Rowbridge's.
///
/// # Errors
/// When the file cannot be read.
pub fn sqlite_tables(path: &Path, side: Side) -> Result<Vec<String>, Difference> {
    let connection = sqlite_open(path, side)?;
    let read = || {
        let mut statement = connection.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
             AND name NOT LIKE 'rowbridge\\_%' ESCAPE '\\' ORDER BY name",
        )?;
        statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, rusqlite::Error>>()
    };
    read().map_err(unreadable(side))
}

/// Compares all tables of two SQLite files but SQLite's own and Rowbridge's.
///
/// # Errors
/// The first difference; a table that only the target has is one too.
pub fn sqlite_databases_equal(source: &Path, target: &Path) -> Result<(), Difference> {
    let from = sqlite_tables(source, Side::Source)?;
    let to = sqlite_tables(target, Side::Target)?;
    if let Some(table) = to.iter().find(|table| !from.contains(table)) {
        return Err(Difference::MissingTable { side: Side::Source, table: table.clone() });
    }
    let pairs: Vec<(&str, &str)> = from.iter().map(|table| (table.as_str(), table.as_str())).collect();
    sqlite_tables_equal(source, target, &pairs)
}

fn sqlite_open(path: &Path, side: Side) -> Result<Connection, Difference> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(unreadable(side))?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(unreadable(side))?;
    Ok(connection)
}

fn sqlite_columns(connection: &Connection, side: Side, table: &str) -> Result<Vec<String>, Difference> {
    let read = || {
        // Hidden 2 and 3 are generated columns, which have values; 1 is a column of a virtual table, which has none.
        let mut statement =
            connection.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY name")?;
        statement.query_map([table], |row| row.get(0))?.collect::<Result<Vec<String>, rusqlite::Error>>()
    };
    let columns = read().map_err(unreadable(side))?;
    if columns.is_empty() {
        return Err(Difference::MissingTable { side, table: table.to_owned() });
    }
    Ok(columns)
}

fn sqlite_rows(
    connection: &Connection,
    table: &str,
    columns: &[String],
) -> Result<Vec<String>, rusqlite::Error> {
    let names: Vec<String> = columns.iter().map(|name| quote(name)).collect();
    let mut statement = connection.prepare(&format!("SELECT {} FROM {}", names.join(", "), quote(table)))?;
    let mut rows = statement.query([])?;
    let mut texts = Vec::new();
    while let Some(row) = rows.next()? {
        let values: Result<Vec<String>, rusqlite::Error> =
            (0..columns.len()).map(|at| row.get_ref(at).map(sqlite_text)).collect();
        texts.push(format!("({})", values?.join(", ")));
    }
    texts.sort_unstable();
    Ok(texts)
}

fn sqlite_text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".into(),
        ValueRef::Integer(number) => format!("integer {number}"),
        // The bits tell -0.0 from 0.0; the number is for the reader.
        ValueRef::Real(number) => format!("real {number:?} {:016x}", number.to_bits()),
        ValueRef::Text(bytes) => format!("text {}", bytes_text(bytes)),
        ValueRef::Blob(bytes) => format!("blob x'{}'", hex(bytes)),
    }
}

/// Bytes so that equal text means equal bytes: readable where they are UTF-8.
fn bytes_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("x'{}'", hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until PostgreSQL tables are equal. Connects by URL and again when a session breaks, so that servers may come
/// and go meanwhile.
///
/// # Panics
/// At the deadline, with the difference.
pub async fn wait_until_equal(
    source_url: &str,
    target_url: &str,
    tables: &[(&str, &str)],
    deadline: Duration,
) {
    let started = Instant::now();
    let mut sessions = None;
    loop {
        let result = match sessions.take() {
            Some(open) => Ok(open),
            None => open_both(source_url, target_url).await,
        };
        let difference = match result {
            Ok((source, target)) => match postgres_tables_equal(&source, &target, tables).await {
                Ok(()) => return,
                Err(unreadable @ Difference::Unreadable { .. }) => unreadable,
                Err(difference) => {
                    sessions = Some((source, target));
                    difference
                }
            },
            Err(difference) => difference,
        };
        if started.elapsed() >= deadline {
            panic!("the copy is not equal to its source after {deadline:?}: {difference}");
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn open_both(source_url: &str, target_url: &str) -> Result<(Client, Client), Difference> {
    let source = connect(source_url).await.map_err(unreadable(Side::Source))?;
    let target = connect(target_url).await.map_err(unreadable(Side::Target))?;
    Ok((source, target))
}

/// Waits until SQLite tables are equal; all tables when none is named.
///
/// # Panics
/// At the deadline, with the difference.
pub async fn wait_until_sqlite_equal(
    source: &Path,
    target: &Path,
    tables: &[(&str, &str)],
    deadline: Duration,
) {
    wait::until("an equal copy", deadline, || async {
        let result = if tables.is_empty() {
            sqlite_databases_equal(source, target)
        } else {
            sqlite_tables_equal(source, target, tables)
        };
        result.map_err(|difference| difference.to_string())
    })
    .await;
}

/// Waits until a PostgreSQL table has exactly `count` rows: cheaper than comparing while a load still runs.
///
/// # Panics
/// At the deadline, with what the last look gave.
pub async fn wait_for_count(client: &Client, table: &str, count: i64, deadline: Duration) {
    let sql = &format!("SELECT count(*) FROM {}", quoted_table(table));
    wait::until(&format!("{count} rows in {table}"), deadline, || async move {
        match client.query_one(sql, &[]).await.map(|row| row.get::<_, i64>(0)) {
            Ok(now) if now == count => Ok(()),
            Ok(now) => Err(format!("it has {now}")),
            Err(error) => Err(format!("{error:?}")),
        }
    })
    .await;
}
