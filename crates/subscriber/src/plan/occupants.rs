//! Folding of changes that carry full old rows, where two rows may share a key for a while.
//!
//! A deferrable key is checked at the end of a statement or transaction: `UPDATE t SET id = id + 1` moves row 1 to 2 before
//! row 2 has left, and the stream says just that. Taken one by one, the move of row 2 would take row 1 along, and rows
//! would be lost. Full old rows tell which of the two leaves, so each key keeps a list of the rows that arrived.

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
