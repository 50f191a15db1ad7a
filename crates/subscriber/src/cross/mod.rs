//! Crossing from one kind of database to another: a shape in the target's types, and a delivery in the target's texts.
//!
//! Everything behind it (folding, statements, checks) sees one dialect. A target does three things:
//!
//! 1. [`made`] gives the shape under which a missing table is made.
//! 2. Once the table is known, [`Conversions::plan`] fits each column onto the column that is there; [`Conversions::shape`]
//!    is the source's shape with those columns' types.
//! 3. After all tables are bound and before planning, [`convert`] turns the delivery's values, once.
//!
//! The same way takes a column with `as` in its `[[map]]`, between databases of one kind too.

use std::borrow::Cow;
use std::collections::HashMap;

use rowbridge_schema::types::{ColumnType, Conversion, Made, Server, Unholdable, made_as, too_long_together};
use rowbridge_schema::wire::{Block, BlockHead, Chunk, Delivery, FailingChange, KeyRange, Run};
use rowbridge_schema::{Cell, Dialect, Position, TableDef, TableId};

use crate::plan::MappedTable;

/// Most changes that are named when several cannot be applied.
const MAX_FAILING: usize = 10;

/// Why a column's values cannot be written to the target's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Index of the column.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
    /// The type that would do.
    pub wanted: Made,
}

/// Whether a table's values have to be converted at all.
#[must_use]
pub fn needed(def: &TableDef, mapped: &MappedTable, target: Dialect) -> bool {
    def.dialect != target || mapped.forms.iter().any(Option::is_some)
}

/// The type of one column when Rowbridge makes it; `None` where the source's own type stays.
fn made_column(def: &TableDef, mapped: &MappedTable, index: usize, server: Server) -> Option<Made> {
    let form = mapped.forms.get(index).copied().flatten();
    if def.dialect == server.dialect() && form.is_none() {
        return None;
    }
    let in_key = def.key.iter().any(|&k| usize::from(k) == index);
    let parts = if in_key { def.key.len() } else { 0 };
    Some(made_as(&ColumnType::of(def, &def.columns[index]), server, parts, form))
}

/// The shape under which a missing table is made. Expressions of generated columns are SQL of the source: such columns
/// are left out.
#[must_use]
pub fn made(def: &TableDef, mapped: &MappedTable, server: Server) -> TableDef {
    let crossing = def.dialect != server.dialect();
    let mut made = def.clone();
    let mut types: Vec<_> = (0..def.columns.len()).map(|at| made_column(def, mapped, at, server)).collect();
    if crossing && server.dialect() == Dialect::Mysql {
        let bounded = |(at, made): (usize, &Option<Made>)| {
            let in_key = def.key.iter().any(|&k| usize::from(k) == at);
            made.clone().map(|made| (!in_key, made))
        };
        let columns: Vec<_> = types.iter().enumerate().filter_map(bounded).collect();
        for at in too_long_together(&columns) {
            if let Some(made) = &mut types[at] {
                made.type_name = "longtext".to_owned();
            }
        }
    }
    made.dialect = server.dialect();
    if crossing {
        made.types.clear();
        made.options.clear();
    }
    for ((index, column), made) in made.columns.iter_mut().enumerate().zip(types) {
        if crossing {
            column.generated = None;
        }
        if let Some(Made { type_name, collation }) = made {
            column.type_name = type_name;
            column.collation = collation.map(str::to_owned);
        }
        if mapped.forms.get(index).copied().flatten() == Some(rowbridge_schema::types::Form::NullIfZero) {
            column.not_null = false;
        }
    }
    made
}

/// How the columns of one shape are converted.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversions {
    /// By column of the definition; `None` for one that is not written or needs no conversion.
    columns: Vec<Option<Conversion>>,
    /// By column of the definition: the target orders its values as the source does, as far as a conversion is concerned.
    ordered: Vec<bool>,
    /// Columns that are not written at all.
    dropped: Vec<bool>,
    key: Vec<u16>,
    key_names: Vec<String>,
    /// Of an old row only the key is looked at.
    old_keys: bool,
    table: String,
    names: Vec<String>,
}

impl Conversions {
    /// Fits each column of `def` onto the target's column, whose type `actual` tells by the column's name there. Columns
    /// that the target lacks are left to the caller, who refuses them.
    ///
    /// # Errors
    /// The first column whose values could not be kept exactly.
    pub fn plan(
        def: &TableDef,
        mapped: &MappedTable,
        server: Server,
        actual: impl Fn(&str) -> Option<ColumnType>,
    ) -> Result<Self, Misfit> {
        let mut columns = Vec::with_capacity(def.columns.len());
        let mut ordered = Vec::with_capacity(def.columns.len());
        for (index, name) in mapped.columns.iter().enumerate() {
            let wanted = made_column(def, mapped, index, server);
            let target = name.as_deref().and_then(&actual);
            let (Some(wanted), Some(target)) = (wanted, target) else {
                columns.push(None);
                ordered.push(true);
                continue;
            };
            let source = ColumnType::of(def, &def.columns[index]);
            let form = mapped.forms.get(index).copied().flatten();
            let conversion = Conversion::with(&source, &target, form).map_err(|mismatch| {
                let reason = match form {
                    Some(form) => format!("as = \"{form}\": {mismatch}"),
                    None => mismatch.to_string(),
                };
                Misfit { column: index, reason, wanted }
            })?;
            let conversion = conversion.at(server);
            // Also of texts that are written as they came.
            ordered.push(conversion.keeps_order());
            columns.push(Some(conversion).filter(|conversion| !conversion.is_identity()));
        }
        let names: Vec<String> = def.columns.iter().map(|column| column.name.clone()).collect();
        Ok(Self {
            columns,
            ordered,
            dropped: mapped.columns.iter().map(Option::is_none).collect(),
            key: def.key.clone(),
            key_names: def.key.iter().filter_map(|&k| names.get(usize::from(k)).cloned()).collect(),
            // PostgreSQL may let two rows share a key for a while, and then their other values tell them apart.
            old_keys: !def.key.is_empty() && def.dialect != Dialect::Postgres,
            table: def.name.to_string(),
            names,
        })
    }

    /// The source's shape with the types of the target's columns (of one that is missing: as it would be made), so that what is behind takes them for the same.
    #[must_use]
    pub fn shape(
        def: &TableDef,
        mapped: &MappedTable,
        server: Server,
        actual: impl Fn(&str) -> Option<(String, Option<String>)>,
    ) -> TableDef {
        let mut shape = made(def, mapped, server);
        for (column, source) in shape.columns.iter_mut().zip(&def.columns) {
            // Rows never carry a value of them.
            column.generated.clone_from(&source.generated);
            column.not_null = source.not_null;
        }
        for (index, (column, name)) in shape.columns.iter_mut().zip(&mapped.columns).enumerate() {
            if made_column(def, mapped, index, server).is_some()
                && let Some((type_name, collation)) = name.as_deref().and_then(&actual)
            {
                column.type_name = type_name;
                column.collation = collation;
            }
        }
        shape
    }

    fn column(&self, column: u16) -> Option<&Conversion> {
        self.columns.get(usize::from(column)).and_then(Option::as_ref)
    }

    /// Whether an old row's column is looked at: what a target need not hold must not be refused.
    fn takes_old(&self, column: u16) -> bool {
        !self.old_keys || self.key.contains(&column)
    }

    fn cells<'d>(
        &self,
        sent: impl Iterator<Item = (u16, &'d Cell<'d>)>,
    ) -> Result<Vec<Cell<'d>>, (u16, Unholdable)> {
        let mut converted = Vec::with_capacity(sent.size_hint().1.unwrap_or_default());
        for (column, cell) in sent {
            let cell = borrowed(cell);
            converted.push(match self.column(column) {
                None if self.dropped.get(usize::from(column)) == Some(&true) => Cell::Null,
                None => cell,
                Some(conversion) => conversion.convert(cell).map_err(|why| (column, why))?,
            });
        }
        Ok(converted)
    }

    fn failing(&self, position: Position, column: u16, why: Unholdable, key: Vec<String>) -> FailingChange {
        let reason =
            self.column(column).map_or_else(|| why.to_string(), |conversion| conversion.refusal(why));
        let column = self.names.get(usize::from(column)).cloned();
        FailingChange { position, table: self.table.clone(), column, key, reason }
    }

    /// The key of a row at the source, as `column=value`.
    fn key_of(&self, old: (&[u16], &[Cell<'_>]), new: (&[u16], &[Cell<'_>])) -> Vec<String> {
        let find = |k: u16| {
            [old, new].into_iter().find_map(|(columns, cells)| {
                columns.iter().position(|&column| column == k).and_then(|at| cells.get(at))
            })
        };
        let text = |(&k, name): (&u16, &String)| {
            find(k).map(|cell| format!("{name}={}", cell.as_str().unwrap_or("NULL")))
        };
        self.key.iter().zip(&self.key_names).filter_map(text).collect()
    }

    fn key_texts(&self, texts: &[String]) -> Result<Vec<String>, (u16, Unholdable)> {
        self.key
            .iter()
            .zip(texts)
            .map(|(&column, text)| match self.column(column) {
                None => Ok(text.clone()),
                Some(conversion) => {
                    let cell = conversion.convert(Cell::text(text)).map_err(|why| (column, why))?;
                    Ok(cell.as_str().unwrap_or_default().to_owned())
                }
            })
            .collect()
    }

    /// Whether a range of keys is the same range at the target.
    fn keeps_order(&self) -> bool {
        self.key.iter().all(|&k| self.ordered.get(usize::from(k)).copied().unwrap_or_default())
    }

    fn chunk(&self, chunk: &Chunk) -> Result<Chunk, (u16, Unholdable)> {
        let mut converted = chunk.clone();
        // A key that the target cannot hold is not there.
        converted.skipped = chunk.skipped.iter().filter_map(|key| self.key_texts(key).ok()).collect();
        if let Some(range) = &chunk.prune {
            converted.prune = if self.keeps_order() {
                let bound =
                    |key: &Option<Vec<String>>| key.as_ref().map(|key| self.key_texts(key)).transpose();
                Some(KeyRange { after: bound(&range.after)?, upto: bound(&range.upto)? })
            } else {
                // Where keys are ordered otherwise, they are collected until the last range is there.
                None
            };
        }
        Ok(converted)
    }
}

fn borrowed<'d>(cell: &'d Cell<'d>) -> Cell<'d> {
    match cell {
        Cell::Null => Cell::Null,
        Cell::Text(text) => Cell::Text(Cow::Borrowed(text)),
        Cell::Classed(class, text) => Cell::Classed(*class, Cow::Borrowed(text)),
    }
}

/// The delivery in the target's texts; `None` if no table of it needs a conversion. Blocks at or below `after` are left
/// as they are: the target has them.
///
/// # Errors
/// Changes with values that the target cannot hold.
pub fn convert<'d>(
    delivery: &'d Delivery<'d>,
    tables: &HashMap<TableId, &Conversions>,
    after: Option<Position>,
) -> Result<Option<Delivery<'d>>, Vec<FailingChange>> {
    if tables.is_empty() || !delivery.tables.keys().any(|id| tables.contains_key(id)) {
        return Ok(None);
    }
    let mut failing = Vec::new();
    let mut blocks = Vec::with_capacity(delivery.blocks.len());
    for block in &delivery.blocks {
        let done = after.is_some_and(|after| block.head.last <= after);
        let mut head = block.head.clone();
        if let Some(chunk) = &block.head.chunk
            && let Some(table) = tables.get(&chunk.table)
            && !done
        {
            match table.chunk(chunk) {
                Ok(chunk) => head = BlockHead { chunk: Some(chunk), ..head },
                Err((column, why)) => failing.push(table.failing(block.head.last, column, why, Vec::new())),
            }
        }
        let mut runs = Vec::with_capacity(block.runs.len());
        for run in &block.runs {
            let table = tables.get(&run.table).filter(|_| !done);
            runs.push(run_of(block, run, table.copied(), after, &mut failing));
        }
        blocks.push(Block { head, runs });
        if failing.len() >= MAX_FAILING {
            break;
        }
    }
    if !failing.is_empty() {
        failing.truncate(MAX_FAILING);
        return Err(failing);
    }
    Ok(Some(Delivery { head: delivery.head.clone(), tables: delivery.tables.clone(), blocks }))
}

fn run_of<'d>(
    block: &'d Block<'d>,
    run: &'d Run<'d>,
    table: Option<&Conversions>,
    after: Option<Position>,
    failing: &mut Vec<FailingChange>,
) -> Run<'d> {
    let mut cells = Vec::with_capacity(run.cells.len());
    let takes_old = |column: u16| table.is_none_or(|table| table.takes_old(column));
    for index in 0..run.changes() {
        let (all_old, new) = run.row(index);
        let old = || run.old.iter().copied().zip(all_old).filter(|(column, _)| takes_old(*column));
        let unconverted = || old().map(|(_, cell)| cell).chain(new).map(borrowed);
        let Some(table) = table else {
            cells.extend(unconverted());
            continue;
        };
        let new_cells = || table.cells(run.new.iter().copied().zip(new));
        let converted = table.cells(old()).and_then(|old| new_cells().map(|new| (old, new)));
        match converted {
            Ok((old, new)) => {
                cells.extend(old);
                cells.extend(new);
            }
            Err((column, why)) => {
                let position = block.position(run, index);
                if after.is_none_or(|after| position > after) && failing.len() < MAX_FAILING {
                    let key = table.key_of((&run.old, all_old), (&run.new, new));
                    failing.push(table.failing(position, column, why, key));
                }
                cells.extend(unconverted());
            }
        }
    }
    let old = run.old.iter().copied().filter(|column| takes_old(*column)).collect();
    Run { cells, old, new: run.new.clone(), ..*run }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::wire::{DeliveryHead, Op, Step};
    use rowbridge_schema::{Column, SourceId, TableName};

    use super::*;
    use crate::plan::Mapping;

    /// The old columns of an update and of a delete as a target sees them.
    fn old_columns(source: Dialect, server: Server, old_text: &'static str) -> Vec<Vec<u16>> {
        let integer = "integer";
        let def = TableDef {
            dialect: source,
            name: TableName::bare("t"),
            columns: vec![Column::new("a", "text"), Column::new("id", integer)],
            key: vec![1],
            types: vec![],
            options: vec![],
        };
        let target = server.dialect();
        let mapped = Mapping::new(&[], target).unwrap().table(&def).unwrap();
        let conversions = Conversions::plan(&def, &mapped, server, |name| {
            let type_name = if name == "id" { integer } else { "text" };
            Some(ColumnType::parse(target, type_name, None, &[]))
        });
        let conversions = conversions.unwrap_or_else(|misfit| panic!("{misfit:?}"));
        let run = |op, new: &[u16], cells: &[&'static str]| Run {
            table: def.id(),
            number: 1,
            op,
            old: vec![0, 1],
            new: new.to_vec(),
            maybe_missing: false,
            cells: cells.iter().map(|text| Cell::text(text)).collect(),
        };
        let position = Position::new(1, 1, 1);
        let head = BlockHead { first: position, last: position, at: 0, step: Step::Ordinal, chunk: None };
        let runs = vec![
            run(Op::Update, &[0, 1], &[old_text, "1", "new", "1"]),
            run(Op::Delete, &[], &[old_text, "1"]),
        ];
        let delivery = Delivery {
            head: DeliveryHead {
                rowbridge: 1,
                stream: "s".parse().unwrap(),
                endpoint: "e".parse().unwrap(),
                source: SourceId("x".into()),
                prev: None,
                to: None,
                open: false,
                split: false,
            },
            tables: HashMap::from([(def.id(), def.clone())]),
            blocks: vec![Block { head, runs }],
        };
        let tables = HashMap::from([(def.id(), &conversions)]);
        let converted = convert(&delivery, &tables, None).unwrap_or_else(|failing| panic!("{failing:?}"));
        let runs = converted.unwrap().blocks.remove(0).runs;
        assert!(runs.iter().all(|run| run.cells.len() == run.width()), "{runs:?}");
        assert_eq!(runs[0].row(0).1[0], Cell::text("new"));
        runs.into_iter().map(|run| run.old).collect()
    }

    #[test]
    fn of_an_old_row_only_the_key_must_be_held_by_the_target() {
        // No PostgreSQL holds the old text; two of its rows may share a key.
        assert_eq!(old_columns(Dialect::Sqlite, Server::Postgres, "a\0b"), [[1], [1]]);
        assert_eq!(old_columns(Dialect::Postgres, Server::Sqlite, "old"), [[0, 1], [0, 1]]);
    }
}
