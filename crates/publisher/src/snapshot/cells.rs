//! Rows as they were read, in two pieces of memory.
//!
//! The texts of all values stand end to end in one buffer. Beside it stands a mark for each value: where its text ends, and
//! what it is. A text of its own for each value takes several times as much, and most of the time of a read: a range has
//! a hundred thousand of them, and three ranges are there at once.

use rowbridge_schema::{Cell, StorageClass};

/// Most bytes that are made room for at once, whatever is expected.
const MOST_ROOM: usize = 4 << 20;

/// Values of rows, row after row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cells {
    width: usize,
    texts: String,
    marks: Vec<Mark>,
}

/// The end of a value's text, above three bits that say what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark(u64);

const KIND_BITS: u32 = 3;
const NULL: u64 = 0;
const TEXT: u64 = 1;

impl Mark {
    fn kind(self) -> u64 {
        self.0 & ((1 << KIND_BITS) - 1)
    }

    fn end(self) -> usize {
        (self.0 >> KIND_BITS) as usize
    }
}

fn kind_of(class: StorageClass) -> u64 {
    match class {
        StorageClass::Integer => 2,
        StorageClass::Real => 3,
        StorageClass::Text => 4,
        StorageClass::Blob => 5,
        StorageClass::RawText => 6,
    }
}

fn cell(kind: u64, text: &str) -> Cell<'_> {
    let class = match kind {
        NULL => return Cell::Null,
        TEXT => return Cell::text(text),
        2 => StorageClass::Integer,
        3 => StorageClass::Real,
        4 => StorageClass::Text,
        5 => StorageClass::Blob,
        _ => StorageClass::RawText,
    };
    Cell::Classed(class, text.into())
}

impl Cells {
    /// No rows yet, each of `width` values. Rows without any value are not counted.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// Values of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whole rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.marks.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether there is no whole row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all texts.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.texts.len()
    }

    /// Makes room for more rows of about so many bytes of text: what grows bit by bit is there twice whenever it is moved.
    pub fn expect(&mut self, rows: usize, row_bytes: usize) {
        // Rows differ: some more than the average.
        let bytes = rows.saturating_mul(row_bytes.saturating_add(row_bytes / 8));
        self.texts.reserve(bytes.min(MOST_ROOM));
        self.marks.reserve(rows.saturating_mul(self.width).min(MOST_ROOM / size_of::<Mark>()));
    }

    /// Adds NULL.
    pub fn push_null(&mut self) {
        self.mark(NULL);
    }

    /// Adds a canonical text.
    pub fn push_text(&mut self, text: &str) {
        self.texts.push_str(text);
        self.mark(TEXT);
    }

    /// Adds any value.
    pub fn push(&mut self, cell: &Cell<'_>) {
        match cell {
            Cell::Null => self.push_null(),
            Cell::Text(text) => self.push_text(text),
            Cell::Classed(class, text) => {
                self.texts.push_str(text);
                self.mark(kind_of(*class));
            }
        }
    }

    /// Adds the canonical text that `write` appends to what it is given.
    ///
    /// # Errors
    /// Those of `write`; then nothing is added.
    pub fn push_written<E>(&mut self, write: impl FnOnce(&mut String) -> Result<(), E>) -> Result<(), E> {
        let start = self.texts.len();
        let written = write(&mut self.texts);
        match written {
            Ok(()) => self.mark(TEXT),
            Err(_) => self.texts.truncate(start),
        }
        written
    }

    /// Adds the values of a row of others.
    pub fn push_row(&mut self, row: CellRow<'_>) {
        row.iter().for_each(|cell| self.push(&cell));
    }

    fn mark(&mut self, kind: u64) {
        self.marks.push(Mark((self.texts.len() as u64) << KIND_BITS | kind));
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = CellRow<'_>> {
        (0..self.len()).map(|row| self.row(row))
    }

    /// The last row.
    #[must_use]
    pub fn last(&self) -> Option<CellRow<'_>> {
        Some(self.row(self.len().checked_sub(1)?))
    }

    fn row(&self, row: usize) -> CellRow<'_> {
        CellRow { cells: self, first: row * self.width }
    }

    /// Leaves the first rows only.
    pub fn truncate(&mut self, rows: usize) {
        self.marks.truncate(rows.saturating_mul(self.width));
        self.texts.truncate(self.marks.last().map_or(0, |mark| mark.end()));
    }
}

/// One row of [`Cells`].
#[derive(Debug, Clone, Copy)]
pub struct CellRow<'a> {
    cells: &'a Cells,
    /// The place of its first value among all.
    first: usize,
}

impl<'a> CellRow<'a> {
    /// The values in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Cell<'a>> {
        (0..self.cells.width).map(move |column| self.get(column))
    }

    /// The value of the row's `column`-th column.
    ///
    /// # Panics
    /// If the row has no such column.
    #[must_use]
    pub fn get(self, column: usize) -> Cell<'a> {
        let (kind, text) = self.value(column);
        cell(kind, text)
    }

    /// The text of the value of the row's `column`-th column, whatever its class; `None` for NULL.
    ///
    /// # Panics
    /// If the row has no such column.
    #[must_use]
    pub fn text(self, column: usize) -> Option<&'a str> {
        let (kind, text) = self.value(column);
        (kind != NULL).then_some(text)
    }

    fn value(self, column: usize) -> (u64, &'a str) {
        let Self { cells, first } = self;
        assert!(column < cells.width, "a row of {} values has none at {column}", cells.width);
        let at = first + column;
        let start = at.checked_sub(1).map_or(0, |before| cells.marks[before].end());
        let mark = cells.marks[at];
        (mark.kind(), &cells.texts[start..mark.end()])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_cell() -> impl Strategy<Value = Cell<'static>> {
        let class = prop::sample::select(vec![
            StorageClass::Integer,
            StorageClass::Real,
            StorageClass::Text,
            StorageClass::Blob,
            StorageClass::RawText,
        ]);
        let text = prop_oneof![Just(String::new()), "[a-zé€🦀\"\\\\\0]{1,9}", ".{300}"];
        prop_oneof![
            Just(Cell::Null),
            text.clone().prop_map(|text| Cell::Text(text.into())),
            (class, text).prop_map(|(class, text)| Cell::Classed(class, text.into())),
        ]
    }

    fn any_rows() -> impl Strategy<Value = (usize, Vec<Vec<Cell<'static>>>)> {
        (1usize..6).prop_flat_map(|width| {
            (Just(width), prop::collection::vec(prop::collection::vec(any_cell(), width), 0..12))
        })
    }

    /// The same value in another way, where there is one.
    fn push(cells: &mut Cells, cell: &Cell<'_>, way: usize) {
        match (cell, way % 3) {
            (Cell::Null, 0) => cells.push_null(),
            (Cell::Text(text), 0) => cells.push_text(text),
            (Cell::Text(text), 1) => {
                let broken = cells.push_written(|out| {
                    out.push_str("half of i");
                    Err("broken")
                });
                assert_eq!(broken, Err("broken"));
                let written = cells.push_written(|out| {
                    out.push_str(text);
                    Ok::<_, ()>(())
                });
                assert_eq!(written, Ok(()));
            }
            _ => cells.push(cell),
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out((width, rows) in any_rows(), keep in 0usize..14, ways in any::<[u8; 7]>()) {
            let mut cells = Cells::new(width);
            for (at, cell) in rows.iter().flatten().enumerate() {
                push(&mut cells, cell, usize::from(ways[at % ways.len()]));
            }
            let bytes = |rows: &[Vec<Cell<'_>>]| -> usize {
                rows.iter().flatten().filter_map(Cell::as_str).map(str::len).sum()
            };
            let same = |cells: &Cells, rows: &[Vec<Cell<'_>>]| -> Result<(), TestCaseError> {
                prop_assert_eq!((cells.len(), cells.is_empty()), (rows.len(), rows.is_empty()));
                prop_assert_eq!(cells.text_bytes(), bytes(rows));
                let found: Vec<Vec<Cell<'_>>> = cells.rows().map(|row| row.iter().collect()).collect();
                prop_assert_eq!(&found, rows);
                for (found, row) in cells.rows().zip(rows) {
                    for (column, cell) in row.iter().enumerate() {
                        prop_assert_eq!(&found.get(column), cell);
                        prop_assert_eq!(found.text(column), cell.as_str());
                    }
                }
                let last = cells.last().map(|row| row.iter().collect::<Vec<_>>());
                prop_assert_eq!(last.as_ref(), rows.last());
                Ok(())
            };
            same(&cells, &rows)?;
            let mut copy = Cells::new(width);
            copy.expect(rows.len(), 10);
            cells.rows().for_each(|row| copy.push_row(row));
            prop_assert_eq!(&copy, &cells);
            // What is cut off leaves nothing behind, and others follow in its place.
            let keep = keep.min(rows.len());
            cells.truncate(keep);
            same(&cells, &rows[..keep])?;
            rows[keep..].iter().flatten().for_each(|cell| cells.push(cell));
            prop_assert_eq!(copy, cells);
        }
    }

    /// As many as a range has at most.
    #[test]
    fn what_is_expected_is_never_moved() {
        let mut cells = Cells::new(3);
        cells.expect(20_000, 2 * 5 + 1);
        let room = (cells.texts.capacity(), cells.marks.capacity());
        for row in 0..20_000 {
            cells.push_text(&row.to_string());
            cells.push_text(&row.to_string());
            cells.push(&Cell::Classed(StorageClass::Integer, "7".into()));
        }
        assert_eq!((cells.texts.capacity(), cells.marks.capacity()), room);
        assert!(room.0 < 300_000 && room.1 < 70_000, "{room:?}");
    }

    #[test]
    fn rows_without_values_are_none() {
        let mut cells = Cells::new(0);
        cells.expect(usize::MAX, usize::MAX);
        cells.truncate(3);
        assert_eq!((cells.len(), cells.rows().len(), cells.last().is_none()), (0, 0, true));
    }

    #[test]
    #[should_panic(expected = "a row of 2 values has none at 2")]
    fn a_row_ends_with_its_last_column() {
        let mut cells = Cells::new(2);
        for text in ["a", "b", "c", "d"] {
            cells.push_text(text);
        }
        let first = cells.rows().next().unwrap();
        assert_eq!(first.text(1), Some("b"));
        let _ = first.text(2);
    }
}
