//! Existing rows of a SQLite source.
//!
//! A chunk is one short read transaction that also reads the highest log id: that tells exactly which changes it saw. A
//! table that cannot be paged by its key (none, one that admits NULL, one under the application's own collation) is read
//! whole in one transaction that stays open from chunk to chunk.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rowbridge_schema::sql::ident;
use rowbridge_schema::sqlite_type::natural_class;
use rowbridge_schema::wire::KeyRange;
use rowbridge_schema::{Offset, StorageClass, TableDef, TableName, TablePatterns};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::{Cells, ChunkRead, Containment, SnapshotReader, Unlogged};
use crate::capture::Key;
use crate::capture::sqlite::SqliteError;
use crate::capture::sqlite::cut::Cut;
use crate::capture::sqlite::inspect::{self, Table};
use crate::capture::sqlite::install;
use crate::capture::sqlite::value::{cell, key_text, readings};

/// Reads rows on a connection of its own, on blocking threads.
#[derive(Debug)]
pub struct SqliteSnapshots {
    path: PathBuf,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    conn: Connection,
    tables: TablePatterns,
    cut: Cut,
    /// A whole read in progress: its transaction is open on `conn`.
    whole: Option<Whole>,
    /// Where the last chunk of each table ended, with the classes that a key's text does not tell.
    ends: HashMap<TableName, (Key, Vec<Value>)>,
}

#[derive(Debug)]
struct Whole {
    table: Table,
    last: i64,
    /// The last row that was read; `None` at the beginning.
    rowid: Option<i64>,
}

/// Rows as they were read.
struct Rows {
    cells: Cells,
    /// Exact key (or rowid) of the last row.
    end: Option<Vec<Value>>,
    done: bool,
}

impl SqliteSnapshots {
    pub(crate) async fn open(path: PathBuf, tables: TablePatterns, cut: Cut) -> Result<Self, SqliteError> {
        let file = path.clone();
        let open = move || {
            let conn = install::open(&file)?;
            install::source_id(&conn, &file)?;
            Ok(Inner { conn, tables, cut, whole: None, ends: HashMap::new() })
        };
        match tokio::task::spawn_blocking(open).await {
            Ok(inner) => Ok(Self { path, inner: Arc::new(Mutex::new(inner?)) }),
            Err(_) => Err(SqliteError::Stopped { path }),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let inner = self.inner.clone();
        // A poisoned lock only means that an earlier read panicked: each call begins its own transaction.
        let run = move || work(&mut inner.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(run).await {
            Ok(result) => result,
            Err(_) => Err(SqliteError::Stopped { path: self.path.clone() }),
        }
    }
}

impl SnapshotReader for SqliteSnapshots {
    type Error = SqliteError;

    async fn tables(&mut self) -> Result<Vec<TableDef>, SqliteError> {
        self.run(|inner| {
            Ok(inspect::captured(&inner.conn, &inner.tables)?.into_iter().map(|table| table.def).collect())
        })
        .await
    }

    /// Nothing to wait for: a commit shows to all readers at once, and nothing is shipped before it shows.
    async fn settle(&mut self) -> Result<(), SqliteError> {
        Ok(())
    }

    /// For a table that is read whole, `after` only says whether to begin (`None`) or to go on in the open transaction
    /// (`Some`, whatever the key). If that transaction is gone, a table with a key begins anew and one without is
    /// [`SqliteError::Interrupted`]. Another table's read ends it.
    async fn read_chunk(
        &mut self,
        table: &TableName,
        after: Option<&Key>,
        max_bytes: usize,
    ) -> Result<Option<ChunkRead>, SqliteError> {
        let (table, after) = (table.clone(), after.cloned());
        self.run(move |inner| inner.read_chunk(&table, after, max_bytes)).await
    }

    async fn read_keys(&mut self, table: &TableName, keys: &[Key]) -> Result<Option<ChunkRead>, SqliteError> {
        let (table, keys) = (table.clone(), keys.to_vec());
        self.run(move |inner| inner.read_keys(&table, &keys)).await
    }
}

impl Inner {
    fn read_chunk(
        &mut self,
        name: &TableName,
        after: Option<Key>,
        max_bytes: usize,
    ) -> Result<Option<ChunkRead>, SqliteError> {
        let goes_on =
            self.whole.as_ref().is_some_and(|whole| whole.table.def.name == *name) && after.is_some();
        if goes_on {
            return self.read_whole(max_bytes).map(Some);
        }
        self.end_whole()?;
        let shared = self.cut.clone();
        let mut cut = shared.hold();
        self.begin()?;
        let Some(table) = inspect::table(&self.conn, &name.name)? else {
            self.commit()?;
            return Ok(None);
        };
        let last = install::state(&self.conn)?.last;
        if !table.is_keyed() {
            *cut = Some(last);
        }
        drop(cut);
        if pages_by_key(&table) {
            let chunk = self.read_by_key(&table, after, max_bytes, last);
            self.commit()?;
            return chunk.map(Some);
        }
        // Rows with a key may come twice; those without may not.
        if after.is_some() && !table.is_keyed() {
            self.commit()?;
            return Err(SqliteError::Interrupted { table: name.clone() });
        }
        self.whole = Some(Whole { table, last, rowid: None });
        self.read_whole(max_bytes).map(Some)
    }

    fn begin(&mut self) -> Result<(), SqliteError> {
        // An error in a former call may have left its transaction open.
        self.commit()?;
        self.conn.execute_batch("BEGIN").map_err(SqliteError::sql("begin to read a chunk"))
    }

    fn commit(&mut self) -> Result<(), SqliteError> {
        if self.conn.is_autocommit() {
            return Ok(());
        }
        self.conn.execute_batch("COMMIT").map_err(SqliteError::sql("end the read of a chunk"))
    }

    fn end_whole(&mut self) -> Result<(), SqliteError> {
        self.whole = None;
        self.commit()
    }

    fn read_whole(&mut self, max_bytes: usize) -> Result<ChunkRead, SqliteError> {
        let Some(whole) = &self.whole else {
            return Err(SqliteError::Sql {
                action: "go on with a chunk",
                source: rusqlite::Error::InvalidQuery,
            });
        };
        let on = ident(&whole.table.def.name.name);
        let columns = sent(&whole.table);
        let rows = match whole.table.rowid {
            Some(rowid) => {
                let (condition, values) = match whole.rowid {
                    Some(last) => (format!("WHERE {rowid} > ?1"), vec![Value::Integer(last)]),
                    None => (String::new(), Vec::new()),
                };
                let sql = format!("SELECT {columns},{rowid} FROM {on} {condition} ORDER BY {rowid}");
                let width = whole.table.sent.len();
                collect(&self.conn, &whole.table, &sql, &values, &[width], max_bytes)
            }
            // Nothing to go on by: all at once.
            None => collect(
                &self.conn,
                &whole.table,
                &format!("SELECT {columns} FROM {on}"),
                &[],
                &[],
                usize::MAX,
            ),
        };
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                self.end_whole()?;
                return Err(error);
            }
        };
        let (last, table) = (whole.last, whole.table.clone());
        let mut range = KeyRange::default();
        if rows.done {
            self.end_whole()?;
        } else if let (Some(whole), Some([Value::Integer(rowid)])) = (&mut self.whole, rows.end.as_deref()) {
            whole.rowid = Some(*rowid);
            // What a table with a key goes on from has to be some key.
            range.upto = table.is_keyed().then(|| vec![rowid.to_string()]);
        }
        Ok(chunk(&table, rows.cells, range, rows.done, last))
    }

    fn read_by_key(
        &mut self,
        table: &Table,
        after: Option<Key>,
        max_bytes: usize,
        last: i64,
    ) -> Result<ChunkRead, SqliteError> {
        let on = ident(&table.def.name.name);
        let key: Vec<String> = table
            .key()
            .map(|i| {
                let column = &table.def.columns[i];
                let collation = column.collation.as_deref().unwrap_or("BINARY");
                format!("{} COLLATE {}", ident(&column.name), ident(collation))
            })
            .collect();
        let mut values = Vec::new();
        let mut condition = String::new();
        if let Some(after) = &after {
            values = match self.ends.get(&table.def.name) {
                Some((text, exact)) if text == after => exact.clone(),
                // Another run ended here: the lowest reading may repeat rows, but never leaves one out.
                _ => lowest(table, after),
            };
            let marks = (1..=values.len()).map(|i| format!("?{i}")).collect::<Vec<_>>().join(",");
            condition = format!("WHERE ({}) > ({marks})", key.join(","));
        }
        let sql = format!("SELECT {} FROM {on} {condition} ORDER BY {}", sent(table), key.join(","));
        let places = places(table);
        let rows = collect(&self.conn, table, &sql, &values, &places, max_bytes)?;
        let mut range = KeyRange { after, upto: None };
        match rows.end {
            Some(exact) if !rows.done => {
                let upto: Key = exact.iter().map(|value| key_text(value.into())).collect();
                range.upto = Some(upto.clone());
                self.ends.insert(table.def.name.clone(), (upto, exact));
            }
            _ => {
                self.ends.remove(&table.def.name);
            }
        }
        Ok(chunk(table, rows.cells, range, rows.done, last))
    }

    fn read_keys(&mut self, name: &TableName, keys: &[Key]) -> Result<Option<ChunkRead>, SqliteError> {
        // An open whole read keeps its transaction: these rows are then read as of its beginning, and say so.
        let own = self.conn.is_autocommit();
        if own {
            self.begin()?;
        }
        let result = self.find_keys(name, keys);
        if own {
            self.commit()?;
        }
        result
    }

    fn find_keys(&mut self, name: &TableName, keys: &[Key]) -> Result<Option<ChunkRead>, SqliteError> {
        let Some(table) = inspect::table(&self.conn, &name.name)? else { return Ok(None) };
        let last = install::state(&self.conn)?.last;
        let on = ident(&name.name);
        let places = places(&table);
        let mut cells = Cells::new(table.sent.len());
        for key in keys.iter().filter(|key| table.is_keyed() && key.len() == places.len()) {
            let mut values = Vec::new();
            let mut terms = Vec::new();
            for (i, text) in table.key().zip(key) {
                let column = &table.def.columns[i];
                let readings = readings(column, text);
                let marks: Vec<String> =
                    (1..=readings.len()).map(|n| format!("?{}", values.len() + n)).collect();
                terms.push(format!("{} IN ({})", ident(&column.name), marks.join(",")));
                values.extend(readings);
            }
            let sql = format!("SELECT {} FROM {on} WHERE {}", sent(&table), terms.join(" AND "));
            let rows = collect(&self.conn, &table, &sql, &values, &places, usize::MAX)?;
            // Equal to SQLite is not the same key: 'a' and 'A' under NOCASE, 1 and '1'.
            for row in rows.cells.rows() {
                if places.iter().zip(key).all(|(&place, text)| row.text(place) == Some(text)) {
                    cells.push_row(row);
                }
            }
        }
        Ok(Some(chunk(&table, cells, KeyRange::default(), true, last)))
    }
}

fn chunk(table: &Table, cells: Cells, range: KeyRange, done: bool, last: i64) -> ChunkRead {
    let at = Offset { file: 0, at: last as u64 };
    let (portable_order, table) = (orders_everywhere(table), table.def.clone());
    ChunkRead {
        table,
        cells,
        range,
        portable_order,
        done,
        containment: Containment::UpTo(at),
        after: at,
        unlogged: Unlogged::default(),
    }
}

/// Whether our connection can order the key as the application's does.
fn pages_by_key(table: &Table) -> bool {
    table.is_keyed()
        && table
            .key()
            .all(|i| matches!(table.def.columns[i].collation.as_deref(), None | Some("NOCASE" | "RTRIM")))
}

/// Whether all keys that the table can hold are integers: every target orders those alike. A declared type alone does not
/// keep text out.
fn orders_everywhere(table: &Table) -> bool {
    let strict = table.def.options.iter().any(|option| option == "STRICT");
    let integer = |i: usize| natural_class(&table.def.columns[i].type_name) == StorageClass::Integer;
    table.integer_key || (pages_by_key(table) && strict && table.key().all(integer))
}

fn sent(table: &Table) -> String {
    table.sent.iter().map(|&i| ident(&table.def.columns[i].name)).collect::<Vec<_>>().join(",")
}

/// Where the key columns lie among the sent ones.
fn places(table: &Table) -> Vec<usize> {
    table.key().filter_map(|key| table.sent.iter().position(|&i| i == key)).collect()
}

fn lowest(table: &Table, key: &Key) -> Vec<Value> {
    table
        .key()
        .zip(key)
        .map(|(i, text)| readings(&table.def.columns[i], text).into_iter().next().unwrap_or(Value::Null))
        .collect()
}

/// Runs a query whose first columns are the sent ones; stops after the row that reaches `max_bytes`.
fn collect(
    conn: &Connection,
    table: &Table,
    sql: &str,
    values: &[Value],
    key: &[usize],
    max_bytes: usize,
) -> Result<Rows, SqliteError> {
    let natural: Vec<StorageClass> =
        table.sent.iter().map(|&i| natural_class(&table.def.columns[i].type_name)).collect();
    let run = || {
        let mut statement = conn.prepare_cached(sql)?;
        let mut found = statement.query(params_from_iter(values))?;
        let mut rows = Rows { cells: Cells::new(natural.len()), end: None, done: true };
        let mut bytes = 0;
        while let Some(row) = found.next()? {
            if bytes >= max_bytes {
                rows.done = false;
                break;
            }
            for (i, &natural) in natural.iter().enumerate() {
                let cell = cell(natural, row.get_ref(i)?);
                bytes += cell.as_str().map_or(4, |text| text.len() + 3);
                rows.cells.push(&cell);
            }
            let end: Vec<Value> = key.iter().map(|&place| row.get(place)).collect::<Result<_, _>>()?;
            rows.end = Some(end);
        }
        Ok(rows)
    };
    run().map_err(SqliteError::sql("read rows of a table"))
}

#[cfg(test)]
mod tests;
