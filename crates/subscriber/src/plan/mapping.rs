//! Which table and which columns of the target a source table goes to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use rowbridge_schema::config::{ColumnMap, DeletePolicy, MapConfig};
use rowbridge_schema::{Class, Classified, Dialect, TableDef, TableName};

/// The `[[map]]` entries, ready for look-ups, and what they have been used for.
///
/// One value serves all lanes of a target: it remembers which source table writes to which target table, so that a
/// second one is refused whenever it turns up.
#[derive(Debug)]
pub struct Mapping {
    dialect: Dialect,
    by_source: HashMap<String, Entry>,
    claims: Mutex<HashMap<TableName, TableName>>,
}

#[derive(Debug)]
struct Entry {
    to: TableName,
    columns: BTreeMap<String, ColumnMap>,
    delete: DeletePolicy,
}

/// Where one shape of a source table goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedTable {
    /// The table at the target. No schema means the default schema of a PostgreSQL connection.
    pub target: TableName,
    /// For each column of the definition its name at the target; `None` if it is dropped by the map or generated.
    pub columns: Vec<Option<String>>,
    /// Indexes into the definition's columns of the identifying key; all of them have a target column. Empty for a table
    /// without key.
    pub key: Vec<u16>,
    /// What a delete does.
    pub delete: DeletePolicy,
    /// Columns that the map names and this shape does not have: worth a warning, since a typo looks just like this.
    pub unmatched: Vec<String>,
}

impl MappedTable {
    /// The target's name of source column `index`, if it is written at all.
    #[must_use]
    pub fn column(&self, index: u16) -> Option<&str> {
        self.columns.get(usize::from(index)).and_then(|name| name.as_deref())
    }
}

/// Why a table cannot be mapped. All permanent: the configuration has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Two `[[map]]` entries for one source table.
    #[error("two [[map]] entries have from = {from:?}")]
    DuplicateSource {
        /// The source table.
        from: String,
    },
    /// A name that cannot be a table.
    #[error("[[map]] from = {from:?}: {to:?} is not a table name")]
    TargetName {
        /// The source table.
        from: String,
        /// The text found.
        to: String,
    },
    /// Two source tables would write to one target table.
    #[error("{first} and {second} both go to {target} at the target")]
    TableCollision {
        /// The target table.
        target: TableName,
        /// The source table that had it first.
        first: TableName,
        /// The source table that came second.
        second: TableName,
    },
    /// Two columns would be written to one column.
    #[error("{table}: columns {first:?} and {second:?} both go to column {column:?} of the target")]
    ColumnCollision {
        /// The source table.
        table: TableName,
        /// The target column.
        column: String,
        /// First source column.
        first: String,
        /// Second source column.
        second: String,
    },
    /// A column of the key is left out, so that rows could not be found again.
    #[error("{table}: column {column:?} belongs to the key and cannot be left out")]
    KeyDropped {
        /// The source table.
        table: TableName,
        /// The key column.
        column: String,
    },
    /// Every column is left out.
    #[error("{table}: no column is left to write")]
    NoColumns {
        /// The source table.
        table: TableName,
    },
    /// The column for the time of a delete is also written by the source.
    #[error("{table}: the soft-delete column {column:?} is also written by the source")]
    SoftColumnTaken {
        /// The source table.
        table: TableName,
        /// The column.
        column: String,
    },
    /// Soft or ignored deletes need a key: identical rows cannot be told apart.
    #[error("{table}: delete = \"soft:..\" and delete = \"ignore\" need a table with a key")]
    DeleteNeedsKey {
        /// The source table.
        table: TableName,
    },
}

impl Classified for MapError {
    fn class(&self) -> Class {
        match self {
            Self::DuplicateSource { .. }
            | Self::TargetName { .. }
            | Self::TableCollision { .. }
            | Self::ColumnCollision { .. }
            | Self::KeyDropped { .. }
            | Self::NoColumns { .. }
            | Self::SoftColumnTaken { .. }
            | Self::DeleteNeedsKey { .. } => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::DuplicateSource { from } => format!("Keep one [[map]] entry with from = {from:?}."),
            Self::TargetName { .. } => "Write `schema.table` or `table` in `to`.".to_owned(),
            Self::TableCollision { second, .. } => {
                format!("Add a [[map]] with from = \"{second}\" and another table in `to`.")
            }
            Self::ColumnCollision { table, second, .. } => {
                format!("In the [[map]] of {table}, give column {second:?} another name or leave it out.")
            }
            Self::KeyDropped { table, column } => {
                format!("In the [[map]] of {table}, remove `{column} = false`.")
            }
            Self::NoColumns { table } => format!("In the [[map]] of {table}, keep at least one column."),
            Self::SoftColumnTaken { table, column } => {
                format!("In the [[map]] of {table}, rename column {column:?} or choose another soft column.")
            }
            Self::DeleteNeedsKey { table } => {
                format!("Give {table} a primary key, or use delete = \"hard\".")
            }
        })
    }
}

impl Mapping {
    /// Compiles the entries for a target.
    ///
    /// # Errors
    /// Entries that contradict each other, all of them.
    pub fn new(maps: &[MapConfig], dialect: Dialect) -> Result<Self, Vec<MapError>> {
        let mut errors = Vec::new();
        let mut by_source = HashMap::new();
        let mut targets: HashMap<TableName, String> = HashMap::new();
        for map in maps {
            let Some(to) = target_name(&map.to, dialect) else {
                errors.push(MapError::TargetName { from: map.from.clone(), to: map.to.clone() });
                continue;
            };
            if let Some(first) = targets.insert(to.clone(), map.from.clone())
                && first != map.from
            {
                errors.push(MapError::TableCollision {
                    target: to.clone(),
                    first: TableName::bare(first),
                    second: TableName::bare(&map.from),
                });
            }
            let columns = map.columns.iter().cloned().collect();
            let entry = Entry { to, columns, delete: map.delete.clone() };
            if by_source.insert(map.from.clone(), entry).is_some() {
                errors.push(MapError::DuplicateSource { from: map.from.clone() });
            }
        }
        if errors.is_empty() {
            Ok(Self { dialect, by_source, claims: Mutex::default() })
        } else {
            Err(errors)
        }
    }

    /// Where a table goes. Remembers the target table as taken by this source table.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn table(&self, def: &TableDef) -> Result<MappedTable, MapError> {
        let entry = self.by_source.get(&def.name.to_string());
        let target = match (entry, self.dialect) {
            (Some(entry), _) => entry.to.clone(),
            (None, Dialect::Postgres) => def.name.clone(),
            (None, Dialect::Sqlite) => TableName::bare(&def.name.name),
        };
        let delete = entry.map_or(DeletePolicy::Hard, |entry| entry.delete.clone());
        let mut taken: HashMap<String, &str> = HashMap::new();
        let mut columns = Vec::with_capacity(def.columns.len());
        for (index, column) in def.columns.iter().enumerate() {
            let map = entry.and_then(|entry| entry.columns.get(&column.name));
            let in_key = def.key.iter().any(|&k| usize::from(k) == index);
            let name = match map {
                _ if column.generated.is_some() && !in_key => None,
                Some(ColumnMap::Drop) if in_key => {
                    let (table, column) = (def.name.clone(), column.name.clone());
                    return Err(MapError::KeyDropped { table, column });
                }
                Some(ColumnMap::Drop) => None,
                Some(ColumnMap::Rename(name)) => Some(name.clone()),
                None => Some(column.name.clone()),
            };
            if let Some(name) = &name
                && let Some(first) = taken.insert(self.fold_case(name), &column.name)
            {
                return Err(MapError::ColumnCollision {
                    table: def.name.clone(),
                    column: name.clone(),
                    first: first.to_owned(),
                    second: column.name.clone(),
                });
            }
            columns.push(name);
        }
        if taken.is_empty() {
            return Err(MapError::NoColumns { table: def.name.clone() });
        }
        match &delete {
            DeletePolicy::Hard => {}
            DeletePolicy::Soft(_) | DeletePolicy::Ignore if def.key.is_empty() => {
                return Err(MapError::DeleteNeedsKey { table: def.name.clone() });
            }
            DeletePolicy::Soft(column) if taken.contains_key(&self.fold_case(column)) => {
                return Err(MapError::SoftColumnTaken { table: def.name.clone(), column: column.clone() });
            }
            DeletePolicy::Soft(_) | DeletePolicy::Ignore => {}
        }
        let unmatched = entry
            .iter()
            .flat_map(|entry| entry.columns.keys())
            .filter(|name| def.columns.iter().all(|column| column.name != **name))
            .cloned()
            .collect();
        self.claim(&def.name, &target)?;
        Ok(MappedTable { target, columns, key: def.key.clone(), delete, unmatched })
    }

    /// Marks `target` as written by `source`. For targets that resolve a name further (a default schema), which then
    /// claim the full name too.
    ///
    /// # Errors
    /// [`MapError::TableCollision`] if another source table has it.
    pub fn claim(&self, source: &TableName, target: &TableName) -> Result<(), MapError> {
        let key = match self.dialect {
            Dialect::Postgres => target.clone(),
            Dialect::Sqlite => TableName::bare(self.fold_case(&target.name)),
        };
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let first = claims.entry(key).or_insert_with(|| source.clone());
        if first == source {
            return Ok(());
        }
        Err(MapError::TableCollision { target: target.clone(), first: first.clone(), second: source.clone() })
    }

    /// SQLite compares names without regard to ASCII case.
    fn fold_case(&self, name: &str) -> String {
        match self.dialect {
            Dialect::Postgres => name.to_owned(),
            Dialect::Sqlite => name.to_ascii_lowercase(),
        }
    }
}

/// `schema.table` is cut at the first dot; SQLite has no schemas, there the whole text is the name.
fn target_name(text: &str, dialect: Dialect) -> Option<TableName> {
    let name = match (dialect, text.split_once('.')) {
        (Dialect::Postgres, Some((schema, name))) => TableName::new(schema, name),
        (Dialect::Postgres, None) | (Dialect::Sqlite, _) => TableName::bare(text),
    };
    let empty = name.name.is_empty() || name.schema.as_deref().is_some_and(str::is_empty);
    (!empty && !text.contains('\0')).then_some(name)
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::Column;

    use super::*;

    fn def(name: TableName, columns: &[&str], key: &[u16]) -> TableDef {
        let column = |name: &&str| Column::new(*name, "integer");
        TableDef {
            dialect: Dialect::Postgres,
            name,
            columns: columns.iter().map(column).collect(),
            key: key.to_vec(),
            types: vec![],
            options: vec![],
        }
    }

    fn map(to: &str, columns: &[(&str, ColumnMap)], delete: DeletePolicy) -> MapConfig {
        let columns = columns.iter().map(|(name, map)| ((*name).to_owned(), map.clone())).collect();
        MapConfig { from: "public.orders".into(), to: to.into(), columns, delete }
    }

    fn orders() -> TableDef {
        def(TableName::new("public", "orders"), &["id", "customer_id", "note"], &[0])
    }

    #[test]
    fn without_entries_tables_keep_their_names_and_sqlite_has_no_schema() {
        let mut with_generated = orders();
        with_generated.columns[2].generated = Some("id + 1".into());
        let same = Mapping::new(&[], Dialect::Postgres).unwrap().table(&with_generated).unwrap();
        assert_eq!(same.target, TableName::new("public", "orders"));
        assert_eq!(same.columns, [Some("id".to_owned()), Some("customer_id".to_owned()), None]);
        let sqlite = Mapping::new(&[], Dialect::Sqlite).unwrap();
        assert_eq!(sqlite.table(&orders()).unwrap().target, TableName::bare("orders"));
        let other = def(TableName::new("audit", "Orders"), &["id"], &[0]);
        assert!(matches!(sqlite.table(&other), Err(MapError::TableCollision { .. })));
        assert!(sqlite.table(&orders()).is_ok(), "the first table keeps its place");
    }

    #[test]
    fn entries_rename_and_drop() {
        let columns = [
            ("customer_id", ColumnMap::Rename("client_id".into())),
            ("note", ColumnMap::Drop),
            ("nope", ColumnMap::Drop),
        ];
        let entry = map("sales.orders", &columns, DeletePolicy::Soft("deleted_at".into()));
        let mapped = Mapping::new(&[entry], Dialect::Postgres).unwrap().table(&orders()).unwrap();
        assert_eq!(mapped.target, TableName::new("sales", "orders"));
        assert_eq!(mapped.columns, [Some("id".to_owned()), Some("client_id".to_owned()), None]);
        assert_eq!(mapped.delete, DeletePolicy::Soft("deleted_at".into()));
        assert_eq!(mapped.unmatched, ["nope"]);
    }

    #[test]
    fn contradictions_are_errors() {
        let fails = |columns: &[(&str, ColumnMap)], delete: DeletePolicy| {
            let entry = map("orders", columns, delete);
            Mapping::new(&[entry], Dialect::Postgres).unwrap().table(&orders()).unwrap_err()
        };
        let rename = |to: &str| ColumnMap::Rename(to.into());
        assert!(matches!(
            fails(&[("id", ColumnMap::Drop)], DeletePolicy::Hard),
            MapError::KeyDropped { column, .. } if column == "id"
        ));
        assert!(matches!(
            fails(&[("note", rename("id"))], DeletePolicy::Hard),
            MapError::ColumnCollision { column, .. } if column == "id"
        ));
        assert!(matches!(fails(&[], DeletePolicy::Soft("note".into())), MapError::SoftColumnTaken { .. }));
        let keyless = def(TableName::new("public", "orders"), &["a"], &[]);
        let ignoring = Mapping::new(&[map("orders", &[], DeletePolicy::Ignore)], Dialect::Postgres).unwrap();
        assert!(matches!(ignoring.table(&keyless), Err(MapError::DeleteNeedsKey { .. })));
        let twice = [map("a", &[], DeletePolicy::Hard), map("b", &[], DeletePolicy::Hard)];
        assert!(matches!(
            Mapping::new(&twice, Dialect::Postgres).unwrap_err()[..],
            [MapError::DuplicateSource { .. }]
        ));
        let mut other = map("a", &[], DeletePolicy::Hard);
        other.from = "public.other".into();
        let collide = [map("a", &[], DeletePolicy::Hard), other];
        assert!(matches!(
            Mapping::new(&collide, Dialect::Postgres).unwrap_err()[..],
            [MapError::TableCollision { .. }]
        ));
        let nameless = [map("sales.", &[], DeletePolicy::Hard)];
        assert!(matches!(
            Mapping::new(&nameless, Dialect::Postgres).unwrap_err()[..],
            [MapError::TargetName { .. }]
        ));
    }
}
