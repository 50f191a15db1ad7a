//! A run in parts, for a reader that takes few rows at a time: reading all of them each time would cost as much for one
//! row as for all.

/// What every run that has rows says before them. Before it there are no texts but the table's fingerprint and the
/// operation, so that it cannot stand for anything else.
const ROWS: &[u8] = b"\"r\":[";

/// Some rows of a run as a run of their own, with the number of the whole run's first change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPart {
    /// JSON for [`read_run`](super::read_run). It is as broken as the run's.
    pub json: Vec<u8>,
    /// Where in the run's JSON the next part begins; `None` behind the last row.
    pub next: Option<usize>,
}

/// The rows of a run that begin at byte `from`, 0 or an earlier part's `next`: one at least, at most `rows`, and no more
/// once `bytes` are reached. A truncate is one part.
#[must_use]
pub fn run_part(json: &[u8], from: usize, rows: usize, bytes: usize) -> RunPart {
    let Some(first) = json.windows(ROWS.len()).position(|window| window == ROWS).map(|at| at + ROWS.len())
    else {
        return RunPart { json: json.to_vec(), next: None };
    };
    let start = from.max(first);
    let mut end = start;
    let mut next = None;
    for _ in 0..rows.max(1) {
        let Some(length) = row_length(json.get(end..).unwrap_or_default()) else {
            // Not what we write; whoever reads it says so.
            end = json.len();
            break;
        };
        end += length;
        next = (json.get(end) == Some(&b',')).then_some(end + 1);
        if next.is_none() || end - start >= bytes {
            break;
        }
        end += 1;
    }
    let rows = json.get(start..end).unwrap_or_default();
    let mut part = Vec::with_capacity(first + rows.len() + 2);
    part.extend_from_slice(&json[..first]);
    part.extend_from_slice(rows.strip_suffix(b",").unwrap_or(rows));
    part.extend_from_slice(b"]}");
    RunPart { json: part, next }
}

/// Bytes of the array at the beginning of `json`.
fn row_length(json: &[u8]) -> Option<usize> {
    if json.first() != Some(&b'[') {
        return None;
    }
    let (mut within_text, mut escaped, mut depth) = (false, false, 0_usize);
    for (at, byte) in json.iter().enumerate() {
        if within_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => within_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => within_text = true,
            b'[' => depth += 1,
            b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Op, RunKind, RunWriter, read_run};
    use super::*;
    use crate::TableId;

    /// A run of rows with one text each.
    fn run(texts: &[String]) -> Vec<u8> {
        let mut writer = RunWriter::default();
        let kind = RunKind {
            table: TableId([7; 8]),
            table_index: 0,
            op: Op::Insert,
            old: &[],
            new: &[0, 1],
            maybe_missing: false,
        };
        for (number, text) in texts.iter().enumerate() {
            writer.row(kind, number as u64 + 1, |row| {
                row.null();
                row.text(text);
            });
        }
        writer.finish().0
    }

    proptest! {
        #[test]
        fn parts_hold_every_row_once(
            texts in proptest::collection::vec("[\\[\\]\",\\\\a\n]{0,9}", 1..30),
            rows in 1usize..8,
            bytes in 1usize..200,
        ) {
            let json = run(&texts);
            let whole = read_run(&json).unwrap();
            let (mut cells, mut from) = (Vec::new(), 0);
            loop {
                let part = run_part(&json, from, rows, bytes);
                let read = read_run(&part.json).unwrap();
                prop_assert!(read.changes() <= rows);
                prop_assert_eq!((read.table, read.number, &read.new), (whole.table, whole.number, &whole.new));
                cells.extend(read.cells.into_iter().map(|cell| format!("{cell:?}")));
                match part.next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            prop_assert_eq!(cells, whole.cells.iter().map(|cell| format!("{cell:?}")).collect::<Vec<_>>());
        }

        #[test]
        fn what_is_broken_stays_broken(texts in proptest::collection::vec("[a\",]{0,4}", 1..5), cut in 1usize..40) {
            let json = run(&texts);
            let broken = &json[..json.len().saturating_sub(cut)];
            let (mut from, mut good) = (0, 0);
            loop {
                let part = run_part(broken, from, 1, 1);
                let Ok(read) = read_run(&part.json) else { break };
                good += read.changes();
                match part.next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            // Only a run whose last two brackets alone are missing still has all of its rows.
            prop_assert!(good < texts.len() || cut <= 2, "{good} rows");
        }
    }
}
