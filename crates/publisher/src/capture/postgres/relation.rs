//! What a Relation message means for the rows that follow it: which table, which columns, which key.

use std::sync::Arc;

use rowbridge_schema::{Column, Dialect, TableDef, TableName};
use tokio_postgres::Client;

use super::catalog::{Catalog, CatalogTable};
use super::error::PostgresError;
use super::labels::{EnumColumn, enum_columns, know_only};
use super::pgoutput;
use crate::journal::TableRef;

/// A Relation message, owned: it must survive a look into the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    pub oid: u32,
    pub name: TableName,
    pub columns: Vec<AnnouncedColumn>,
}

/// One of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AnnouncedColumn {
    pub key: bool,
    pub name: String,
    pub type_oid: u32,
    pub type_modifier: i32,
}

impl From<&pgoutput::Relation<'_>> for Announced {
    fn from(relation: &pgoutput::Relation<'_>) -> Self {
        Self {
            oid: relation.oid,
            name: TableName::new(relation.schema, relation.name),
            columns: relation
                .columns
                .iter()
                .map(|column| AnnouncedColumn {
                    key: column.key,
                    name: column.name.to_owned(),
                    type_oid: column.type_oid,
                    type_modifier: column.type_modifier,
                })
                .collect(),
        }
    }
}

/// How rows of a relation become rows of a captured table.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// The table as blocks refer to it; a leaf refers to its root.
    pub table: Arc<TableRef>,
    /// Shape of the table.
    pub def: TableDef,
    /// Where generated columns stand in the relation, which a publication of PostgreSQL 18 may carry. The target computes
    /// them itself, so that everything below is about the other columns.
    pub computed: Vec<usize>,
    /// Column of the table for each column of the relation.
    pub columns: Vec<u16>,
    /// Columns of the table that an old key tuple carries, and where each stands in the relation.
    pub identity: Vec<u16>,
    pub identity_at: Vec<usize>,
    /// Where the table's key columns stand in the relation, in key order.
    pub key_at: Vec<usize>,
    /// Set for a leaf: a TRUNCATE of it is not one of its table.
    pub leaf_of: Option<TableName>,
    /// Columns whose values the target must be told of beforehand.
    pub enums: Vec<EnumColumn>,
    /// A snapshot of the table is under way.
    pub watched: bool,
}

impl Relation {
    /// The cells of a tuple without those of generated columns.
    pub(super) fn kept<C>(&self, cells: impl Iterator<Item = C>) -> impl Iterator<Item = C> {
        cells.enumerate().filter(|(at, _)| !self.computed.contains(at)).map(|(_, cell)| cell)
    }
}

/// What the catalog says of an announced relation.
#[derive(Debug)]
pub(super) struct Resolved {
    /// `None` for a table that is not captured.
    pub relation: Option<Relation>,
    /// It is a partition of another table than the given catalog says.
    pub moved: bool,
}

/// Builds the relation, from the catalog where it still says the same as the stream, else from the stream.
pub(super) async fn resolve(
    announced: &Announced,
    catalog: &Catalog,
    captured: impl Fn(&TableName) -> bool,
    client: &Client,
) -> Result<Resolved, PostgresError> {
    let failed = |source| PostgresError::query("read the catalog", source);
    let row = client
        .query_one(
            "SELECT coalesce(pg_catalog.pg_partition_root($1::oid::regclass)::oid, $1::oid)",
            &[&announced.oid],
        )
        .await
        .map_err(failed)?;
    let root_now: u32 = row.try_get(0).map_err(failed)?;
    let root = catalog.roots.get(&announced.oid).and_then(|name| catalog.tables.get(name));
    let leaf_of = root.filter(|table| table.oid != announced.oid).map(|table| table.def.name.clone());
    // Labels are looked for in rows as they come.
    let mut enums = enum_columns(announced, client).await?;
    let mut announced = announced.clone();
    let computed = remove_generated(&mut announced, root.map(|table| &table.def))?;
    let announced = &announced;
    let def = match root {
        Some(table) if says_the_same(table, announced) => table.def.clone(),
        Some(table) => from_stream(announced, Some(&table.def), client).await?,
        None if captured(&announced.name) => from_stream(announced, None, client).await?,
        None => return Ok(Resolved { relation: None, moved: catalog.has_oid(root_now) }),
    };
    let mut columns = Vec::with_capacity(announced.columns.len());
    for column in &announced.columns {
        let index = def.columns.iter().position(|c| c.name == column.name);
        columns
            .push(index.ok_or(PostgresError::Stream { what: "a relation's column is not in its table" })?
                as u16);
    }
    let flagged = |(at, column): (usize, &AnnouncedColumn)| column.key.then_some(at);
    let identity_at: Vec<usize> = announced.columns.iter().enumerate().filter_map(flagged).collect();
    let identity = identity_at.iter().map(|&at| columns[at]).collect();
    let key_at: Vec<usize> =
        def.key.iter().filter_map(|key| columns.iter().position(|column| column == key)).collect();
    know_only(&mut enums, &def.types);
    let moved = root.is_some_and(|table| table.oid != root_now);
    let relation = Relation {
        table: Arc::new(TableRef::new(&def)),
        def,
        computed,
        columns,
        identity,
        identity_at,
        key_at,
        leaf_of,
        enums,
        watched: false,
    };
    Ok(Resolved { relation: Some(relation), moved })
}

/// Takes out the generated columns, and says where they stood.
fn remove_generated(announced: &mut Announced, now: Option<&TableDef>) -> Result<Vec<usize>, PostgresError> {
    let generated = |column: &AnnouncedColumn| {
        let now = now?;
        let at = now.columns.iter().position(|known| known.name == column.name)?;
        now.columns[at].generated.is_some().then_some(at as u16)
    };
    let mut computed = Vec::new();
    for (at, column) in announced.columns.iter().enumerate() {
        let Some(index) = generated(column) else { continue };
        if now.is_some_and(|now| now.key.contains(&index)) {
            return Err(PostgresError::Stream { what: "a generated column is part of a table's key" });
        }
        computed.push(at);
    }
    announced.columns.retain(|column| generated(column).is_none());
    Ok(computed)
}

/// Whether the catalog's present shape has just the columns that the stream announces. A leaf may have another order.
fn says_the_same(table: &CatalogTable, announced: &Announced) -> bool {
    let sent: Vec<usize> =
        (0..table.def.columns.len()).filter(|&i| table.def.columns[i].generated.is_none()).collect();
    sent.len() == announced.columns.len()
        && announced.columns.iter().all(|column| {
            sent.iter().any(|&i| {
                table.def.columns[i].name == column.name
                    && table.types.get(i) == Some(&(column.type_oid, column.type_modifier))
            })
        })
}

/// The shape at the stream's position, which lies before an ALTER that the catalog already shows.
async fn from_stream(
    announced: &Announced,
    now: Option<&TableDef>,
    client: &Client,
) -> Result<TableDef, PostgresError> {
    let oids: Vec<u32> = announced.columns.iter().map(|column| column.type_oid).collect();
    let modifiers: Vec<i32> = announced.columns.iter().map(|column| column.type_modifier).collect();
    let rows = client
        .query(
            // The server knows `unnest` of several arrays only without its schema.
            "SELECT pg_catalog.format_type(t, m)
             FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int4[])) WITH ORDINALITY AS x(t, m, o)
             ORDER BY o",
            &[&oids, &modifiers],
        )
        .await
        .map_err(|source| PostgresError::query("read the catalog", source))?;
    let mut columns = Vec::with_capacity(rows.len());
    for (column, row) in announced.columns.iter().zip(&rows) {
        let known = now.and_then(|def| def.columns.iter().find(|c| c.name == column.name));
        columns.push(Column {
            name: column.name.clone(),
            type_name: row.try_get(0).map_err(|source| PostgresError::query("read the catalog", source))?,
            not_null: known.is_some_and(|c| c.not_null),
            generated: None,
            collation: None,
        });
    }
    if let Some(now) = now {
        columns.extend(now.columns.iter().filter(|c| c.generated.is_some()).cloned());
    }
    let position =
        |name: &str| announced.columns.iter().position(|c| c.name == name && c.key).map(|i| i as u16);
    let known_key: Option<Vec<u16>> =
        now.and_then(|def| def.key.iter().map(|&k| position(&def.columns[usize::from(k)].name)).collect());
    let key = match known_key {
        Some(key) => key,
        None => {
            (0..announced.columns.len() as u16).filter(|&i| announced.columns[usize::from(i)].key).collect()
        }
    };
    let name = now.map_or_else(|| announced.name.clone(), |def| def.name.clone());
    let types = now.map(|def| def.types.clone()).unwrap_or_default();
    Ok(TableDef { dialect: Dialect::Postgres, name, columns, key, types, options: vec![] })
}
