//! What the target's tables look like, and whether a source table fits.

use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::sql::ident;
use rowbridge_schema::types::{ColumnType, Server};
use rowbridge_schema::{Classified as _, Dialect, StorageClass, TableDef, TableName, sqlite_type};
use rusqlite::{Connection, OptionalExtension as _};

use super::create;
use crate::apply::renamed::renamed_from;
use crate::cross::{self, Conversions};
use crate::plan::{MappedTable, Mapping};

/// A column of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetColumn {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) generated: bool,
}

/// How rows are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    /// Index into the source's definition.
    pub(super) index: u16,
    pub(super) name: String,
    /// Collation of the unique index; `None` for the rowid itself.
    pub(super) collation: Option<String>,
}

/// A source table and the target table that fits it.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    /// The table at the source.
    pub(super) source: TableName,
    /// Quoted, with its database: `main."orders"`.
    pub(super) sql_name: String,
    pub(super) mapped: MappedTable,
    /// Names of the source's columns.
    pub(super) source_columns: Vec<String>,
    /// For each column of the definition the class of a cell that carries none.
    pub(super) natural: Vec<StorageClass>,
    /// Empty for a table without key.
    pub(super) key: Vec<KeyColumn>,
    /// Unique indexes besides the key, over whole columns that are all written.
    pub(super) others: Vec<Vec<KeyColumn>>,
    /// Equal keys are identical keys, so that an update that does not change the key need not write it.
    pub(super) exact_key: bool,
    /// A name of the rowid that no column hides; `None` for WITHOUT ROWID.
    pub(super) rowid: Option<&'static str>,
    /// All columns of the target.
    pub(super) columns: Vec<TargetColumn>,
    /// How values get into the target's types; `None` between equal ones.
    pub(super) conversions: Option<Conversions>,
}

/// Why a source table cannot be written to the target. Permanent until a person acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) column: Option<String>,
    pub(super) reason: String,
}

/// Why there is no [`Resolved`].
#[derive(Debug)]
pub(super) enum ResolveError {
    Misfit(Misfit),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for ResolveError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn misfit(column: Option<&str>, reason: String) -> ResolveError {
    ResolveError::Misfit(Misfit { column: column.map(str::to_owned), reason })
}

impl Resolved {
    /// Fits a source table to the target; makes the table if it is missing and `create` is set.
    pub(super) fn new(
        conn: &Connection,
        mapping: &Mapping,
        def: &TableDef,
        create: bool,
    ) -> Result<Self, ResolveError> {
        let mapped = mapping.table(def).map_err(|error| {
            let hint = error.hint().map(|hint| format!(". {hint}")).unwrap_or_default();
            misfit(None, format!("{error}{hint}"))
        })?;
        let crossing = cross::needed(def, &mapped, Dialect::Sqlite);
        let source = def;
        let made_as;
        let def = if crossing {
            made_as = cross::made(source, &mapped, Server::Sqlite);
            &made_as
        } else {
            source
        };
        let name = mapped.target.name.clone();
        if is_reserved(&name) {
            return Err(misfit(
                None,
                format!("the name {name:?} is taken; give the table another one in a [[map]]"),
            ));
        }
        let mut kind = table_kind(conn, &name)?;
        if kind.is_none() && create {
            let sql = create::create_sql(def, &mapped);
            conn.execute(&sql, []).map_err(|error| match super::error::is_statement(&error) {
                true => misfit(None, format!("the table {name:?} cannot be made ({error})")),
                false => ResolveError::Sqlite(error),
            })?;
            tracing::info!(table = %name, "made a target table, without its foreign keys, checks and other indexes");
            kind = table_kind(conn, &name)?;
        }
        let Some((kind, without_rowid)) = kind else {
            let sql = create::create_sql(def, &mapped);
            let reason =
                format!("the target has no table {name:?}; set target.create = true, or run `{sql}`");
            return Err(misfit(None, reason));
        };
        if kind != "table" {
            return Err(misfit(None, format!("{name:?} at the target is a {kind}, not a table")));
        }
        let columns = columns(conn, &name)?;
        check_columns(def, &mapped, &name, &columns)?;
        let crossed;
        let (def, conversions) = if crossing {
            let found = |name: &str| columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
            crossed = Conversions::shape(source, &mapped, Server::Sqlite, |name| {
                found(name).map(|column| (column.declared.clone(), None))
            });
            (&crossed, Some(conversions(source, &mapped, &name, &columns)?))
        } else {
            (def, None)
        };
        let key = key(conn, def, &mapped, &name, without_rowid)?;
        let others = others(conn, &mapped, &key, &name)?;
        let natural: Vec<_> = def.columns.iter().map(|c| sqlite_type::natural_class(&c.type_name)).collect();
        let exact_key = key.iter().all(|column| match column.collation.as_deref() {
            // In a column without affinity 1 and 1.0 are equal and not the same.
            Some(collation) => {
                collation.eq_ignore_ascii_case("BINARY")
                    && natural.get(usize::from(column.index)) != Some(&StorageClass::Blob)
            }
            None => true,
        });
        let hides = |rowid: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(rowid));
        let rowid = ["rowid", "_rowid_", "oid"].into_iter().find(|name| !hides(name));
        Ok(Self {
            source: def.name.clone(),
            sql_name: format!("main.{}", ident(&name)),
            mapped,
            source_columns: def.columns.iter().map(|column| column.name.clone()).collect(),
            natural,
            key,
            others,
            exact_key,
            rowid: if without_rowid { None } else { rowid },
            columns,
            conversions,
        })
    }

    /// The source's name of a target column.
    pub(super) fn source_column(&self, target: &str) -> Option<&str> {
        let position =
            |name: &Option<String>| name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(target));
        let index = self.mapped.columns.iter().position(position)?;
        self.source_columns.get(index).map(String::as_str)
    }

    /// Whether integer keys lie in the order of their numbers.
    pub(super) fn orders_alike(&self) -> bool {
        self.key
            .iter()
            .all(|column| sqlite_type::natural_class(self.declared(&column.name)) == StorageClass::Integer)
    }

    /// The target's declaration of a column.
    pub(super) fn declared(&self, target: &str) -> &str {
        let column = self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(target));
        column.map_or("", |column| &column.declared)
    }
}

/// Names that SQLite or Rowbridge need themselves.
fn is_reserved(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with("sqlite_") || lower.starts_with("rowbridge_")
}

fn table_kind(conn: &Connection, name: &str) -> rusqlite::Result<Option<(String, bool)>> {
    conn.prepare_cached(
        "SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE",
    )?
    .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

/// All columns of a table in its own order.
pub(super) fn columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<TargetColumn>> {
    conn.prepare_cached("SELECT name, type, hidden FROM pragma_table_xinfo(?1, 'main') ORDER BY cid")?
        .query_map([table], |row| {
            Ok(TargetColumn {
                name: row.get(0)?,
                declared: row.get(1)?,
                generated: row.get::<_, i64>(2)? >= 2,
            })
        })?
        .collect()
}

/// How the source's values get into these columns.
fn conversions(
    def: &TableDef,
    mapped: &MappedTable,
    table: &str,
    columns: &[TargetColumn],
) -> Result<Conversions, ResolveError> {
    let actual = |name: &str| {
        let found = columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))?;
        Some(ColumnType::parse(Dialect::Sqlite, &found.declared, None, &[]))
    };
    Conversions::plan(def, mapped, Server::Sqlite, actual).map_err(|refused| {
        let reason = format!(
            "{}; make {table:?} at the target anew with this column as {}",
            refused.reason, refused.wanted.type_name
        );
        misfit(Some(&def.columns[refused.column].name), reason)
    })
}

fn check_columns(
    def: &TableDef,
    mapped: &MappedTable,
    table: &str,
    columns: &[TargetColumn],
) -> Result<(), ResolveError> {
    let find = |name: &str| columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    let missing = |name: &str, declared: &str| {
        let add = format!("ALTER TABLE {} ADD COLUMN {} {declared}", ident(table), ident(name));
        format!("the table {table:?} at the target has no column {name:?}; run `{}`", add.trim_end())
    };
    let same = str::eq_ignore_ascii_case;
    for (column, name) in def.columns.iter().zip(&mapped.columns) {
        let Some(name) = name else { continue };
        match find(name) {
            None => {
                let mut reason = missing(name, &column.type_name);
                let written = columns.iter().filter(|own| !own.generated);
                let own = written.map(|own| (own.name.as_str(), same(&own.declared, &column.type_name)));
                if let Some(old) = renamed_from(mapped, own, same) {
                    let (table, from, to) = (ident(table), ident(old), ident(name));
                    reason += &format!(
                        " (or, if the source renamed {old:?}, `ALTER TABLE {table} RENAME COLUMN {from} TO {to}`)"
                    );
                }
                return Err(misfit(Some(&column.name), reason));
            }
            Some(found) if found.generated => {
                let reason = format!(
                    "column {name:?} of {table:?} is generated at the target; leave it out in a [[map]] with \
                     columns = {{ {} = false }}",
                    column.name
                );
                return Err(misfit(Some(&column.name), reason));
            }
            Some(_) => {}
        }
    }
    if let DeletePolicy::Soft(name) = &mapped.delete
        && find(name).is_none()
    {
        return Err(misfit(Some(name), missing(name, "TEXT")));
    }
    Ok(())
}

/// Finds the unique index that upserts of this key need.
fn key(
    conn: &Connection,
    def: &TableDef,
    mapped: &MappedTable,
    table: &str,
    without_rowid: bool,
) -> Result<Vec<KeyColumn>, ResolveError> {
    let names: Vec<(u16, &str)> =
        mapped.key.iter().filter_map(|&index| Some((index, mapped.column(index)?))).collect();
    if names.is_empty() {
        return match without_rowid {
            true => Err(misfit(
                None,
                format!("{} has no key, but {table:?} at the target is WITHOUT ROWID", def.name),
            )),
            false => Ok(Vec::new()),
        };
    }
    let indexes: Vec<(String, String)> = conn
        .prepare_cached(
            "SELECT name, origin FROM pragma_index_list(?1, 'main') WHERE \"unique\" AND NOT partial \
             ORDER BY origin <> 'pk', name",
        )?
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    if let [(index, name)] = names[..]
        && !without_rowid
        && indexes.iter().all(|(_, origin)| origin != "pk")
        && primary_key(conn, table)?.is_some_and(|column| column.eq_ignore_ascii_case(name))
    {
        return Ok(vec![KeyColumn { index, name: name.to_owned(), collation: None }]);
    }
    for (index, _) in &indexes {
        let parts = index_columns(conn, index)?;
        let collation = |name: &str| {
            let part = |(found, _): &&(Option<String>, String)| {
                found.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(name))
            };
            parts.iter().find(part).map(|(_, collation)| collation.clone())
        };
        let columns: Option<Vec<_>> = names
            .iter()
            .map(|&(index, name)| {
                Some(KeyColumn { index, name: name.to_owned(), collation: Some(collation(name)?) })
            })
            .collect();
        if let Some(columns) = columns
            && columns.len() == parts.len()
        {
            return Ok(columns);
        }
    }
    let list: Vec<_> = names.iter().map(|(_, name)| ident(name)).collect();
    let reason = format!(
        "the table {table:?} at the target has no unique key on the source's key; run `CREATE UNIQUE INDEX {} ON {} ({})`",
        ident(&format!("{table}_key")),
        ident(table),
        list.join(", ")
    );
    Err(misfit(None, reason))
}

/// Columns of an index with their collations; an expression has no name.
fn index_columns(conn: &Connection, index: &str) -> rusqlite::Result<Vec<(Option<String>, String)>> {
    conn.prepare_cached("SELECT name, coll FROM pragma_index_xinfo(?1, 'main') WHERE key")?
        .query_map([index], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Unique indexes that a row may meet besides the key.
fn others(
    conn: &Connection,
    mapped: &MappedTable,
    key: &[KeyColumn],
    table: &str,
) -> rusqlite::Result<Vec<Vec<KeyColumn>>> {
    let names: Vec<String> = conn
        .prepare_cached("SELECT name FROM pragma_index_list(?1, 'main') WHERE \"unique\" ORDER BY 1")?
        .query_map([table], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut others = Vec::new();
    for index in names {
        let column = |(name, collation): (Option<String>, String)| {
            let name = name?;
            let same = |target: &Option<String>| {
                target.as_deref().is_some_and(|target| target.eq_ignore_ascii_case(&name))
            };
            let index = mapped.columns.iter().position(same)? as u16;
            Some(KeyColumn { index, name, collation: Some(collation) })
        };
        let columns: Option<Vec<_>> = index_columns(conn, &index)?.into_iter().map(column).collect();
        // An index over the key and more is met only by rows that have the key.
        let is_other = |columns: &Vec<KeyColumn>| {
            !key.iter().all(|key| columns.iter().any(|column| column.index == key.index))
        };
        others.extend(columns.filter(is_other));
    }
    Ok(others)
}

/// The column of a primary key of one column.
fn primary_key(conn: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    let columns: Vec<String> = conn
        .prepare_cached("SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE pk > 0")?
        .query_map([table], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(if columns.len() == 1 { columns.into_iter().next() } else { None })
}
