//! What `rowbridge check` says of a SQLite source.

use std::path::Path;

use rowbridge_schema::sql::ident;
use rowbridge_schema::{TableName, TablePatterns};
use rusqlite::{Connection, OpenFlags};

use super::error::SqliteError;
use super::inspect::{self, Table};
use super::install;
use super::trigger::MAX_COLUMNS;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// Works, with a drawback that the text names.
    Warning,
    /// Capture cannot work like this.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckItem {
    /// How bad it is.
    pub severity: Severity,
    /// What was found, and where.
    pub what: String,
    /// What to do, if anything.
    pub fix: Option<String>,
}

pub(crate) fn check(path: &Path, patterns: &TablePatterns, cap: u64) -> Result<Vec<CheckItem>, SqliteError> {
    let fail = |source| SqliteError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    conn.busy_timeout(std::time::Duration::from_secs(2)).map_err(fail)?;
    let mut found = Findings(Vec::new());
    let text = |pragma| conn.pragma_query_value(None, pragma, |row| row.get::<_, String>(0)).map_err(fail);
    let mode = text("journal_mode")?;
    if !mode.eq_ignore_ascii_case("wal") {
        found.add(
            Severity::Error,
            format!("{} is in journal mode {mode}, capture needs WAL", path.display()),
            Some(format!(
                "sqlite3 {} 'PRAGMA journal_mode=WAL' (once, while the application is stopped)",
                path.display()
            )),
        );
    }
    let encoding = text("encoding")?;
    if encoding != "UTF-8" {
        found.add(
            Severity::Note,
            format!("text is stored as {encoding}: broken surrogates travel as U+FFFD"),
            None,
        );
    }
    if conn.is_readonly(rusqlite::MAIN_DB).map_err(fail)? {
        found.add(
            Severity::Error,
            format!("{} is not writable: capture needs triggers and a log table in it", path.display()),
            Some("let the user of rowbridge write the file and its folder".to_owned()),
        );
    }
    found.tables(&conn, patterns)?;
    found.log(&conn, path, cap)?;
    found.0.sort_by_key(|item| std::cmp::Reverse(item.severity));
    Ok(found.0)
}

struct Findings(Vec<CheckItem>);

impl Findings {
    fn add(&mut self, severity: Severity, what: String, fix: Option<String>) {
        self.0.push(CheckItem { severity, what, fix });
    }

    fn tables(&mut self, conn: &Connection, patterns: &TablePatterns) -> Result<(), SqliteError> {
        let listed = inspect::list(conn)?;
        for entry in &listed {
            let wanted = inspect::takes(patterns, &entry.name);
            if wanted && (entry.kind == "virtual" || entry.kind == "shadow") {
                let what = format!(
                    "{} is a {} table: triggers cannot see its changes, it is left out",
                    entry.name, entry.kind
                );
                self.add(Severity::Warning, what, Some(format!("add \"!{}\" to source.tables", entry.name)));
            }
        }
        let tables = inspect::captured(conn, patterns)?;
        let names: Vec<TableName> = listed.iter().map(|entry| TableName::bare(&entry.name)).collect();
        for pattern in patterns.unmatched(&names) {
            self.add(Severity::Warning, format!("the pattern {pattern:?} matches no table"), None);
        }
        for table in &tables {
            self.table(conn, table)?;
        }
        if !tables.is_empty() {
            self.add(
                Severity::Note,
                "ALTER TABLE ... DROP COLUMN fails while capture's triggers name the column".to_owned(),
                Some("before such a migration: stop rowbridge and run `rowbridge teardown --source --yes`; the next start re-sends all tables".to_owned()),
            );
        }
        Ok(())
    }

    fn table(&mut self, conn: &Connection, table: &Table) -> Result<(), SqliteError> {
        let name = &table.def.name;
        if table.sent.len() > MAX_COLUMNS {
            let what =
                format!("{name} has {} columns, at most {MAX_COLUMNS} can be captured", table.sent.len());
            self.add(Severity::Error, what, Some(format!("add \"!{name}\" to source.tables")));
        }
        if table.nullable_key {
            self.add(
                Severity::Warning,
                format!("the primary key of {name} admits NULL: the table is handled as one without key"),
                Some("rebuild the table with NOT NULL on its key columns".to_owned()),
            );
        } else if !table.is_keyed() {
            self.add(
                Severity::Warning,
                format!(
                    "{name} has no primary key: rows are matched whole, and it is read in one transaction"
                ),
                Some("rebuild the table with a PRIMARY KEY".to_owned()),
            );
        }
        for key in table.key() {
            let column = &table.def.columns[key];
            if let Some(collation) = column.collation.as_deref()
                && !matches!(collation, "NOCASE" | "RTRIM")
            {
                let what = format!(
                    "{name}.{} is ordered by the application's own collation {collation}: it is read in one transaction",
                    ident(&column.name)
                );
                self.add(Severity::Warning, what, None);
            }
        }
        let theirs: i64 = conn
            .query_row(
                "SELECT count(*) FROM main.sqlite_master WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE \
                 AND name NOT LIKE 'rowbridge\\_%' ESCAPE '\\'",
                [&name.name],
                |row| row.get(0),
            )
            .map_err(SqliteError::sql("read the triggers"))?;
        if theirs > 0 {
            let what =
                format!("{name} has {theirs} triggers of the application: what they change is captured too");
            self.add(Severity::Note, what, None);
        }
        Ok(())
    }

    fn log(&mut self, conn: &Connection, path: &Path, cap: u64) -> Result<(), SqliteError> {
        if !install::is_installed(conn)? {
            let what = "capture is not installed yet: the first start makes triggers and rowbridge_ tables in the file";
            self.add(Severity::Note, what.to_owned(), None);
            return Ok(());
        }
        install::source_id(conn, path)?;
        let state = install::state(conn)?;
        let rows = state.last - state.pruned;
        if state.is_overflowed() {
            self.add(
                Severity::Error,
                format!("the change log reached its cap of {cap} rows: changes were not captured"),
                Some("run `rowbridge snapshot --all`".to_owned()),
            );
        } else if rows > (state.ceiling - state.pruned) / 2 {
            self.add(
                Severity::Warning,
                format!("the change log holds {rows} rows, more than half of its cap of {cap}"),
                Some("start `rowbridge run`, or raise source.max_log_rows".to_owned()),
            );
        }
        Ok(())
    }
}
