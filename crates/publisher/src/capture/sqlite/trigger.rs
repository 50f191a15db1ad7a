//! The SQL that runs inside the application's own writes.
//!
//! Values are stored raw: a log column has no affinity, so that class, bits and bytes stay what they were (`-0.0`,
//! infinities, text with NUL or broken UTF-8) under any SQLite version that the application uses, and nothing is encoded
//! on the application's time. A row wider than [`WIDTH`] values is logged as several pieces, the last of which has the
//! operation and the time.
//!
//! ```text
//! op   values
//! 'i'  new row
//! 'u'  old key (keyless: old row), new row
//! 'U'  old row, new row
//! 'd'  old row
//! '+'  a piece of the row that the following entry ends
//! 'a'  one integer: this table needs a snapshot; 1 if it must also remove what is gone
//! ```
//!
//! `REPLACE` removes rows without firing delete triggers unless the application sets `recursive_triggers`. For tables
//! where such a row can have another key than the new one, a BEFORE trigger remembers the rows that conflict, and the
//! AFTER trigger logs a delete for those that are gone. `OR IGNORE` and upserts fire BEFORE INSERT as well, but remove
//! nothing: what they leave behind is cleared by the next trigger that looks for it.
//!
//! A row that is written again by REPLACE under its own key is no more than an insert to a copy. Who asks for old rows is
//! told of a delete before it.

use std::fmt::Write as _;

use rowbridge_schema::sql::ident;

use super::inspect::{Table, Unique};

/// Values in one log row. Narrow enough that short rows waste little, wide enough that most tables need one piece.
pub(crate) const WIDTH: usize = 32;

/// Most columns of a captured table: SQLite's own bound of 2,000 columns, less what we add in `rowbridge_suspect_N`.
pub(crate) const MAX_COLUMNS: usize = 1990;

/// Milliseconds since 1970, when the statement ran. The commit itself cannot be seen by a trigger.
const NOW: &str = "CAST((julianday('now')-2440587.5)*86400000.0 AS INTEGER)";

/// How much of an old row is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Its key: `u`.
    OldKeys,
    /// All of it: `U`.
    OldRows,
}

impl Form {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::OldKeys => Self::OldRows,
            Self::OldRows => Self::OldKeys,
        }
    }
}

/// A trigger to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// Its name.
    pub(crate) name: String,
    /// The whole CREATE TRIGGER.
    pub(crate) sql: String,
}

/// Names of the log's value columns, comma separated.
pub(crate) fn value_columns(count: usize) -> String {
    (0..count).map(|i| format!("c{i}")).collect::<Vec<_>>().join(",")
}

/// The table that holds rows which REPLACE may remove.
pub(crate) fn suspects(number: i64) -> String {
    format!("rowbridge_suspect_{number}")
}

/// Statements that log one row.
fn log(number: i64, op: char, values: &[String]) -> String {
    let mut sql = String::new();
    let mut pieces = values.chunks(WIDTH).peekable();
    while let Some(piece) = pieces.next() {
        let columns = value_columns(piece.len());
        let values = piece.join(",");
        let _ = if pieces.peek().is_some() {
            writeln!(sql, "INSERT INTO rowbridge_log(tbl,op,{columns}) VALUES({number},'+',{values});")
        } else {
            writeln!(
                sql,
                "INSERT INTO rowbridge_log(tbl,op,at,{columns}) VALUES({number},'{op}',{NOW},{values});"
            )
        };
    }
    sql
}

fn of(alias: &str, table: &Table, columns: impl Iterator<Item = usize>) -> Vec<String> {
    columns.map(|i| format!("{alias}.{}", ident(&table.def.columns[i].name))).collect()
}

/// The CREATE TABLE for the suspects of a table.
pub(crate) fn suspects_table(table: &Table, number: i64) -> String {
    format!("CREATE TABLE {}(gone,rid,{})", suspects(number), value_columns(table.sent.len()))
}

/// The triggers of a table under its number. Without a key both forms are one.
pub(crate) fn triggers(table: &Table, number: i64, form: Form) -> Vec<Trigger> {
    let old_rows = form == Form::OldRows && table.is_keyed();
    let name = |event: &str| format!("rowbridge_{number}_{event}");
    let on = ident(&table.def.name.name);
    // Past the ceiling nothing is logged, so that a log that nobody reads cannot fill the disk.
    let room = "WHEN (SELECT max(id) FROM rowbridge_log) < (SELECT ceiling FROM rowbridge_state)";
    let make = |event: &str, when: &str, on: &str, guard: &str, body: &str| Trigger {
        name: name(event),
        sql: format!("CREATE TRIGGER {} {when} ON {on} {guard} BEGIN\n{body}END", name(event)),
    };
    let new_row = of("NEW", table, table.sent.iter().copied());
    let old_row = of("OLD", table, table.sent.iter().copied());
    let by_key = table.is_keyed() && !old_rows;
    let mut update = if by_key { of("OLD", table, table.key()) } else { old_row.clone() };
    update.extend(new_row.iter().cloned());

    let suspects = suspects(number);
    let clear = format!("DELETE FROM {suspects};\n");
    // No aliases: UPDATE takes none before SQLite 3.33, and the conditions of indexes may name their table.
    let gone = format!("NOT EXISTS (SELECT 1 FROM {on} WHERE {})", same_row(table, &on, &suspects));
    let mark = |gone: &str| format!("UPDATE {suspects} SET gone=1 WHERE {gone};\n{clear}");
    // What now has the place of NEW is NEW. After an INSERT the same key says so by itself: the row was written again.
    let (inserted, updated) = match (table.is_keyed(), table.rowid) {
        (false, Some(rowid)) => {
            let mark = mark(&format!("{gone} OR rid IS NEW.{rowid}"));
            (mark.clone(), mark)
        }
        _ => {
            let updated = mark(&format!("{gone} OR ({})", same_suspect(table, "NEW")));
            (if old_rows { updated.clone() } else { mark(&gone) }, updated)
        }
    };
    let forget = format!("DELETE FROM {suspects} WHERE {};\n", same_suspect(table, "OLD"));
    let mut copied = vec![table.rowid.map_or("NULL".to_owned(), |rowid| format!("{on}.{rowid}"))];
    copied.extend(of(&on, table, table.sent.iter().copied()));
    let copied = copied.join(",");
    let (values, conflicts) = (value_columns(table.sent.len()), conflicts(table));
    let remember = |extra: &str| {
        format!(
            "{clear}INSERT INTO {suspects}(rid,{values}) SELECT {copied} FROM {on} WHERE {extra}({conflicts});\n"
        )
    };
    let (moved, itself) = moved(table);
    let moved = if moved.is_empty() { "0".to_owned() } else { moved };
    let remember_update = remember(&format!("({moved}) AND NOT ({itself}) AND "));
    let logged: Vec<String> = (0..table.sent.len()).map(|i| format!("OLD.c{i}")).collect();
    let insert = log(number, 'i', &new_row);
    let update = log(number, if old_rows { 'U' } else { 'u' }, &update);

    let mut all = vec![make("replaced", "AFTER UPDATE OF gone", &suspects, room, &log(number, 'd', &logged))];
    if table.replace_can_hide_deletes() {
        all.push(make("before_insert", "BEFORE INSERT", &on, "", &remember("")));
        // Always, so that what an upsert's BEFORE INSERT left behind is cleared.
        all.push(make("before_update", "BEFORE UPDATE", &on, "", &remember_update));
        all.push(make("insert", "AFTER INSERT", &on, room, &(inserted + &insert)));
        all.push(make("update", "AFTER UPDATE", &on, room, &(updated + &update)));
    } else {
        if old_rows {
            // Rare, too: a row that is written under a key that is taken.
            let taken = format!("WHEN EXISTS (SELECT 1 FROM {on} WHERE {conflicts})");
            all.push(make("before_insert", "BEFORE INSERT", &on, &taken, &remember("")));
        }
        // Only a changed key can push another row out, which is rare: every other write is spared the look.
        all.push(make("before_update", "BEFORE UPDATE", &on, &format!("WHEN {moved}"), &remember_update));
        all.push(make("insert", "AFTER INSERT", &on, room, &insert));
        if old_rows {
            // Made after `insert`, hence run before it.
            let remembered = format!("{room} AND EXISTS (SELECT 1 FROM {suspects})");
            all.push(make("rewritten", "AFTER INSERT", &on, &remembered, &inserted));
        }
        all.push(make("update", "AFTER UPDATE", &on, room, &update));
        // Made after `update`, hence run before it.
        all.push(make("moved", "AFTER UPDATE", &on, &format!("{room} AND ({moved})"), &updated));
    }
    all.push(make("delete", "AFTER DELETE", &on, room, &(forget + &log(number, 'd', &old_row))));
    all
}

/// Whether row `t` is the very row that was remembered as `s`.
fn same_row(table: &Table, t: &str, s: &str) -> String {
    match (table.is_keyed(), table.rowid) {
        (false, Some(rowid)) => format!("{t}.{rowid} = {s}.rid"),
        _ => {
            let mut terms = Vec::new();
            for key in identity(table) {
                let column = ident(&table.def.columns[key].name);
                let place = table.sent.iter().position(|&i| i == key).unwrap_or_default();
                terms.push(format!("{t}.{column} = {s}.c{place}"));
                terms.push(format!("{t}.{column} COLLATE BINARY IS {s}.c{place}"));
                terms.push(format!("typeof({t}.{column}) = typeof({s}.c{place})"));
            }
            terms.join(" AND ")
        }
    }
}

fn same_suspect(table: &Table, row: &str) -> String {
    match (table.is_keyed(), table.rowid) {
        (false, Some(rowid)) => format!("rid = {row}.{rowid}"),
        _ => identity(table)
            .map(|key| {
                let place = table.sent.iter().position(|&i| i == key).unwrap_or_default();
                format!("c{place} IS {row}.{}", ident(&table.def.columns[key].name))
            })
            .collect::<Vec<_>>()
            .join(" AND "),
    }
}

/// The columns that tell rows apart inside the file: the key, or all columns where neither key nor rowid can be named.
fn identity(table: &Table) -> Box<dyn Iterator<Item = usize> + '_> {
    if table.is_keyed() { Box::new(table.key()) } else { Box::new(table.sent.iter().copied()) }
}

/// Which rows the row NEW would push out.
fn conflicts(table: &Table) -> String {
    let t = ident(&table.def.name.name);
    let mut all: Vec<String> =
        table.uniques.iter().map(|unique| format!("({})", conflict(table, unique))).collect();
    if let Some(rowid) = table.rowid {
        all.push(format!("{t}.{rowid} = NEW.{rowid}"));
    }
    // Nothing unique at all, and no name for the rowid: nothing can be pushed out.
    if all.is_empty() { "0".to_owned() } else { all.join(" OR ") }
}

fn conflict(table: &Table, unique: &Unique) -> String {
    let t = ident(&table.def.name.name);
    // NEW's columns under their own names, for expressions that were written for the table.
    let new = || {
        let columns: Vec<String> =
            table.def.columns.iter().map(|column| format!("NEW.{0} AS {0}", ident(&column.name))).collect();
        columns.join(",")
    };
    let mut terms: Vec<String> = unique
        .terms
        .iter()
        .map(|term| match term.column {
            Some(i) => {
                let column = ident(&table.def.columns[i].name);
                format!("{t}.{column} = NEW.{column} COLLATE {}", ident(&term.collation))
            }
            None => format!("({0}) = (SELECT {0} FROM (SELECT {1}) AS {t})", term.expression, new()),
        })
        .collect();
    // Written for the table's own columns. Without it SQLite would not use the partial index.
    terms.extend(unique.condition.iter().map(|condition| format!("({condition})")));
    terms.join(" AND ")
}

/// Whether an UPDATE touches anything unique, and whether a row is the one being updated.
fn moved(table: &Table) -> (String, String) {
    let t = ident(&table.def.name.name);
    let mut columns: Vec<usize> = table
        .uniques
        .iter()
        .flat_map(|unique| &unique.terms)
        .filter_map(|term| term.column)
        .chain(table.key())
        .collect();
    // Expressions and conditions may read any column.
    if table.uniques.iter().any(|u| u.condition.is_some() || u.terms.iter().any(|t| t.column.is_none())) {
        columns = (0..table.def.columns.len()).collect();
    }
    columns.sort_unstable();
    columns.dedup();
    let mut moved: Vec<String> = columns
        .into_iter()
        .map(|i| {
            let column = ident(&table.def.columns[i].name);
            format!("NEW.{column} COLLATE BINARY IS NOT OLD.{column}")
        })
        .collect();
    let itself = match table.rowid {
        Some(rowid) => {
            moved.push(format!("NEW.{rowid} IS NOT OLD.{rowid}"));
            format!("{t}.{rowid} IS OLD.{rowid}")
        }
        None => identity(table)
            .map(|key| {
                let column = ident(&table.def.columns[key].name);
                format!("{t}.{column} IS OLD.{column}")
            })
            .collect::<Vec<_>>()
            .join(" AND "),
    };
    (moved.join(" OR "), itself)
}
