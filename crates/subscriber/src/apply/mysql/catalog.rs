//! What the target's catalog says of a table.

use std::collections::BTreeMap;

use mysql_async::{Error, Row};
use rowbridge_schema::TableName;
use rowbridge_schema::types::Made;

use super::collation;
use super::follow::ActingKey;
use super::session::Session;
use super::statement::{ident, qualified};
use super::types::{Family, TypeName};
use crate::plan::Equality;

/// Storage engines that undo what a transaction has done.
const TRANSACTIONAL: &[&str] = &["innodb", "rocksdb"];

/// A column of a target table.
#[derive(Debug, Clone)]
pub(super) struct TargetColumn {
    pub(super) name: String,
    pub(super) type_text: String,
    pub(super) charset: Option<String>,
    pub(super) collation: Option<String>,
    pub(super) not_null: bool,
    pub(super) generated: bool,
    /// `ON UPDATE CURRENT_TIMESTAMP`
    pub(super) automatic: bool,
}

/// A unique index.
#[derive(Debug, Clone, Default)]
pub(super) struct UniqueIndex {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    /// Characters (or bytes of a binary column) of the beginning that count, of each.
    pub(super) prefixes: Vec<Option<u32>>,
    /// All columns in full: no prefixes, no expressions.
    pub(super) whole: bool,
    /// It has an expression.
    pub(super) computed: bool,
}

/// A table of the target.
#[derive(Debug, Clone)]
pub(super) struct TargetTable {
    pub(super) name: TableName,
    pub(super) columns: Vec<TargetColumn>,
    pub(super) unique: Vec<UniqueIndex>,
    /// Has triggers, as far as the user may see them.
    pub(super) triggers: bool,
    /// Is linked to others by foreign keys that act.
    pub(super) linked: bool,
    /// Those that refer to it.
    pub(super) referring: Vec<ActingKey>,
}

/// What is read of a row of the catalog.
pub(super) fn word(row: &Row, index: usize) -> Option<String> {
    let bytes = row.get_opt::<Option<Vec<u8>>, _>(index).and_then(Result::ok).flatten();
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a table; `None` if there is none.
///
/// # Errors
/// The server's, or what kind of a table it is if it cannot be written safely.
pub(super) async fn load(
    session: &mut Session,
    name: &TableName,
) -> Result<Result<Option<TargetTable>, String>, Error> {
    let schema = name.schema.as_deref().unwrap_or_default();
    let of_table = Session::of_table(schema, &name.name);
    let found: Vec<Row> = session
        .query(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES WHERE {of_table}"
        ))
        .await?;
    let found = found.iter().find(|row| {
        [(0, schema), (1, name.name.as_str())]
            .iter()
            .all(|&(at, meant)| word(row, at).is_some_and(|found| session.same_name(&found, meant)))
    });
    let Some(found) = found else { return Ok(Ok(None)) };
    let kind = word(found, 2).unwrap_or_default();
    let engine = word(found, 3).unwrap_or_default();
    // The catalog's own spelling, where the server folds names.
    let name = TableName::new(word(found, 0).unwrap_or_default(), word(found, 1).unwrap_or_default());
    let (schema, of_table) = (
        name.schema.clone().unwrap_or_default(),
        Session::of_table(name.schema.as_deref().unwrap_or_default(), &name.name),
    );
    if !matches!(kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED") {
        return Ok(Err(format!("{name} of the target is no table but a {}", kind.to_lowercase())));
    }
    if !TRANSACTIONAL.contains(&engine.to_lowercase().as_str()) {
        return Ok(Err(format!(
            "table {name} of the target has the engine {engine}, which has no transactions; run: ALTER TABLE {} \
             ENGINE = InnoDB",
            qualified(&name)
        )));
    }
    let columns: Vec<Row> = session
        .query(&format!(
            "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, CHARACTER_SET_NAME, COLLATION_NAME, EXTRA \
             FROM information_schema.COLUMNS WHERE {of_table} ORDER BY ORDINAL_POSITION"
        ))
        .await?;
    let columns = columns
        .iter()
        .map(|row| {
            let extra = word(row, 5).unwrap_or_default().to_ascii_lowercase();
            TargetColumn {
                name: word(row, 0).unwrap_or_default(),
                type_text: word(row, 1).unwrap_or_default(),
                not_null: word(row, 2).as_deref() == Some("NO"),
                charset: word(row, 3),
                collation: word(row, 4),
                // `DEFAULT_GENERATED` is something else: a default that is an expression.
                generated: ["virtual generated", "stored generated", "persistent generated"]
                    .iter()
                    .any(|kind| extra.contains(kind)),
                automatic: extra.contains("on update"),
            }
        })
        .collect();
    let parts: Vec<Row> = session
        .query(&format!(
            "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
             WHERE {of_table} AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX"
        ))
        .await?;
    let mut unique: BTreeMap<String, UniqueIndex> = BTreeMap::new();
    for row in &parts {
        let name = word(row, 0).unwrap_or_default();
        let index = unique.entry(name.clone()).or_insert_with(|| UniqueIndex {
            name,
            whole: true,
            ..UniqueIndex::default()
        });
        let prefix = word(row, 2).and_then(|length| length.parse().ok());
        index.whole &= prefix.is_none();
        match word(row, 1) {
            Some(column) => {
                index.columns.push(column);
                index.prefixes.push(prefix);
            }
            None => (index.whole, index.computed) = (false, true),
        }
    }
    let triggers: Vec<Row> = session
        .query(&format!(
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = {} AND \
             EVENT_OBJECT_TABLE = {}",
            super::statement::text(&schema),
            super::statement::text(&name.name)
        ))
        .await?;
    Ok(Ok(Some(TargetTable {
        name,
        columns,
        unique: unique.into_values().collect(),
        triggers: !triggers.is_empty(),
        linked: false,
        referring: Vec::new(),
    })))
}

impl TargetColumn {
    /// How equal keys of this column can be told from their texts; `None` if they cannot.
    pub(super) fn equality(&self) -> Option<Equality> {
        let type_name = TypeName::parse(&self.type_text)?;
        Some(match type_name.family()? {
            Family::Decimal => Equality::Decimal,
            Family::Float | Family::Double => Equality::Float,
            // CHAR has no trailing blanks, and the check refuses those of a value.
            Family::Text => collation::equality(self.collation.as_deref()?)?,
            Family::Json | Family::Geometry => return None,
            _ => Equality::Text,
        })
    }
}

/// Names of columns are compared without regard to case.
pub(super) fn same(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

/// A column as a statement declares it, with the collation if it is one that Rowbridge makes columns with.
pub(super) fn declared(type_name: &str, collation: Option<&str>) -> String {
    match collation.and_then(|name| Some((name, name.split_once('_')?.0))) {
        Some((name, charset)) => format!("{type_name} CHARACTER SET {charset} COLLATE {name}"),
        None => type_name.to_owned(),
    }
}

impl TargetTable {
    /// The column of that name.
    pub(super) fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|column| same(&column.name, name))
    }

    /// The statement that gives a column another type.
    pub(super) fn modify(&self, name: &str, made: &Made) -> String {
        let not_null = self.column(name).is_some_and(|column| column.not_null);
        format!(
            "ALTER TABLE {} MODIFY COLUMN {} {}{}",
            qualified(&self.name),
            ident(name),
            declared(&made.type_name, made.collation),
            if not_null { " NOT NULL" } else { "" }
        )
    }
}
