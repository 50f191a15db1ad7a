//! Tables as the source's catalog describes them now.

use std::collections::{HashMap, HashSet};

use rowbridge_schema::{Column, Dialect, TableDef, TableName, TablePatterns, TypeDefinition};
use tokio_postgres::Client;

use super::error::PostgresError;

/// A captured table: an ordinary one, or the root of a partition tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogTable {
    /// `pg_class.oid`
    pub oid: u32,
    /// Shape; the key is what identifies a row in the stream.
    pub def: TableDef,
    /// Type oid and modifier of each column, in the order of `def.columns`.
    pub types: Vec<(u32, i32)>,
    /// `attnum` of each column, in the order of `def.columns`: a number is never used again.
    pub numbers: Vec<i16>,
    /// Whether UPDATE and DELETE can be published: every leaf has a replica identity.
    pub has_identity: bool,
    /// Leaves of a partitioned table with whether each was attached with its rows (instead of created empty as a
    /// partition); empty for an ordinary table.
    pub leaves: Vec<Leaf>,
    /// Whether this is a partitioned root.
    pub partitioned: bool,
}

impl CatalogTable {
    /// The first column that was dropped since `before` and added anew under its name. The rows that were there have other
    /// values in it, and neither names nor types show that.
    #[must_use]
    pub fn replaced_column(&self, before: &Self) -> Option<&str> {
        let numbered = |table: &'_ Self, name: &str| {
            let at = table.def.columns.iter().position(|column| column.name == name)?;
            table.numbers.get(at).copied()
        };
        let sent = self.def.columns.iter().filter(|column| column.generated.is_none());
        let mut names = sent.map(|column| column.name.as_str());
        names.find(|name| numbered(before, name).is_some_and(|number| Some(number) != numbered(self, name)))
    }
}

/// A leaf partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// `pg_class.oid`
    pub oid: u32,
    /// Was a table before it became a partition.
    pub attached: bool,
}

/// Everything that matches the patterns, by oid of the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Captured tables by name.
    pub tables: HashMap<TableName, CatalogTable>,
    /// Root's name by the oid of each ordinary table, root or leaf.
    pub roots: HashMap<u32, TableName>,
}

impl Catalog {
    /// Whether one of the captured tables has this oid.
    #[must_use]
    pub fn has_oid(&self, oid: u32) -> bool {
        self.tables.values().any(|table| table.oid == oid)
    }
}

/// Ordinary and partitioned tables that are persistent and not part of a partition tree below its root. What belongs to an
/// extension is left to the extension.
const TABLES: &str = "
    SELECT c.oid, n.nspname, c.relname, c.relkind = 'p' AS partitioned, c.relreplident::text
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
      AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
      AND ($1::text IS NULL OR (n.nspname = $1 AND c.relname = $2))
    ORDER BY 2, 3";

/// Columns in table order. A generated column's expression comes with it.
const COLUMNS: &str = "
    SELECT a.attrelid, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
           CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
           a.atttypid, a.atttypmod, a.attnum, a.attgenerated = 'v'
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum";

/// Columns of the primary key and of the replica identity index, in index order. A deferrable key is no replica identity:
/// published for updates, the application's own UPDATE would fail.
const KEYS: &str = "
    SELECT i.indrelid, i.indisprimary, i.indisreplident, a.attname, i.indimmediate
    FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k(attnum, ord)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = ANY($1) AND (i.indisprimary OR i.indisreplident) AND k.ord <= i.indnkeyatts AND i.indisvalid
    ORDER BY i.indexrelid, k.ord";

/// Leaves below partitioned roots. A partition that was created as one shares the creating transaction with its entry in
/// pg_inherits; its ctid attribute is never updated, so it keeps that transaction's id.
const LEAVES: &str = "
    SELECT p.oid AS root, t.relid::oid AS leaf, c.relreplident::text,
           EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid
                   AND i.indimmediate),
           coalesce((SELECT h.xmin <> a.xmin FROM pg_catalog.pg_inherits h
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = h.inhrelid AND a.attnum = -1
                     WHERE h.inhrelid = c.oid), false)
    FROM pg_catalog.pg_class p
    CROSS JOIN LATERAL pg_catalog.pg_partition_tree(p.oid) AS t
    JOIN pg_catalog.pg_class c ON c.oid = t.relid
    WHERE p.oid = ANY($1) AND t.isleaf AND t.level > 0";

/// User-defined types below the columns' types: arrays to elements, domains to bases, composites to fields.
const TYPES: &str = "
    WITH RECURSIVE need(root, oid, depth) AS (
        SELECT DISTINCT a.attrelid, a.atttypid, 0 FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type bt ON bt.oid = a.atttypid
        WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
      UNION
        SELECT n.root, x.oid, n.depth + 1 FROM need n JOIN pg_catalog.pg_type t ON t.oid = n.oid
        CROSS JOIN LATERAL (
            SELECT t.typelem AS oid WHERE t.typcategory = 'A' AND t.typelem <> 0
            UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
            UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f
                      WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
            UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid
            UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid
        ) x
        WHERE x.oid >= 16384 AND n.depth < 32)
    SELECT n.root, max(n.depth), t.oid, ns.nspname, t.typname, t.typtype::text,
           (SELECT pg_catalog.array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
            FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
           pg_catalog.format_type(t.typbasetype, t.typtypmod),
           (SELECT pg_catalog.array_agg(f.attname::text ORDER BY f.attnum) FROM pg_catalog.pg_attribute f
            WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped),
           (SELECT pg_catalog.array_agg(pg_catalog.format_type(f.atttypid, f.atttypmod) ORDER BY f.attnum)
            FROM pg_catalog.pg_attribute f WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped),
           (SELECT pg_catalog.format_type(r.rngsubtype, NULL) FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid)
    FROM need n JOIN pg_catalog.pg_type t ON t.oid = n.oid JOIN pg_catalog.pg_namespace ns ON ns.oid = t.typnamespace
    WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
    GROUP BY n.root, t.oid, ns.nspname, t.typname, t.typtype, t.typbasetype, t.typtypmod, t.typrelid
    ORDER BY 1, 2 DESC, 3";

fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a tokio_postgres::Row,
    index: usize,
) -> Result<T, PostgresError> {
    row.try_get(index).map_err(|source| PostgresError::query("read the catalog", source))
}

/// Reads all tables that match, or only one of them.
///
/// The session's `search_path` is empty (see [`super::client`]), so that `format_type` qualifies user-defined types.
///
/// # Errors
/// The query's.
pub async fn load(
    client: &Client,
    patterns: &TablePatterns,
    only: Option<&TableName>,
) -> Result<Catalog, PostgresError> {
    let failed = |source| PostgresError::query("read the catalog", source);
    let mut tables: HashMap<u32, CatalogTable> = HashMap::new();
    let mut identities: HashMap<u32, String> = HashMap::new();
    let only = (only.and_then(|table| table.schema.as_deref()), only.map(|table| table.name.as_str()));
    for row in client.query(TABLES, &[&only.0, &only.1]).await.map_err(failed)? {
        let name = TableName::new(get::<String>(&row, 1)?, get::<String>(&row, 2)?);
        if !patterns.matches(&name) {
            continue;
        }
        let oid: u32 = get(&row, 0)?;
        identities.insert(oid, get(&row, 4)?);
        let def = TableDef {
            dialect: Dialect::Postgres,
            name,
            columns: vec![],
            key: vec![],
            types: vec![],
            options: vec![],
        };
        tables.insert(
            oid,
            CatalogTable {
                oid,
                def,
                types: vec![],
                numbers: vec![],
                has_identity: true,
                leaves: vec![],
                partitioned: get(&row, 3)?,
            },
        );
    }
    let oids: Vec<u32> = tables.keys().copied().collect();
    // PostgreSQL 18 publishes no virtual column, and refuses updates of a table whose identity needs one.
    let mut with_virtual: HashSet<u32> = HashSet::new();
    for row in client.query(COLUMNS, &[&oids]).await.map_err(failed)? {
        if get::<bool>(&row, 8)? {
            with_virtual.insert(get(&row, 0)?);
        }
        if let Some(table) = tables.get_mut(&get::<u32>(&row, 0)?) {
            table.def.columns.push(Column {
                name: get(&row, 1)?,
                type_name: get(&row, 2)?,
                not_null: get(&row, 3)?,
                generated: get(&row, 4)?,
                collation: None,
            });
            table.types.push((get(&row, 5)?, get(&row, 6)?));
            table.numbers.push(get(&row, 7)?);
        }
    }
    let mut primary: HashMap<u32, Vec<u16>> = HashMap::new();
    let mut immediate: HashSet<u32> = HashSet::new();
    let mut identity_index: HashMap<u32, Vec<u16>> = HashMap::new();
    for row in client.query(KEYS, &[&oids]).await.map_err(failed)? {
        let oid: u32 = get(&row, 0)?;
        let column: String = get(&row, 3)?;
        let Some(table) = tables.get(&oid) else { continue };
        let Some(index) = table.def.columns.iter().position(|c| c.name == column) else { continue };
        if get::<bool>(&row, 1)? {
            primary.entry(oid).or_default().push(index as u16);
            if get::<bool>(&row, 4)? {
                immediate.insert(oid);
            }
        }
        if get::<bool>(&row, 2)? {
            identity_index.entry(oid).or_default().push(index as u16);
        }
    }
    for table in tables.values_mut() {
        let oid = table.oid;
        let identity = identities.get(&oid).map_or("d", String::as_str);
        let primary = primary.get(&oid).cloned().unwrap_or_default();
        // With REPLICA IDENTITY USING INDEX the stream names old rows by that index, so it is the key.
        table.def.key = match (identity, identity_index.get(&oid)) {
            ("i", Some(index)) => index.clone(),
            _ => primary.clone(),
        };
        table.has_identity = match identity {
            "f" => !with_virtual.contains(&oid),
            "i" => identity_index.contains_key(&oid),
            "n" => false,
            _ => immediate.contains(&oid),
        };
    }
    for row in client.query(LEAVES, &[&oids]).await.map_err(failed)? {
        if let Some(table) = tables.get_mut(&get::<u32>(&row, 0)?) {
            let identity: String = get(&row, 2)?;
            let has_key: bool = get(&row, 3)?;
            // Changes are published from the leaves, so that their identities count and not the root's.
            table.has_identity |= table.leaves.is_empty();
            table.has_identity &= match identity.as_str() {
                "f" => !with_virtual.contains(&table.oid),
                "i" => !table.def.key.is_empty(),
                "d" => has_key && !table.def.key.is_empty(),
                _ => false,
            };
            table.leaves.push(Leaf { oid: get(&row, 1)?, attached: get(&row, 4)? });
        }
    }
    for row in client.query(TYPES, &[&oids]).await.map_err(failed)? {
        if let Some(table) = tables.get_mut(&get::<u32>(&row, 0)?)
            && let Some(definition) = type_definition(&row)?
        {
            table.def.types.push(definition);
        }
    }
    let mut catalog = Catalog::default();
    for (oid, table) in tables {
        catalog.roots.insert(oid, table.def.name.clone());
        for leaf in &table.leaves {
            catalog.roots.insert(leaf.oid, table.def.name.clone());
        }
        catalog.tables.insert(table.def.name.clone(), table);
    }
    Ok(catalog)
}

fn type_definition(row: &tokio_postgres::Row) -> Result<Option<TypeDefinition>, PostgresError> {
    let name = TableName::new(get::<String>(row, 3)?, get::<String>(row, 4)?);
    Ok(match get::<String>(row, 5)?.as_str() {
        "e" => Some(TypeDefinition::Enum {
            name,
            labels: get::<Option<Vec<String>>>(row, 6)?.unwrap_or_default(),
        }),
        "d" => Some(TypeDefinition::Domain { name, base: get(row, 7)? }),
        "c" => {
            let names: Vec<String> = get::<Option<_>>(row, 8)?.unwrap_or_default();
            let types: Vec<String> = get::<Option<_>>(row, 9)?.unwrap_or_default();
            Some(TypeDefinition::Composite { name, fields: names.into_iter().zip(types).collect() })
        }
        "r" => Some(TypeDefinition::Range { name, subtype: get(row, 10)? }),
        // Arrays and multiranges come with their element and range types.
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[(&str, i16)]) -> CatalogTable {
        let column = |(name, _): &(&str, i16)| Column::new(*name, "text");
        CatalogTable {
            oid: 1,
            def: TableDef {
                dialect: Dialect::Postgres,
                name: TableName::new("public", "t"),
                columns: columns.iter().map(column).collect(),
                key: vec![],
                types: vec![],
                options: vec![],
            },
            types: vec![],
            numbers: columns.iter().map(|(_, number)| *number).collect(),
            has_identity: true,
            leaves: vec![],
            partitioned: false,
        }
    }

    #[test]
    fn a_column_under_an_old_name_is_told_by_its_number() {
        let before = table(&[("id", 1), ("a", 2)]);
        assert_eq!(table(&[("id", 1), ("a", 3)]).replaced_column(&before), Some("a"));
        for same in [
            &[("id", 1), ("a", 2)][..],
            &[("id", 1), ("b", 2)],
            &[("id", 1), ("a", 2), ("b", 3)],
            &[("id", 1)],
        ] {
            assert_eq!(table(same).replaced_column(&before), None, "{same:?}");
        }
    }
}
