//! The oracle of the planner: a table in memory, changed one event at a time.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rowbridge_schema::wire::{BlockHead, Delivery, DeliveryHead, Op, RunKind, RunWriter, Step as WireStep};
use rowbridge_schema::wire::{encode_delivery, parse_delivery};
use rowbridge_schema::{Cell, Column, Dialect, Position, SourceId, TableDef, TableName};

use super::{Equality, Event, Shape, Step, fold, plan};

const KEY: &[u16] = &[0];
const WIDTH: usize = 3;

type Table = BTreeMap<String, Vec<Option<String>>>;

#[derive(Debug, Clone)]
enum Change {
    Insert(u8, u8),
    Full(u8, u8),
    Partial(u8, u8, bool),
    Move(u8, u8, u8, bool),
    Delete(u8),
    Truncate,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let key = 0..4u8;
    let change = prop_oneof![
        4 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Change::Insert(k, v)),
        3 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Change::Full(k, v)),
        3 => (key.clone(), any::<u8>(), any::<bool>()).prop_map(|(k, v, m)| Change::Partial(k, v, m)),
        2 => (key.clone(), key.clone(), any::<u8>(), any::<bool>())
            .prop_map(|(a, b, v, full)| Change::Move(a, b, v, full)),
        2 => key.prop_map(Change::Delete),
        1 => Just(Change::Truncate),
    ];
    prop::collection::vec(change, 0..24)
}

fn def() -> TableDef {
    let column = |name: &str| Column::new(name, "text");
    TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", "t"),
        columns: vec![column("k"), column("a"), column("b")],
        key: KEY.to_vec(),
        types: vec![],
        options: vec![],
    }
}

fn encode(changes: &[Change]) -> Vec<u8> {
    let def = def();
    let id = def.id();
    let mut writer = RunWriter::new();
    for (i, change) in changes.iter().enumerate() {
        let n = i as u64 + 1;
        let mut row = |op, old: &[u16], new: &[u16], maybe_missing, cells: &[String]| {
            let kind = RunKind { table: id, table_index: 0, op, old, new, maybe_missing };
            writer.row(kind, n, |row| cells.iter().for_each(|cell| row.text(cell)));
        };
        let k = |k: &u8| format!("k{k}");
        let v = |v: &u8| format!("v{v}");
        match change {
            Change::Insert(key, a) => row(Op::Insert, &[], &[0, 1, 2], false, &[k(key), v(a), v(a)]),
            Change::Full(key, a) => row(Op::Update, &[], &[0, 1, 2], false, &[k(key), v(a), v(a)]),
            Change::Partial(key, a, missing) => row(Op::Update, &[], &[0, 1], *missing, &[k(key), v(a)]),
            Change::Move(from, to, a, true) => {
                row(Op::Update, &[0], &[0, 1, 2], false, &[k(from), k(to), v(a), v(a)]);
            }
            Change::Move(from, to, a, false) => {
                row(Op::Update, &[0], &[0, 1], false, &[k(from), k(to), v(a)]);
            }
            Change::Delete(key) => row(Op::Delete, &[0], &[], false, &[k(key)]),
            Change::Truncate => writer.truncate(id, 0, n),
        }
    }
    let (body, _) = writer.finish();
    let head = DeliveryHead {
        rowbridge: 1,
        stream: "s".parse().unwrap(),
        endpoint: "e".parse().unwrap(),
        source: SourceId("x".into()),
        prev: None,
        to: Some(Position::new(1, 1, 100)),
        open: false,
        split: false,
    };
    let at = |ordinal| Position::new(1, 1, ordinal);
    let block = BlockHead { first: at(1), last: at(100), at: 0, step: WireStep::Ordinal, chunk: None };
    let pieces: [&[u8]; 1] = [&body];
    let pieces = if body.is_empty() { &pieces[..0] } else { &pieces[..] };
    encode_delivery(&head, [(id, def.to_json().as_str())].into_iter(), [(&block, pieces)].into_iter(), 0)
}

/// Leaves out partial updates of rows that are not there: no source sends them. The first `skip` changes are not applied.
fn possible(changes: Vec<Change>, start: &Table, skip: usize) -> Vec<Change> {
    let mut present: std::collections::BTreeSet<u8> =
        (0..4).filter(|k| start.contains_key(&format!("k{k}"))).collect();
    let mut kept = Vec::new();
    for change in changes {
        if kept.len() >= skip {
            match &change {
                Change::Insert(k, _) | Change::Full(k, _) => {
                    present.insert(*k);
                }
                Change::Partial(k, _, false) if !present.contains(k) => continue,
                Change::Move(from, _, _, false) if !present.contains(from) => continue,
                Change::Partial(..) => {}
                Change::Move(from, to, ..) => {
                    present.remove(from);
                    present.insert(*to);
                }
                Change::Delete(k) => {
                    present.remove(k);
                }
                Change::Truncate => present.clear(),
            }
        }
        kept.push(change);
    }
    kept
}

fn text(cell: &Cell<'_>) -> String {
    cell.as_str().unwrap().to_owned()
}

/// What one change does, written as directly as possible. False where a target would refuse it.
fn apply(table: &mut Table, event: &Event<'_>) -> bool {
    let before = text(event.old_cell(0).or_else(|| event.new_cell(0)).unwrap());
    if event.op == Op::Delete {
        table.remove(&before);
        return true;
    }
    let after = text(event.new_cell(0).unwrap());
    let complete = event.new_columns.len() == WIDTH;
    if event.op == Op::Update && !complete && !table.contains_key(&before) {
        return event.maybe_missing;
    }
    let mut row = table.remove(&before).unwrap_or_else(|| vec![None; WIDTH]);
    for (column, cell) in event.new_columns.iter().zip(event.new) {
        row[usize::from(*column)] = Some(text(cell));
    }
    table.insert(after, row);
    true
}

fn apply_sequence(table: &mut Table, delivery: &Delivery<'_>, after: Position) -> bool {
    for step in plan(delivery, Some(after)).steps {
        match step {
            Step::Rows(events) => {
                if !events.iter().all(|event| apply(table, event)) {
                    return false;
                }
            }
            Step::Truncate { .. } => table.clear(),
            Step::Chunk { .. } => unreachable!("no chunk was written"),
        }
    }
    true
}

/// As a target does it: deletes, then upserts, then updates; false if an updated row is missing.
fn apply_folded(table: &mut Table, delivery: &Delivery<'_>, after: Position) -> bool {
    let shape = Shape { key: KEY, equality: &[Equality::Text], complete: WIDTH, deferrable: false };
    for step in plan(delivery, Some(after)).steps {
        let events = match step {
            Step::Rows(events) => events,
            Step::Truncate { .. } => {
                table.clear();
                continue;
            }
            Step::Chunk { .. } => unreachable!("no chunk was written"),
        };
        let Ok(folded) = fold(shape, events.iter()) else {
            if !events.iter().all(|event| apply(table, event)) {
                return false;
            }
            continue;
        };
        for deleted in &folded.deletes {
            table.remove(&text(deleted.key[0]));
        }
        for super::Upsert { row, .. } in &folded.upserts {
            let stored = table.entry(text(row.cell(0).unwrap())).or_insert_with(|| vec![None; WIDTH]);
            row.iter().for_each(|(column, cell)| stored[usize::from(column)] = Some(text(cell)));
        }
        for update in &folded.updates {
            match table.get_mut(&text(update.key[0])) {
                Some(stored) => {
                    let cells = update.row.iter();
                    cells.for_each(|(column, cell)| stored[usize::from(column)] = Some(text(cell)));
                }
                None if update.maybe_missing => {}
                None => return false,
            }
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn folded_changes_equal_the_sequence(
        present in prop::collection::btree_map(0..4u8, any::<u8>(), 0..4),
        changes in changes(),
        skip in 0..4u64,
    ) {
        let start: Table = present
            .iter()
            .map(|(k, v)| {
                let key = format!("k{k}");
                (key.clone(), vec![Some(key), Some(format!("old{v}")), Some(format!("old{v}"))])
            })
            .collect();
        let changes = possible(changes, &start, skip as usize);
        let bytes = encode(&changes);
        let delivery = parse_delivery(&bytes).unwrap();
        let after = Position::new(1, 1, skip);
        let (mut one_by_one, mut folded) = (start.clone(), start);
        prop_assert!(apply_sequence(&mut one_by_one, &delivery, after));
        prop_assert!(apply_folded(&mut folded, &delivery, after), "refused only when folded");
        prop_assert_eq!(one_by_one, folded);
    }
}

#[test]
fn equal_keys_have_one_text() {
    let same = |equality: Equality, a: &str, b: &str| equality.normal(a) == equality.normal(b);
    assert!(same(Equality::Decimal, "1.0", "1.00"));
    assert!(same(Equality::Decimal, "1", "1.00"));
    assert!(!same(Equality::Decimal, "1", "100"));
    assert!(same(Equality::Float, "-0", "0"));
    assert!(same(Equality::Padded, "a  ", "a"));
    assert!(!same(Equality::Text, "a ", "a"));
}

#[test]
fn what_the_target_has_is_dropped_one_by_one() {
    let bytes = encode(&[Change::Insert(0, 0), Change::Insert(1, 0), Change::Truncate, Change::Delete(1)]);
    let delivery = parse_delivery(&bytes).unwrap();
    let after = |ordinal| {
        let plan = plan(&delivery, Some(Position::new(1, 1, ordinal)));
        (plan.changes, plan.steps.len())
    };
    assert_eq!([after(0), after(1), after(2), after(3), after(4)], [(4, 3), (3, 3), (2, 2), (1, 1), (0, 0)]);
}
