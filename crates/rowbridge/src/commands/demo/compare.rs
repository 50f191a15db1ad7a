//! Whether two SQLite files hold the same rows: every table of the source, every column, storage class and value.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Rows};

/// What a table came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableResult {
    pub(super) table: String,
    /// Rows at the source.
    pub(super) rows: u64,
    /// The first difference.
    pub(super) difference: Option<String>,
}

/// Compares all of the source's own tables. Both files must be quiet.
pub(super) fn compare(source: &Path, copy: &Path) -> rusqlite::Result<Vec<TableResult>> {
    let open = |path| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok::<_, rusqlite::Error>(connection)
    };
    let (source, copy) = (open(source)?, open(copy)?);
    tables(&source)?
        .into_iter()
        .map(|table| {
            let (rows, difference) = compare_table(&source, &copy, &table)?;
            Ok(TableResult { table, rows, difference })
        })
        .collect()
}

fn tables(source: &Connection) -> rusqlite::Result<Vec<String>> {
    source
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
             AND name NOT LIKE 'rowbridge\\_%' ESCAPE '\\' ORDER BY name",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn compare_table(
    source: &Connection,
    copy: &Connection,
    table: &str,
) -> rusqlite::Result<(u64, Option<String>)> {
    let columns: Vec<String> = source
        .prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let list: Vec<_> = columns.iter().map(|column| quoted(column)).collect();
    // By every column and byte by byte, so that no collation or index decides the order.
    let order: Vec<_> = list.iter().map(|column| format!("{column} COLLATE BINARY")).collect();
    let sql = format!("SELECT {} FROM {} ORDER BY {}", list.join(", "), quoted(table), order.join(", "));
    let mut at_source = source.prepare(&sql)?;
    let mut at_copy = match copy.prepare(&sql) {
        Ok(statement) => statement,
        Err(error) => return Ok((0, Some(format!("the copy cannot be read: {error}")))),
    };
    let (mut left, mut right) = (at_source.query([])?, at_copy.query([])?);
    let mut rows = 0;
    loop {
        match next_pair(&mut left, &mut right, &columns)? {
            Pair::Equal => rows += 1,
            Pair::End => return Ok((rows, None)),
            Pair::Differs(difference) => {
                let difference = format!("row {} in the order of all columns: {difference}", rows + 1);
                return Ok((rows, Some(difference)));
            }
        }
    }
}

enum Pair {
    Equal,
    End,
    Differs(String),
}

/// The shop is made up, so its values may be shown.
fn next_pair(left: &mut Rows<'_>, right: &mut Rows<'_>, columns: &[String]) -> rusqlite::Result<Pair> {
    let (left, right) = (left.next()?, right.next()?);
    let (left, right) = match (left, right) {
        (None, None) => return Ok(Pair::End),
        (Some(_), None) => return Ok(Pair::Differs("the copy has fewer rows".to_owned())),
        (None, Some(_)) => return Ok(Pair::Differs("the copy has more rows".to_owned())),
        (Some(left), Some(right)) => (left, right),
    };
    for (index, column) in columns.iter().enumerate() {
        let (a, b) = (left.get_ref(index)?, right.get_ref(index)?);
        if !same(a, b) {
            return Ok(Pair::Differs(format!("{column} is {a:?} at the source, {b:?} in the copy")));
        }
    }
    Ok(Pair::Equal)
}

/// Same storage class, same bits: 1 is not 1.0, and 0.0 is not -0.0.
fn same(a: ValueRef<'_>, b: ValueRef<'_>) -> bool {
    match (a, b) {
        (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(left: &str, right: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.db"), folder.path().join("b.db"));
        for (path, rows) in [(&a, left), (&b, right)] {
            let db = Connection::open(path).unwrap();
            db.execute_batch("CREATE TABLE t (id, v); CREATE TABLE rowbridge_log (x)").unwrap();
            db.execute_batch(rows).unwrap();
        }
        let result = compare(&a, &b).unwrap();
        assert_eq!(result.len(), 1, "{result:?}");
        result[0].difference.clone()
    }

    #[test]
    fn class_bits_and_count_are_compared() {
        let rows = "INSERT INTO t VALUES (2, 'x'), (1, NULL), (3, x'00')";
        assert_eq!(difference(rows, "INSERT INTO t VALUES (1, NULL), (3, x'00'), (2, 'x')"), None);
        for (left, right) in [
            ("INSERT INTO t VALUES (1, 1)", "INSERT INTO t VALUES (1, 1.0)"),
            ("INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (1, x'61')"),
            ("INSERT INTO t VALUES (1, 0.1)", "INSERT INTO t VALUES (1, 0.1 + 1e-17 + 2e-17)"),
            ("INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (1, 'A')"),
            ("INSERT INTO t VALUES (1, NULL)", "SELECT 1"),
            ("SELECT 1", "INSERT INTO t VALUES (1, NULL)"),
            ("SELECT 1", "DROP TABLE t"),
        ] {
            assert!(difference(left, right).is_some(), "{left} / {right}");
        }
    }
}
