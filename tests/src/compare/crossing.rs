//! Between two kinds of database: every value of every row brought to a form that the output of both servers leads to, by
//! rules of our own. What docs/types.md leaves out at the target (generated columns) is a difference here.
//!
//! The sign of zero is not seen, since MariaDB does not show it.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use mysql_async::prelude::Queryable as _;
use rusqlite::types::ValueRef;
use tokio_postgres::SimpleQueryMessage;

use super::{
    Difference, Side, hex, mariadb, postgres_columns, quote, quoted_table, same_columns, sorted_rows_equal,
    sqlite_columns, sqlite_open, unreadable,
};
use crate::postgres::connect;
use crate::wait;

/// A database and how to get there.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A URL. Tables are `schema.table`, or of `public`.
    Postgres(&'a str),
    /// A URL. Tables are `database.table`, or of the URL's database.
    Mariadb(&'a str),
    /// A file.
    Sqlite(&'a Path),
}

/// Waits until tables of two kinds of database are equal. Connects anew for each look, so that servers may come and go
/// meanwhile.
///
/// # Panics
/// At the deadline, with the difference.
pub async fn wait_until_crossing_equal(
    source: Place<'_>,
    target: Place<'_>,
    tables: &[(&str, &str)],
    deadline: Duration,
) {
    wait::until("an equal copy", deadline, || async {
        crossing_tables_equal(source, target, tables).await.map_err(|difference| difference.to_string())
    })
    .await;
}

/// Compares tables of two kinds of database. Each table is read by one statement.
///
/// # Errors
/// The first difference.
pub async fn crossing_tables_equal(
    source: Place<'_>,
    target: Place<'_>,
    tables: &[(&str, &str)],
) -> Result<(), Difference> {
    for (from, to) in tables {
        let left = source.read(Side::Source, from).await?;
        let right = target.read(Side::Target, to).await?;
        let names =
            |table: &Table| table.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        same_columns(from, &names(&left), &names(&right))?;
        let forms: Vec<Form> =
            left.columns.iter().zip(&right.columns).map(|(a, b)| a.form.max(b.form)).collect();
        sorted_rows_equal(from, names(&left), &left.texts(&forms), &right.texts(&forms))?;
    }
    Ok(())
}

/// How the values of a column are compared. Of the forms that the two sides propose, the later one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// As it is printed. SQLite, where each value has its own class, proposes nothing else.
    Text,
    /// Without the blanks at its end, which MariaDB does not give back.
    Padded,
    /// A boolean is 0 or 1.
    Flag,
    /// Zeros at the end of fractions of seconds, and how UTC is written, are matters of style.
    Moment,
    /// The bits of a 64-bit float; -0 + 0 is 0.
    Real,
    /// The bits of a 32-bit float.
    Single,
}

impl Form {
    fn text(self, value: &Plain) -> String {
        let text = match value {
            Plain::Null => return "null".into(),
            Plain::Bytes(bytes) => return format!("x'{}'", hex(bytes)),
            Plain::Text(text) => text.as_str(),
        };
        match self {
            Self::Text => format!("{text:?}"),
            Self::Padded => format!("{:?}", text.trim_end_matches(' ')),
            Self::Flag => match text {
                "t" => "\"1\"".into(),
                "f" => "\"0\"".into(),
                other => format!("{other:?}"),
            },
            Self::Moment => format!("{:?}", moment(text)),
            Self::Real => match text.parse::<f64>() {
                Ok(number) => format!("{:?} {:016x}", number + 0.0, (number + 0.0).to_bits()),
                Err(_) => format!("{text:?}"),
            },
            // Read as what it is: by way of 64 bits it would be rounded twice.
            Self::Single => match text.parse::<f32>() {
                Ok(number) => format!("{:?} {:08x}", number + 0.0, (number + 0.0).to_bits()),
                Err(_) => format!("{text:?}"),
            },
        }
    }
}

fn moment(text: &str) -> &str {
    let text = text.strip_suffix("+00").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

enum Plain {
    Null,
    Text(String),
    Bytes(Vec<u8>),
}

struct Column {
    name: String,
    form: Form,
}

/// Columns are in the order of their names.
struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Plain>>,
}

impl Table {
    fn texts(&self, forms: &[Form]) -> Vec<String> {
        let text = |row: &Vec<Plain>| {
            let values: Vec<String> = row.iter().zip(forms).map(|(value, form)| form.text(value)).collect();
            format!("({})", values.join(", "))
        };
        let mut texts: Vec<String> = self.rows.iter().map(text).collect();
        texts.sort_unstable();
        texts
    }
}

impl Place<'_> {
    async fn read(self, side: Side, table: &str) -> Result<Table, Difference> {
        match self {
            Self::Postgres(url) => read_postgres(url, side, table).await,
            Self::Mariadb(url) => read_mariadb(url, side, table).await,
            Self::Sqlite(path) => read_sqlite(path, side, table),
        }
    }
}

async fn read_postgres(url: &str, side: Side, table: &str) -> Result<Table, Difference> {
    const SETTINGS: &str = "SET search_path = ''; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD';
        SET intervalstyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = 3;
        SET row_security = off; SET statement_timeout = 0";
    let client = connect(url).await.map_err(unreadable(side))?;
    client.batch_execute(SETTINGS).await.map_err(unreadable(side))?;
    let names = postgres_columns(&client, side, table).await?;
    let types = client
        .query(
            "SELECT a.attname::text, t.typname::text FROM pg_catalog.pg_attribute a
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE a.attrelid = pg_catalog.to_regclass($1)",
            &[&quoted_table(table)],
        )
        .await
        .map_err(unreadable(side))?;
    let type_of = |name: &String| -> String {
        types.iter().find(|row| row.get::<_, &str>(0) == name).map(|row| row.get(1)).unwrap_or_default()
    };
    let types: Vec<String> = names.iter().map(type_of).collect();
    let quoted: Vec<String> = names.iter().map(|name| quote(name)).collect();
    // The simple protocol gives each value as its type's output function prints it; a cast to text would not.
    let sql = format!("SELECT {} FROM {}", quoted.join(", "), quoted_table(table));
    let messages = client.simple_query_raw(&sql).await.map_err(unreadable(side))?;
    let rows = messages
        .try_filter_map(|message| async {
            let SimpleQueryMessage::Row(row) = message else { return Ok(None) };
            let value = |(at, type_name): (usize, &String)| match row.get(at) {
                None => Plain::Null,
                Some(text) if type_name == "bytea" => Plain::Bytes(unhex(text.trim_start_matches("\\x"))),
                Some(text) => Plain::Text(text.to_owned()),
            };
            Ok(Some(types.iter().enumerate().map(value).collect()))
        })
        .try_collect()
        .await
        .map_err(unreadable(side))?;
    let form = |type_name: &String| match type_name.as_str() {
        "bool" => Form::Flag,
        "bpchar" => Form::Padded,
        "time" | "timestamp" | "timestamptz" | "interval" => Form::Moment,
        "float8" => Form::Real,
        "float4" => Form::Single,
        _ => Form::Text,
    };
    let columns = names.into_iter().zip(&types).map(|(name, of)| Column { name, form: form(of) }).collect();
    Ok(Table { columns, rows })
}

async fn read_mariadb(url: &str, side: Side, table: &str) -> Result<Table, Difference> {
    let mut session = crate::mariadb::connect(url).await.map_err(unreadable(side))?;
    // Text comes in utf8mb4, whatever a column's character set.
    let settings = "SET NAMES utf8mb4; SET time_zone = '+00:00', sql_mode = ''";
    session.query_drop(settings).await.map_err(unreadable(side))?;
    let columns = mariadb::columns(&mut session, side, table).await?;
    let expression = |column: &mariadb::Column| match column.data_type.as_str() {
        "bit" => format!("LPAD(BIN({0}), {1}, '0')", mariadb::quote(&column.name), column.precision),
        "year" => format!("{} + 0", mariadb::quote(&column.name)),
        _ => column.expression(),
    };
    let values: Vec<String> = columns.iter().map(expression).collect();
    let sql = format!("SELECT {} FROM {}", values.join(", "), mariadb::quoted_table(table));
    let read: Vec<mysql_async::Row> = session.query(sql).await.map_err(unreadable(side))?;
    let mut rows = Vec::with_capacity(read.len());
    for row in read {
        let mut values = Vec::with_capacity(columns.len());
        for (value, column) in row.unwrap().into_iter().zip(&columns) {
            values.push(match value {
                mysql_async::Value::NULL => Plain::Null,
                mysql_async::Value::Bytes(bytes) if column.is_binary() => Plain::Bytes(bytes),
                mysql_async::Value::Bytes(bytes) => {
                    Plain::Text(String::from_utf8(bytes).map_err(unreadable(side))?)
                }
                other => panic!("the text protocol has no {other:?}"),
            });
        }
        rows.push(values);
    }
    // What matters has been read.
    let _ = session.disconnect().await;
    let form = |column: &mariadb::Column| match column.data_type.as_str() {
        "char" => Form::Padded,
        "time" | "datetime" | "timestamp" => Form::Moment,
        "double" => Form::Real,
        "float" => Form::Single,
        _ => Form::Text,
    };
    let columns =
        columns.into_iter().map(|column| Column { form: form(&column), name: column.name }).collect();
    Ok(Table { columns, rows })
}

fn read_sqlite(path: &Path, side: Side, table: &str) -> Result<Table, Difference> {
    let connection = sqlite_open(path, side)?;
    let names = sqlite_columns(&connection, side, table)?;
    let quoted: Vec<String> = names.iter().map(|name| quote(name)).collect();
    let sql = format!("SELECT {} FROM {}", quoted.join(", "), quote(table));
    let value = |value: ValueRef<'_>| match value {
        ValueRef::Null => Plain::Null,
        ValueRef::Integer(number) => Plain::Text(number.to_string()),
        ValueRef::Real(number) => Plain::Text(format!("{number:?}")),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Plain::Text(text.to_owned()),
            Err(_) => Plain::Bytes(text.to_vec()),
        },
        ValueRef::Blob(bytes) => Plain::Bytes(bytes.to_vec()),
    };
    let read = || {
        let mut statement = connection.prepare(&sql)?;
        let rows =
            statement.query_map([], |row| (0..names.len()).map(|at| row.get_ref(at).map(value)).collect())?;
        rows.collect::<Result<Vec<Vec<Plain>>, rusqlite::Error>>()
    };
    let rows = read().map_err(unreadable(side))?;
    let columns = names.into_iter().map(|name| Column { name, form: Form::Text }).collect();
    Ok(Table { columns, rows })
}

fn unhex(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(form: Form, value: &str) -> String {
        form.text(&Plain::Text(value.into()))
    }

    #[test]
    fn one_value_has_one_form_and_two_have_two() {
        assert_eq!(
            text(Form::Moment, "2024-01-31 23:59:59.100000"),
            text(Form::Moment, "2024-01-31 23:59:59.1+00")
        );
        assert_eq!(text(Form::Moment, "2024-01-31 23:59:50.000"), text(Form::Moment, "2024-01-31 23:59:50Z"));
        assert_ne!(text(Form::Moment, "2024-01-31 23:59:50"), text(Form::Moment, "2024-01-31 23:59:5"));
        assert_eq!(text(Form::Real, "1e20"), text(Form::Real, "100000000000000000000"));
        assert_eq!(text(Form::Real, "-0"), text(Form::Real, "0"));
        assert_ne!(text(Form::Real, "0.1"), text(Form::Real, "0.10000000000000002"));
        assert_eq!(text(Form::Single, "0.1"), text(Form::Single, "0.10000000149011612"));
        assert_ne!(text(Form::Single, "0.1"), text(Form::Single, "0.10000001"));
        assert_eq!(text(Form::Flag, "t"), text(Form::Flag, "1"));
        assert_eq!(text(Form::Padded, "a  "), text(Form::Padded, "a"));
        assert_ne!(text(Form::Text, "a "), text(Form::Text, "a"));
        assert_ne!(text(Form::Text, "null"), Form::Text.text(&Plain::Null));
        assert_ne!(text(Form::Text, "x'00'"), Form::Text.text(&Plain::Bytes(vec![0])));
        // What a side cannot tell, the other side does.
        assert_eq!(Form::Text.max(Form::Real), Form::Real);
        assert_eq!(unhex("00ff"), [0, 255]);
    }
}
