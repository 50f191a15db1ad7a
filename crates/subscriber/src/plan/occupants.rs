//! Folding of changes that carry full old rows, where two rows may share a key for a while.
//!
//! A deferrable key is checked at the end of a statement or transaction: `UPDATE t SET id = id + 1` moves row 1 to 2 before
//! row 2 has left, and the stream says just that. Taken one by one, the move of row 2 would take row 1 along, and rows
//! would be lost. Full old rows tell which of the two leaves, so each key keeps a list of the rows that arrived.
//!
//! Only PostgreSQL has such keys ([`Shape::deferrable`]). Elsewhere a row that comes under a key that is taken has replaced
//! the one before: SQLite's REPLACE says no more than that.

use std::collections::HashMap;

use rowbridge_schema::wire::Op;
use rowbridge_schema::{Cell, Position};

use super::Event;
use super::fold::{Deleted, Folded, KeyText, Row, Shape, Upsert};

struct Place<'d> {
    key: Vec<&'d Cell<'d>>,
    /// The row that the target has, if any, has left.
    left: bool,
    at: i64,
    /// Rows that came, in order.
    rows: Vec<Row<'d>>,
    position: Position,
}

/// Whether every change says all of the rows it is about.
pub(super) fn possible(shape: Shape<'_>, event: &Event<'_>) -> bool {
    let old = matches!(event.op, Op::Insert | Op::Read) || event.old_columns.len() >= shape.complete;
    old && (event.op == Op::Delete || event.row().len() >= shape.complete)
}

/// Folds changes that are all [`possible`]; `None` if a key is missing or NULL.
pub(super) fn fold<'d>(shape: Shape<'_>, events: &[&Event<'d>]) -> Option<Folded<'d>> {
    let mut places: Vec<Place<'d>> = Vec::new();
    let mut index: HashMap<KeyText<'d>, usize> = HashMap::new();
    let mut place = |places: &mut Vec<Place<'d>>, key: Vec<&'d Cell<'d>>, position: Position| {
        let text = shape.key_text(&key)?;
        let slot = *index.entry(text).or_insert_with(|| {
            places.push(Place { key, left: false, at: 0, rows: Vec::new(), position });
            places.len() - 1
        });
        places[slot].position = position;
        Some(slot)
    };
    for event in events {
        let mut came_at = None;
        if matches!(event.op, Op::Update | Op::Delete) {
            let slot = place(&mut places, event.key_before(shape.key)?, event.position)?;
            let here = &mut places[slot];
            // The latest of several equal ones: which of them leaves makes no difference.
            if let Some(found) = here.rows.iter().rposition(|row| is(row, event)) {
                here.rows.remove(found);
                came_at = Some((slot, found));
            } else if here.left {
                here.rows.pop();
            } else {
                (here.left, here.at) = (true, event.at);
                came_at = Some((slot, 0));
            }
        }
        if event.op == Op::Delete {
            continue;
        }
        let slot = place(&mut places, event.key_after(shape.key)?, event.position)?;
        let rows = &mut places[slot].rows;
        let at =
            came_at.filter(|(before, _)| *before == slot).map_or(rows.len(), |(_, at)| at.min(rows.len()));
        rows.insert(at, event.row());
    }
    let mut folded = Folded::default();
    for Place { key, left, at, mut rows, position } in places {
        match rows.pop() {
            Some(row) => folded.upserts.push(Upsert { row, position, fresh: false }),
            None if left => folded.deletes.push(Deleted { key, at, position }),
            // What came has gone; the row that the target may have under this key was not touched.
            None => {}
        }
    }
    Some(folded)
}

fn is(row: &Row<'_>, event: &Event<'_>) -> bool {
    match row {
        Row::Sent { columns, cells } if *columns == event.old_columns => *cells == event.old,
        _ => event.old_columns.iter().zip(event.old).all(|(column, cell)| row.cell(*column) == Some(cell)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::{Equality, fold};
    use rowbridge_schema::{Dialect, TableDef, TableId, TableName};

    /// Key, value, and a value that is often left out of what is new because it did not change.
    type Record = [String; 3];

    /// A statement over several rows, whose key is checked at the end of its transaction.
    #[derive(Debug, Clone)]
    enum Statement {
        Insert(u8, u8),
        /// Adds to the keys of the rows in a mask (by place), from the left or from the right.
        Shift {
            mask: u8,
            by: i8,
            reversed: bool,
        },
        /// Two rows exchange their keys.
        Swap(u8, u8),
        Set {
            mask: u8,
            value: u8,
            toast: bool,
        },
        Delete(u8),
    }

    fn statements() -> impl Strategy<Value = Vec<Statement>> {
        let statement = prop_oneof![
            3 => (0..5u8, 0..3u8).prop_map(|(key, value)| Statement::Insert(key, value)),
            3 => (any::<u8>(), -2..3i8, any::<bool>())
                .prop_map(|(mask, by, reversed)| Statement::Shift { mask, by, reversed }),
            2 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Statement::Swap(a, b)),
            2 => (any::<u8>(), 0..3u8, any::<bool>())
                .prop_map(|(mask, value, toast)| Statement::Set { mask, value, toast }),
            2 => any::<u8>().prop_map(Statement::Delete),
        ];
        prop::collection::vec(statement, 0..10)
    }

    /// One row's change as a log tells it: the full old row and the new one.
    type Logged = (Option<Record>, Option<Record>);

    fn key(record: &Record) -> i32 {
        record[0].parse().unwrap()
    }

    fn with_key(record: &Record, key: i32) -> Record {
        [key.to_string(), record[1].clone(), record[2].clone()]
    }

    /// Rows as a source holds them while the constraint waits: in the order of their place, keys may repeat.
    fn run(rows: &mut Vec<Record>, statement: &Statement) -> Vec<Logged> {
        let count = rows.len();
        let chosen = |mask: u8| (0..count).filter(move |i| mask >> (i % 8) & 1 == 1);
        let mut logged = Vec::new();
        let mut change = |rows: &mut Vec<Record>, at: usize, new: Record| {
            let old = std::mem::replace(&mut rows[at], new.clone());
            logged.push((Some(old), Some(new)));
        };
        match statement {
            Statement::Insert(key, value) => {
                let record = [key.to_string(), format!("v{value}"), format!("t{value}")];
                rows.push(record.clone());
                logged.push((None, Some(record)));
            }
            Statement::Shift { mask, by, reversed } => {
                let mut places: Vec<usize> = chosen(*mask).collect();
                if *reversed {
                    places.reverse();
                }
                for at in places {
                    let new = with_key(&rows[at], key(&rows[at]) + i32::from(*by));
                    change(rows, at, new);
                }
            }
            Statement::Swap(a, b) if count > 0 => {
                let (a, b) = (usize::from(*a) % count, usize::from(*b) % count);
                let (key_a, key_b) = (key(&rows[a]), key(&rows[b]));
                let new = with_key(&rows[a], key_b);
                change(rows, a, new);
                let new = with_key(&rows[b], key_a);
                change(rows, b, new);
            }
            Statement::Set { mask, value, toast } => {
                for at in chosen(*mask).collect::<Vec<_>>() {
                    let mut new = rows[at].clone();
                    new[1] = format!("v{value}");
                    if *toast {
                        new[2] = format!("t{value}");
                    }
                    change(rows, at, new);
                }
            }
            Statement::Delete(at) if count > 0 => {
                logged.push((Some(rows.remove(usize::from(*at) % count)), None));
            }
            Statement::Swap(..) | Statement::Delete(_) => {}
        }
        logged
    }

    fn unique(rows: &[Record]) -> bool {
        let keys: std::collections::BTreeSet<&str> = rows.iter().map(|record| record[0].as_str()).collect();
        keys.len() == rows.len()
    }

    /// What a source can commit: statements that would leave a key twice are undone, from the last one on.
    fn transaction(start: &[Record], mut statements: Vec<Statement>) -> (Vec<Logged>, Vec<Record>) {
        loop {
            let mut rows = start.to_vec();
            let logged: Vec<Logged> =
                statements.iter().flat_map(|statement| run(&mut rows, statement)).collect();
            if unique(&rows) {
                return (logged, rows);
            }
            statements.pop();
        }
    }

    fn id() -> TableId {
        let name = TableName::new("public", "t");
        let dialect = Dialect::Postgres;
        TableDef { dialect, name, columns: vec![], key: vec![], types: vec![], options: vec![] }.id()
    }

    const ALL: &[u16] = &[0, 1, 2];
    /// The last column is as it was, and was not sent.
    const WITHOUT_LAST: &[u16] = &[0, 1];

    fn cells(record: &Record) -> Vec<Cell<'_>> {
        record.iter().map(|text| Cell::Text(text.as_str().into())).collect()
    }

    /// Applies the outcome as a target does, deletes first; false if two upserts have one key.
    fn apply(table: &mut BTreeMap<String, Record>, folded: &Folded<'_>) -> bool {
        let text = |cell: &Cell<'_>| cell.as_str().unwrap().to_owned();
        for deleted in &folded.deletes {
            table.remove(&text(deleted.key[0]));
        }
        let mut written = std::collections::BTreeSet::new();
        for Upsert { row, .. } in &folded.upserts {
            let record: Record = [0, 1, 2].map(|column| text(row.cell(column).unwrap()));
            if !written.insert(record[0].clone()) {
                return false;
            }
            table.insert(record[0].clone(), record);
        }
        folded.updates.is_empty()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]
        #[test]
        fn rows_that_share_a_key_for_a_while_come_out_as_at_the_source(
            start in prop::collection::btree_map(0..5u8, 0..3u8, 0..5),
            transactions in prop::collection::vec(statements(), 1..4),
            leave_out in any::<bool>(),
        ) {
            let mut rows: Vec<Record> = start
                .iter()
                .map(|(key, value)| [key.to_string(), format!("v{value}"), format!("t{value}")])
                .collect();
            let mut target: BTreeMap<String, Record> =
                rows.iter().map(|record| (record[0].clone(), record.clone())).collect();
            let mut logged = Vec::new();
            // Several transactions in one delivery: between two of them every key is there once.
            for statements in transactions {
                let (changes, after) = transaction(&rows, statements);
                logged.extend(changes);
                rows = after;
            }
            let sent: Vec<_> = logged
                .iter()
                .map(|(old, new)| {
                    let same = leave_out && matches!((old, new), (Some(old), Some(new)) if old[2] == new[2]);
                    let columns = if same { WITHOUT_LAST } else { ALL };
                    let mut new = new.as_ref().map(cells);
                    new.iter_mut().for_each(|cells| cells.truncate(columns.len()));
                    (old.as_ref().map(cells), new, columns)
                })
                .collect();
            let events: Vec<Event<'_>> = sent
                .iter()
                .enumerate()
                .map(|(i, (old, new, columns))| Event {
                    position: Position::new(1, 1, i as u64 + 1),
                    table: id(),
                    op: match (old, new) {
                        (None, _) => Op::Insert,
                        (Some(_), Some(_)) => Op::Update,
                        (Some(_), None) => Op::Delete,
                    },
                    old_columns: if old.is_some() { ALL } else { &[] },
                    old: old.as_deref().unwrap_or_default(),
                    new_columns: if new.is_some() { columns } else { &[] },
                    new: new.as_deref().unwrap_or_default(),
                    maybe_missing: false,
                    at: 0,
                })
                .collect();
            let shape = Shape { key: &[0], equality: &[Equality::Text], complete: ALL.len(), deferrable: true };
            let references: Vec<&Event<'_>> = events.iter().collect();
            prop_assert!(events.iter().all(|event| possible(shape, event)));
            // The public way too, which takes this one as soon as a row is updated.
            if events.iter().any(|event| event.op == Op::Update) {
                let mut other = target.clone();
                prop_assert!(apply(&mut other, &fold(shape, events.iter()).unwrap()));
                let expected: Vec<Record> = sorted(&rows);
                prop_assert_eq!(other.into_values().collect::<Vec<_>>(), expected);
            }
            let folded = super::fold(shape, &references).unwrap();
            prop_assert!(apply(&mut target, &folded), "two rows are written under one key");
            prop_assert_eq!(target.into_values().collect::<Vec<_>>(), sorted(&rows));
        }
    }

    /// Two inserts and no word of the first row's end, as SQLite logs a REPLACE: nothing of the first one is left.
    #[test]
    fn a_row_that_was_replaced_does_not_come_back() {
        let [first, second, third] =
            [["1", "a", "x"], ["1", "b", "x"], ["1", "c", "x"]].map(|texts| texts.map(str::to_owned));
        let logged = [
            (Op::Insert, None, Some(&first)),
            (Op::Insert, None, Some(&second)),
            (Op::Update, Some(&second), Some(&third)),
            (Op::Delete, Some(&third), None),
        ];
        let sent: Vec<_> =
            logged.iter().map(|(op, old, new)| (*op, old.map(cells), new.map(cells))).collect();
        let events: Vec<Event<'_>> = sent
            .iter()
            .enumerate()
            .map(|(at, (op, old, new))| Event {
                position: Position::new(1, at as u64 + 1, 1),
                table: id(),
                op: *op,
                old_columns: if old.is_some() { ALL } else { &[] },
                old: old.as_deref().unwrap_or_default(),
                new_columns: if new.is_some() { ALL } else { &[] },
                new: new.as_deref().unwrap_or_default(),
                maybe_missing: false,
                at: 0,
            })
            .collect();
        let shape = Shape { key: &[0], equality: &[Equality::Text], complete: ALL.len(), deferrable: false };
        let mut target = BTreeMap::new();
        assert!(apply(&mut target, &fold(shape, events.iter()).unwrap()));
        assert!(target.is_empty(), "{target:?}");
    }

    fn sorted(rows: &[Record]) -> Vec<Record> {
        let by_key: BTreeMap<&str, &Record> =
            rows.iter().map(|record| (record[0].as_str(), record)).collect();
        by_key.into_values().cloned().collect()
    }
}
