//! How a source's shape fits onto a table of the target.

use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::types::{ColumnType, Kind, Made, Server};
use rowbridge_schema::{Column, Dialect, TableDef};

use super::catalog::{TargetColumn, TargetTable, UniqueIndex, declared, same};
use super::collation::{self, Merging};
use super::follow::Followers;
use super::form::Form;
use super::statement::{ident, qualified};
use super::types::{Family, TypeName};
use crate::apply::renamed::renamed_from;
use crate::cross::Conversions;
use crate::plan::{Equality, Event, MappedTable, Shape};

/// Characters of a text without bound that an index takes of it: a `TINYTEXT` has room for them, and an index for several.
const INDEXED_BEGINNING: usize = 60;

/// Where one column of the source goes.
#[derive(Debug, Clone)]
pub(super) struct BoundColumn {
    /// Quoted.
    pub(super) ident: String,
    /// What the target's column keeps.
    pub(super) form: Form,
    pub(super) not_null: bool,
    /// Compared by a collation.
    pub(super) is_text: bool,
    /// MySQL's own JSON type.
    pub(super) is_json: bool,
}

/// One shape of a source table, fitted onto its target.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    pub(super) def: TableDef,
    /// Quoted name of the target table.
    pub(super) table: String,
    /// By column of the definition.
    pub(super) columns: Vec<Option<BoundColumn>>,
    /// `` FORCE INDEX (`PRIMARY`)`` with a blank in front: a scan would wait for rows that others have locked.
    pub(super) force_index: String,
    /// The key's columns as a table of their own would declare them.
    pub(super) key_types: Vec<String>,
    /// An index over such columns: unique, unless one of them is of a type that is indexed by its beginning only.
    pub(super) key_index: String,
    equality: Vec<Equality>,
    /// The key's texts do not say which keys are equal, so that changes are applied one by one.
    inexact: bool,
    /// The key's order here is the one of the source.
    pub(super) same_order: bool,
    /// Linked by foreign keys whose actions the source does not log: applied in source order, letting them act.
    pub(super) linked: bool,
    /// What follows from a change of a row; `None` if the server alone can tell.
    pub(super) followers: Option<Followers>,
    /// Has triggers.
    pub(super) triggers: bool,
    /// ON DUPLICATE KEY finds rows by the key and by nothing else.
    pub(super) arbiter: bool,
    /// Another unique index may be met.
    pub(super) unique_besides: bool,
    /// The source's columns of each of those indexes, where all of them are written, each with the characters of its
    /// beginning that count.
    pub(super) others: Vec<Vec<(u16, Option<u32>)>>,
    /// Set to the time of the delete instead of deleting, with as many digits of a fraction.
    pub(super) soft: Option<Soft>,
    /// Deletes do nothing.
    pub(super) ignore_deletes: bool,
    /// Columns that the server sets by itself in an UPDATE, quoted, with the source's column that is written to them.
    pub(super) automatic: Vec<(String, Option<u16>)>,
    /// Writable columns of the target that the source does not have, quoted, and what they keep.
    pub(super) extra: Vec<(String, Form)>,
    sent: usize,
    /// The source may let rows share a key for a while.
    pub(super) deferrable: bool,
    /// How values get into the target's types; `None` between equal ones.
    pub(super) conversions: Option<Conversions>,
}

/// The column of a soft delete.
#[derive(Debug, Clone)]
pub(super) struct Soft {
    pub(super) ident: String,
    pub(super) digits: u32,
}

impl Binding {
    /// The target column of source column `index`; `None` if it is not written.
    pub(super) fn column(&self, index: u16) -> Option<&BoundColumn> {
        self.columns.get(usize::from(index)).and_then(Option::as_ref)
    }

    /// Quoted names of the key's columns.
    pub(super) fn key_idents(&self) -> impl Iterator<Item = &str> {
        self.def.key.iter().filter_map(|&k| self.column(k).map(|column| column.ident.as_str()))
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

    /// Whether changes must be applied one by one in source order, whatever their values.
    pub(super) fn ordered(&self) -> bool {
        self.def.key.is_empty() || self.inexact || self.linked
    }

    /// Whether a change's keys and values allow it to be folded.
    pub(super) fn foldable(&self, event: &Event<'_>) -> bool {
        let known = |column: u16, equality: Equality| {
            let cells = [event.old_cell(column), event.new_cell(column)];
            cells.into_iter().flatten().all(|cell| cell.as_str().is_none_or(|text| equality.knows(text)))
        };
        self.def.key.iter().zip(&self.equality).all(|(&column, equality)| known(column, *equality))
            && !self.has_enum_error(event)
    }

    /// The error value of an enum takes a statement of its own.
    pub(super) fn has_enum_error(&self, event: &Event<'_>) -> bool {
        event.new_columns.iter().zip(event.new).any(|(&column, cell)| {
            cell.as_str() == Some("")
                && self.column(column).is_some_and(|bound| {
                    matches!(&bound.form, Form::Enum(labels) if labels.iter().all(|label| !label.is_empty()))
                })
        })
    }

    /// All columns that are written, by number.
    pub(super) fn written(&self) -> Vec<u16> {
        (0..self.columns.len() as u16).filter(|&i| self.column(i).is_some()).collect()
    }

    /// Whether a row that is deleted and inserted again is what it would be after an update.
    pub(super) fn replaceable(&self) -> bool {
        self.extra.is_empty() && !self.triggers && !self.linked && self.soft.is_none() && !self.ignore_deletes
    }
}

/// Why a shape does not fit onto its target: a column, if one is to blame, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) column: Option<String>,
    pub(super) reason: String,
}

/// When a source takes two texts of a key's column for the same; `None` where no two differ by what a collation skips
/// (case, blanks, accents): numbers, times, UUIDs.
fn source_equality(def: &TableDef, column: &Column) -> Option<Option<Equality>> {
    if def.dialect == Dialect::Mysql {
        let family = TypeName::parse(&column.type_name)?.family()?;
        return (family == Family::Text).then(|| collation::equality(column.collation.as_deref()?));
    }
    match ColumnType::of(def, column).kind {
        Kind::Text { padded: true, .. } => Some(Some(Equality::Padded)),
        Kind::Text { .. }
        | Kind::Enum(_)
        | Kind::Set(_)
        | Kind::Json { .. }
        | Kind::Array(_)
        | Kind::Range
        | Kind::Dynamic(_)
        | Kind::Other => Some(Some(Equality::Text)),
        _ => None,
    }
}

/// Sees to it that rows with different keys at the source stay different rows: refuses a key whose collation takes more
/// texts for equal than the source does.
pub(super) fn keep_apart(
    binding: &mut Binding,
    def: &TableDef,
    mapped: &MappedTable,
    target: &TargetTable,
    server: Server,
) -> Result<(), Misfit> {
    for &k in &def.key {
        let (Some(column), Some(name)) = (def.columns.get(usize::from(k)), mapped.column(k)) else {
            continue;
        };
        let Some(found) = target.column(name) else { continue };
        let is_text = TypeName::parse(&found.type_text).and_then(|name| name.family()) == Some(Family::Text);
        let same = def.dialect == Dialect::Mysql && column.collation == found.collation;
        let Some(source) = source_equality(def, column).filter(|_| is_text && !same) else { continue };
        let there = found.collation.as_deref().unwrap_or_default();
        match collation::merging(source, collation::equality(there)) {
            Merging::Never => {}
            Merging::Blanks => {
                if let Some(Some(BoundColumn { form: Form::Text { strips, .. }, .. })) =
                    binding.columns.get_mut(usize::from(k))
                {
                    *strips = true;
                }
            }
            Merging::More => {
                let made = Made { type_name: found.type_text.clone(), collation: server.exact_collation() };
                let reason = format!(
                    "rows with different keys at the source could be one row at the target, where collation {there} takes \
                     more texts for equal; run: {}",
                    target.modify(name, &made)
                );
                return Err(Misfit { column: Some(column.name.clone()), reason });
            }
        }
    }
    Ok(())
}

/// The target's column that a missing one of this type may have been called before.
fn old_name<'t>(mapped: &MappedTable, target: &'t TargetTable, type_name: &str) -> Option<&'t str> {
    let sql = |text: &str| TypeName::parse(text).map(|name| name.sql());
    let written = target.columns.iter().filter(|column| !column.generated);
    let fits = |column: &TargetColumn| sql(&column.type_text) == sql(type_name);
    renamed_from(mapped, written.map(|column| (column.name.as_str(), fits(column))), same)
}

/// Fits a shape onto its target.
pub(super) fn bind(def: &TableDef, mapped: &MappedTable, target: &TargetTable) -> Result<Binding, Misfit> {
    let quoted = qualified(&target.name);
    let find = |name: &str| target.column(name);
    let mut columns = Vec::with_capacity(def.columns.len());
    for (column, name) in def.columns.iter().zip(&mapped.columns) {
        let Some(name) = name else {
            columns.push(None);
            continue;
        };
        let misfit = |reason| Misfit { column: Some(column.name.clone()), reason };
        let Some(found) = find(name) else {
            let renamed = match old_name(mapped, target, &column.type_name) {
                Some(old) => format!(
                    " (or, if the source renamed {old:?}: ALTER TABLE {quoted} RENAME COLUMN {} TO {})",
                    ident(old),
                    ident(name)
                ),
                None => String::new(),
            };
            return Err(misfit(format!(
                "table {} of the target has no column {name:?}; run: ALTER TABLE {quoted} ADD COLUMN {} {}{renamed}",
                target.name,
                ident(name),
                declared(
                    &column.type_name,
                    column.collation.as_deref().filter(|name| collation::is_exact(name))
                )
            )));
        };
        if found.generated {
            return Err(misfit(format!(
                "column {name:?} of the target is generated and cannot be written; run: ALTER TABLE {quoted} MODIFY \
                 COLUMN {} {}",
                ident(name),
                column.type_name
            )));
        }
        let target_type = TypeName::parse(&found.type_text);
        let form = TypeName::parse(&column.type_name)
            .zip(target_type.as_ref())
            .and_then(|(source, target)| Form::between(&source, target, found.charset.as_deref()));
        let form = form.ok_or_else(|| {
            misfit(format!(
                "type {} of the source cannot be kept exactly in type {} of the target; run: ALTER TABLE {quoted} MODIFY \
                 COLUMN {} {}",
                column.type_name,
                found.type_text,
                ident(name),
                column.type_name
            ))
        })?;
        columns.push(Some(BoundColumn {
            ident: ident(&found.name),
            not_null: found.not_null,
            is_text: matches!(form, Form::Text { .. }),
            is_json: form == Form::Json,
            form,
        }));
    }
    let soft = match &mapped.delete {
        DeletePolicy::Soft(name) => {
            let found = find(name).ok_or_else(|| Misfit {
                column: None,
                reason: format!(
                    "table {} of the target lacks the soft-delete column {name:?}; run: ALTER TABLE {quoted} ADD COLUMN {} \
                     datetime(6) NULL",
                    target.name,
                    ident(name)
                ),
            })?;
            let form = TypeName::parse(&found.type_text).and_then(|name| Form::of(&name, None));
            let digits = match form {
                Some(Form::DateTime(digits) | Form::Timestamp(digits)) => digits,
                Some(Form::Text { .. }) => 6,
                _ => {
                    let reason = format!(
                        "the soft-delete column {name:?} of the target cannot hold a time; run: ALTER TABLE {quoted} MODIFY \
                         COLUMN {} datetime(6) NULL",
                        ident(name)
                    );
                    return Err(Misfit { column: None, reason });
                }
            };
            Some(Soft { ident: ident(&found.name), digits })
        }
        DeletePolicy::Hard | DeletePolicy::Ignore => None,
    };
    let key: Vec<&TargetColumn> = def.key.iter().filter_map(|&k| mapped.column(k)).filter_map(find).collect();
    if key.len() != def.key.len() {
        return Err(Misfit { column: None, reason: "a generated column cannot be the key".to_owned() });
    }
    let in_key = |name: &String| key.iter().any(|column| same(&column.name, name));
    let covers =
        |index: &UniqueIndex| key.iter().all(|k| index.columns.iter().any(|name| same(name, &k.name)));
    let is_key = |index: &&UniqueIndex| {
        index.whole && index.columns.len() == key.len() && index.columns.iter().all(in_key)
    };
    let index = target.unique.iter().find(is_key).filter(|_| !key.is_empty());
    // An index over the key and more is met only by rows that have the key.
    let unique_besides = target.unique.iter().any(|index| !(index.whole && covers(index)));
    let written = |name: &String| {
        let at = mapped
            .columns
            .iter()
            .position(|column| column.as_ref().is_some_and(|column| same(column, name)))?;
        columns.get(at)?.as_ref().map(|_| at as u16)
    };
    let met = |index: &&UniqueIndex| !(index.computed || index.whole && covers(index));
    let others = target.unique.iter().filter(met);
    let others = others.filter_map(|index| {
        let columns = index.columns.iter().zip(&index.prefixes);
        columns.map(|(name, prefix)| Some((written(name)?, *prefix))).collect()
    });
    let others = others.collect();
    let equality: Option<Vec<_>> = key.iter().map(|column| column.equality()).collect();
    let key_types = key
        .iter()
        .map(|column| {
            let collation =
                column.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
            let type_name = TypeName::parse(&column.type_text).map(|name| name.sql()).unwrap_or_default();
            // Without a default of its own, a TIMESTAMP may get one that the server sets.
            let default = if type_name.starts_with("timestamp") { " DEFAULT 0" } else { "" };
            format!("{} {type_name}{collation} NOT NULL{default}", ident(&column.name))
        })
        .collect();
    let unbounded = |column: &&TargetColumn| {
        let type_name = TypeName::parse(&column.type_text);
        type_name.is_some_and(|name| name.base.ends_with("text") || name.base.ends_with("blob"))
    };
    let indexed = key.iter().map(|column| match unbounded(column) {
        true => format!("{}({})", ident(&column.name), INDEXED_BEGINNING),
        false => ident(&column.name),
    });
    let indexed = indexed.collect::<Vec<_>>().join(", ");
    let key_index = match key.iter().any(unbounded) {
        true => format!("KEY ({indexed})"),
        false => format!("PRIMARY KEY ({indexed})"),
    };
    let same_order = def.key.iter().zip(&key).all(|(&k, found)| {
        let Some(source) = def.columns.get(usize::from(k)) else { return false };
        let families = [source.type_name.as_str(), found.type_text.as_str()]
            .map(|text| TypeName::parse(text).and_then(|name| name.family()));
        def.dialect == Dialect::Mysql
            && families[0] == families[1]
            && match families[0] {
                Some(Family::Text | Family::Enum | Family::Set) => {
                    source.collation == found.collation && (source.collation.is_some())
                }
                family => family.is_some(),
            }
    });
    let source_of = |name: &str| {
        let at = mapped.columns.iter().position(|n| n.as_deref().is_some_and(|n| same(n, name)));
        at.and_then(|at| u16::try_from(at).ok())
    };
    let automatic = target
        .columns
        .iter()
        .filter(|column| column.automatic)
        .map(|column| (ident(&column.name), source_of(&column.name)))
        .collect();
    let extra = target
        .columns
        .iter()
        .filter(|column| !column.generated && source_of(&column.name).is_none())
        .map(|column| {
            let form = TypeName::parse(&column.type_text).and_then(|name| Form::of(&name, None));
            (ident(&column.name), form.unwrap_or(Form::Plain))
        })
        .collect();
    Ok(Binding {
        def: def.clone(),
        table: quoted,
        force_index: index.map_or_else(String::new, |index| format!(" FORCE INDEX ({})", ident(&index.name))),
        inexact: equality.is_none(),
        equality: equality.unwrap_or_default(),
        same_order,
        key_types,
        key_index,
        // Only a source of this kind may keep its cascades to itself.
        linked: target.linked && def.dialect == Dialect::Mysql,
        followers: Followers::new(&target.referring, &def.key, written),
        triggers: target.triggers,
        arbiter: index.is_some() && !unique_besides,
        unique_besides,
        others,
        soft,
        ignore_deletes: mapped.delete == DeletePolicy::Ignore,
        automatic,
        extra,
        sent: def.sent_columns().len(),
        deferrable: def.dialect == Dialect::Postgres,
        conversions: None,
        columns,
    })
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::config::MapConfig;
    use rowbridge_schema::{Column, TableName};

    use super::super::statement::Sql;
    use super::*;
    use crate::plan::Mapping;

    fn column(name: &str, type_text: &str) -> TargetColumn {
        let text = type_text.starts_with("varchar");
        TargetColumn {
            name: name.into(),
            type_text: type_text.into(),
            charset: text.then(|| "utf8mb4".into()),
            collation: text.then(|| "utf8mb4_general_ci".into()),
            not_null: false,
            generated: false,
            automatic: false,
        }
    }

    fn unique(name: &str, columns: &[&str]) -> UniqueIndex {
        let columns: Vec<_> = columns.iter().map(|name| (*name).to_owned()).collect();
        let prefixes = vec![None; columns.len()];
        UniqueIndex { name: name.into(), columns, prefixes, whole: true, computed: false }
    }

    fn target() -> TargetTable {
        TargetTable {
            name: TableName::new("shop", "t"),
            columns: vec![column("ID", "int(11)"), column("v", "varchar(3)"), column("own", "datetime(3)")],
            unique: vec![unique("PRIMARY", &["ID"])],
            triggers: false,
            linked: false,
            referring: Vec::new(),
        }
    }

    fn def() -> TableDef {
        let column = |name: &str, type_name: &str| Column {
            name: name.into(),
            type_name: type_name.into(),
            not_null: false,
            generated: None,
            collation: None,
        };
        TableDef {
            dialect: Dialect::Mysql,
            name: TableName::new("shop", "t"),
            columns: vec![column("id", "int(11)"), column("v", "varchar(9)")],
            key: vec![0],
            types: vec![],
            options: vec![],
        }
    }

    fn bound(change: impl Fn(&mut TargetTable), maps: &[MapConfig]) -> Result<Binding, Misfit> {
        let mut target = target();
        change(&mut target);
        let mapped = Mapping::new(maps, Dialect::Mysql).unwrap().table(&def()).unwrap();
        bind(&def(), &mapped, &target)
    }

    fn upsert(binding: &Binding, row_alias: bool) -> String {
        let mut sql = Sql::default();
        sql.insert_head(binding, &[0, 1]);
        sql.on_duplicate(binding, &[0, 1], row_alias);
        String::from_utf8(sql.bytes).unwrap()
    }

    #[test]
    fn only_the_key_arbitrates() {
        let binding = bound(|_| (), &[]).unwrap();
        assert!(binding.arbiter && !binding.ordered() && !binding.rewrites_key());
        assert_eq!(
            upsert(&binding, false),
            "INSERT INTO `shop`.`t` (`ID`, `v`)  ON DUPLICATE KEY UPDATE `v` = VALUES(`v`)"
        );
        assert!(upsert(&binding, true).ends_with("AS n ON DUPLICATE KEY UPDATE `v` = n.`v`"));
        let besides = |columns: &'static [&'static str]| {
            bound(move |t| t.unique.push(unique("u", columns)), &[]).unwrap().unique_besides
        };
        assert!(besides(&["v"]));
        assert!(!besides(&["v", "id"]), "whoever meets it has the key");
        let others = |columns: &'static [&'static str]| {
            bound(move |t| t.unique.push(unique("u", columns)), &[]).unwrap().others
        };
        assert_eq!(others(&["V"]), [[(1, None)]]);
        assert!(others(&["v", "own"]).is_empty(), "nobody knows what the target's own column will be");
        let without = bound(|t| t.unique.clear(), &[]).unwrap();
        assert!(!without.arbiter && without.force_index.is_empty());
    }

    #[test]
    fn what_the_server_sets_by_itself_is_kept() {
        let binding = bound(|t| t.columns[2].automatic = true, &[]).unwrap();
        assert!(
            upsert(&binding, false).ends_with(", `own` = `shop`.`t`.`own`"),
            "{}",
            upsert(&binding, false)
        );
        let mut sql = Sql::default();
        sql.update_head(&binding, &[1], |_| None).unwrap();
        assert!(String::from_utf8(sql.bytes).unwrap().ends_with("SET `v` = NULL, `own` = `own`"));
    }

    #[test]
    fn soft_deletes_keep_the_row_and_a_new_one_revives_it() {
        let map = MapConfig {
            from: "shop.t".into(),
            to: "shop.t".into(),
            columns: vec![],
            delete: DeletePolicy::Soft("own".into()),
        };
        let binding = bound(|_| (), &[map]).unwrap();
        assert_eq!(binding.soft.as_ref().map(|soft| soft.digits), Some(3));
        assert!(upsert(&binding, false).ends_with(", `own` = NULL"));
        assert!(!binding.replaceable());
    }

    #[test]
    fn what_does_not_fit_names_the_statement_to_run() {
        let reason = |change: fn(&mut TargetTable)| bound(change, &[]).unwrap_err().reason;
        let missing = reason(|t| drop(t.columns.remove(1)));
        assert!(missing.ends_with("run: ALTER TABLE `shop`.`t` ADD COLUMN `v` varchar(9)"), "{missing}");
        let renamed = reason(|t| {
            t.columns[1] = column("v_then", "VARCHAR(9)");
            t.columns.remove(2);
        });
        assert!(
            renamed.ends_with(
                "ADD COLUMN `v` varchar(9) (or, if the source renamed \"v_then\": ALTER TABLE `shop`.`t` RENAME COLUMN \
                 `v_then` TO `v`)"
            ),
            "{renamed}"
        );
        assert!(reason(|t| t.columns[1].generated = true).contains("MODIFY COLUMN `v`"));
        assert!(reason(|t| t.columns[1] = column("v", "date")).contains("MODIFY COLUMN `v` varchar(9)"));
    }

    #[test]
    fn keys_of_unknown_rules_are_applied_in_order() {
        let text_key = |collation: &'static str| {
            bound(
                move |t| {
                    t.columns[0] = column("id", "varchar(9)");
                    t.columns[0].collation = Some(collation.into());
                },
                &[],
            )
            .unwrap()
        };
        let known = text_key("utf8mb4_general_ci");
        assert!(!known.ordered() && known.rewrites_key());
        assert!(text_key("utf8mb4_lithuanian_ci").ordered());
    }
}
