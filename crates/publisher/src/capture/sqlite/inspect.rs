//! Tables as the catalog describes them.

use rowbridge_schema::sqlite_type::natural_class;
use rowbridge_schema::{Column, Dialect, StorageClass, TableDef, TableName, TablePatterns};
use rusqlite::{Connection, OptionalExtension};

use super::ddl;
use super::error::SqliteError;

/// A unique index or constraint, the primary key's too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unique {
    /// Indexed terms, in index order.
    pub(crate) terms: Vec<Term>,
    /// The WHERE of a partial index.
    pub(crate) condition: Option<String>,
}

/// One term of a unique index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// Index into the table's columns; `None` for an expression.
    pub(crate) column: Option<usize>,
    /// The expression's SQL; empty for a column.
    pub(crate) expression: String,
    /// The index's collation for this term.
    pub(crate) collation: String,
}

/// What capture and snapshots must know of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// The shape that travels. The key is empty if there is none, or if it may be NULL.
    pub(crate) def: TableDef,
    /// Indexes of the columns that rows carry.
    pub(crate) sent: Vec<usize>,
    /// A name of the rowid that no column hides; `None` for WITHOUT ROWID.
    pub(crate) rowid: Option<&'static str>,
    /// The key is the rowid.
    pub(crate) integer_key: bool,
    /// A PRIMARY KEY that admits NULL.
    pub(crate) nullable_key: bool,
    /// Unique indexes, the primary key's too.
    pub(crate) uniques: Vec<Unique>,
}

impl Table {
    /// Whether the table has an identity that travels.
    pub(crate) fn is_keyed(&self) -> bool {
        !self.def.key.is_empty()
    }

    /// Key columns as indexes into `def.columns`.
    pub(crate) fn key(&self) -> impl Iterator<Item = usize> + '_ {
        self.def.key.iter().map(|&k| usize::from(k))
    }

    /// Whether an INSERT OR REPLACE can remove a row other than by writing the same key again. (An UPDATE OR REPLACE always
    /// can, by changing a key.)
    pub(crate) fn replace_can_hide_deletes(&self) -> bool {
        if self.integer_key {
            return !self.uniques.is_empty();
        }
        // An explicit rowid replaces whatever row has it. In a key without type 1 and 1.0 are equal but not the same, as
        // are 'a' and 'A' under NOCASE.
        self.rowid.is_some()
            || self.uniques.len() > 1
            || self.key().any(|k| {
                let column = &self.def.columns[k];
                column.collation.is_some() || natural_class(&column.type_name) == StorageClass::Blob
            })
    }
}

/// A row of the catalog.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// Name as created.
    pub(crate) name: String,
    /// `table`, `view`, `virtual`, `shadow`.
    pub(crate) kind: String,
    without_rowid: bool,
    strict: bool,
}

/// Everything in the main schema that is not SQLite's own.
pub(crate) fn list(conn: &Connection) -> Result<Vec<Listed>, SqliteError> {
    let read = || {
        let mut statement = conn.prepare_cached(
            "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' \
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(Listed {
                name: row.get(0)?,
                kind: row.get(1)?,
                without_rowid: row.get(2)?,
                strict: row.get(3)?,
            })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(SqliteError::sql("list the tables"))
}

/// The tables that the patterns take, in name order.
pub(crate) fn captured(conn: &Connection, patterns: &TablePatterns) -> Result<Vec<Table>, SqliteError> {
    let mut tables = Vec::new();
    for listed in list(conn)? {
        if listed.kind == "table" && takes(patterns, &listed.name) {
            tables.push(describe(conn, &listed).map_err(SqliteError::sql("read the columns of a table"))?);
        }
    }
    Ok(tables)
}

/// Whether a table is wanted; names that begin like our own are not, in any case.
pub(crate) fn takes(patterns: &TablePatterns, name: &str) -> bool {
    let ours = name.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("rowbridge_"));
    !ours && patterns.matches(&TableName::bare(name))
}

/// One table by its name, whatever its case; `None` if it is gone or is not a plain table.
pub(crate) fn table(conn: &Connection, name: &str) -> Result<Option<Table>, SqliteError> {
    match list(conn)?.into_iter().find(|t| t.kind == "table" && t.name.eq_ignore_ascii_case(name)) {
        Some(listed) => {
            describe(conn, &listed).map(Some).map_err(SqliteError::sql("read the columns of a table"))
        }
        None => Ok(None),
    }
}

fn describe(conn: &Connection, listed: &Listed) -> rusqlite::Result<Table> {
    let sql: String = conn.query_row(
        "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ?1",
        [&listed.name],
        |row| row.get(0),
    )?;
    let mut columns = Vec::new();
    let mut key = Vec::new();
    let mut statement = conn
        .prepare_cached("SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?1, 'main')")?;
    let mut rows = statement.query([&listed.name])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let hidden: i64 = row.get(4)?;
        let generated = (hidden == 2 || hidden == 3)
            .then(|| ddl::generation(&sql, &name).unwrap_or_else(|| "NULL".to_owned()));
        let rank: u16 = row.get(3)?;
        if rank > 0 {
            key.push((rank, columns.len()));
        }
        let (type_name, not_null) = (row.get(1)?, row.get(2)?);
        columns.push(Column { name, type_name, not_null, generated, collation: None });
    }
    key.sort_unstable();
    let key: Vec<usize> = key.into_iter().map(|(_, column)| column).collect();

    let mut uniques = Vec::new();
    let mut key_index = false;
    for (index, origin) in unique_indexes(conn, &listed.name)? {
        let unique = describe_index(conn, &index)?;
        if origin == "pk" {
            key_index = true;
            for term in &unique.terms {
                if let (Some(column), false) = (term.column, term.collation.eq_ignore_ascii_case("BINARY")) {
                    columns[column].collation = Some(term.collation.to_ascii_uppercase());
                }
            }
        }
        uniques.push(unique);
    }
    let integer_key = !listed.without_rowid
        && !key_index
        && matches!(key[..], [only] if columns[only].type_name.eq_ignore_ascii_case("INTEGER"));
    if listed.without_rowid || integer_key {
        for &column in &key {
            columns[column].not_null = true;
        }
    }
    let nullable_key = key.iter().any(|&column| !columns[column].not_null);
    let rowid = if listed.without_rowid {
        None
    } else {
        ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|name| !columns.iter().any(|c| c.name.eq_ignore_ascii_case(name)))
    };
    let mut options = Vec::new();
    if listed.strict {
        options.push("STRICT".to_owned());
    }
    if listed.without_rowid {
        options.push("WITHOUT ROWID".to_owned());
    }
    let sent = (0..columns.len()).filter(|&i| columns[i].generated.is_none()).collect();
    // A key on a generated column would never travel: such a table counts as keyless.
    let usable = !nullable_key && key.iter().all(|&column| columns[column].generated.is_none());
    let def = TableDef {
        dialect: Dialect::Sqlite,
        name: TableName::bare(&listed.name),
        columns,
        key: if usable { key.iter().map(|&column| column as u16).collect() } else { Vec::new() },
        types: Vec::new(),
        options,
    };
    Ok(Table { def, sent, rowid, integer_key, nullable_key, uniques })
}

/// Names and origins (`pk`, `u`, `c`) of a table's unique indexes.
fn unique_indexes(conn: &Connection, table: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = conn.prepare_cached(
        "SELECT name, origin FROM pragma_index_list(?1, 'main') WHERE \"unique\" = 1 ORDER BY name",
    )?;
    let rows = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn describe_index(conn: &Connection, index: &str) -> rusqlite::Result<Unique> {
    // The key of a WITHOUT ROWID table has an index with a name, but no entry in the catalog.
    let sql: Option<Option<String>> = conn
        .query_row("SELECT sql FROM main.sqlite_master WHERE type = 'index' AND name = ?1", [index], |row| {
            row.get(0)
        })
        .optional()?;
    let (written, condition) = sql.flatten().as_deref().and_then(ddl::index_terms).unwrap_or_default();
    let mut statement = conn.prepare_cached(
        "SELECT cid, coll FROM pragma_index_xinfo(?1, 'main') WHERE key = 1 ORDER BY seqno",
    )?;
    let rows = statement.query_map([index], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let mut terms = Vec::new();
    for (i, row) in rows.enumerate() {
        let (cid, collation) = row?;
        let column = usize::try_from(cid).ok();
        let expression =
            if column.is_none() { written.get(i).cloned().unwrap_or_default() } else { String::new() };
        terms.push(Term { column, expression, collation });
    }
    Ok(Unique { terms, condition })
}
