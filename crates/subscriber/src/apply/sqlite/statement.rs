//! The SQL of changes. Every name is quoted; parameters are numbered in the order in which they are bound.
//!
//! `OR ABORT` overrules what a constraint of the target may declare: `ON CONFLICT REPLACE` or `IGNORE` would lose rows
//! without a word, `ROLLBACK` would end the transaction under us.

use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::sql::ident;

use super::catalog::{KeyColumn, Resolved};

fn join(parts: impl Iterator<Item = String>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

fn parameters(from: usize, count: usize) -> String {
    join((from..from + count).map(|n| format!("?{n}")), ", ")
}

/// `"k" COLLATE BINARY`: the collation of the unique index, which need not be the column's.
fn key_expression(column: &KeyColumn) -> String {
    match &column.collation {
        Some(collation) => format!("{} COLLATE {}", ident(&column.name), ident(collation)),
        None => ident(&column.name),
    }
}

/// Key columns, none NULL, equal to the parameters from `from` on.
pub(super) fn where_key(table: &Resolved, from: usize) -> String {
    let term = |(i, column): (usize, &KeyColumn)| format!("{} = ?{}", key_expression(column), from + i);
    join(table.key.iter().enumerate().map(term), " AND ")
}

/// Key columns the same as the parameters, NULLs too.
pub(super) fn where_key_is(table: &Resolved, from: usize) -> String {
    let term = |(i, column): (usize, &KeyColumn)| format!("{} IS ?{}", key_expression(column), from + i);
    join(table.key.iter().enumerate().map(term), " AND ")
}

/// One of the rows that are identical to the parameters in value and storage class. Row values keep the expression flat:
/// a chain of ANDs over many columns would pass SQLite's depth limit.
pub(super) fn where_identical(table: &Resolved, rowid: &str, columns: &[&str], from: usize) -> String {
    let values = join(columns.iter().map(|name| format!("{} COLLATE BINARY", ident(name))), ", ");
    let types = join(columns.iter().map(|name| format!("typeof({})", ident(name))), ", ");
    let bound_types = join((from..from + columns.len()).map(|n| format!("typeof(?{n})")), ", ");
    format!(
        "{rowid} = (SELECT {rowid} FROM {} WHERE ({values}) IS ({}) AND ({types}) IS ({bound_types}) LIMIT 1)",
        table.sql_name,
        parameters(from, columns.len())
    )
}

/// A new row.
pub(super) fn insert(table: &Resolved, columns: &[&str]) -> String {
    let names = join(columns.iter().map(|name| ident(name)), ", ");
    format!("INSERT OR ABORT INTO {} ({names}) VALUES ({})", table.sql_name, parameters(1, columns.len()))
}

/// A row under a key, whether it was there or not. A row that was deleted softly lives again.
pub(super) fn upsert(table: &Resolved, columns: &[&str]) -> String {
    let key = join(table.key.iter().map(key_expression), ", ");
    let mut sets: Vec<String> = columns
        .iter()
        .filter(|name| !table.exact_key || !in_key(table, name))
        .map(|name| format!("{0} = excluded.{0}", ident(name)))
        .collect();
    sets.extend(revive(table));
    let action = match sets.is_empty() {
        true => "NOTHING".to_owned(),
        false => format!("UPDATE SET {}", sets.join(", ")),
    };
    format!("{} ON CONFLICT ({key}) DO {action}", insert(table, columns))
}

/// Sets columns of the rows that `condition` finds; parameters of the condition follow those of the columns.
pub(super) fn update(table: &Resolved, columns: &[&str], revived: bool, condition: &str) -> String {
    let mut sets: Vec<String> =
        columns.iter().enumerate().map(|(i, name)| format!("{} = ?{}", ident(name), i + 1)).collect();
    if revived {
        sets.extend(revive(table));
    }
    format!("UPDATE OR ABORT {} SET {} WHERE {condition}", table.sql_name, sets.join(", "))
}

/// Removes the rows that `condition` finds, as the policy wants it; `None` for a policy that does nothing. A soft delete
/// takes the time in microseconds as its last parameter, number `time`.
pub(super) fn delete(table: &Resolved, condition: &str, time: usize) -> Option<String> {
    match &table.mapped.delete {
        DeletePolicy::Hard => Some(format!("DELETE FROM {} WHERE {condition}", table.sql_name)),
        DeletePolicy::Soft(column) => {
            let column = ident(column);
            Some(format!(
                "UPDATE OR ABORT {} SET {column} = strftime('%Y-%m-%dT%H:%M:%fZ', ?{time} / 1000000.0, 'unixepoch') \
                 WHERE ({condition}) AND {column} IS NULL",
                table.sql_name
            ))
        }
        DeletePolicy::Ignore => None,
    }
}

/// Rows of a range of keys, with bounds as parameters from 1 on: first those of `after`, then those of `upto`.
pub(super) fn where_range(table: &Resolved, after: bool, upto: bool) -> String {
    let key = join(table.key.iter().map(key_expression), ", ");
    let width = table.key.len();
    let mut terms = Vec::new();
    if after {
        terms.push(format!("({key}) > ({})", parameters(1, width)));
    }
    if upto {
        terms.push(format!("({key}) <= ({})", parameters(1 + usize::from(after) * width, width)));
    }
    if terms.is_empty() { "1".to_owned() } else { terms.join(" AND ") }
}

pub(super) fn in_key(table: &Resolved, name: &str) -> bool {
    table.key.iter().any(|column| column.name.eq_ignore_ascii_case(name))
}

fn revive(table: &Resolved) -> Option<String> {
    match &table.mapped.delete {
        DeletePolicy::Soft(column) => Some(format!("{} = NULL", ident(column))),
        DeletePolicy::Hard | DeletePolicy::Ignore => None,
    }
}
