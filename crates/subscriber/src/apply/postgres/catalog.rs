//! What the target's catalog says of a table.

use rowbridge_schema::TableName;
use rowbridge_schema::sql::{literal, qualified};

use super::session::Session;
use crate::plan::Equality;

/// A column of a target table.
#[derive(Debug, Clone)]
pub(super) struct TargetColumn {
    pub(super) name: String,
    /// With modifiers, as the source writes its own types.
    pub(super) type_name: String,
    /// The same with domains resolved to what lies under them.
    pub(super) base_type: String,
    /// Quoted name of the base type, spelled so that it carries no modifier: an explicit cast to `varchar(3)` would cut,
    /// the assignment to the column refuses.
    pub(super) cast: String,
    pub(super) base_name: String,
    pub(super) builtin: bool,
    pub(super) is_enum: bool,
    pub(super) deterministic: bool,
    pub(super) generated: bool,
    pub(super) identity_always: bool,
}

/// A unique index over columns that is enforced at once.
#[derive(Debug, Clone)]
pub(super) struct UniqueIndex {
    pub(super) columns: Vec<String>,
    /// The equality operator of each.
    pub(super) operators: Vec<String>,
    /// It has a predicate, so that it cannot arbitrate ON CONFLICT for every row.
    pub(super) partial: bool,
}

/// A table of the target.
#[derive(Debug, Clone)]
pub(super) struct TargetTable {
    pub(super) name: TableName,
    pub(super) columns: Vec<TargetColumn>,
    pub(super) indexes: Vec<UniqueIndex>,
    /// Has triggers or foreign keys in either direction.
    pub(super) linked: bool,
    /// Has a deferrable unique constraint. The server enforces those by triggers of its own, which do not fire under
    /// `session_replication_role = replica`: rows of another origin could then repeat a value unnoticed.
    pub(super) deferrable: bool,
}

/// Reads a table; `None` if there is none.
pub(super) async fn load(
    session: &Session,
    name: &TableName,
) -> Result<Option<TargetTable>, tokio_postgres::Error> {
    let schema = name.schema.as_deref().unwrap_or(&session.schema);
    let client = &session.client;
    let table = client
        .query_opt(
            "SELECT c.oid, c.relkind::text, \
               EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND c.oid IN (f.conrelid, f.confrelid)) \
               OR EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'), \
               EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indimmediate) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p')",
            &[&schema, &name.name],
        )
        .await?;
    let Some(table) = table else { return Ok(None) };
    let oid: u32 = table.get(0);
    let of_table: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&oid];
    let columns = client.query(
        "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), format_type(b.oid, b.typmod), \
           quote_ident(n.nspname) || '.' || quote_ident(t.typname), t.typname::text, n.nspname = 'pg_catalog', \
           t.typtype = 'e', coalesce(k.collisdeterministic, true), a.attgenerated <> '', a.attidentity = 'a' \
         FROM pg_attribute a \
         CROSS JOIN LATERAL (WITH RECURSIVE d(oid, typmod, typtype, base, basemod) AS ( \
             SELECT y.oid, a.atttypmod, y.typtype, y.typbasetype, y.typtypmod FROM pg_type y WHERE y.oid = a.atttypid \
             UNION ALL \
             SELECT y.oid, d.basemod, y.typtype, y.typbasetype, y.typtypmod FROM d JOIN pg_type y ON y.oid = d.base \
             WHERE d.typtype = 'd') SELECT d.oid, d.typmod FROM d WHERE d.typtype <> 'd') b \
         JOIN pg_type t ON t.oid = b.oid JOIN pg_namespace n ON n.oid = t.typnamespace \
         LEFT JOIN pg_collation k ON k.oid = a.attcollation \
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        &of_table,
    );
    let indexes = client.query(
        "SELECT array_agg(a.attname::text ORDER BY p.n), array_agg(coalesce('OPERATOR(' || quote_ident(s.nspname) \
           || '.' || o.oprname || ')', '=') ORDER BY p.n), bool_or(i.indpred IS NOT NULL) \
         FROM pg_index i CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) p(n) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p.n] \
         JOIN pg_opclass c ON c.oid = i.indclass[p.n] \
         LEFT JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amopstrategy = 3 \
           AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype \
         LEFT JOIN pg_operator o ON o.oid = m.amopopr LEFT JOIN pg_namespace s ON s.oid = o.oprnamespace \
         WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid \
           AND i.indexprs IS NULL GROUP BY i.indexrelid",
        &of_table,
    );
    let (columns, indexes) = futures_util::future::try_join(columns, indexes).await?;
    let columns = columns
        .iter()
        .map(|row| TargetColumn {
            name: row.get(0),
            type_name: row.get(1),
            base_type: row.get(2),
            cast: through_input(row.get(3)),
            base_name: row.get(4),
            builtin: row.get(5),
            is_enum: row.get(6),
            deterministic: row.get(7),
            generated: row.get(8),
            identity_always: row.get(9),
        })
        .collect();
    let index = |row: &tokio_postgres::Row| UniqueIndex {
        columns: row.get(0),
        operators: row.get(1),
        partial: row.get(2),
    };
    Ok(Some(TargetTable {
        name: TableName::new(schema, &name.name),
        columns,
        indexes: indexes.iter().map(index).collect(),
        linked: table.get(2),
        deferrable: table.get(3),
    }))
}

/// A cast from text that goes through the type's input function. Only `regclass` has another one: a function that takes
/// neither `-` (no relation) nor the number of a relation that is gone, both of which the type's output writes. There is
/// none from `bpchar`, which has the same text, so that the server takes output and input functions.
fn through_input(cast: String) -> String {
    match cast.as_str() {
        "pg_catalog.regclass" => "pg_catalog.bpchar::pg_catalog.regclass".to_owned(),
        _ => cast,
    }
}

impl TargetColumn {
    /// How equal keys of this type can be told from their texts; `None` if they cannot.
    pub(super) fn equality(&self) -> Option<Equality> {
        if !self.deterministic {
            return None;
        }
        if self.is_enum {
            return Some(Equality::Text);
        }
        if !self.builtin {
            return None;
        }
        Some(match self.base_name.as_str() {
            "float4" | "float8" => Equality::Float,
            "numeric" => Equality::Decimal,
            "bpchar" => Equality::Padded,
            "int2" | "int4" | "int8" | "oid" | "bool" | "uuid" | "date" | "timestamp" | "timestamptz"
            | "time" | "timetz" | "bytea" | "text" | "varchar" | "name" | "char" | "inet" | "cidr"
            | "macaddr" | "macaddr8" | "pg_lsn" | "bit" | "varbit" | "xid8" | "money" => Equality::Text,
            _ => return None,
        })
    }
}

/// Labels of an enum that the target's type lacks, or `None` if there is no such type.
pub(super) async fn missing_labels(
    session: &Session,
    name: &TableName,
    labels: &[String],
) -> Result<Option<Vec<String>>, tokio_postgres::Error> {
    let schema = name.schema.as_deref().unwrap_or(&session.schema);
    let rows = session
        .client
        .query(
            "SELECT e.enumlabel::text FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace \
             LEFT JOIN pg_enum e ON e.enumtypid = t.oid WHERE n.nspname = $1::text AND t.typname = $2::text",
            &[&schema, &name.name],
        )
        .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let present: Vec<Option<&str>> = rows.iter().map(|row| row.get(0)).collect();
    Ok(Some(labels.iter().filter(|label| !present.contains(&Some(label.as_str()))).cloned().collect()))
}

/// The statement that adds an enum label.
pub(super) fn add_label(name: &TableName, labels: &[String], label: &str) -> String {
    let next = labels.iter().skip_while(|l| *l != label).nth(1);
    let previous = labels.iter().take_while(|l| *l != label).last();
    // In order: labels are added from the first, so that the one before is always there.
    let place = match (previous, next) {
        (Some(previous), _) => format!(" AFTER {}", literal(previous)),
        (None, Some(next)) => format!(" BEFORE {}", literal(next)),
        (None, None) => String::new(),
    };
    format!("ALTER TYPE {} ADD VALUE IF NOT EXISTS {}{place}", qualified(name), literal(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enum_labels_are_added_in_their_place() {
        let labels = ["a".to_owned(), "b'c".to_owned(), "d".to_owned()];
        let name = TableName::new("public", "mood");
        assert!(add_label(&name, &labels, "b'c").ends_with("IF NOT EXISTS 'b''c' AFTER 'a'"));
        assert!(add_label(&name, &labels, "a").ends_with("'a' BEFORE 'b''c'"));
    }
}
