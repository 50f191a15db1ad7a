//! What the target's catalog says of a table, and how a source's shape fits onto it.

use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::sql::{ident, literal, qualified};
use rowbridge_schema::{Dialect, TableDef, TableName};

use super::session::Session;
use super::types::{Check, compatible};
use crate::apply::renamed::renamed_from;
use crate::cross::Conversions;
use crate::plan::{Equality, MappedTable, Shape};

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
    base_name: String,
    builtin: bool,
    is_enum: bool,
    deterministic: bool,
    pub(super) generated: bool,
    pub(super) identity_always: bool,
}

/// A unique index over columns that is enforced at once.
#[derive(Debug, Clone)]
struct UniqueIndex {
    columns: Vec<String>,
    /// The equality operator of each.
    operators: Vec<String>,
    /// It has a predicate, so that it cannot arbitrate ON CONFLICT for every row.
    partial: bool,
}

/// A table of the target.
#[derive(Debug, Clone)]
pub(super) struct TargetTable {
    pub(super) name: TableName,
    pub(super) columns: Vec<TargetColumn>,
    indexes: Vec<UniqueIndex>,
    /// Has triggers or foreign keys in either direction.
    linked: bool,
    /// Has a deferrable unique constraint. The server enforces those by triggers of its own, which do not fire under
    /// `session_replication_role = replica`: rows of another origin could then repeat a value unnoticed.
    pub(super) deferrable: bool,
}

/// Where one column of the source goes.
#[derive(Debug, Clone)]
pub(super) struct BoundColumn {
    /// Raw name at the target.
    pub(super) name: String,
    /// Quoted.
    pub(super) ident: String,
    /// Quoted type without modifier.
    pub(super) cast: String,
    /// What has to hold of a value before it is written.
    pub(super) check: Check,
}

/// One shape of a source table, fitted onto its target.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    pub(super) def: TableDef,
    /// Quoted name of the target table.
    pub(super) table: String,
    /// By column of the definition.
    pub(super) columns: Vec<Option<BoundColumn>>,
    /// Equality operator for each key column.
    pub(super) key_operators: Vec<String>,
    equality: Vec<Equality>,
    /// The key's texts do not say which keys are equal, so that changes are applied one by one.
    inexact: bool,
    /// Has triggers or foreign keys.
    pub(super) linked: bool,
    /// Keys lie in the order that they have at the source, if that is the same on all servers.
    pub(super) orders_alike: bool,
    /// ON CONFLICT can use the key.
    pub(super) arbiter: bool,
    /// The source's columns of other unique indexes, with the equality operator of each, where all of them are written.
    pub(super) others: Vec<Vec<(u16, String)>>,
    /// Set to the time of the delete instead of deleting.
    pub(super) soft: Option<BoundColumn>,
    /// Deletes do nothing.
    pub(super) ignore_deletes: bool,
    /// A column is GENERATED ALWAYS AS IDENTITY.
    pub(super) overriding: bool,
    /// Writable columns of the target that the source does not have, quoted with their types.
    pub(super) extra: Vec<(String, String)>,
    sent: usize,
    /// The source may let rows share a key for a while.
    pub(super) deferrable: bool,
    /// How values get into the target's types; `None` between equal ones.
    pub(super) conversions: Option<Conversions>,
}

impl Binding {
    /// The target column of source column `index`; `None` if it is not written.
    pub(super) fn column(&self, index: u16) -> Option<&BoundColumn> {
        self.columns.get(usize::from(index)).and_then(Option::as_ref)
    }

    /// Key columns with their target columns and operators.
    pub(super) fn key(&self) -> impl Iterator<Item = (u16, &BoundColumn, &str)> {
        self.def
            .key
            .iter()
            .zip(&self.key_operators)
            .filter_map(|(&k, operator)| self.column(k).map(|column| (k, column, operator.as_str())))
    }

    /// What folding has to know.
    pub(super) fn shape(&self) -> Shape<'_> {
        Shape {
            key: &self.def.key,
            equality: &self.equality,
            complete: self.sent,
            deferrable: self.deferrable,
        }
    }

    /// Whether equal keys may have different texts, so that the key is written too.
    pub(super) fn rewrites_key(&self) -> bool {
        self.inexact || self.equality.iter().any(|equality| *equality != Equality::Text)
    }

    /// Whether changes must be applied one by one in source order.
    pub(super) fn ordered(&self, replica: bool) -> bool {
        self.def.key.is_empty() || self.inexact || (self.linked && !replica)
    }

    /// All columns that are written, by number.
    pub(super) fn written(&self) -> Vec<u16> {
        (0..self.columns.len() as u16).filter(|&i| self.column(i).is_some()).collect()
    }
}

/// Why a shape does not fit onto its target: a column, if one is to blame, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) column: Option<String>,
    pub(super) reason: String,
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
    fn equality(&self) -> Option<Equality> {
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

/// The target's column that a missing one of this type may have been called before.
fn old_name<'t>(mapped: &MappedTable, target: &'t TargetTable, type_name: &str) -> Option<&'t str> {
    let written = target.columns.iter().filter(|column| !column.generated);
    let written = written.map(|column| (column.name.as_str(), column.type_name == type_name));
    renamed_from(mapped, written, |one, other| one == other)
}

/// Fits a shape onto its target.
pub(super) fn bind(def: &TableDef, mapped: &MappedTable, target: &TargetTable) -> Result<Binding, Misfit> {
    let quoted = qualified(&target.name);
    let find = |name: &str| target.columns.iter().find(|column| column.name == name);
    let mut columns = Vec::with_capacity(def.columns.len());
    let mut overriding = false;
    for (column, name) in def.columns.iter().zip(&mapped.columns) {
        let Some(name) = name else {
            columns.push(None);
            continue;
        };
        let misfit = |reason| Misfit { column: Some(column.name.clone()), reason };
        let Some(found) = find(name) else {
            let renamed = match old_name(mapped, target, &column.type_name) {
                Some(old) => format!(
                    " (or, if the source renamed {old:?}, `ALTER TABLE {quoted} RENAME COLUMN {} TO {}`)",
                    ident(old),
                    ident(name)
                ),
                None => String::new(),
            };
            return Err(misfit(format!(
                "table {} of the target has no column {name:?}; run `ALTER TABLE {quoted} ADD COLUMN {} {}`{renamed}",
                target.name,
                ident(name),
                column.type_name
            )));
        };
        if found.generated {
            return Err(misfit(format!(
                "column {name:?} of the target is generated and cannot be written; run `ALTER TABLE {quoted} \
                 ALTER COLUMN {} DROP EXPRESSION`",
                ident(name)
            )));
        }
        let in_key = def.key.iter().any(|&k| usize::from(k) == columns.len());
        if found.identity_always && !in_key {
            return Err(misfit(format!(
                "column {name:?} of the target is GENERATED ALWAYS and cannot be updated; run `ALTER TABLE {quoted} \
                 ALTER COLUMN {} SET GENERATED BY DEFAULT`",
                ident(name)
            )));
        }
        overriding |= found.identity_always;
        let check = compatible(def, &column.type_name, &found.type_name, &found.base_type).map_err(|()| {
            misfit(format!(
                "type {} of the source cannot be kept exactly in type {} of the target; run `ALTER TABLE {quoted} \
                 ALTER COLUMN {} TYPE {}`",
                column.type_name,
                found.type_name,
                ident(name),
                column.type_name
            ))
        })?;
        columns.push(Some(BoundColumn {
            name: name.clone(),
            ident: ident(name),
            cast: found.cast.clone(),
            check,
        }));
    }
    let soft = match &mapped.delete {
        DeletePolicy::Soft(name) => {
            let found = find(name).ok_or_else(|| Misfit {
                column: None,
                reason: format!(
                    "table {} of the target lacks the soft-delete column {name:?}; run `ALTER TABLE {quoted} ADD COLUMN {} \
                     timestamptz`",
                    target.name,
                    ident(name)
                ),
            })?;
            let (cast, check) = (found.cast.clone(), Check::None);
            Some(BoundColumn { name: name.clone(), ident: ident(name), cast, check })
        }
        DeletePolicy::Hard | DeletePolicy::Ignore => None,
    };
    let key_names: Vec<&str> = def.key.iter().filter_map(|&k| mapped.column(k)).collect();
    if key_names.len() != def.key.len() {
        return Err(Misfit { column: None, reason: "a generated column cannot be the key".to_owned() });
    }
    // An index over the key and more is met only by rows that have the key.
    let covers =
        |index: &&UniqueIndex| key_names.iter().all(|key| index.columns.iter().any(|name| name == key));
    let whole = |index: &&UniqueIndex| !index.partial && index.columns.len() == key_names.len();
    let index = target.indexes.iter().find(|index| whole(index) && covers(index));
    let key_operators = key_names
        .iter()
        .map(|key| {
            index
                .and_then(|index| {
                    let at = index.columns.iter().position(|name| name == key)?;
                    index.operators.get(at).cloned()
                })
                .unwrap_or_else(|| "=".to_owned())
        })
        .collect();
    let at = |name: &String| {
        let at = mapped.columns.iter().position(|column| column.as_ref() == Some(name))?;
        columns.get(at)?.as_ref().map(|_: &BoundColumn| at as u16)
    };
    let others = target.indexes.iter().filter(|index| !covers(index));
    let others = others.filter_map(|index| {
        let columns = index.columns.iter().zip(&index.operators);
        columns.map(|(name, operator)| Some((at(name)?, operator.clone()))).collect()
    });
    let others = others.collect();
    let equality: Option<Vec<_>> =
        key_names.iter().map(|key| find(key).and_then(TargetColumn::equality)).collect();
    let written = |name: &String| columns.iter().flatten().any(|column: &BoundColumn| column.name == *name);
    let extra = target
        .columns
        .iter()
        .filter(|column| !column.generated && !written(&column.name))
        .map(|column| (ident(&column.name), column.cast.clone()))
        .collect();
    let orders_alike = def.key.iter().zip(&key_names).all(|(&k, name)| {
        let from = def.columns.get(usize::from(k)).map_or("", |column| column.type_name.as_str());
        let integer = |name: &str| matches!(name, "smallint" | "integer" | "bigint");
        find(name).is_some_and(|to| from == to.base_type || (integer(from) && integer(&to.base_type)))
    });
    Ok(Binding {
        def: def.clone(),
        table: quoted,
        key_operators,
        inexact: equality.is_none(),
        equality: equality.unwrap_or_default(),
        linked: target.linked,
        orders_alike,
        arbiter: index.is_some(),
        others,
        soft,
        ignore_deletes: mapped.delete == DeletePolicy::Ignore,
        overriding,
        extra,
        sent: def.sent_columns().len(),
        deferrable: def.dialect == Dialect::Postgres,
        conversions: None,
        columns,
    })
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
    use rowbridge_schema::config::MapConfig;
    use rowbridge_schema::{Column, Dialect};

    use super::super::statement;
    use super::*;
    use crate::plan::Mapping;

    fn column(name: &str, type_name: &str, base_name: &str) -> TargetColumn {
        TargetColumn {
            name: name.into(),
            type_name: type_name.into(),
            base_type: type_name.into(),
            cast: format!("pg_catalog.{base_name}"),
            base_name: base_name.into(),
            builtin: true,
            is_enum: false,
            deterministic: true,
            generated: false,
            identity_always: false,
        }
    }

    fn target(indexed: bool) -> TargetTable {
        let index = UniqueIndex {
            columns: vec!["id".to_owned()],
            operators: vec!["OPERATOR(pg_catalog.=)".to_owned()],
            partial: false,
        };
        TargetTable {
            name: TableName::new("public", "t"),
            columns: vec![
                column("id", "integer", "int4"),
                column("v", "character varying(3)", "varchar"),
                column("own", "text", "text"),
            ],
            indexes: if indexed { vec![index] } else { vec![] },
            linked: false,
            deferrable: false,
        }
    }

    fn def() -> TableDef {
        let column = |name: &str, type_name: &str| Column::new(name, type_name);
        TableDef {
            dialect: Dialect::Postgres,
            name: TableName::new("public", "t"),
            columns: vec![column("id", "integer"), column("v", "text")],
            key: vec![0],
            types: vec![],
            options: vec![],
        }
    }

    fn bound(target: &TargetTable, maps: &[MapConfig]) -> Result<Binding, Misfit> {
        let mapped = Mapping::new(maps, Dialect::Postgres).unwrap().table(&def()).unwrap();
        bind(&def(), &mapped, target)
    }

    #[test]
    fn casts_carry_no_modifier_and_the_key_is_not_rewritten() {
        let binding = bound(&target(true), &[]).unwrap();
        assert_eq!(
            statement::upsert(&binding, &[0, 1]),
            [
                "INSERT INTO \"public\".\"t\" AS t (\"id\", \"v\") SELECT x.p1::pg_catalog.int4, x.p2::pg_catalog.varchar \
              FROM unnest($1::pg_catalog.text[], $2::pg_catalog.text[]) AS x(p1, p2) ON CONFLICT (\"id\") DO UPDATE SET \
              \"v\" = excluded.\"v\""
            ]
        );
        assert!(statement::upsert(&binding, &[0])[0].ends_with("ON CONFLICT (\"id\") DO NOTHING"));
        assert_eq!(
            statement::delete(&binding),
            "DELETE FROM \"public\".\"t\" AS t USING unnest($1::pg_catalog.text[]) AS x(p1) WHERE t.\"id\" \
             OPERATOR(pg_catalog.=) x.p1::pg_catalog.int4"
        );
        assert_eq!(binding.column(1).map(|column| column.check), Some(Check::Length(3)));
        assert_eq!(binding.extra, [("\"own\"".to_owned(), "pg_catalog.text".to_owned())]);
    }

    #[test]
    fn without_an_index_rows_are_updated_or_inserted() {
        let binding = bound(&target(false), &[]).unwrap();
        assert!(!binding.arbiter);
        let statements = statement::upsert(&binding, &[0, 1]);
        assert!(statements[0].starts_with("UPDATE \"public\".\"t\" AS t SET \"v\" = x.p2"), "{statements:?}");
        assert!(
            statements[1]
                .contains("WHERE NOT EXISTS (SELECT FROM \"public\".\"t\" AS t WHERE t.\"id\" = x.p1")
        );
    }

    #[test]
    fn soft_deletes_keep_the_row_and_a_new_one_revives_it() {
        let map = MapConfig {
            from: "public.t".into(),
            to: "public.t".into(),
            columns: vec![],
            delete: DeletePolicy::Soft("own".into()),
        };
        let binding = bound(&target(true), &[map]).unwrap();
        assert!(statement::delete(&binding).starts_with("UPDATE \"public\".\"t\" AS t SET \"own\" = x.p2"));
        assert!(statement::upsert(&binding, &[0, 1])[0].ends_with(", \"own\" = NULL"));
    }

    #[test]
    fn what_does_not_fit_names_the_statement_to_run() {
        let reason = |change: fn(&mut TargetTable)| {
            let mut target = target(true);
            change(&mut target);
            bound(&target, &[]).unwrap_err().reason
        };
        let missing = reason(|t| drop(t.columns.remove(1)));
        assert!(
            missing.contains("run `ALTER TABLE \"public\".\"t\" ADD COLUMN \"v\" text` (or, if"),
            "{missing}"
        );
        assert!(
            missing.ends_with("`ALTER TABLE \"public\".\"t\" RENAME COLUMN \"own\" TO \"v\"`)"),
            "{missing}"
        );
        let other_type = reason(|t| {
            t.columns.remove(1);
            t.columns[1].type_name = "date".into();
        });
        assert!(other_type.ends_with("ADD COLUMN \"v\" text`"), "{other_type}");
        assert!(reason(|t| t.columns[1].generated = true).contains("DROP EXPRESSION"));
        assert!(reason(|t| t.columns[1].identity_always = true).contains("SET GENERATED BY DEFAULT"));
        assert!(
            reason(|t| t.columns[1] = column("v", "date", "date")).contains("ALTER COLUMN \"v\" TYPE text")
        );
    }

    #[test]
    fn enum_labels_are_added_in_their_place() {
        let labels = ["a".to_owned(), "b'c".to_owned(), "d".to_owned()];
        let name = TableName::new("public", "mood");
        assert!(add_label(&name, &labels, "b'c").ends_with("IF NOT EXISTS 'b''c' AFTER 'a'"));
        assert!(add_label(&name, &labels, "a").ends_with("'a' BEFORE 'b''c'"));
    }
}
