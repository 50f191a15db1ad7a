//! Tables of MariaDB and MySQL: every value as the bytes that the server stores.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row};

use super::{Difference, Side, bytes_text, same_columns, sorted_rows_equal, unreadable};
use crate::mariadb::connect;
use crate::wait;

/// Compares tables, given as pairs of raw `database.table` names (no quoting; the database ends at the first dot). Each
/// side is read in one snapshot, as far as its engine has any. The sessions must be outside of any transaction.
///
/// Text is compared as its stored bytes, so the same letters in two character sets differ. The sign of zero is not seen:
/// MariaDB prints -0 as 0 whatever is asked.
///
/// Cancel safety: a dropped call may leave a transaction open and settings changed on either session.
///
/// # Errors
/// The first difference.
pub async fn mariadb_tables_equal(
    source: &mut Conn,
    target: &mut Conn,
    tables: &[(&str, &str)],
) -> Result<(), Difference> {
    // Without a character set for results the server sends the bytes that it has.
    const BEGIN: &str = "SET @rowbridge_tests_zone = @@time_zone, @rowbridge_tests_mode = @@sql_mode,
            @rowbridge_tests_results = @@character_set_results;
        SET time_zone = '+00:00', sql_mode = '', character_set_results = NULL;
        SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
        START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
    const END: &str = "ROLLBACK; SET time_zone = @rowbridge_tests_zone, sql_mode = @rowbridge_tests_mode,
            character_set_results = @rowbridge_tests_results";
    source.query_drop(BEGIN).await.map_err(unreadable(Side::Source))?;
    target.query_drop(BEGIN).await.map_err(unreadable(Side::Target))?;
    let mut result = Ok(());
    for (from, to) in tables {
        result = table_equal(source, target, from, to).await;
        if result.is_err() {
            break;
        }
    }
    // A session that broke meanwhile has already said so above.
    let _ = source.query_drop(END).await;
    let _ = target.query_drop(END).await;
    result
}

async fn table_equal(source: &mut Conn, target: &mut Conn, from: &str, to: &str) -> Result<(), Difference> {
    let from_columns = columns(source, Side::Source, from).await?;
    let to_columns = columns(target, Side::Target, to).await?;
    let names = |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    same_columns(from, &names(&from_columns), &names(&to_columns))?;
    let (left, right) = tokio::join!(rows(source, from, &from_columns), rows(target, to, &to_columns));
    let left = left.map_err(unreadable(Side::Source))?;
    let right = right.map_err(unreadable(Side::Target))?;
    sorted_rows_equal(from, names(&from_columns), &left, &right)
}

pub(super) struct Column {
    pub(super) name: String,
    /// `information_schema.columns.data_type`, for example `varchar`.
    pub(super) data_type: String,
    /// Digits of a number, bits of a BIT.
    pub(super) precision: u64,
}

impl Column {
    /// What to select, so that the text which the server sends tells any two values apart.
    pub(super) fn expression(&self) -> String {
        let name = quote(&self.name);
        match self.data_type.as_str() {
            // A FLOAT is printed with six digits only; as a DOUBLE it gets all that it needs to be read back.
            "float" => format!("CAST({name} AS DOUBLE)"),
            // The error value '' has number 0, a member '' has another.
            "enum" => format!("CONCAT({name}, IF({name} + 0 = 0, ' (no member)', ''))"),
            _ => name,
        }
    }

    /// Whether its values are bytes rather than text.
    pub(super) fn is_binary(&self) -> bool {
        matches!(
            self.data_type.as_str(),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob"
        )
    }
}

/// Columns in the order of their names: two tables may hold the same ones in another order.
pub(super) async fn columns(session: &mut Conn, side: Side, table: &str) -> Result<Vec<Column>, Difference> {
    let (database, name) = split(table);
    let found: Vec<(Vec<u8>, Vec<u8>, Option<u64>)> = session
        .exec(
            "SELECT column_name, data_type, numeric_precision FROM information_schema.columns
             WHERE table_schema = IF(? = '', DATABASE(), ?) AND table_name = ?",
            (database, database, name),
        )
        .await
        .map_err(unreadable(side))?;
    if found.is_empty() {
        return Err(Difference::MissingTable { side, table: table.to_owned() });
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let mut columns: Vec<Column> = found
        .into_iter()
        .map(|(name, data_type, precision)| Column {
            name: text(name),
            data_type: text(data_type),
            precision: precision.unwrap_or(0),
        })
        .collect();
    columns.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(columns)
}

/// All rows as text, sorted here: the server sorts by the first 1,024 bytes of a value only (`max_sort_length`).
async fn rows(
    session: &mut Conn,
    table: &str,
    columns: &[Column],
) -> Result<Vec<String>, mysql_async::Error> {
    let values: Vec<String> = columns.iter().map(Column::expression).collect();
    let sql = format!("SELECT {} FROM {}", values.join(", "), quoted_table(table));
    let mut result = session.query_iter(sql).await?;
    let mut rows = Vec::new();
    while let Some(row) = result.next().await? {
        rows.push(text(&row));
    }
    rows.sort_unstable();
    Ok(rows)
}

/// A row of the text protocol, in which every value is NULL or bytes.
fn text(row: &Row) -> String {
    let value = |at: usize| match row.as_ref(at) {
        Some(mysql_async::Value::Bytes(bytes)) => bytes_text(bytes),
        Some(mysql_async::Value::NULL) | None => "null".into(),
        Some(other) => format!("{other:?}"),
    };
    let values: Vec<String> = (0..row.len()).map(value).collect();
    format!("({})", values.join(", "))
}

fn split(table: &str) -> (&str, &str) {
    table.split_once('.').unwrap_or(("", table))
}

pub(super) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

pub(super) fn quoted_table(table: &str) -> String {
    match split(table) {
        ("", table) => quote(table),
        (database, table) => format!("{}.{}", quote(database), quote(table)),
    }
}

/// Waits until tables are equal. Connects anew for each look, so that servers may come and go meanwhile.
///
/// # Panics
/// At the deadline, with the difference.
pub async fn wait_until_mariadb_equal(
    source_url: &str,
    target_url: &str,
    tables: &[(&str, &str)],
    deadline: Duration,
) {
    wait::until("an equal copy", deadline, || async {
        look(source_url, target_url, tables).await.map_err(|difference| difference.to_string())
    })
    .await;
}

async fn look(source_url: &str, target_url: &str, tables: &[(&str, &str)]) -> Result<(), Difference> {
    let mut source = connect(source_url).await.map_err(unreadable(Side::Source))?;
    let mut target = connect(target_url).await.map_err(unreadable(Side::Target))?;
    let result = mariadb_tables_equal(&mut source, &mut target, tables).await;
    // What matters has been read.
    let _ = tokio::join!(source.disconnect(), target.disconnect());
    result
}

/// Waits until a table has exactly `count` rows: cheaper than comparing while a load still runs.
///
/// # Panics
/// At the deadline, with what the last look gave.
pub async fn wait_for_mariadb_count(session: &mut Conn, table: &str, count: u64, deadline: Duration) {
    let sql = format!("SELECT COUNT(*) FROM {}", quoted_table(table));
    let session = &tokio::sync::Mutex::new(session);
    wait::until(&format!("{count} rows in {table}"), deadline, || async {
        match session.lock().await.query_first::<u64, _>(&sql).await {
            Ok(Some(now)) if now == count => Ok(()),
            Ok(now) => Err(format!("it has {now:?}")),
            Err(error) => Err(format!("{error:?}")),
        }
    })
    .await;
}
