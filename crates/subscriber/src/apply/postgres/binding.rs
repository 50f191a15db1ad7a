//! How a source's shape fits onto a table of the target.

use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::sql::{ident, qualified};
use rowbridge_schema::{Dialect, TableDef};

use super::catalog::{TargetColumn, TargetTable, UniqueIndex};
use super::types::{Check, compatible};
use crate::apply::renamed::renamed_from;
use crate::cross::Conversions;
use crate::plan::{Equality, MappedTable, Shape};

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

    /// Whether rows that should be new may come by COPY: where one is there, an index must say so.
    pub(super) fn takes_copy(&self) -> bool {
        self.arbiter && self.soft.is_none()
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

#[cfg(test)]
mod tests {
    use rowbridge_schema::TableName;
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
}
