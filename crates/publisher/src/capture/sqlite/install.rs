//! What Rowbridge makes in the application's file, and how it comes and goes.
//!
//! ```text
//! rowbridge_meta(key, value)              format, source id (random, made once, kept by a copy of the file)
//! rowbridge_state(ceiling, pruned, cap)   one row: the triggers log while max(id) < ceiling; pruned = highest id removed
//! rowbridge_log(id, tbl, op, at, c0..)    the changes; ids only rise: the newest row is never removed
//! rowbridge_tables(tbl, name, def, retired)  what a number in the log means; each shape has its own number
//! rowbridge_suspect_N(gone, rid, c0..)    rows that a REPLACE may remove; empty between statements
//! rowbridge_N_EVENT                       triggers
//! ```
//!
//! The log's id is a plain INTEGER PRIMARY KEY: without AUTOINCREMENT a trigger need not look up and write
//! `sqlite_sequence`. That ids never come again holds because pruning leaves the newest row.

use std::path::Path;
use std::time::Duration;

use rowbridge_schema::sql::ident;
use rowbridge_schema::{SourceId, TablePatterns};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use super::error::SqliteError;
use super::inspect::{self, Table};
use super::trigger::{self, Form, MAX_COLUMNS, Trigger, WIDTH};
use crate::capture::OldRows;

/// Format of the log; a release that finds another one refuses.
pub(crate) const FORMAT: u32 = 1;

/// How long an install may wait for the application's write lock.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the file as a second process beside the application; never creates it.
pub(crate) fn open(path: &Path) -> Result<Connection, SqliteError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let fail = |source| SqliteError::Open { path: path.to_owned(), source };
    let conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    conn.busy_timeout(INSTALL_TIMEOUT).map_err(fail)?;
    let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(fail)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(SqliteError::NotWal { path: path.to_owned(), mode });
    }
    // What we write can be repeated: no sync on the application's disk for it.
    conn.pragma_update(None, "synchronous", "NORMAL").map_err(fail)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// The single row of `rowbridge_state` and the log's end, read in one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// Highest log id.
    pub(crate) last: i64,
    /// The triggers log while `last` is below.
    pub(crate) ceiling: i64,
    /// Highest id removed.
    pub(crate) pruned: i64,
}

impl State {
    /// Whether the triggers have stopped, or may have.
    pub(crate) fn is_overflowed(&self) -> bool {
        self.last >= self.ceiling
    }
}

/// Reads the state.
pub(crate) fn state(conn: &Connection) -> Result<State, SqliteError> {
    let read = || {
        conn.prepare_cached(
            "SELECT (SELECT max(id) FROM rowbridge_log), ceiling, pruned FROM rowbridge_state",
        )?
        .query_row([], |row| Ok(State { last: row.get(0)?, ceiling: row.get(1)?, pruned: row.get(2)? }))
    };
    read().map_err(SqliteError::sql("read the state of the change log"))
}

/// Whether a log was made in this file.
pub(crate) fn is_installed(conn: &Connection) -> Result<bool, SqliteError> {
    conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM main.sqlite_master WHERE name = 'rowbridge_meta')",
        [],
        |row| row.get(0),
    )
    .map_err(SqliteError::sql("look for the change log"))
}

/// The file's identity, checked for a format that this release reads.
pub(crate) fn source_id(conn: &Connection, path: &Path) -> Result<SourceId, SqliteError> {
    if !is_installed(conn)? {
        return Err(SqliteError::NotInstalled { path: path.to_owned() });
    }
    let get = |key: &str| -> Result<String, SqliteError> {
        conn.query_row("SELECT value FROM rowbridge_meta WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(SqliteError::sql("read the change log's identity"))
            .map(Option::unwrap_or_default)
    };
    let found = get("format")?;
    if found != FORMAT.to_string() {
        return Err(SqliteError::Format { path: path.to_owned(), found, expected: FORMAT });
    }
    get("source").map(SourceId)
}

/// What the triggers are to log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Of which tables.
    pub(crate) tables: &'a TablePatterns,
    /// Of which of them the whole old row, too.
    pub(crate) old_rows: &'a OldRows,
}

/// Makes the log if it is missing, sets its cap and brings the triggers in line with the tables. Returns whether anything
/// was written. One IMMEDIATE transaction: the application waits for at most its length.
pub(crate) fn reconcile(
    conn: &mut Connection,
    path: &Path,
    wanted: Wanted<'_>,
    cap: u64,
) -> Result<bool, SqliteError> {
    let begin = |conn: &mut Connection| -> Result<bool, SqliteError> {
        // Most schema changes are not about us: look before locking anybody out.
        let tx = conn.unchecked_transaction().map_err(SqliteError::sql("begin to read"))?;
        if !is_installed(&tx)? {
            return Ok(true);
        }
        source_id(&tx, path)?;
        Ok(!plan(&tx, wanted)?.is_empty() || stored_cap(&tx)? != cap_value(cap))
    };
    if !begin(conn)? {
        return Ok(false);
    }
    let tx = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(SqliteError::sql("lock the database to install triggers"))?;
    let fresh = !is_installed(&tx)?;
    if fresh {
        make(&tx, cap)?;
    }
    source_id(&tx, path)?;
    let before = state(&tx)?;
    for step in plan(&tx, wanted)? {
        step.run(&tx, fresh).map_err(SqliteError::sql("install triggers"))?;
    }
    // An overflow stays visible: the ceiling only moves while the log is below it.
    if !before.is_overflowed() {
        let after = state(&tx)?;
        tx.execute(
            "UPDATE rowbridge_state SET cap = ?1, ceiling = max(?2 + 1, pruned + ?1 + 1)",
            [cap_value(cap), after.last],
        )
        .map_err(SqliteError::sql("set the cap of the change log"))?;
    }
    tx.execute("DELETE FROM rowbridge_tables WHERE retired <= (SELECT pruned FROM rowbridge_state)", [])
        .map_err(SqliteError::sql("forget old tables"))?;
    tx.commit().map_err(SqliteError::sql("commit the triggers"))?;
    Ok(true)
}

fn cap_value(cap: u64) -> i64 {
    i64::try_from(cap).unwrap_or(i64::MAX / 4).clamp(1, i64::MAX / 4)
}

fn stored_cap(conn: &Connection) -> Result<i64, SqliteError> {
    conn.query_row("SELECT cap FROM rowbridge_state", [], |row| row.get(0))
        .map_err(SqliteError::sql("read the state of the change log"))
}

fn make(tx: &Transaction<'_>, cap: u64) -> Result<(), SqliteError> {
    let source = format!("sqlite-{:032x}", rand::random::<u128>());
    tx.execute_batch(&format!(
        "CREATE TABLE rowbridge_meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);
         INSERT INTO rowbridge_meta VALUES('format','{FORMAT}'),('source','{source}');
         CREATE TABLE rowbridge_state(ceiling INTEGER NOT NULL, pruned INTEGER NOT NULL, cap INTEGER NOT NULL);
         INSERT INTO rowbridge_state VALUES({cap} + 1, 0, {cap});
         CREATE TABLE rowbridge_log(id INTEGER PRIMARY KEY, tbl INTEGER, op TEXT, at INTEGER, {values});
         INSERT INTO rowbridge_log(id, tbl, op) VALUES(1, 0, 'o');
         CREATE TABLE rowbridge_tables(tbl INTEGER PRIMARY KEY, name TEXT NOT NULL, def TEXT NOT NULL, retired INTEGER);",
        cap = cap_value(cap),
        values = trigger::value_columns(WIDTH),
    ))
    .map_err(SqliteError::sql("make the change log"))
}

/// One thing to do for one table.
enum Step {
    /// Drop the triggers of a number and let nothing refer to it any more.
    Retire { number: i64 },
    /// Make triggers under `number`, under a new one if `None`.
    Install { number: Option<i64>, table: Box<Table>, form: Form, announced: Announced },
}

/// What the stream is told of triggers that were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announced {
    /// Nothing: others logged all changes until then.
    No,
    /// The table is new.
    New,
    /// Changes may have been missed.
    Resync,
}

/// A number in use.
struct Known {
    number: i64,
    name: String,
    def: String,
}

fn known(conn: &Connection) -> rusqlite::Result<Vec<Known>> {
    let mut statement = conn
        .prepare_cached("SELECT tbl, name, def FROM rowbridge_tables WHERE retired IS NULL ORDER BY tbl")?;
    let rows = statement
        .query_map([], |row| Ok(Known { number: row.get(0)?, name: row.get(1)?, def: row.get(2)? }))?;
    rows.collect()
}

/// Compares tables, stored definitions and triggers.
fn plan(conn: &Connection, wanted: Wanted<'_>) -> Result<Vec<Step>, SqliteError> {
    let tables = inspect::captured(conn, wanted.tables)?;
    for table in &tables {
        if table.sent.len() > MAX_COLUMNS {
            let (columns, max) = (table.sent.len(), MAX_COLUMNS);
            return Err(SqliteError::TooWide { table: table.def.name.clone(), columns, max });
        }
    }
    let known = known(conn).map_err(SqliteError::sql("read the captured tables"))?;
    let mut steps = Vec::new();
    for old in &known {
        if !tables.iter().any(|t| t.def.name.name == old.name) {
            steps.push(Step::Retire { number: old.number });
        }
    }
    for table in tables {
        let form = match wanted.old_rows.of_table(&table.def.name) {
            true => Form::OldRows,
            false => Form::OldKeys,
        };
        let in_place = |number, form| {
            in_place(conn, &table, number, form).map_err(SqliteError::sql("read the triggers"))
        };
        let (number, announced) = match known.iter().find(|k| k.name == table.def.name.name) {
            None => (None, Announced::New),
            Some(old) if old.def != table.def.to_json() => {
                steps.push(Step::Retire { number: old.number });
                (None, Announced::Resync)
            }
            Some(old) if in_place(old.number, form)? => continue,
            // What was logged until now says all, in the form that was wanted then.
            Some(old) if in_place(old.number, form.other())? => (Some(old.number), Announced::No),
            Some(old) => (Some(old.number), Announced::Resync),
        };
        steps.push(Step::Install { number, table: Box::new(table), form, announced });
    }
    Ok(steps)
}

/// Whether exactly our triggers are there, and run before the application's own.
///
/// SQLite runs the newest trigger of an event first. One of the application's that runs before ours and writes to the same
/// table would have its changes logged before the change that caused them.
fn in_place(conn: &Connection, table: &Table, number: i64, form: Form) -> rusqlite::Result<bool> {
    let mut statement = conn.prepare_cached(
        "SELECT rowid, name, sql, tbl_name FROM main.sqlite_master WHERE type = 'trigger' \
         AND (tbl_name = ?1 COLLATE NOCASE OR tbl_name = ?2) ORDER BY rowid",
    )?;
    let rows = statement.query_map([&table.def.name.name, &trigger::suspects(number)], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    let mut wanted = trigger::triggers(table, number, form);
    let prefix = format!("rowbridge_{number}_");
    let (mut first_of_ours, mut last_of_theirs) = (i64::MAX, i64::MIN);
    for row in rows {
        let (rowid, name, sql) = row?;
        if let Some(at) = wanted.iter().position(|t| t.name == name && t.sql == sql) {
            wanted.swap_remove(at);
            first_of_ours = first_of_ours.min(rowid);
        } else if name.starts_with(&prefix) {
            return Ok(false);
        } else {
            last_of_theirs = last_of_theirs.max(rowid);
        }
    }
    Ok(wanted.is_empty() && last_of_theirs < first_of_ours)
}

impl Step {
    fn run(self, tx: &Transaction<'_>, fresh: bool) -> rusqlite::Result<()> {
        match self {
            Self::Retire { number } => {
                drop_number(tx, number)?;
                tx.execute(
                    "UPDATE rowbridge_tables SET retired = (SELECT max(id) FROM rowbridge_log) WHERE tbl = ?1",
                    [number],
                )?;
            }
            Self::Install { number, table, form, announced } => {
                let number = match number {
                    Some(number) => {
                        drop_number(tx, number)?;
                        number
                    }
                    None => {
                        tx.execute(
                            "INSERT INTO rowbridge_tables(tbl, name, def) VALUES(\
                             (SELECT coalesce(max(tbl), 0) + 1 FROM rowbridge_tables), ?1, ?2)",
                            [&table.def.name.name, &table.def.to_json()],
                        )?;
                        tx.last_insert_rowid()
                    }
                };
                tx.execute_batch(&trigger::suspects_table(&table, number))?;
                for Trigger { sql, .. } in trigger::triggers(&table, number, form) {
                    tx.execute_batch(&sql)?;
                }
                // The first tables of a file need no telling: whoever starts a stream reads them all anyway.
                if !fresh && announced != Announced::No {
                    announce(tx, number, announced == Announced::Resync)?;
                }
            }
        }
        Ok(())
    }
}

fn announce(tx: &Transaction<'_>, number: i64, resync: bool) -> rusqlite::Result<()> {
    tx.execute("INSERT INTO rowbridge_log(tbl, op, c0) VALUES(?1, 'a', ?2)", [number, i64::from(resync)])?;
    Ok(())
}

/// Drops what belongs to one number: a rename may have moved its triggers, so they are found by name.
fn drop_number(tx: &Transaction<'_>, number: i64) -> rusqlite::Result<()> {
    for (kind, name) in ours(tx)? {
        if kind == "trigger" && name.starts_with(&format!("rowbridge_{number}_")) {
            tx.execute_batch(&format!("DROP TRIGGER {}", ident(&name)))?;
        }
    }
    tx.execute_batch(&format!("DROP TABLE IF EXISTS {}", trigger::suspects(number)))
}

/// Kind and name of everything that Rowbridge's capture made. Exact names, so that an application's own `rowbridge_x`, or
/// the progress table of a subscriber, is left alone.
fn ours(conn: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = conn.prepare(
        "SELECT type, name FROM main.sqlite_master WHERE type IN ('trigger', 'table') AND (\
         name IN ('rowbridge_meta', 'rowbridge_state', 'rowbridge_log', 'rowbridge_tables') \
         OR (type = 'table' AND name GLOB 'rowbridge_suspect_[0-9]*' AND name NOT GLOB 'rowbridge_suspect_*[^0-9]*') \
         OR (type = 'trigger' AND name GLOB 'rowbridge_[0-9]*_*' AND \
             substr(name, 11, instr(substr(name, 11), '_') - 1) NOT GLOB '*[^0-9]*' AND \
             substr(name, 11 + instr(substr(name, 11), '_')) IN \
                 ('insert', 'update', 'delete', 'before_insert', 'before_update', 'replaced', 'moved', 'rewritten'))) \
         ORDER BY type DESC, name",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Drops what capture made in the file, or only lists it. Each line names one object: `trigger rowbridge_1_insert`.
pub(crate) fn teardown(conn: &mut Connection, list_only: bool) -> Result<Vec<String>, SqliteError> {
    let tx = conn
        .transaction_with_behavior(if list_only {
            TransactionBehavior::Deferred
        } else {
            TransactionBehavior::Immediate
        })
        .map_err(SqliteError::sql("lock the database to remove triggers"))?;
    let run = || {
        let mut lines = Vec::new();
        // Triggers sort before tables, so that none is gone with its table before its turn.
        for (kind, name) in ours(&tx)? {
            if !list_only {
                tx.execute_batch(&format!("DROP {kind} {}", ident(&name)))?;
            }
            lines.push(format!("{kind} {name}"));
        }
        Ok(lines)
    };
    let lines = run().map_err(SqliteError::sql("remove the change log"))?;
    tx.commit().map_err(SqliteError::sql("commit the removal"))?;
    Ok(lines)
}

/// Lets the triggers log again after an overflow, and asks for a snapshot of every table that also removes what is gone.
pub(crate) fn restart(
    conn: &mut Connection,
    path: &Path,
    patterns: &TablePatterns,
) -> Result<(), SqliteError> {
    let tx = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(SqliteError::sql("lock the database to start the change log again"))?;
    source_id(&tx, path)?;
    let run = || {
        for table in known(&tx)? {
            if inspect::takes(patterns, &table.name) {
                announce(&tx, table.number, true)?;
            }
        }
        tx.execute("UPDATE rowbridge_state SET ceiling = (SELECT max(id) FROM rowbridge_log) + cap", [])
    };
    run().map_err(SqliteError::sql("start the change log again"))?;
    tx.commit().map_err(SqliteError::sql("start the change log again"))
}

/// Removes confirmed rows, at most `rows` of them, and raises the ceiling by as much. Never waits for a lock. Returns the
/// highest id removed, `None` if the file was busy.
pub(crate) fn prune(conn: &mut Connection, upto: i64, rows: i64) -> Result<Option<i64>, SqliteError> {
    let run = |conn: &mut Connection| {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (last, ceiling, pruned): (i64, i64, i64) = tx
            .prepare_cached(
                "SELECT (SELECT max(id) FROM rowbridge_log), ceiling, pruned FROM rowbridge_state",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let to = upto.min(pruned.saturating_add(rows)).min(last - 1).max(pruned);
        tx.prepare_cached("DELETE FROM rowbridge_log WHERE id > ?1 AND id <= ?2")?.execute([pruned, to])?;
        let overflowed = last >= ceiling;
        tx.prepare_cached(
            "UPDATE rowbridge_state SET pruned = ?1, ceiling = CASE WHEN ?2 THEN ceiling ELSE max(ceiling, ?1 + cap) END",
        )?
        .execute((to, overflowed))?;
        tx.commit()?;
        Ok(to)
    };
    conn.busy_timeout(Duration::ZERO).map_err(SqliteError::sql("set a timeout"))?;
    let result = run(conn);
    conn.busy_timeout(INSTALL_TIMEOUT).map_err(SqliteError::sql("set a timeout"))?;
    match result {
        Ok(to) => Ok(Some(to)),
        Err(error) if super::error::is_busy(&error) => Ok(None),
        Err(source) => Err(SqliteError::Sql { action: "prune the change log", source }),
    }
}
